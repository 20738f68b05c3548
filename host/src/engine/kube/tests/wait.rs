use tokio::time::Instant;

use super::server::{PODS, Step, cluster, event};
use super::*;

const LOG: &str = "/api/v1/namespaces/ns/pods/p/log";

fn pending(uid: &str) -> Value {
    waiting(uid, "ContainerCreating", "")
}

async fn waited(steps: Vec<Step>, goal: PodGoal) -> Result<Pod, EngineError> {
    let (kube, script) = cluster(steps);
    let waited = kube.wait_for_pod(&id("u"), goal).await;
    script.done();
    waited
}

/// How waiting for a pod that is seen like this ends, and after how long.
async fn refused(seen: Value) -> (String, Duration) {
    refused_after(vec![Step::listed(&[pending("u")]), Step::watching(vec![event("MODIFIED", seen)])]).await
}

async fn refused_after(steps: Vec<Step>) -> (String, Duration) {
    let begun = Instant::now();
    match waited(steps, PodGoal::Running).await {
        Err(EngineError::Failed { message, .. }) => (message, begun.elapsed()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_watched_until_it_runs() {
    let steps = vec![Step::listed(&[pending("u")]), Step::watching(vec![event("MODIFIED", running("u"))])];
    let pod = waited(steps, PodGoal::Running).await.unwrap();
    assert_eq!(pod.address.as_deref(), Some("10.1.2.3"));
    waited(vec![Step::listed(&[running("u")])], PodGoal::Running).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_off_or_is_too_old_is_taken_again() {
    let gone = refusal(410, "Expired", "too old resource version");
    let steps = vec![
        Step::listed(&[pending("u")]),
        Step::watched(vec![event("MODIFIED", pending("u"))]),
        Step::reset(http::Method::GET, PODS, std::io::ErrorKind::ConnectionReset).query(&["watch=true"]),
        Step::watched(vec![event("ERROR", gone.clone())]),
        Step::listed(&[pending("u")]),
        Step::json(http::Method::GET, PODS, 410, gone).query(&["watch=true"]),
        Step::listed(&[pending("u")]),
        Step::watched(vec![event("MODIFIED", running("u"))]),
    ];
    waited(steps, PodGoal::Running).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_will_not_run_is_reported_at_once_in_the_clusters_words() {
    for (reason, message) in [
        ("ErrImagePull", "redis:7-alpine: pull access denied"),
        ("ImagePullBackOff", "Back-off pulling image \"redis:7-alpine\""),
        ("InvalidImageName", "redis:7-alpine: couldn't parse image reference"),
        ("CreateContainerError", "no command specified"),
        ("CrashLoopBackOff", "back-off 10s"),
    ] {
        // The image is named in any case, and once.
        let kubelet_s = message.strip_prefix("redis:7-alpine: ").unwrap_or(message);
        let (said, after) = refused(waiting("u", reason, kubelet_s)).await;
        assert_eq!((said, after), (format!("{reason}: {message}"), Duration::ZERO));
    }
    let ended = json!({ "name": "cache", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": { "terminated": { "exitCode": 1, "reason": "Error", "message": "no\n" } } });
    let failed = pod("u", json!({ "phase": "Failed", "containerStatuses": [ended] }));
    let ends =
        || vec![Step::listed(&[pending("u")]), Step::watching(vec![event("MODIFIED", failed.clone())])];
    let words = Step::json(http::Method::GET, LOG, 200, json!("no room")).query(&["container=cache"]);
    let (said, _) = refused_after(ends().into_iter().chain([words]).collect()).await;
    assert_eq!(said, "cache ended with exit code 1 (Error: no); its last words: \"no room\"");
    let lost = Step::json(http::Method::GET, LOG, 404, refusal(404, "NotFound", "no log"));
    let (said, _) = refused_after(ends().into_iter().chain([lost]).collect()).await;
    assert_eq!(said, "cache ended with exit code 1 (Error: no)");
    let evicted = pod("u", json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" }));
    assert_eq!(refused(evicted).await.0, "Evicted: low on memory");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_node_takes_is_reported_when_that_lasts() {
    let (said, after) = refused(unschedulable("u", "0/1 nodes are available")).await;
    assert_eq!(said, "Unschedulable: 0/1 nodes are available");
    assert!(after >= Duration::from_secs(1) && after < Duration::from_secs(2), "{after:?}");
    let unbound = "pod has unbound immediate PersistentVolumeClaims";
    let (_, after) = refused(unschedulable("u", unbound)).await;
    assert!(after >= Duration::from_secs(30), "{after:?}");
    let steps = vec![
        Step::listed(&[unschedulable("u", unbound)]),
        Step::watching(vec![event("MODIFIED", pending("u")), event("MODIFIED", running("u"))]),
    ];
    waited(steps, PodGoal::Running).await.unwrap();
    // Once it has its volume, the other doubt does not last for as long.
    let nodes = event("MODIFIED", unschedulable("u", "0/1 nodes are available"));
    let steps = vec![Step::listed(&[unschedulable("u", unbound)]), Step::watching(vec![nodes])];
    let (said, after) = refused_after(steps).await;
    assert_eq!(said, "Unschedulable: 0/1 nodes are available");
    assert!(after >= Duration::from_secs(1) && after < Duration::from_secs(2), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_gone_or_going_is_said_to_be() {
    for items in [vec![], vec![running("another")]] {
        let error = waited(vec![Step::listed(&items)], PodGoal::Running).await.unwrap_err();
        assert!(matches!(error, EngineError::NotFound { .. }), "{error}");
    }
    let mut going = running("u");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-25T21:19:00Z");
    let error = waited(vec![Step::listed(&[going])], PodGoal::Running).await.unwrap_err();
    assert!(matches!(&error, EngineError::Failed { message, .. } if message.contains("deleted")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_watch_is_not_taken_again() {
    let words = "pods is forbidden: User \"u\" cannot list resource \"pods\"";
    let steps = vec![Step::json(http::Method::GET, PODS, 403, refusal(403, "Forbidden", words))];
    let error = waited(steps, PodGoal::Running).await.unwrap_err();
    assert_eq!(error, EngineError::Failed { object: "p".to_owned(), message: words.to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_stage_is_seen_while_it_runs() {
    let stage = |state: Value| {
        let stage = json!({ "name": "stage", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                            "state": state });
        let server = json!({ "name": "cache", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                             "state": { "waiting": { "reason": "PodInitializing" } } });
        let status =
            json!({ "phase": "Pending", "initContainerStatuses": [stage], "containerStatuses": [server] });
        let mut pod = pod("u", status);
        pod["spec"]["initContainers"] = json!([{ "name": "stage", "image": "redis:7-alpine" }]);
        pod
    };
    let seen = stage(json!({ "running": {} }));
    let pod = waited(vec![Step::listed(&[seen])], PodGoal::Staging).await.unwrap();
    assert!(pod.staging && pod.message.is_none());
    let released = stage(json!({ "terminated": { "exitCode": 0, "reason": "Completed" } }));
    let error = waited(vec![Step::listed(&[released])], PodGoal::Staging).await.unwrap_err();
    assert!(error.to_string().contains("let go"), "{error}");
    let failed = stage(json!({ "terminated": { "exitCode": 127, "reason": "Error" } }));
    let error = waited(vec![Step::listed(&[failed])], PodGoal::Staging).await.unwrap_err();
    assert!(error.to_string().contains("stage ended with exit code 127"), "{error}");
}
