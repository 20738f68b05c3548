//! Kubernetes' own programs: the command line of each, and the order in which they start.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::api;
use super::daemon::{Daemon, Identity, detached, port_is_free, wait};
use super::engine::ENGINE;
use super::kubernetes;
use super::layout::{
    API_PORT, CONTROLLER_PORT, ETCD_PEER_PORT, ETCD_PORT, KUBELET_HEALTH_PORT, KUBELET_PORT, Layout, NAME,
    PAUSE_IMAGE, SCHEDULER_PORT, api_url,
};
use super::network::Subnet;

pub(super) const ETCD: &str = "etcd";
pub(super) const API_SERVER: &str = "kube-apiserver";
pub(super) const CONTROLLERS: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";
pub(super) const KUBELET: &str = "kubelet";

/// How long the API server may take to be ready, and the node: a minute and more on a machine under load.
const READY: Duration = Duration::from_secs(180);

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An error if another cluster is in the way, for instance one of another cache folder: names are the same.
pub(super) fn alone(layout: &Layout) -> Result<()> {
    match Daemon::new(layout, API_SERVER).running() {
        Some(_) => Ok(()),
        None => port_is_free(LOCAL, API_PORT, API_SERVER),
    }
}

/// Starts what does not run of etcd and the API server.
pub(super) fn start_api(layout: &Layout) -> Result<bool> {
    let etcd = start(layout, ETCD, &[(LOCAL, ETCD_PORT), (LOCAL, ETCD_PEER_PORT)], etcd_command)?;
    let server = start(layout, API_SERVER, &[(LOCAL, API_PORT)], api_command)?;
    Ok(etcd || server)
}

/// Waits until the API server serves requests, and makes the objects that every cluster has.
pub(super) fn wait_for_api(layout: &Layout) -> Result<()> {
    let daemons = [ETCD, API_SERVER].map(|name| Daemon::new(layout, name));
    wait("a ready API server", &[&daemons[0], &daemons[1]], READY, || api::ready(layout))?;
    api::add_storage_class(layout)
}

/// Starts what does not run of the programs that act on what the API server holds.
pub(super) fn start_actors(layout: &Layout, inside: &Identity, subnet: Subnet) -> Result<bool> {
    let controllers = start(layout, CONTROLLERS, &[(LOCAL, CONTROLLER_PORT)], |layout| {
        // Inside, because it makes the folders of volumes where it is not to be told otherwise.
        controller_command(layout, inside)
    })?;
    let scheduler = start(layout, SCHEDULER, &[(LOCAL, SCHEDULER_PORT)], scheduler_command)?;
    Ok(start_kubelet(layout, inside, subnet)? || controllers || scheduler)
}

pub(super) fn start_kubelet(layout: &Layout, inside: &Identity, subnet: Subnet) -> Result<bool> {
    let ports = [(subnet.node(), KUBELET_PORT), (LOCAL, KUBELET_HEALTH_PORT)];
    if Daemon::new(layout, KUBELET).running().is_none() {
        write_kubelet_configuration(layout, subnet)?;
    }
    start(layout, KUBELET, &ports, |layout| kubelet_command(layout, inside, subnet))
}

/// Waits until pods are put on the node.
///
/// `before` is when a kubelet that is no more was last heard of: what it said is not counted.
pub(super) fn wait_for_node(layout: &Layout, before: Option<&str>) -> Result<()> {
    let daemons =
        [ETCD, API_SERVER, CONTROLLERS, SCHEDULER, KUBELET, ENGINE].map(|name| Daemon::new(layout, name));
    let daemons: Vec<&Daemon<'_>> = daemons.iter().collect();
    wait("a ready node", &daemons, READY, || api::kubelet_ready() && api::node_ready(layout, before))
}

fn start(
    layout: &Layout,
    name: &'static str,
    ports: &[(Ipv4Addr, u16)],
    command: impl FnOnce(&Layout) -> Command,
) -> Result<bool> {
    let daemon = Daemon::new(layout, name);
    if daemon.running().is_some() {
        return Ok(false);
    }
    for (address, port) in ports {
        port_is_free(*address, *port, name)?;
    }
    daemon.start(&mut command(layout))
}

fn program(layout: &Layout, name: &str, inside: Option<&Identity>) -> Command {
    detached(layout, kubernetes::folder(layout).join(name), inside)
}

/// Adds `--name=FILE`.
fn file(command: &mut Command, name: &str, path: impl AsRef<Path>) {
    command.arg(format!("--{name}={}", path.as_ref().display()));
}

fn etcd_command(layout: &Layout) -> Command {
    let client = format!("https://127.0.0.1:{ETCD_PORT}");
    let peer = format!("https://127.0.0.1:{ETCD_PEER_PORT}");
    let mut command = program(layout, ETCD, None);
    file(&mut command, "data-dir", layout.file("etcd"));
    command.args(["--name=only", "--client-cert-auth", "--peer-client-cert-auth"]);
    command.args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")]);
    command.args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")]);
    command.arg(format!("--initial-cluster=only={peer}"));
    for prefix in ["", "peer-"] {
        file(&mut command, &format!("{prefix}trusted-ca-file"), layout.pki("ca.crt"));
        file(&mut command, &format!("{prefix}cert-file"), layout.pki("etcd.crt"));
        file(&mut command, &format!("{prefix}key-file"), layout.pki("etcd.key"));
    }
    command
}

