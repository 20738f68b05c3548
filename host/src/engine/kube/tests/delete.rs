use std::io;

use http::Method;

use super::server::{POD, PODS, Step, cluster, event};
use super::*;

fn asked() -> Step {
    Step::json(Method::DELETE, POD, 200, running("u"))
        .body("/preconditions/uid", "u")
        .body("/gracePeriodSeconds", 5)
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_deleted_by_its_uid_and_waited_for() {
    let (kube, script) = cluster([
        asked(),
        Step::listed(&[running("u")]),
        Step::watching(vec![event("MODIFIED", running("u")), event("DELETED", running("u"))]),
    ]);
    kube.delete_pod(&id("u"), 5).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn another_pod_under_the_name_means_gone() {
    let (kube, script) = cluster([asked(), Step::listed(&[running("another")])]);
    kube.delete_pod(&id("u"), 5).await.unwrap();
    script.done();
    let taken = refusal(409, "Conflict", "the UID in the precondition does not match");
    let (kube, script) = cluster([Step::json(Method::DELETE, POD, 409, taken)]);
    let error = kube.delete_pod(&id("u"), 5).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::NotFound { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_gone_is_not_found_unless_it_went_with_an_answer_that_was_lost() {
    let missing = || Step::json(Method::DELETE, POD, 404, refusal(404, "NotFound", "pods \"p\" not found"));
    let (kube, script) = cluster([missing()]);
    let error = kube.delete_pod(&id("u"), 5).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::NotFound { .. }), "{error}");
    let lost = Step::reset(Method::DELETE, POD, io::ErrorKind::ConnectionReset);
    let (kube, script) = cluster([lost, missing(), Step::listed(&[])]);
    kube.delete_pod(&id("u"), 5).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn no_grace_at_all_would_forget_a_pod_that_still_runs() {
    let step = Step::json(Method::DELETE, POD, 200, running("u")).body("/gracePeriodSeconds", 1);
    let (kube, script) = cluster([step, Step::listed(&[])]);
    kube.delete_pod(&id("u"), 0).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn a_claim_in_use_is_left() {
    let mut user = running("u");
    user["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "c" } }]);
    let page = |items: &[Value]| Step::json(Method::GET, PODS, 200, list(items)).query(&["limit=500"]);
    let (kube, script) = cluster([page(&[user.clone()])]);
    let claim = ObjectId { name: "c".to_owned(), uid: "v".to_owned() };
    let error = kube.delete_claim(&claim).await.unwrap_err();
    script.done();
    assert!(matches!(&error, EngineError::Conflict { message, .. } if message.contains("pod p")), "{error}");
    // One that ended uses nothing any longer.
    user["status"] = json!({ "phase": "Succeeded" });
    const CLAIM: &str = "/api/v1/namespaces/ns/persistentvolumeclaims/c";
    const CLAIMS: &str = "/api/v1/namespaces/ns/persistentvolumeclaims";
    let (kube, script) = cluster([
        page(&[user]),
        Step::json(Method::DELETE, CLAIM, 200, refusal(200, "", "")).body("/preconditions/uid", "v"),
        Step::json(Method::GET, CLAIMS, 200, list(&[])),
    ]);
    kube.delete_claim(&claim).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn a_look_is_repeated_when_the_connection_breaks() {
    let (kube, script) = cluster([
        Step::reset(Method::GET, POD, io::ErrorKind::ConnectionReset),
        Step::json(Method::GET, POD, 503, refusal(503, "ServiceUnavailable", "starting")),
        Step::json(Method::GET, POD, 200, running("u")),
        Step::json(Method::GET, POD, 404, refusal(404, "NotFound", "pods \"p\" not found")),
    ]);
    let pod = kube.find_pod("p").await.unwrap().unwrap();
    assert_eq!((pod.id, pod.address.as_deref()), (id("u"), Some("10.1.2.3")));
    assert_eq!(kube.find_pod("p").await.unwrap(), None);
    script.done();
}

#[tokio::test]
async fn a_name_that_leaves_its_place_in_the_path_is_refused() {
    let (kube, script) = cluster([]);
    for name in ["", "..", "a/b", "a?b", "A", "a%2fb", "/a"] {
        assert!(kube.find_pod(name).await.is_err(), "{name}");
        assert!(kube.delete_pod(&ObjectId { name: name.to_owned(), uid: "u".to_owned() }, 1).await.is_err());
        assert!(kube.find_claim(name).await.is_err(), "{name}");
    }
    script.done();
}
