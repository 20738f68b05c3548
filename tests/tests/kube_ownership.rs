//! Whose a pod or claim is, and that nobody else's is ever touched: on a real cluster. The numbers are those of the
//! list of traps.
//!
//! Clauses: KUBE-4, KUBE-10, KUBE-16, NAME-1, NAME-2, NAME-3, NAME-5, OWN-1, OWN-2, OWN-3, OWN-4, OWN-5, REAP-1,
//! REAP-2, REAP-3.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_namespaces;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use elasticache_host::{CacheKey, Error, Runtime};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, PostParams};
use serde_json::Value;

use kube_namespaces::{World, get, key, redis_of, set};

/// The shortest lease there is: of those who are to die.
const SHORT: Duration = Duration::from_secs(3);
/// Of those who live on: a slow machine renews it in time, too.
const LONG: Duration = Duration::from_secs(120);

/// Every operation there is, on one cache.
async fn everything(runtime: &Runtime, key: &CacheKey, folder: &std::path::Path) {
    runtime.ensure(redis_of(key)).await.unwrap();
    set(runtime, key, "k", "v").await;
    runtime.reboot(key).await.unwrap();
    assert_eq!(get(runtime, key, "k").await, "v");
    runtime.snapshot(key, &folder.join("s.rdb")).await.unwrap();
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    assert!(runtime.find(key).await.unwrap().is_some());
    runtime.reap().await.unwrap();
    assert!(runtime.stop(key).await.unwrap());
    runtime.stop_all().await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
}

async fn lives(world: &World, names: &[String]) -> Vec<Value> {
    let mut all = Vec::new();
    for name in names {
        all.push(world.life(name).await);
    }
    all
}

/// Trap 24: a label alone proves nothing, and neither does an annotation.
#[tokio::test(flavor = "multi_thread")]
async fn look_alikes_and_strangers_are_neither_seen_nor_touched_by_any_operation() {
    let world = World::new("alike").await;
    let runtime = world.runtime(true).await;
    let folder = world.folder("out");
    let mine = key("mine");
    // Of another instance, in a pod: before there is a claim, which is every instance's.
    let neighbour = world.builder("neighbour", "neighbour", false).build().await.unwrap();
    let theirs = neighbour.ensure(redis_of(&mine)).await.unwrap();
    set(&neighbour, &mine, "whose", "theirs").await;
    let cache = runtime.ensure(redis_of(&mine)).await.unwrap();
    let pod = world.pod(&cache.handle).await;
    let labels = pod.metadata.labels.unwrap();
    let annotations = pod.metadata.annotations.unwrap();
    let changed: BTreeMap<_, _> =
        annotations.iter().map(|(name, value)| (name.clone(), value.replace("mine", "mine-2"))).collect();
    let claims = world.api::<PersistentVolumeClaim>();
    let mut claim = claims.get("fakecloud-elasticache-data-mine").await.unwrap();
    claim.metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: Some("fakecloud-elasticache-data-alike".to_owned()),
        labels: claim.metadata.labels,
        annotations: claim.metadata.annotations,
        ..Default::default()
    };
    claim.spec.as_mut().unwrap().volume_name = None;
    claims.create(&PostParams::default(), &claim).await.unwrap();
    runtime.stop(&mine).await.unwrap();

    // One with all that ours said under another name, one that says it is another cache of ours, one without anything,
    // one under the very name that a cache of ours would have; and that one.
    let taken = runtime.ensure(redis_of(&key("taken"))).await.unwrap().handle;
    runtime.stop(&key("taken")).await.unwrap();
    let none = BTreeMap::new();
    let others = [
        world.somebody("alike", &labels, &annotations).await,
        world.somebody("changed", &labels, &changed).await,
        world.somebody("stranger", &none, &none).await,
        world.somebody(&taken, &labels, &annotations).await,
        theirs.handle.clone(),
    ];
    let before = lives(&world, &others).await;
    everything(&runtime, &mine, &folder).await;
    // The name is somebody's, and stays so.
    let error = runtime.ensure(redis_of(&key("taken"))).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains(&taken)), "{error:?}");
    assert!(!runtime.stop(&key("taken")).await.unwrap());
    assert!(matches!(runtime.reboot(&key("taken")).await.unwrap_err(), Error::NotFound { .. }));
    // A claim that only says that it is ours is not taken, and not deleted.
    let error = runtime.ensure(redis_of(&key("alike"))).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains("data-alike")), "{error:?}");
    assert!(!matches!(runtime.remove_data(&key("alike")).await, Ok(true)));
    let claim = claims.get("fakecloud-elasticache-data-alike").await.unwrap();
    assert_eq!(claim.metadata.deletion_timestamp, None);
    assert!(runtime.remove_data(&mine).await.unwrap());
    assert_eq!(lives(&world, &others).await, before);
    assert_eq!(get(&neighbour, &mine, "whose").await, "theirs");
}

