//! Another policy is taken up while caches run and operations are in flight: nothing is lost, nothing is mixed.
//!
//! Clauses: HOST-11, HOST-12, DATA-1.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use conformance::sim::docker::Call;
use elasticache_host::engine::Container;
use elasticache_host::{Error, Manifest, PolicyError, PolicySource, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;

mod sim_support;

use sim_support::{Plan, World, durable, endpoint, key, policy, redis, soon};

const DURABLE: &str = "durable";
const EPHEMERAL: &str = "ephemeral";

/// An environment that can be told by what its policy makes: by the policy's own options, and by the image that its
/// settings name.
fn environment(name: &str) -> Manifest {
    let mut manifest = Manifest::read(&policy(name).with_extension("toml")).unwrap();
    manifest.config.0.insert("image.redis".to_owned(), image(name));
    manifest
}

fn image(name: &str) -> String {
    format!("redis:of-{name}")
}

async fn world() -> World {
    let world = World::new().await;
    for name in [DURABLE, EPHEMERAL] {
        world.sim.add_image(&image(name));
    }
    world
}

async fn runtime(world: &World, name: &str) -> Runtime {
    world.builder().environment(environment(name)).build().await.unwrap()
}

/// Which environment a container was made in; a mixture is neither.
#[track_caller]
fn made_by(container: &Container) -> &'static str {
    let has_volume = container.labels.contains_key("fakecloud-elasticache-volume");
    let folder = container.labels["fakecloud-policy-folder"].as_str();
    let image_of = |name| container.image == image(name);
    match (has_volume, folder) {
        (true, "/data") if image_of(DURABLE) => DURABLE,
        (false, "/tmp") if image_of(EPHEMERAL) => EPHEMERAL,
        _ => panic!("a mixture: {container:?}"),
    }
}

async fn container_of(world: &World, id: &str) -> Container {
    let mut found = world.observe().await.containers;
    found.retain(|container| container.labels.get("fakecloud-elasticache").is_some_and(|label| label == id));
    assert_eq!(found.len(), 1, "{id}: {found:?}");
    found.remove(0)
}

#[tokio::test]
async fn an_operation_in_flight_ends_on_the_old_policy_and_the_next_one_begins_on_the_new() {
    let world = world().await;
    let runtime = runtime(&world, DURABLE).await;
    let gate = Plan::gate(Call::CreateContainer);
    world.engine.follow(Arc::clone(&gate));
    let in_flight = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.ensure(redis("old")).await }
    });
    soon(gate.reached()).await;
    // It has decided on names, volume and port, and has yet to start, to wait and to report.
    let description = soon(runtime.swap_environment(environment(EPHEMERAL))).await.unwrap();
    assert_eq!(description.name, EPHEMERAL);
    soon(runtime.ensure(redis("new"))).await.unwrap();
    gate.open();
    soon(in_flight).await.unwrap().unwrap();
    assert_eq!(made_by(&container_of(&world, "old").await), DURABLE);
    assert_eq!(made_by(&container_of(&world, "new").await), EPHEMERAL);
}

#[tokio::test]
async fn caches_run_on_untouched_and_are_found_by_the_new_policy() {
    let world = world().await;
    let runtime = runtime(&world, DURABLE).await;
    let cache = runtime.ensure(redis("a")).await.unwrap();
    world.write(&cache, "k", "v").await;
    let before = world.observe().await;
    world.sim.clear_calls();
    runtime.swap_environment(environment(EPHEMERAL)).await.unwrap();
    assert_eq!(world.sim.calls(), [""; 0], "a swap asks the engine for nothing");
    assert_eq!(world.observe().await, before);
    let found = runtime.ensure(redis("a")).await.unwrap();
    assert!(found.adopted);
    assert_eq!(endpoint(&found), endpoint(&cache));
    assert_eq!(world.read(&found, "k").await.as_deref(), Some("v"));
    assert_eq!(runtime.list().await.unwrap().len(), 1);
}

