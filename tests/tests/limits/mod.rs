//! What the tests of hostile policies share. Each test is named after its policy.

use std::time::{Duration, Instant};

use elasticache_host::{Cache, Error, Fault, Limits, Runtime};

use crate::sim_support::{World, hostile, key, redis};

pub mod answers;
pub mod breaking;
pub mod excess;
pub mod grants;
pub mod handles;
pub mod reaching;
pub mod waiting;

/// How long an operation may take. No policy here is slow; it has to be enough for a machine under load.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Small, so that what runs into them does so soon, and large enough for what is decent.
pub fn limits() -> Limits {
    Limits {
        memory: 4 << 20,
        tables: 1_000,
        host_calls: 2_000,
        guest_time: Duration::from_secs(3),
        bytes_per_call: 256 << 10,
        bytes_total: 4 << 20,
        handles: 500,
        log_bytes: 64 << 10,
        wall_time: DEADLINE,
        pull: Duration::from_millis(200),
        cleanup: Duration::from_millis(200),
        ..Limits::default()
    }
}

/// A runtime with a hostile policy.
pub async fn misbehaving(world: &World, guest: &str) -> Runtime {
    under(world, guest, limits()).await
}

/// The same under limits of its own.
pub async fn under(world: &World, guest: &str, limits: Limits) -> Runtime {
    let timeout = limits.wall_time;
    world.builder().policy_file(hostile(guest)).limits(limits).timeout(timeout).build().await.unwrap()
}

/// The same with a setting of the policy's.
pub async fn aiming_at(world: &World, guest: &str, target: &str) -> Runtime {
    let builder = world.builder().policy_file(hostile(guest)).setting("target", target);
    builder.limits(limits()).timeout(DEADLINE).build().await.unwrap()
}

/// What comes of an operation, within twice its deadline: whatever takes longer is not held to its limits.
pub async fn in_time<T>(deadline: Duration, operation: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let outcome = tokio::time::timeout(2 * deadline, operation).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("not ended after {:?}", begun.elapsed()));
    assert!(begun.elapsed() < 2 * deadline, "it took {:?}", begun.elapsed());
    outcome
}

/// The error of an operation that a hostile policy does.
pub async fn failing<T: std::fmt::Debug>(operation: impl Future<Output = Result<T, Error>>) -> Error {
    in_time(DEADLINE, operation).await.unwrap_err()
}

/// The error of an `ensure` that misbehaves, after a look at what it left and at the operation after it.
pub async fn survived(guest: &str) -> Error {
    let world = World::new().await;
    let runtime = misbehaving(&world, guest).await;
    survived_by(&world, &runtime).await
}

pub async fn survived_by(world: &World, runtime: &Runtime) -> Error {
    let error = failing(runtime.ensure(redis("bad"))).await;
    world.assert_untouched(&world.observe().await, "after a broken operation");
    still_works(world, runtime).await;
    error
}

/// That the same runtime, on the same pool of instances, can make, use and end a cache.
pub async fn still_works(world: &World, runtime: &Runtime) {
    let before = world.observe().await;
    let cache = in_time(DEADLINE, runtime.ensure(redis("good"))).await.unwrap();
    world.write(&cache, "k", "v").await;
    assert!(in_time(DEADLINE, runtime.stop(&key("good"))).await.unwrap());
    assert!(in_time(DEADLINE, runtime.remove_data(&key("good"))).await.unwrap());
    assert_eq!(world.observe().await, before, "after the next operation");
}

/// A cache that is made well by a policy that will misbehave later, with a key in it.
pub async fn made(world: &World, runtime: &Runtime) -> Cache {
    let cache = in_time(DEADLINE, runtime.ensure(redis("bad"))).await.unwrap();
    world.write(&cache, "k", "precious").await;
    cache
}

#[track_caller]
pub fn fault(error: Error) -> Fault {
    match error {
        Error::Fault { policy, fault } => {
            assert!(policy.ends_with(".wasm"), "{policy}");
            fault
        }
        other => panic!("not a fault: {other:?}"),
    }
}

/// That the policy ended by breaking off, and was not ended.
#[track_caller]
pub fn assert_broke_off(error: Error) {
    let broken = fault(error);
    assert!(matches!(&broken, Fault::Trap(words) if words.contains("unreachable")), "{broken:?}");
}

#[track_caller]
pub fn grant(error: Error) -> String {
    match error {
        Error::Denied { grant, .. } => grant,
        other => panic!("not denied: {other:?}"),
    }
}

#[track_caller]
pub fn field(error: Error) -> String {
    match error {
        Error::Invalid(input) => input.field,
        other => panic!("not invalid: {other:?}"),
    }
}
