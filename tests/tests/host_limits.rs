//! A policy that does its worst: each operation of it ends with an error that says how, nothing that it made
//! stays, nothing of anybody else's changes, and the operation after it works.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use elasticache_host::engine::ContainerEngine;
use elasticache_host::engine::memory::Call;
use elasticache_host::{Cache, Error, Fault, Limits, Runtime};

mod memory_support;

use memory_support::{INSTANCE, World, endpoint, hostile, key, redis, soon, unavailable};

/// Small, so that what runs into them does so soon, and large enough for a machine under load.
fn limits() -> Limits {
    Limits {
        memory: 4 << 20,
        host_calls: 2_000,
        guest_time: Duration::from_secs(1),
        bytes_per_call: 256 << 10,
        pull: Duration::from_millis(200),
        cleanup: Duration::from_millis(200),
    }
}

async fn misbehaving(world: &World, behaviour: &str) -> Runtime {
    world
        .builder()
        .policy_file(hostile())
        .setting("behaviour", behaviour)
        .limits(limits())
        .build()
        .await
        .unwrap()
}

/// The error of an `ensure` that misbehaves, after a look at what it left and at the operation after it.
async fn survived(behaviour: &str) -> Error {
    let world = World::new().await;
    let runtime = misbehaving(&world, behaviour).await;
    survived_by(&world, &runtime).await
}

async fn survived_by(world: &World, runtime: &Runtime) -> Error {
    let error = soon(runtime.ensure(redis("bad"))).await.unwrap_err();
    world.assert_untouched(&world.observe().await, "after a broken operation");
    still_works(world, runtime).await;
    error
}

/// That the same runtime, on the same pool of instances, can make and use a cache.
async fn still_works(world: &World, runtime: &Runtime) {
    let cache = soon(runtime.ensure(redis("good"))).await.unwrap();
    world.write(&cache, "k", "v").await;
    world.assert_has(&world.observe().await, 1, 1, "after the next operation");
}

#[track_caller]
fn fault(error: Error) -> Fault {
    match error {
        Error::Fault { policy, fault } => {
            assert!(policy.ends_with("hostile.wasm"), "{policy}");
            fault
        }
        other => panic!("not a fault: {other:?}"),
    }
}

#[track_caller]
fn grant(error: Error) -> String {
    match error {
        Error::Denied { grant, .. } => grant,
        other => panic!("not denied: {other:?}"),
    }
}

#[track_caller]
fn field(error: Error) -> String {
    match error {
        Error::Invalid(input) => input.field,
        other => panic!("not invalid: {other:?}"),
    }
}

// Too much of something.

#[tokio::test]
async fn an_endless_loop_ends_when_its_computing_time_is_used_up() {
    assert_eq!(fault(survived("loop").await), Fault::GuestTime(limits().guest_time));
}

#[tokio::test]
async fn asking_for_settings_without_end_is_computing_time_too() {
    assert_eq!(fault(survived("settings-flood").await), Fault::GuestTime(limits().guest_time));
}

#[tokio::test]
async fn a_memory_bomb_ends_at_the_memory_limit() {
    assert_eq!(fault(survived("memory").await), Fault::Memory(limits().memory));
}

#[tokio::test]
async fn endless_recursion_is_a_trap() {
    assert!(matches!(fault(survived("recursion").await), Fault::Trap(_)));
}

#[tokio::test]
async fn a_flood_of_calls_ends_at_the_call_budget() {
    for behaviour in ["call-flood", "log-flood"] {
        assert_eq!(fault(survived(behaviour).await), Fault::HostCalls(limits().host_calls), "{behaviour}");
    }
}

