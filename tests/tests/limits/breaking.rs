//! Breaking off in the middle: what was half done is gone, or the next operation takes it from there.

use conformance::sim::docker::Call;
use elasticache_host::Error;

use super::{
    DEADLINE, assert_broke_off, failing, in_time, limits, made, misbehaving, still_works, survived,
    survived_by,
};
use crate::sim_support::{World, hostile, key, redis, unavailable};

#[tokio::test]
pub async fn trap_before_create() {
    assert_broke_off(survived("trap_before_create").await);
}

#[tokio::test]
pub async fn trap_after_volume() {
    assert_broke_off(survived("trap_after_volume").await);
}

#[tokio::test]
pub async fn trap_after_create() {
    assert_broke_off(survived("trap_after_create").await);
}

#[tokio::test]
pub async fn trap_after_start() {
    assert_broke_off(survived("trap_after_start").await);
}

#[tokio::test]
pub async fn trap_after_lost_create() {
    let world = World::new().await;
    let runtime = misbehaving(&world, "trap_after_lost_create").await;
    world.sim.fail_next(Call::CreateContainer, unavailable(), true);
    assert_broke_off(survived_by(&world, &runtime).await);
    assert_eq!(world.sim.faults_left(), 0);
}

#[tokio::test]
pub async fn fails_after_start() {
    let error = survived("fails_after_start").await;
    assert!(matches!(&error, Error::Other { message } if message == "on purpose"), "{error:?}");
}

#[tokio::test]
async fn operations_that_broke_off_give_back_their_place_in_the_pool() {
    // More than there are places, and each with a container and a volume to clean up.
    let world = World::new().await;
    let runtime = misbehaving(&world, "trap_after_start").await;
    for _ in 0..300 {
        assert_broke_off(failing(runtime.ensure(redis("bad"))).await);
    }
    world.assert_untouched(&world.observe().await, "after 300 broken operations");
    still_works(&world, &runtime).await;
}

/// What an operation on a cache leaves that broke off: the cache and its data, for the next `ensure` to adopt.
async fn is_taken_up<T: std::fmt::Debug>(
    guest: &str,
    operation: impl AsyncFnOnce(&World, &elasticache_host::Runtime) -> Result<T, Error>,
) {
    let world = World::new().await;
    let runtime = misbehaving(&world, guest).await;
    made(&world, &runtime).await;
    assert_broke_off(failing(operation(&world, &runtime)).await);
    world.assert_has(&world.observe().await, 1, 1, "after a broken operation");
    let back = in_time(DEADLINE, runtime.ensure(redis("bad"))).await.unwrap();
    assert!(back.adopted);
    assert_eq!(world.read(&back, "k").await.as_deref(), Some("precious"));
    still_works(&world, &runtime).await;
}

#[tokio::test]
pub async fn trap_in_reboot() {
    is_taken_up("trap_in_reboot", async |_, runtime| runtime.reboot(&key("bad")).await).await;
}

#[tokio::test]
pub async fn trap_in_snapshot() {
    is_taken_up("trap_in_snapshot", async |world, runtime| {
        let folder = world.path().join("snapshots");
        std::fs::create_dir(&folder).unwrap();
        let outcome = runtime.snapshot(&key("bad"), &folder.join("x.rdb")).await;
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "what was received is gone");
        outcome
    })
    .await;
}

#[tokio::test]
pub async fn trap_in_stop() {
    is_taken_up("trap_in_stop", async |_, runtime| runtime.stop(&key("bad")).await).await;
}

#[tokio::test]
pub async fn trap_in_exec() {
    let args = ["GET".to_owned(), "k".to_owned()];
    is_taken_up("trap_in_exec", async |_, runtime| runtime.exec(&key("bad"), &args).await).await;
}

#[tokio::test]
pub async fn trap_in_find() {
    is_taken_up("trap_in_find", async |_, runtime| runtime.find(&key("bad")).await).await;
}

#[tokio::test]
pub async fn trap_in_recover() {
    is_taken_up("trap_in_recover", async |_, runtime| runtime.list().await).await;
    is_taken_up("trap_in_recover", async |_, runtime| runtime.stop_all().await).await;
}

#[tokio::test]
pub async fn trap_in_remove_data() {
    let world = World::new().await;
    let runtime = misbehaving(&world, "trap_in_remove_data").await;
    made(&world, &runtime).await;
    runtime.stop(&key("bad")).await.unwrap();
    assert_broke_off(failing(runtime.remove_data(&key("bad"))).await);
    world.assert_untouched(&world.observe().await, "deleted is deleted, whether it was said or not");
    let fresh = in_time(DEADLINE, runtime.ensure(redis("bad"))).await.unwrap();
    assert!(!fresh.adopted);
    assert_eq!(world.read(&fresh, "k").await, None);
    still_works(&world, &runtime).await;
}

#[tokio::test]
pub async fn trap_in_reap() {
    const LEASE: std::time::Duration = std::time::Duration::from_secs(60);
    let world = World::new().await;
    let leased = async |instance: &str| {
        let builder = world.builder().policy_file(hostile("trap_in_reap")).instance(instance).lease(LEASE);
        builder.limits(limits()).timeout(DEADLINE).build().await.unwrap()
    };
    let owner = leased("owner").await;
    made(&world, &owner).await;
    drop(owner);
    world.sim.advance(2 * LEASE);
    assert_broke_off(failing(leased("reaper").await.reap()).await);
    // Its owner comes back and finds its cache, stopped in the middle of being reaped.
    let owner = leased("owner").await;
    let back = in_time(DEADLINE, owner.ensure(redis("bad"))).await.unwrap();
    assert!(back.adopted);
    assert_eq!(world.read(&back, "k").await.as_deref(), Some("precious"));
    still_works(&world, &owner).await;
}