/// What one policy made, another one treats as what it is: a reboot loses nothing either way.
#[tokio::test]
async fn a_reboot_by_the_other_policy_keeps_the_data() {
    for (one, other) in [(DURABLE, EPHEMERAL), (EPHEMERAL, DURABLE)] {
        let world = world().await;
        let runtime = runtime(&world, one).await;
        let cache = runtime.ensure(redis("a")).await.unwrap();
        world.write(&cache, "k", "v").await;
        runtime.swap_environment(environment(other)).await.unwrap();
        let after = runtime.reboot(&key("a")).await.unwrap();
        assert_eq!(after.endpoint, cache.endpoint, "{one} then {other}");
        assert_eq!(world.read(&after, "k").await.as_deref(), Some("v"), "{one} then {other}");
        runtime.snapshot(&key("a"), &world.path().join("s.rdb")).await.unwrap();
    }
}

#[tokio::test]
async fn a_component_that_does_not_fit_leaves_the_old_one_in_place() {
    let world = world().await;
    let runtime = runtime(&world, DURABLE).await;
    let written = |name: &str, bytes: &[u8]| {
        let path = world.path().join(name);
        fs::write(&path, bytes).unwrap();
        PolicySource::file(path)
    };
    let component = fs::read(durable()).unwrap();
    let other_version = String::from_utf8_lossy(b"lifecycle@0.1.0").into_owned();
    let mut patched = component.clone();
    for at in 0..patched.len() - other_version.len() {
        if patched[at..].starts_with(other_version.as_bytes()) {
            patched[at..at + other_version.len()].copy_from_slice(b"lifecycle@0.2.0");
        }
    }
    for (source, fits) in [
        (
            PolicySource::file("/no/such.wasm"),
            (|e| matches!(e, PolicyError::Read { .. })) as fn(&PolicyError) -> bool,
        ),
        (written("text.wasm", b"hello"), |e| matches!(e, PolicyError::NotAComponent { .. })),
        (written("half.wasm", &component[..component.len() / 2]), |e| {
            matches!(e, PolicyError::Prepare { .. })
        }),
        (written("other.wasm", &patched), |e| matches!(e, PolicyError::OtherVersion { .. })),
    ] {
        match runtime.swap_policy(source).await.unwrap_err() {
            Error::Policy(error) => assert!(fits(&error), "{error:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(runtime.describe().await.unwrap().name, DURABLE);
    }
    runtime.ensure(redis("a")).await.unwrap();
    assert_eq!(made_by(&container_of(&world, "a").await), DURABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_operations_across_ten_swaps_are_none_lost_and_none_mixed() {
    const OPERATIONS: usize = 1_000;
    const SWAPS: usize = 10;
    let world = world().await;
    let runtime = runtime(&world, DURABLE).await;
    let (ended, more) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let mut operations = JoinSet::new();
    for number in 0..OPERATIONS {
        let (runtime, ended, more) = (runtime.clone(), Arc::clone(&ended), Arc::clone(&more));
        operations.spawn(async move {
            let cache = runtime.ensure(redis(&format!("c{number}"))).await;
            ended.fetch_add(1, Ordering::SeqCst);
            more.notify_one();
            cache
        });
    }
    let mut swapped_while_busy = 0;
    for swap in 1..=SWAPS {
        // Each swap comes when some have ended since the last one, and most of the others are still to end.
        while ended.load(Ordering::SeqCst) < OPERATIONS / (2 * SWAPS) * swap {
            soon(more.notified()).await;
        }
        let name = if swap % 2 == 1 { EPHEMERAL } else { DURABLE };
        assert_eq!(runtime.swap_environment(environment(name)).await.unwrap().name, name);
        swapped_while_busy += usize::from(ended.load(Ordering::SeqCst) < OPERATIONS);
    }
    assert_eq!(swapped_while_busy, SWAPS, "all swaps were made while operations were in flight");
    let all = async {
        while let Some(done) = operations.join_next().await {
            done.unwrap().unwrap();
        }
    };
    soon(all).await;
    let mut made = std::collections::BTreeMap::new();
    for container in &world.observe().await.containers {
        if container.labels.contains_key("fakecloud-policy-folder") {
            *made.entry(made_by(container)).or_insert(0) += 1;
        }
    }
    assert_eq!(made.values().sum::<usize>(), OPERATIONS, "{made:?}");
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(runtime.list().await.unwrap().len(), OPERATIONS);
}