fn api_command(layout: &Layout) -> Command {
    let mut command = program(layout, API_SERVER, None);
    command.args(["--bind-address=127.0.0.1", "--allow-privileged=true"]);
    command.arg(format!("--secure-port={API_PORT}"));
    command.arg(format!("--etcd-servers=https://127.0.0.1:{ETCD_PORT}"));
    // Pods need no token of a service account, and what they would find it by is not there.
    command.args(["--authorization-mode=Node,RBAC", "--disable-admission-plugins=ServiceAccount"]);
    command.arg("--enable-admission-plugins=NodeRestriction");
    // No name service knows the node's name, by which it would be called for `exec` and logs.
    command.arg("--kubelet-preferred-address-types=InternalIP");
    // Addresses of services lead nowhere, for want of a kube-proxy.
    command.args(["--service-cluster-ip-range=10.214.0.0/24", "--endpoint-reconciler-type=none"]);
    command.arg(format!("--service-account-issuer={}", api_url()));
    file(&mut command, "cert-dir", layout.file("apiserver"));
    file(&mut command, "token-auth-file", layout.tokens());
    for (option, name) in [
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("etcd-cafile", "ca.crt"),
        ("etcd-certfile", "apiserver.crt"),
        ("etcd-keyfile", "apiserver.key"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("kubelet-client-certificate", "apiserver.crt"),
        ("kubelet-client-key", "apiserver.key"),
        ("service-account-key-file", "service-account.pub"),
        ("service-account-signing-key-file", "service-account.key"),
    ] {
        file(&mut command, option, layout.pki(name));
    }
    command
}

fn controller_command(layout: &Layout, inside: &Identity) -> Command {
    // The folders that it makes for volumes are for any user of a pod.
    let mut command = detached(layout, "sh", Some(inside));
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(kubernetes::folder(layout).join(CONTROLLERS));
    command.args(["--bind-address=127.0.0.1", "--port=0", "--leader-elect=false"]);
    command.arg(format!("--secure-port={CONTROLLER_PORT}"));
    // Its own rights are few: each controller has those of its own service account.
    command.args(["--use-service-account-credentials=true", "--enable-hostpath-provisioner=true"]);
    // For the tests' many claims, as the kubelet for their pods.
    command.args(["--kube-api-qps=100", "--kube-api-burst=200"]);
    file(&mut command, "kubeconfig", layout.file("controller-manager.kubeconfig"));
    file(&mut command, "service-account-private-key-file", layout.pki("service-account.key"));
    file(&mut command, "root-ca-file", layout.pki("ca.crt"));
    command
}

fn scheduler_command(layout: &Layout) -> Command {
    let mut command = program(layout, SCHEDULER, None);
    command.args(["--bind-address=127.0.0.1", "--port=0", "--leader-elect=false"]);
    command.arg(format!("--secure-port={SCHEDULER_PORT}"));
    file(&mut command, "kubeconfig", layout.file("scheduler.kubeconfig"));
    command
}

fn kubelet_command(layout: &Layout, inside: &Identity, subnet: Subnet) -> Command {
    let socket = |name: &str| format!("unix://{}", layout.file(name).display());
    let mut command = program(layout, KUBELET, Some(inside));
    file(&mut command, "config", layout.file("kubelet.json"));
    file(&mut command, "kubeconfig", layout.file("kubelet.kubeconfig"));
    file(&mut command, "root-dir", layout.file("kubelet"));
    file(&mut command, "cert-dir", layout.file("kubelet/pki"));
    file(&mut command, "experimental-dockershim-root-directory", layout.file("dockershim"));
    command.args(["--container-runtime=docker", &format!("--docker-endpoint={}", socket("engine.sock"))]);
    // The kubelet talks by this socket to a part of itself.
    command.arg(format!("--container-runtime-endpoint={}", socket("dockershim.sock")));
    command.arg(format!("--pod-infra-container-image={PAUSE_IMAGE}"));
    command.args([format!("--hostname-override={NAME}"), format!("--node-ip={}", subnet.node())]);
    command
}

fn write_kubelet_configuration(layout: &Layout, subnet: Subnet) -> Result<()> {
    let value = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": subnet.node(),
        "port": KUBELET_PORT,
        "healthzBindAddress": LOCAL,
        "healthzPort": KUBELET_HEALTH_PORT,
        // Pods reach this address, and so does everybody on this machine.
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": layout.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": layout.pki("kubelet.crt"),
        "tlsPrivateKeyFile": layout.pki("kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{NAME}"),
        "failSwapOn": false,
        // One that starts again says first that its node is not ready, and until it looks again no pod is put there.
        "nodeStatusUpdateFrequency": "1s",
        // As it is shipped it asks the API server 5 times a second at most: what pods come to is told late where tests
        // make one after the other.
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "maxPods": 200,
        // The machine's firewall is not this cluster's.
        "makeIPTablesUtilChains": false,
        // A disk that is nearly full is no reason to throw out pods, nor images that cannot be pulled again.
        "evictionHard": { "memory.available": "100Mi" },
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": layout.file("kubelet/volume-plugins"),
        // Its folder is fixed, and no pod asks for a device.
        "featureGates": { "DevicePlugins": false },
    });
    fs::write(layout.file("kubelet.json"), format!("{value:#}\n")).context("cannot configure the kubelet")
}
