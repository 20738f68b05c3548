//! The Secret with the token of a pod that fetches its file: whose it is, and when it goes.

use std::io;

use http::Method;

use super::server::{POD, PODS, Script, Step, cluster};
use super::*;
use crate::compat::PendingRdb;

const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
const OURS: &str = "/api/v1/namespaces/ns/secrets/fakecloud-ec-restore-*";
/// Where the name of the Secret stands in a pod.
const NAMED: &str = "/spec/volumes/2/secret/secretName";

fn pulling(steps: impl IntoIterator<Item = Step>) -> (Kube, Script) {
    let (kube, script) = cluster(steps);
    (kube.pulling(Pull::new("http://e:1", "internal", PendingRdb::default())), script)
}

fn staged() -> PodSpec {
    PodSpec { staged: true, ..spec() }
}

fn prepared() -> Step {
    Step::posted(Method::POST, SECRETS).body("/metadata/labels/a", "b")
}

fn forgotten() -> Step {
    Step::json(Method::DELETE, OURS, 200, json!({ "kind": "Status", "status": "Success" }))
}

fn missing() -> Step {
    Step::json(Method::GET, POD, 404, refusal(404, "NotFound", "pods \"p\" not found"))
}

/// What went to one Secret, by its path.
fn secret_of_the_pod(script: &Script) -> String {
    format!("{SECRETS}/{}", script.last_posted().pointer(NAMED).and_then(Value::as_str).unwrap())
}

#[tokio::test(start_paused = true)]
async fn each_pod_has_a_secret_of_its_own_that_goes_with_it_whoever_deletes_it() {
    let made = || [prepared(), Step::posted(Method::POST, PODS)];
    let (kube, script) = pulling(made());
    kube.create_pod(&staged()).await.unwrap();
    let first = secret_of_the_pod(&script);
    script.expect([Step::posted(Method::DELETE, POD), forgotten(), Step::listed(&[])]);
    // It takes no runtime that lets pods fetch: the pod says what it had.
    let streaming = Kube { pull: None, ..kube.clone() };
    streaming.delete_pod(&id("u"), 5).await.unwrap();
    assert!(script.sent().contains(&format!("DELETE {first}")), "{:?}", script.sent());
    script.expect(made());
    kube.create_pod(&staged()).await.unwrap();
    script.done();
    assert_ne!(secret_of_the_pod(&script), first);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_uid_keeps_its_secret() {
    let taken = refusal(409, "Conflict", "the UID in the precondition does not match");
    let (kube, script) = pulling([Step::json(Method::DELETE, POD, 409, taken)]);
    assert!(matches!(kube.delete_pod(&id("u"), 5).await, Err(EngineError::NotFound { .. })));
    script.done();
}

#[tokio::test(start_paused = true)]
async fn a_create_that_left_no_pod_leaves_no_secret() {
    let refused = |code| Step::json(Method::POST, PODS, code, refusal(code, "", "no"));
    let reset = || Step::reset(Method::POST, PODS, io::ErrorKind::ConnectionReset);
    let theirs = || Step::json(Method::GET, POD, 200, running("another"));
    for steps in [
        vec![refused(403), forgotten()],
        vec![refused(409), forgotten()],
        vec![refused(500), missing(), forgotten()],
        vec![refused(504), missing(), forgotten()],
        vec![reset(), missing(), forgotten()],
        vec![reset(), theirs(), forgotten()],
    ] {
        let (kube, script) = pulling([prepared()].into_iter().chain(steps));
        kube.create_pod(&staged()).await.unwrap_err();
        script.done();
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_made_though_nobody_said_so_keeps_its_secret() {
    let reset = Step::reset(Method::POST, PODS, io::ErrorKind::ConnectionReset);
    let (kube, script) = pulling([prepared(), reset, Step::posted(Method::GET, POD)]);
    let error = kube.create_pod(&staged()).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::Unavailable { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_there_is_nobody_s_to_use_or_delete() {
    let taken = || Step::json(Method::POST, SECRETS, 409, refusal(409, "AlreadyExists", "it is there"));
    let (kube, script) = pulling([taken()]);
    let error = kube.create_pod(&staged()).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
    // Unless an attempt before, whose answer was lost, made it.
    let lost = Step::reset(Method::POST, SECRETS, io::ErrorKind::ConnectionReset);
    let (kube, script) = pulling([lost, taken(), Step::posted(Method::POST, PODS)]);
    kube.create_pod(&staged()).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn no_path_leads_out_of_the_folder_either_way() {
    let (kube, script) = cluster([]);
    for kube in [kube.clone(), kube.pulling(Pull::new("http://e:1", "internal", PendingRdb::default()))] {
        let file = NewFile { path: "../x".to_owned(), content: Content::Bytes(b"x".to_vec()) };
        let put = kube.put_files(&id("u"), "/data", vec![file], Box::new(|_| {})).await;
        assert!(matches!(put, Err(EngineError::Failed { .. })), "{put:?}");
    }
    script.done();
}
