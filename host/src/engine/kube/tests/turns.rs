use http::Method;

use super::server::{Script, Step, cluster};
use super::*;
use crate::lease::Turn;
use crate::ownership::{Owner, Secret};
use crate::types::CacheKey;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
/// Of the cache `a`.
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/ns/leases/fakecloud-ec-turn-ee9273da54f2dc9e4a125eff796dbbe7";
/// When the scripted server says that it is.
const NOW: &str = "2026-11-25T21:19:00Z";

fn lease(holder: &str, renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "l", "uid": "v", "resourceVersion": "9" },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed },
    })
}

fn clock() -> Step {
    Step::json(Method::GET, "/version", 200, json!({}))
}

fn look(holder: &str, renewed: &str) -> Step {
    Step::json(Method::GET, LEASE, 200, lease(holder, renewed))
}

fn created() -> Step {
    Step::json(Method::POST, LEASES, 201, lease("us", NOW))
        .body("/spec/leaseDurationSeconds", 15)
        .body("/metadata/labels/fakecloud-managed-by", "fakecloud")
}

fn taken() -> Step {
    Step::json(Method::POST, LEASES, 409, refusal(409, "AlreadyExists", "it exists already"))
}

fn replaced() -> Step {
    Step::json(Method::PATCH, LEASE, 200, lease("us", NOW)).body("/metadata/resourceVersion", "9")
}

async fn take(steps: Vec<Step>) -> (Turn, Script) {
    let (kube, script) = cluster(steps);
    let owner = Owner { secret: Secret::of_test(7), instance: "i".to_owned(), leased: false };
    let turn = Turn::take(Arc::new(kube), &owner, "us", &CacheKey::new("", "a").unwrap()).await.unwrap();
    (turn, script)
}

/// After how long a turn comes.
async fn taken_after(steps: Vec<Step>) -> Duration {
    let begun = tokio::time::Instant::now();
    let (_turn, script) = take(steps).await;
    script.done();
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_waited_for_while_another_machine_has_it() {
    let steps =
        vec![clock(), taken(), look("them", NOW), clock(), taken(), look("them", NOW), clock(), created()];
    assert!(taken_after(steps).await > Duration::ZERO);
    assert_eq!(taken_after(vec![clock(), created()]).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_the_dead_is_taken_over() {
    // It was not renewed for longer than it holds, and is not now.
    let then = "2026-11-25T21:18:43Z";
    let steps = vec![clock(), taken(), look("them", then), clock(), look("them", then), replaced()];
    assert!(taken_after(steps).await >= Duration::from_secs(7));
    // Its holder lives, and only could not renew it for a while.
    let steps = vec![
        clock(),
        taken(),
        look("them", then),
        clock(),
        look("them", NOW),
        clock(),
        taken(),
        look("them", NOW),
        clock(),
        created(),
    ];
    assert!(taken_after(steps).await > Duration::from_secs(7));
    // The lock of this very folder is held by whoever asks, so its last holder is no more.
    let just = "2026-11-25T21:18:59Z";
    let steps = vec![clock(), taken(), look("us", just), clock(), look("us", just), replaced()];
    assert_eq!(taken_after(steps).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_renewed_and_given_back() {
    let (turn, script) = take(vec![clock(), created()]).await;
    script.expect([clock(), look("us", NOW), replaced()]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    script.done();
    let gone = Step::json(Method::DELETE, LEASE, 200, refusal(200, "", ""))
        .body("/preconditions/resourceVersion", "9");
    script.expect([look("us", NOW), gone]);
    turn.give_back().await;
    script.done();
}
