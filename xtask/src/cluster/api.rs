//! Questions to the cluster's API server, asked by curl: xtask has no HTTP of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::credentials;
use super::layout::{KUBELET_HEALTH_PORT, Layout, NAME, api_url};
use crate::process;

const ANSWER: Duration = Duration::from_secs(20);

/// Whether it serves requests.
pub(super) fn ready(layout: &Layout) -> bool {
    get(layout, "/readyz").is_ok_and(|text| text == "ok")
}

/// Whether pods are put on the node: it has said that it is ready, at another time than `before`, and nothing keeps them
/// away.
pub(super) fn node_ready(layout: &Layout, before: Option<&str>) -> bool {
    node(layout).is_some_and(|node| takes_pods(&node) && (before.is_none() || heard(&node) != before))
}

/// When the node's kubelet last said how it is.
pub(super) fn last_heard(layout: &Layout) -> Option<String> {
    heard(&node(layout)?).map(str::to_owned)
}

fn node(layout: &Layout) -> Option<Value> {
    serde_json::from_str(&get(layout, &format!("/api/v1/nodes/{NAME}")).ok()?).ok()
}

/// Whether the kubelet works: what is known of its node may be from a time before it was restarted.
pub(super) fn kubelet_ready() -> bool {
    let mut command = process::command("curl");
    command.args(["--disable", "--silent", "--fail", "--max-time", "10", "--noproxy", "*"]);
    command.arg(format!("http://127.0.0.1:{KUBELET_HEALTH_PORT}/healthz"));
    process::output(&mut command, ANSWER).is_ok_and(|text| text == "ok")
}

fn readiness(node: &Value) -> Option<&Value> {
    node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

fn heard(node: &Value) -> Option<&str> {
    readiness(node)?["lastHeartbeatTime"].as_str()
}

fn takes_pods(node: &Value) -> bool {
    let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
    readiness(node).is_some_and(|ready| ready["status"] == "True") && taints == 0
}

/// Makes the storage class that claims get when they name none.
pub(super) fn add_storage_class(layout: &Layout) -> Result<()> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "hostpath",
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": "kubernetes.io/host-path",
    });
    let path = format!("{}/apis/storage.k8s.io/v1/storageclasses", api_url());
    let mut post = curl(layout);
    post.args(["-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"]);
    post.args(["--data-binary", "@-", &path]);
    let captured = process::capture_with_input(&mut post, class.to_string().into_bytes(), ANSWER)?;
    match captured.stdout.trim() {
        // Created, or there since an earlier time.
        "201" | "409" => Ok(()),
        code => {
            bail!("the API server answered {code} to a storage class. {}", process::last_words(&captured))
        }
    }
}

fn get(layout: &Layout, path: &str) -> Result<String> {
    let mut command = curl(layout);
    process::output(command.arg("--fail").arg(format!("{}{path}", api_url())), ANSWER)
        .with_context(|| format!("cannot get {path}"))
}

fn curl(layout: &Layout) -> Command {
    let mut command = process::command("curl");
    // The user's own configuration of curl is for other servers.
    command.args(["--disable", "--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--cacert"]);
    command.arg(layout.pki("ca.crt")).arg("-H").arg(format!("@{}", credentials::header(layout).display()));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_pods_when_it_is_ready_and_untainted() {
        let node = |status: &str, taints: Value| {
            let conditions =
                json!([{ "type": "DiskPressure", "status": "False" }, { "type": "Ready", "status": status }]);
            json!({ "spec": { "taints": taints }, "status": { "conditions": conditions } })
        };
        assert!(takes_pods(&node("True", Value::Null)));
        assert!(!takes_pods(&node("False", Value::Null)));
        assert!(!takes_pods(&node("Unknown", Value::Null)));
        let taint = json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }]);
        assert!(!takes_pods(&node("True", taint)));
        assert!(!takes_pods(&json!({})));
    }
}
