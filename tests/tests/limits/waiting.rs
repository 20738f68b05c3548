//! Not coming to an end when the time is up.

use std::time::Duration;

use elasticache_host::{Error, Fault, Limits};

use super::{fault, in_time, limits, still_works, under};
use crate::sim_support::{Plan, World, redis};

/// The error of an `ensure` whose engine never gets ready.
async fn never_ready(guest: &str, limits: Limits) -> Error {
    let world = World::new().await;
    let deadline = limits.wall_time;
    let runtime = under(&world, guest, limits).await;
    world.sim.set_hang_ready(true);
    let error = in_time(deadline, runtime.ensure(redis("bad"))).await.unwrap_err();
    world.assert_untouched(&world.observe().await, "after the deadline");
    world.sim.set_hang_ready(false);
    still_works(&world, &runtime).await;
    error
}

#[tokio::test]
pub async fn waits_for_ever() {
    let error = never_ready("waits_for_ever", short()).await;
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[tokio::test]
pub async fn deaf() {
    assert_eq!(fault(never_ready("deaf", short()).await), Fault::HostCalls(limits().host_calls));
}

#[tokio::test]
async fn a_policy_that_goes_on_past_the_deadline_is_ended_even_with_calls_and_time_left() {
    let patient = Limits { host_calls: u64::MAX, guest_time: Duration::from_secs(600), ..short() };
    assert!(matches!(fault(never_ready("deaf", patient).await), Fault::Deadline(_)));
}

/// The time for cleaning up, and a second for the end, have to fit in once more.
fn short() -> Limits {
    Limits { wall_time: Duration::from_secs(2), ..limits() }
}

#[tokio::test]
async fn a_call_of_the_host_that_never_returns_ends_with_the_operation() {
    let world = World::new().await;
    let runtime = under(&world, "deaf", short()).await;
    world.engine.unwatch();
    runtime.ensure(redis("good")).await.unwrap();
    let calls = world.engine.count();
    assert!(calls > 5, "each of them is to hang once: {calls}");
    // All at once: each waits for its deadline.
    futures_util::future::join_all((0..calls).map(hung)).await;
}

/// A decent operation in which one call of the engine never returns.
async fn hung(at: usize) {
    let world = World::new().await;
    let runtime = under(&world, "deaf", short()).await;
    world.engine.follow(Plan::Hang { at });
    match in_time(short().wall_time, runtime.ensure(redis("good"))).await {
        // What is asked only to be sure need not be answered.
        Ok(cache) => world.write(&cache, "k", "v").await,
        Err(Error::Timeout { .. }) => {
            world.assert_untouched(&world.observe().await, "after a call that never returned");
        }
        Err(other) => panic!("call {at}: {other:?}"),
    }
    world.engine.unwatch();
    assert!(in_time(short().wall_time, runtime.ensure(redis("good"))).await.is_ok(), "call {at}");
}