/// Trap 7: two embedders of one namespace do not take each other's caches.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_runs_under_another_instance_is_refused_by_name() {
    let world = World::new("two").await;
    let one = world.builder("first", "first", true).build().await.unwrap();
    let two = world.builder("second", "second", true).build().await.unwrap();
    let k = key("k");
    let cache = one.ensure(redis_of(&k)).await.unwrap();
    let before = world.life(&cache.handle).await;
    // Two engines on one claim would destroy what is on it.
    let error = two.ensure(redis_of(&k)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains("first")), "{error:?}");
    assert_eq!(two.list().await.unwrap(), []);
    assert_eq!(two.find(&k).await.unwrap(), None);
    assert!(!two.stop(&k).await.unwrap());
    two.stop_all().await.unwrap();
    assert_eq!(two.reap().await.unwrap(), [""; 0]);
    assert!(matches!(two.remove_data(&k).await.unwrap_err(), Error::Conflict { .. }));
    assert_eq!(world.life(&cache.handle).await, before);
    // Once it is stopped there, it can be had here, data and all.
    set(&one, &k, "k", "v").await;
    one.stop(&k).await.unwrap();
    two.ensure(redis_of(&k)).await.unwrap();
    assert_eq!(get(&two, &k, "k").await, "v");
}

/// Trap 11.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_look_alike_once_sanitized_share_nothing() {
    let world = World::new("names").await;
    let runtime = world.runtime(true).await;
    let long = "a".repeat(300);
    let keys: Vec<CacheKey> = [
        ("", "weird/id:1".to_owned()),
        ("", "weird-id-1".to_owned()),
        ("", "weird-ID-1".to_owned()),
        ("scope", "weird-id-1".to_owned()),
        ("", "wéird-ïd-1/../🦀".to_owned()),
        ("", long.clone()),
        ("", format!("{}b", &long[1..])),
    ]
    .map(|(scope, id)| CacheKey::new(scope, id).unwrap())
    .into();
    // One after the other: the node is small.
    for (n, key) in keys.iter().enumerate() {
        let cache = runtime.ensure(redis_of(key)).await.unwrap();
        assert!(!cache.adopted, "{key}");
        assert_eq!(get(&runtime, key, "who").await, "", "{key}");
        set(&runtime, key, "who", &n.to_string()).await;
    }
    let pods = world.pods().await;
    let claims: Vec<PersistentVolumeClaim> = world.all().await;
    assert_eq!((pods.len(), claims.len()), (keys.len(), keys.len()));
    let label = |name: &str| -> BTreeSet<String> {
        pods.iter().map(|pod| pod.metadata.labels.as_ref().unwrap()[name].clone()).collect()
    };
    assert_eq!(label("fakecloud-managed-by"), ["fakecloud".to_owned()].into());
    assert_eq!(label("fakecloud-service"), ["elasticache".to_owned()].into());
    assert_eq!(label("fakecloud-instance"), [world.instance.clone()].into());
    assert_eq!(label("fakecloud-elasticache").len(), keys.len() - 1, "one id is in two scopes");
    for pod in &pods {
        let name = pod.metadata.name.as_deref().unwrap();
        assert!(name.starts_with("fakecloud-ec-") && name.len() <= 63, "{name}");
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(
            (spec.restart_policy.as_deref(), spec.containers[0].name.as_str()),
            (Some("Never"), "cache")
        );
    }
    let mut listed: Vec<CacheKey> =
        runtime.list().await.unwrap().into_iter().map(|cache| cache.key).collect();
    listed.sort();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(listed, sorted);

    // Away with one and its data: the others stay.
    runtime.stop(&keys[0]).await.unwrap();
    assert!(runtime.remove_data(&keys[0]).await.unwrap());
    runtime.reboot(&keys[1]).await.unwrap();
    for (n, key) in keys.iter().enumerate().skip(1) {
        assert_eq!(get(&runtime, key, "who").await, n.to_string(), "{key}");
    }
}

