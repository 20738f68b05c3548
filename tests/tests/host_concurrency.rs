//! Operations at once: callers that go away, turns on one cache, different caches in parallel, the end of all.
//!
//! Clauses: TURN-1, TURN-3, TURN-4, STOP-3.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use conformance::sim::docker::Call;
use elasticache_host::Cache;

mod sim_support;

use sim_support::{Plan, World, endpoint, key, redis, soon, unavailable};

#[tokio::test]
async fn an_operation_whose_caller_went_away_runs_to_its_end() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let gate = Plan::gate(Call::StartContainer);
    world.engine.follow(gate.clone());
    {
        let mut ensure = std::pin::pin!(runtime.ensure(redis("a")));
        tokio::select! {
            outcome = &mut ensure => panic!("it passed a closed gate: {outcome:?}"),
            () = gate.reached() => {}
        }
    }
    gate.open();
    // Queues behind it, and finds what it made.
    let cache = soon(runtime.ensure(redis("a"))).await.unwrap();
    assert!(cache.adopted);
    world.assert_has(&world.observe().await, 1, 1, "after the dropped call");
}

#[tokio::test]
async fn a_snapshot_whose_caller_went_away_is_written_all_the_same() {
    let world = World::new().await;
    let runtime = world.durable().await;
    soon(runtime.ensure(redis("a"))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.rdb");
    let gate = Plan::gate(Call::GetFile);
    world.engine.follow(gate.clone());
    {
        let key = key("a");
        let mut snapshot = std::pin::pin!(runtime.snapshot(&key, &file));
        tokio::select! {
            outcome = &mut snapshot => panic!("it passed a closed gate: {outcome:?}"),
            () = gate.reached() => {}
        }
    }
    gate.open();
    // Waits for whatever is under way.
    soon(runtime.stop_all()).await.unwrap();
    assert!(file.is_file());
}

#[tokio::test]
async fn an_operation_whose_caller_was_aborted_cleans_up_after_its_failure() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let gate = Plan::gate(Call::StartContainer);
    world.engine.follow(gate.clone());
    let caller = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.ensure(redis("a")).await }
    });
    soon(gate.reached()).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    world.sim.fail_next(Call::StartContainer, unavailable(), false);
    gate.open();
    // Comes after it.
    assert!(!soon(runtime.stop(&key("a"))).await.unwrap(), "nothing was left to stop");
    world.assert_untouched(&world.observe().await, "after the aborted call");
}

#[tokio::test]
async fn operations_on_one_cache_come_one_after_the_other_also_from_another_process() {
    let world = World::new().await;
    let runtime = world.durable().await;
    // Shares nothing with the first one but folder and engine, as another process does.
    let other = world.durable().await;
    let gate = Plan::gate(Call::StartContainer);
    world.engine.follow(gate.clone());
    let first = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.ensure(redis("a")).await }
    });
    soon(gate.reached()).await;
    let so_far = world.sim.calls();
    let created = so_far.iter().find_map(|line| line.strip_prefix("create_container ")).unwrap();
    let second = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.reboot(&key("a")).await }
    });
    let third = tokio::spawn(async move { other.reboot(&key("a")).await });
    // A whole life of another cache passes meanwhile.
    runtime.ensure(redis("b")).await.unwrap();
    runtime.stop(&key("b")).await.unwrap();
    let meanwhile = world.sim.calls().split_off(so_far.len());
    assert!(meanwhile.len() > 10);
    assert!(!meanwhile.iter().any(|line| line.contains(created)), "{meanwhile:#?}");
    gate.open();
    let cache = soon(first).await.unwrap().unwrap();
    for reboot in [second, third] {
        assert_eq!(soon(reboot).await.unwrap().unwrap().endpoint, cache.endpoint);
    }
    let calls: Vec<String> = world.sim.calls().into_iter().filter(|line| line.contains(created)).collect();
    let rebooted = calls.iter().filter(|line| line.starts_with("restart_container")).count();
    assert_eq!(rebooted, 2);
    let started = calls.iter().position(|line| line.starts_with("start_container")).unwrap();
    let restarted = calls.iter().position(|line| line.starts_with("restart_container")).unwrap();
    assert!(started < restarted, "{calls:#?}");
}

#[tokio::test]
async fn different_caches_are_worked_on_at_once() {
    let world = World::new().await;
    let runtime = world.durable().await;
    // Nobody starts before all three are about to.
    world.engine.follow(Plan::meet(Call::StartContainer, 3));
    let (a, b, c) = soon(async {
        tokio::join!(runtime.ensure(redis("a")), runtime.ensure(redis("b")), runtime.ensure(redis("c")),)
    })
    .await;
    let ports = [a, b, c].map(|cache| endpoint(&cache.unwrap()).port);
    assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
}

#[tokio::test]
async fn stopping_all_waits_for_a_start_in_flight_and_stops_it_too() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let early = runtime.ensure(redis("early")).await.unwrap();
    world.write(&early, "k", "v").await;
    let gate = Plan::gate(Call::StartContainer);
    world.engine.follow(gate.clone());
    let ensure = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.ensure(redis("late")).await }
    });
    soon(gate.reached()).await;
    let so_far = world.sim.calls().len();
    let stopping = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.stop_all().await }
    });
    // Comes too late to be stopped: it has to wait for its turn.
    let after = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.ensure(redis("after")).await }
    });
    // On one thread, all that can go on has gone on by then.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.sim.calls().len(), so_far, "something went on while the start was in flight");
    gate.open();
    soon(ensure).await.unwrap().unwrap();
    soon(stopping).await.unwrap().unwrap();
    let after = soon(after).await.unwrap().unwrap();
    assert_eq!(runtime.list().await.unwrap(), [Cache { adopted: true, ..after }]);
    world.assert_has(&world.observe().await, 1, 3, "after all were stopped");
    let again = runtime.ensure(redis("early")).await.unwrap();
    assert!(!again.adopted);
    assert_eq!(world.read(&again, "k").await.as_deref(), Some("v"));
}