#[tokio::test]
async fn a_string_or_list_too_large_for_one_call_is_refused_before_the_host_keeps_it() {
    for behaviour in ["log-huge", "command-huge", "command-many", "put-huge"] {
        match fault(survived(behaviour).await) {
            Fault::Oversized { limit, .. } => assert_eq!(limit, limits().bytes_per_call, "{behaviour}"),
            other => panic!("{behaviour}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_operation_is_bounded_not_only_the_making_of_a_cache() {
    let world = World::new().await;
    let runtime = misbehaving(&world, "log-flood").await;
    let path = world.path().join("x.rdb");
    let args = ["PING".to_owned()];
    let errors = [
        runtime.reboot(&key("bad")).await.unwrap_err(),
        runtime.snapshot(&key("bad"), &path).await.unwrap_err(),
        runtime.stop(&key("bad")).await.unwrap_err(),
        runtime.remove_data(&key("bad")).await.unwrap_err(),
        runtime.exec(&key("bad"), &args).await.unwrap_err(),
        runtime.find(&key("bad")).await.unwrap_err(),
        runtime.list().await.unwrap_err(),
        runtime.reap().await.unwrap_err(),
        runtime.stop_all().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(fault(error), Fault::HostCalls(limits().host_calls));
    }
    assert!(!path.exists());
    still_works(&world, &runtime).await;
}

// Breaking off.

#[tokio::test]
async fn a_panic_at_any_step_of_making_a_cache_leaves_nothing() {
    for step in ["before-create", "after-volume", "after-create", "after-start"] {
        let broken = fault(survived(&format!("panic-{step}")).await);
        assert!(matches!(&broken, Fault::Trap(words) if words.contains("unreachable")), "{step}: {broken:?}");
    }
}

#[tokio::test]
async fn a_panic_after_the_reply_to_a_create_was_lost_leaves_nothing() {
    let world = World::new().await;
    let runtime = misbehaving(&world, "panic-after-lost-create").await;
    world.memory.fail_next(Call::CreateContainer, unavailable(), true);
    assert!(matches!(fault(survived_by(&world, &runtime).await), Fault::Trap(_)));
    assert_eq!(world.memory.faults_left(), 0);
}

#[tokio::test]
async fn an_error_returned_without_cleaning_up_leaves_nothing() {
    let error = survived("error-after-start").await;
    assert!(matches!(&error, Error::Other { message } if message == "on purpose"), "{error:?}");
}

#[tokio::test]
async fn operations_that_broke_off_give_back_their_place_in_the_pool() {
    // More than there are places, and each with a container and a volume to clean up.
    let world = World::new().await;
    let runtime = misbehaving(&world, "panic-after-start").await;
    for _ in 0..300 {
        assert!(matches!(fault(runtime.ensure(redis("bad")).await.unwrap_err()), Fault::Trap(_)));
    }
    world.assert_untouched(&world.observe().await, "after 300 broken operations");
    still_works(&world, &runtime).await;
}

// Deadlines.

#[tokio::test]
async fn waiting_for_an_engine_that_never_gets_ready_ends_with_the_operation() {
    let world = World::new().await;
    let timeout = Duration::from_millis(300);
    let runtime = world
        .builder()
        .policy_file(hostile())
        .setting("behaviour", "wait-for-ever")
        .limits(limits())
        .timeout(timeout)
        .build()
        .await
        .unwrap();
    world.memory.set_hang_ready(true);
    let error = soon(runtime.ensure(redis("bad"))).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    world.assert_untouched(&world.observe().await, "after the deadline");
    world.memory.set_hang_ready(false);
    still_works(&world, &misbehaving(&world, "").await).await;
}

#[tokio::test]
async fn a_policy_that_goes_on_past_the_deadline_runs_out_of_calls() {
    assert_eq!(fault(deaf(limits()).await), Fault::HostCalls(limits().host_calls));
}

#[tokio::test]
async fn a_policy_that_goes_on_past_the_deadline_is_ended_even_with_calls_and_time_left() {
    let patient = Limits { host_calls: u64::MAX, guest_time: Duration::from_secs(600), ..limits() };
    assert!(matches!(fault(deaf(patient).await), Fault::Deadline(_)));
}

async fn deaf(limits: Limits) -> Error {
    let world = World::new().await;
    let runtime = world
        .builder()
        .policy_file(hostile())
        .setting("behaviour", "deaf")
        .limits(limits)
        .timeout(Duration::from_millis(300))
        .build()
        .await
        .unwrap();
    world.memory.set_hang_ready(true);
    let error = soon(runtime.ensure(redis("bad"))).await.unwrap_err();
    world.assert_untouched(&world.observe().await, "after the deadline");
    world.memory.set_hang_ready(false);
    still_works(&world, &misbehaving(&world, "").await).await;
    error
}

// Reaching for what is not granted.

#[tokio::test]
async fn a_label_of_the_host_s_own_cannot_be_set() {
    assert!(grant(survived("foreign-label").await).contains("fakecloud-policy-"));
}

#[tokio::test]
async fn a_name_with_characters_that_lead_elsewhere_is_refused() {
    assert_eq!(field(survived("bad-name").await), "name");
}

#[tokio::test]
async fn a_port_that_the_engine_would_choose_is_refused() {
    assert_eq!(field(survived("port-zero").await), "host-port");
}

#[tokio::test]
async fn a_file_outside_its_folder_or_too_large_is_refused() {
    for behaviour in ["put-outside", "put-elsewhere"] {
        assert_eq!(field(survived(behaviour).await), "path", "{behaviour}");
    }
    assert_eq!(field(survived("put-large").await), "content");
}

#[tokio::test]
async fn dead_owners_containers_are_shown_to_the_reaper_only() {
    assert_eq!(grant(survived("stale").await), "the operation reap");
}

#[tokio::test]
async fn nothing_can_be_created_while_a_cache_is_stopped() {
    for behaviour in ["create-while-stopping", "create-volume-while-stopping"] {
        let world = World::new().await;
        let runtime = misbehaving(&world, behaviour).await;
        let denied = grant(runtime.stop(&key("bad")).await.unwrap_err());
        assert_eq!(denied, "the operations ensure and reboot", "{behaviour}");
        world.assert_untouched(&world.observe().await, behaviour);
        still_works(&world, &runtime).await;
    }
}

/// A cache with a key in it, made by the shipped policy, and the names of its container and its volume.
async fn neighbour(world: &World, id: &str, instance: &str) -> (Cache, String, String) {
    let before = world.observe().await;
    let cache = world.durable_as(instance).await.ensure(redis(id)).await.unwrap();
    world.write(&cache, "k", "precious").await;
    let now = world.observe().await;
    let container = now.containers.iter().find(|c| !before.containers.contains(c)).unwrap().name.clone();
    let volume = now.volumes.iter().find(|v| !before.volumes.contains(v)).unwrap().name.clone();
    (cache, container, volume)
}

#[tokio::test]
async fn a_volume_cannot_be_removed_by_a_reboot() {
    let world = World::new().await;
    let (cache, _, volume) = neighbour(&world, "bad", INSTANCE).await;
    let runtime = world
        .builder()
        .policy_file(hostile())
        .setting("behaviour", "remove-volume")
        .setting("target", &volume)
        .build()
        .await
        .unwrap();
    assert!(grant(runtime.reboot(&key("bad")).await.unwrap_err()).contains("remove-data"));
    assert!(world.memory.inspect_volume(&volume).await.unwrap().is_some());
    assert_eq!(world.read(&cache, "k").await.as_deref(), Some("precious"));
}

#[tokio::test]
async fn another_cache_s_objects_are_invisible_and_keep_their_names() {
    let world = World::new().await;
    // The same instance's, and another one's of the same data folder.
    for (id, instance) in [("mine", INSTANCE), ("theirs", "another")] {
        let (cache, container, volume) = neighbour(&world, id, instance).await;
        let before = world.observe().await;
        for (behaviour, target) in
            [("steal-container", &container), ("steal-volume", &volume), ("take-name", &container)]
        {
            let runtime = world
                .builder()
                .policy_file(hostile())
                .setting("behaviour", behaviour)
                .setting("target", target)
                .build()
                .await
                .unwrap();
            match runtime.ensure(redis("bad")).await.unwrap_err() {
                Error::Other { message } => assert_eq!(message, "seen: false", "{behaviour}"),
                Error::Conflict { .. } => assert_eq!(behaviour, "take-name"),
                other => panic!("{behaviour}: {other:?}"),
            }
            assert_eq!(world.observe().await, before, "{behaviour}");
        }
        assert_eq!(world.read(&cache, "k").await.as_deref(), Some("precious"));
        assert_ne!(endpoint(&cache).port, 0);
    }
}

// Answering something that cannot be.

#[tokio::test]
async fn a_cache_with_a_key_that_is_none_or_not_the_one_asked_for_is_no_answer() {
    for behaviour in ["bad-key", "other-key"] {
        let error = survived(behaviour).await;
        assert!(
            matches!(&error, Error::Other { message } if message.contains("the policy returned")),
            "{behaviour}: {error:?}"
        );
    }
}
