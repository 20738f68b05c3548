//! The client against an API server that answers by a script, and fails the test on whatever is not in it.
//!
//! Clauses: KUBE-1, KUBE-17, KUBE-19.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod create;
mod delete;
mod pull;
mod records;
mod server;
mod turns;
mod wait;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::engine::cluster::PodData;

fn spec() -> PodSpec {
    PodSpec {
        name: "p".to_owned(),
        image: "redis:7-alpine".to_owned(),
        args: vec!["--save".to_owned(), String::new()],
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        annotations: BTreeMap::new(),
        node_selector: BTreeMap::new(),
        tolerations: Vec::new(),
        port: 6379,
        stop_grace: 7,
        staged: false,
        data: PodData::EmptyDir,
    }
}

fn id(uid: &str) -> ObjectId {
    ObjectId { name: "p".to_owned(), uid: uid.to_owned() }
}

/// A pod as an API server shows it.
fn pod(uid: &str, status: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "p", "uid": uid, "resourceVersion": "5", "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "cache", "image": "redis:7-alpine" }] },
        "status": status,
    })
}

fn running(uid: &str) -> Value {
    let state = json!({ "name": "cache", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                        "state": { "running": {} } });
    pod(uid, json!({ "phase": "Running", "podIP": "10.1.2.3", "containerStatuses": [state] }))
}

fn waiting(uid: &str, reason: &str, message: &str) -> Value {
    let state = json!({ "name": "cache", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                        "state": { "waiting": { "reason": reason, "message": message } } });
    pod(uid, json!({ "phase": "Pending", "containerStatuses": [state] }))
}

fn unschedulable(uid: &str, message: &str) -> Value {
    let condition =
        json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
    pod(uid, json!({ "phase": "Pending", "conditions": [condition] }))
}

fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "PodList", "metadata": { "resourceVersion": "4" }, "items": items })
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure",
            "code": code, "reason": reason, "message": message })
}