/// Trap 6. The key of the owner lies in the namespace, so that an embedder whose disk is new finds its caches.
#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_that_starts_again_with_an_empty_folder_adopts_what_runs() {
    let world = World::new("again").await;
    for claims in [true, false] {
        let k = key(if claims { "on-claim" } else { "in-pod" });
        let before = world.builder(&world.instance, "before", claims).build().await.unwrap();
        let made = before.ensure(redis_of(&k)).await.unwrap();
        set(&before, &k, "k", "v").await;
        let life = world.life(&made.handle).await;
        drop(before);

        let folder = format!("after-{claims}");
        let after = world.builder(&world.instance, &folder, claims).build().await.unwrap();
        let listed = after.list().await.unwrap();
        let found = listed.iter().find(|cache| cache.key == k).unwrap();
        assert_eq!((&found.endpoint, found.adopted), (&made.endpoint, true));
        let adopted = after.ensure(redis_of(&k)).await.unwrap();
        assert_eq!((&adopted.handle, &adopted.endpoint), (&made.handle, &made.endpoint));
        assert!(adopted.adopted);
        assert_eq!(world.life(&made.handle).await, life);
        assert_eq!(get(&after, &k, "k").await, "v");
        after.reboot(&k).await.unwrap();
        assert_eq!(get(&after, &k, "k").await, "v");
    }
}

/// Trap 7: process ids say nothing; a Lease does.
#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_takes_what_the_dead_left_and_never_what_the_living_have() {
    let world = World::new("reap").await;
    let leased =
        async |name: &str, length| world.builder(name, name, true).lease(length).build().await.unwrap();
    let (living, reaper) = (leased("alive", LONG).await, leased("other", LONG).await);
    let unleased = world.runtime(false).await;
    let kept = living.ensure(redis_of(&key("living"))).await.unwrap();
    let bare = unleased.ensure(redis_of(&key("unleased"))).await.unwrap();
    set(&unleased, &key("unleased"), "k", "v").await;
    drop(unleased);
    let others = [kept.handle, bare.handle];
    let before = lives(&world, &others).await;
    // Nobody is dead yet.
    assert_eq!(reaper.reap().await.unwrap(), [""; 0]);
    let dying = leased("dead", SHORT).await;
    let left = dying.ensure(redis_of(&key("dying"))).await.unwrap();
    set(&dying, &key("dying"), "k", "of the dead").await;
    // It lives on for as long as its Lease is renewed, which outlasts the length of one.
    let renewed = async || {
        let all: Vec<Lease> = world.all().await;
        let of = |lease: &Lease| lease.spec.as_ref().unwrap().holder_identity.as_deref() == Some("dead");
        all.into_iter().find(of).unwrap().spec.unwrap().renew_time.unwrap()
    };
    let first = renewed().await.0;
    world
        .eventually("a Lease is renewed past its first end", async || {
            assert_eq!(reaper.reap().await.unwrap(), [""; 0], "it lives");
            let lived = renewed().await.0.duration_since(first);
            (lived.as_secs() > 2 * SHORT.as_secs() as i64).then_some(())
        })
        .await;
    drop(dying);
    let removed = world
        .eventually("the dead one's pod is reaped", async || {
            let removed = reaper.reap().await.unwrap();
            (!removed.is_empty()).then_some(removed)
        })
        .await;
    assert_eq!(removed, [left.handle]);
    assert_eq!(lives(&world, &others).await, before, "the living and the unleased are untouched");
    let again = world.builder("late", "late", true).build().await.unwrap();
    assert_eq!(again.reap().await.unwrap(), [""; 0]);
    assert_eq!(living.reap().await.unwrap(), [""; 0]);
    assert_eq!(lives(&world, &others).await, before);
    let leases: Vec<Lease> = world.all().await;
    assert_eq!(leases.len(), 2, "the dead one's Lease went, too");

    // What it took away was a pod, not data.
    reaper.ensure(redis_of(&key("dying"))).await.unwrap();
    assert_eq!(get(&reaper, &key("dying"), "k").await, "of the dead");
    drop(living);
}

/// A Lease that somebody deletes makes nobody dead.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_lease_was_deleted_is_not_taken_for_dead() {
    let world = World::new("lost").await;
    let builder = world.builder("loses", "loses", false).lease(SHORT);
    let loses = builder.build().await.unwrap();
    let cache = loses.ensure(redis_of(&key("k"))).await.unwrap();
    drop(loses);
    let leases = world.api::<Lease>();
    for lease in world.all::<Lease>().await {
        leases.delete(lease.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
    }
    let before = world.life(&cache.handle).await;
    let reaper = world.builder("reaper", "reaper", false).lease(LONG).build().await.unwrap();
    assert_eq!(reaper.reap().await.unwrap(), [""; 0]);
    assert_eq!(world.life(&cache.handle).await, before);
}
