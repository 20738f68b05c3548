use std::io;

use http::Method;

use super::server::{PODS, Step, cluster};
use super::*;

fn posted(code: u16, answer: Value) -> Step {
    Step::json(Method::POST, PODS, code, answer)
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_made_as_asked() {
    let (kube, script) = cluster([posted(201, waiting("u", "ContainerCreating", ""))
        .body("/metadata/name", "p")
        .body("/metadata/labels/a", "b")
        .body("/spec/restartPolicy", "Never")
        .body("/spec/automountServiceAccountToken", false)
        .body("/spec/enableServiceLinks", false)
        .body("/spec/terminationGracePeriodSeconds", 7)
        .body("/spec/containers/0/name", "cache")
        .body("/spec/containers/0/args/0", "--save")
        .body("/spec/containers/0/ports/0/containerPort", 6379)
        .body("/spec/containers/0/securityContext/allowPrivilegeEscalation", false)
        .body("/spec/containers/0/volumeMounts/0/mountPath", "/data")
        .body("/spec/volumes/0/emptyDir", json!({}))]);
    let pod = kube.create_pod(&spec()).await.unwrap();
    script.done();
    assert_eq!((pod.id, pod.phase), (id("u"), crate::engine::cluster::PodPhase::Pending));
    assert_eq!((pod.message, pod.address, pod.image.as_str()), (None, None, "redis:7-alpine"));
}

#[tokio::test(start_paused = true)]
async fn a_staged_pod_on_a_claim_has_a_stage_with_the_same_data() {
    let (mut kube, script) = cluster([posted(201, waiting("u", "PodInitializing", ""))
        .body("/spec/initContainers/0/name", "stage")
        .body("/spec/initContainers/0/image", "redis:7-alpine")
        .body("/spec/initContainers/0/volumeMounts/0/mountPath", "/data")
        .body("/spec/volumes/0/persistentVolumeClaim/claimName", "c")
        .body("/spec/imagePullSecrets/0/name", "s")]);
    kube.options.pull_secret = Some("s".to_owned());
    let spec = PodSpec { staged: true, data: PodData::Claim("c".to_owned()), ..spec() };
    kube.create_pod(&spec).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_a_conflict() {
    let (kube, script) = cluster([posted(409, refusal(409, "AlreadyExists", "pods \"p\" already exists"))]);
    let error = kube.create_pod(&spec()).await.unwrap_err();
    script.done();
    assert!(matches!(&error, EngineError::Conflict { message, .. } if message.contains("exists")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_create_is_repeated_only_where_it_certainly_did_nothing() {
    let (kube, script) = cluster([
        posted(429, refusal(429, "TooManyRequests", "slow down")),
        Step::reset(Method::POST, PODS, io::ErrorKind::ConnectionRefused),
        posted(201, waiting("u", "ContainerCreating", "")),
    ]);
    kube.create_pod(&spec()).await.unwrap();
    script.done();
    for step in [
        posted(500, refusal(500, "", "etcdserver: leader changed")),
        posted(503, refusal(503, "ServiceUnavailable", "etcd is away")),
        posted(504, refusal(504, "Timeout", "no answer")),
        Step::reset(Method::POST, PODS, io::ErrorKind::ConnectionReset),
    ] {
        let (kube, script) = cluster([step]);
        let error = kube.create_pod(&spec()).await.unwrap_err();
        script.done();
        assert!(matches!(error, EngineError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_when_to_come_again_is_not_asked_sooner() {
    let mut busy = refusal(429, "TooManyRequests", "slow down");
    busy["details"] = json!({ "retryAfterSeconds": 9 });
    let (kube, script) = cluster([posted(429, busy), posted(201, waiting("u", "ContainerCreating", ""))]);
    let begun = tokio::time::Instant::now();
    kube.create_pod(&spec()).await.unwrap();
    script.done();
    assert!(begun.elapsed() >= Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_keeps_the_servers_words() {
    let words =
        "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3";
    let (kube, script) = cluster([posted(403, refusal(403, "Forbidden", words))]);
    let error = kube.create_pod(&spec()).await.unwrap_err();
    script.done();
    assert_eq!(error, EngineError::Failed { object: "p".to_owned(), message: words.to_owned() });
}
