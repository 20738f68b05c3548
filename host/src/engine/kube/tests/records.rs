use std::io;

use http::Method;
use k8s_openapi::jiff::Timestamp;

use super::server::{Step, cluster};
use super::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l";
const SECRET: &str = "/api/v1/namespaces/ns/secrets/s";
const SECRETS: &str = "/api/v1/namespaces/ns/secrets";

fn lease(renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "l", "uid": "v", "resourceVersion": "9", "labels": { "a": "b" } },
        "spec": { "holderIdentity": "h", "leaseDurationSeconds": 30, "renewTime": renewed },
    })
}

fn at(text: &str) -> SystemTime {
    SystemTime::from(text.parse::<Timestamp>().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_written_as_one_request_that_may_be_repeated() {
    let write = || {
        Step::json(Method::PATCH, LEASE, 200, lease("2026-11-25T21:19:00.123456Z"))
            .query(&["force=true"])
            .body("/spec/holderIdentity", "h")
            .body("/spec/leaseDurationSeconds", 30)
            .body("/spec/renewTime", "2026-11-25T21:19:00.123456Z")
    };
    let (kube, script) =
        cluster([Step::reset(Method::PATCH, LEASE, io::ErrorKind::ConnectionReset), write()]);
    let lease = Lease {
        name: "l".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        holder: "h".to_owned(),
        seconds: 30,
        renewed: at("2026-11-25T21:19:00.123456789Z"),
    };
    kube.write_lease(&lease).await.unwrap();
    script.done();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_deleted_only_as_it_was_seen() {
    let look = || Step::json(Method::GET, LEASE, 200, lease("2026-11-25T21:19:00.123456Z"));
    let delete = Step::json(Method::DELETE, LEASE, 200, refusal(200, "", ""))
        .body("/preconditions/uid", "v")
        .body("/preconditions/resourceVersion", "9");
    let (kube, script) = cluster([look(), delete]);
    kube.delete_lease("l", at("2026-11-25T21:19:00.123456Z")).await.unwrap();
    script.done();
    let (kube, script) = cluster([look()]);
    let error = kube.delete_lease("l", at("2026-11-25T21:18:00Z")).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_by_one_only() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
    let (then, later) = ("2026-11-25T21:19:00.000000Z", "2026-11-25T21:19:20.000000Z");
    let ours = Lease {
        name: "l".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        holder: "us".to_owned(),
        seconds: 30,
        renewed: at(later),
    };
    let of = |holder: &str, renewed: &str| {
        let mut lease = lease(renewed);
        lease["spec"]["holderIdentity"] = json!(holder);
        lease
    };
    let look = |holder, renewed| Step::json(Method::GET, LEASE, 200, of(holder, renewed));
    let create =
        |code, answer| Step::json(Method::POST, LEASES, code, answer).body("/spec/holderIdentity", "us");
    let replace = |code, answer| {
        Step::json(Method::PATCH, LEASE, code, answer)
            .body("/metadata/resourceVersion", "9")
            .body("/spec/holderIdentity", "us")
    };
    let taken = || refusal(409, "AlreadyExists", "leases \"l\" already exists");
    let reset = |method, path| Step::reset(method, path, io::ErrorKind::ConnectionReset);
    let dead = Lease { holder: "dead".to_owned(), renewed: at(then), ..ours.clone() };
    for (steps, instead, holder) in [
        (vec![create(201, of("us", later))], None, None),
        (vec![create(409, taken()), look("them", then)], None, Some("them")),
        // The answer to the first attempt was lost.
        (vec![reset(Method::POST, LEASES), create(409, taken()), look("us", later)], None, None),
        (vec![look("dead", then), replace(200, of("us", later))], Some(&dead), None),
        // It lives, or another one was first.
        (vec![look("dead", later)], Some(&dead), Some("dead")),
        (vec![look("dead", then), replace(409, taken()), look("them", later)], Some(&dead), Some("them")),
    ] {
        let (kube, script) = cluster(steps);
        let there = kube.take_lease(&ours, instead).await.unwrap();
        script.done();
        assert_eq!(there.as_ref().map(|there| there.holder.as_str()), holder);
    }
    let gone = || Step::json(Method::GET, LEASE, 404, refusal(404, "NotFound", "no"));
    let (kube, script) = cluster([create(409, taken()), gone()]);
    let error = kube.take_lease(&ours, None).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
    // Whoever had it meanwhile may have given it back.
    let (kube, script) = cluster([gone()]);
    let error = kube.take_lease(&ours, Some(&dead)).await.unwrap_err();
    script.done();
    assert!(matches!(error, EngineError::NotFound { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn leases_are_listed_by_their_labels() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
    let items = list(&[lease("2026-11-25T21:19:00Z")]);
    let step = Step::json(Method::GET, LEASES, 200, items).query(&["labelSelector=a%3Db%2Cc"]);
    let (kube, script) = cluster([step]);
    let leases = kube.list_leases(&[("a", "b"), ("c", "")]).await.unwrap();
    script.done();
    assert_eq!((leases[0].holder.as_str(), leases[0].seconds), ("h", 30));
    assert_eq!(leases[0].renewed, at("2026-11-25T21:19:00Z"));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_the_shared_secret_gets_the_same_bytes() {
    let kept = json!({ "metadata": { "name": "s" }, "data": { "k": "dGhlaXJz" } });
    let missing =
        || Step::json(Method::GET, SECRET, 404, refusal(404, "NotFound", "secrets \"s\" not found"));
    let (kube, script) = cluster([Step::json(Method::GET, SECRET, 200, kept.clone())]);
    assert_eq!(kube.shared_secret("s", "k", b"ours").await.unwrap(), b"theirs");
    script.done();
    let taken = refusal(409, "AlreadyExists", "secrets \"s\" already exists");
    let (kube, script) = cluster([
        missing(),
        Step::json(Method::POST, SECRETS, 409, taken).body("/data/k", "b3Vycw=="),
        Step::json(Method::GET, SECRET, 200, kept.clone()),
    ]);
    assert_eq!(kube.shared_secret("s", "k", b"ours").await.unwrap(), b"theirs");
    script.done();
    let (kube, script) = cluster([Step::json(Method::GET, SECRET, 200, kept)]);
    let error = kube.shared_secret("s", "other", b"ours").await.unwrap_err();
    script.done();
    assert!(error.to_string().contains("\"other\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_told_even_with_a_refusal() {
    for code in [200, 403] {
        let (kube, script) = cluster([Step::json(Method::GET, "/version", code, refusal(code, "", ""))]);
        assert_eq!(kube.now().await.unwrap(), at("2026-11-25T21:19:00Z"));
        script.done();
    }
}
