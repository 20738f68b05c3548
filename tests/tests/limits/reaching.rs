//! Reaching for what is somebody else's, or where nothing leads.

use elasticache_host::engine::ContainerEngine;
use elasticache_host::{Cache, Error};

use super::{aiming_at, failing, field, grant, misbehaving, still_works, survived};
use crate::sim_support::{INSTANCE, World, endpoint, key, redis};

#[tokio::test]
pub async fn foreign_label() {
    assert!(grant(survived("foreign_label").await).contains("fakecloud-policy-"));
}

#[tokio::test]
pub async fn bad_name() {
    assert_eq!(field(survived("bad_name").await), "name");
}

#[tokio::test]
pub async fn port_zero() {
    assert_eq!(field(survived("port_zero").await), "host-port");
}

#[tokio::test]
pub async fn tmpfs_elsewhere() {
    assert_eq!(field(survived("tmpfs_elsewhere").await), "tmpfs");
}

#[tokio::test]
pub async fn put_outside() {
    assert_eq!(field(survived("put_outside").await), "path");
}

#[tokio::test]
pub async fn put_elsewhere() {
    assert_eq!(field(survived("put_elsewhere").await), "path");
}

#[tokio::test]
pub async fn put_large() {
    assert_eq!(field(survived("put_large").await), "content");
}

#[tokio::test]
pub async fn stale_outside_reap() {
    assert_eq!(grant(survived("stale_outside_reap").await), "the operation reap");
}

/// Stopping makes nothing.
async fn makes_nothing_while_stopping(guest: &str) {
    let world = World::new().await;
    let runtime = misbehaving(&world, guest).await;
    let denied = grant(failing(runtime.stop(&key("bad"))).await);
    assert_eq!(denied, "the operations ensure and reboot");
    world.assert_untouched(&world.observe().await, "after a broken operation");
    still_works(&world, &runtime).await;
}

#[tokio::test]
pub async fn create_while_stopping() {
    makes_nothing_while_stopping("create_while_stopping").await;
}

#[tokio::test]
pub async fn create_volume_while_stopping() {
    makes_nothing_while_stopping("create_volume_while_stopping").await;
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
pub async fn remove_volume_in_reboot() {
    let world = World::new().await;
    let (cache, _, volume) = neighbour(&world, "bad", INSTANCE).await;
    let runtime = aiming_at(&world, "remove_volume_in_reboot", &volume).await;
    assert!(grant(failing(runtime.reboot(&key("bad"))).await).contains("remove-data"));
    assert!(world.sim.inspect_volume(&volume).await.unwrap().is_some());
    assert_eq!(world.read(&cache, "k").await.as_deref(), Some("precious"));
    still_works(&world, &runtime).await;
}

/// What comes of reaching for a neighbour's container or volume: the same instance's, and another one's of the same
/// data folder.
async fn reach(guest: &str, of: impl Fn(&str, &str) -> String, is_right: impl Fn(&Error) -> bool) {
    let world = World::new().await;
    for (id, instance) in [("mine", INSTANCE), ("theirs", "another")] {
        let (cache, container, volume) = neighbour(&world, id, instance).await;
        let before = world.observe().await;
        let runtime = aiming_at(&world, guest, &of(&container, &volume)).await;
        let error = failing(runtime.ensure(redis("bad"))).await;
        assert!(is_right(&error), "{error:?}");
        assert_eq!(world.observe().await, before);
        assert_eq!(world.read(&cache, "k").await.as_deref(), Some("precious"));
        assert_ne!(endpoint(&cache).port, 0);
        still_works(&world, &runtime).await;
    }
}

fn is_invisible(error: &Error) -> bool {
    matches!(error, Error::Other { message } if message.starts_with("seen: false"))
}

#[tokio::test]
pub async fn steal_container() {
    reach("steal_container", |container, _| container.to_owned(), is_invisible).await;
}

#[tokio::test]
pub async fn steal_volume() {
    reach("steal_volume", |_, volume| volume.to_owned(), is_invisible).await;
}

#[tokio::test]
pub async fn take_name() {
    let is_taken = |error: &Error| matches!(error, Error::Conflict { .. });
    reach("take_name", |container, _| container.to_owned(), is_taken).await;
}
