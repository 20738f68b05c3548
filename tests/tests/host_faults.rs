//! What a lost reply, a call that hangs and an engine that is only starting come to, as far as it shows in the calls that
//! are made or needs a setting of its own. Each fault at each call of the corpus is the explorer's.
//!
//! Clauses: BOOT-8, OWN-3, OWN-7, HOST-17, HOST-18, HOST-19.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use conformance::sim::docker::Call;
use elasticache_host::engine::ContainerEngine;
use elasticache_host::{CacheSpec, Engine, Error, Limits, Runtime};

mod sim_support;

use sim_support::{Plan, World, endpoint, key, redis, soon, unavailable};

const IMAGE: &str = "redis:7-alpine";

// Lost replies.

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_adopted_and_not_repeated() {
    let world = World::new().await;
    let runtime = world.durable().await;
    world.sim.fail_next(Call::CreateVolume, unavailable(), true);
    world.sim.fail_next(Call::CreateContainer, unavailable(), true);
    let cache = runtime.ensure(redis("a")).await.unwrap();
    assert!(!cache.adopted, "it was made by this very operation");
    world.assert_has(&world.observe().await, 1, 1, "after the lost replies");
    for call in ["create_volume", "create_container"] {
        assert_eq!(world.sim.calls().iter().filter(|line| line.starts_with(call)).count(), 1, "{call}");
    }
}

/// The names that a cache's container and volume have.
async fn names_of(world: &World, runtime: &Runtime, id: &str) -> (String, String) {
    let before = world.observe().await;
    runtime.ensure(redis(id)).await.unwrap();
    let now = world.observe().await;
    let container = now.containers.iter().find(|c| !before.containers.contains(c)).unwrap().name.clone();
    let volume = now.volumes.iter().find(|v| !before.volumes.contains(v)).unwrap().name.clone();
    (container, volume)
}

#[tokio::test]
async fn whoever_else_holds_the_name_keeps_it_also_when_replies_are_lost() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let (container, _) = names_of(&world, &runtime, "a").await;
    runtime.stop(&key("a")).await.unwrap();
    for running in [true, false] {
        world.sim.insert_foreign_container(&container, &[("of", "somebody")], running).unwrap();
        let before = world.observe().await;
        let error = runtime.ensure(redis("a")).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert_eq!(world.observe().await, before);
        for after_effect in [false, true] {
            world.sim.fail_next(Call::CreateContainer, unavailable(), after_effect);
            let error = runtime.ensure(redis("a")).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert_eq!(world.observe().await, before);
        }
        world.sim.kill(&container).unwrap();
        world.sim.remove_container(&container).await.unwrap();
    }
    runtime.ensure(redis("a")).await.unwrap();
}

#[tokio::test]
async fn a_reboot_that_succeeds_has_restarted_the_engine_even_where_a_call_failed() {
    for after_effect in [false, true] {
        let world = World::new().await;
        let runtime = world.durable().await;
        let spec = CacheSpec { engine: Engine::Memcached, ..redis("a") };
        let port = endpoint(&runtime.ensure(spec).await.unwrap()).port;
        world.sim.memcached_set(port, "k", b"v").unwrap();
        world.sim.fail_next(Call::RestartContainer, unavailable(), after_effect);
        let rebooted = endpoint(&runtime.reboot(&key("a")).await.unwrap()).port;
        assert_eq!(rebooted, port);
        // It keeps nothing, so what is still there was not restarted.
        assert_eq!(world.sim.memcached_get(port, "k").unwrap(), None, "effect: {after_effect}");
    }
}

// Hanging calls.

const SHORT: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_lease_that_cannot_be_taken_in_time_ends_the_operation() {
    let world = World::new().await;
    let hasty = world.builder().policy_file(sim_support::durable()).timeout(SHORT);
    let hasty = hasty.lease(Duration::from_secs(60)).build().await.unwrap();
    let gate = Plan::gate(Call::CreateVolume);
    world.engine.follow(gate.clone());
    let error = soon(hasty.ensure(redis("a"))).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { what } if what.contains("lease")), "{error:?}");
    // Nothing holds the gate.
    world.engine.unwatch();
    soon(hasty.stop_all()).await.unwrap();
}

#[tokio::test]
async fn a_pull_that_hangs_ends_in_time() {
    let world = World::new().await;
    // It has a deadline of its own, apart from the operation's.
    let limits = Limits { pull: SHORT, ..Limits::default() };
    let hasty = world.builder().policy_file(sim_support::durable()).limits(limits).build().await.unwrap();
    world.sim.remove_image(IMAGE);
    world.sim.set_pullable(IMAGE, true);
    let gate = Plan::gate(Call::PullImage);
    world.engine.follow(gate.clone());
    let error = soon(hasty.ensure(redis("a"))).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { what } if what.contains(IMAGE)), "{error:?}");
    soon(gate.reached()).await;
    world.assert_untouched(&world.observe().await, "after a pull that hung");
}

/// A signal that comes before an engine listens is lost, and the container engine waits for all of the grace.
#[tokio::test]
async fn an_engine_that_does_not_answer_yet_is_waited_for_before_it_is_told_to_end() {
    let world = World::new().await;
    let runtime = world.durable().await;
    for end in ["restart_container", "stop_container"] {
        runtime.ensure(redis("a")).await.unwrap();
        world.sim.clear_calls();
        world.sim.fail_next(Call::Command, unavailable(), false);
        match end {
            "stop_container" => drop(runtime.stop(&key("a")).await.unwrap()),
            _ => drop(runtime.reboot(&key("a")).await.unwrap()),
        }
        let calls = world.sim.calls();
        let names: Vec<&str> = calls.iter().filter_map(|call| call.split(' ').next()).collect();
        let before = names.split(|name| *name == end).next().unwrap();
        let asked: Vec<_> = before.iter().filter(|name| ["command", "check"].contains(name)).collect();
        assert_eq!(asked, [&"command", &"check", &"command"], "{calls:?}");
    }
}
