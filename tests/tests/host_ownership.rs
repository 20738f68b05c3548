//! Whose a container, a volume and the data on it are: leases, look-alikes, restores over existing data.
//!
//! Clauses: NAME-5, OWN-1, OWN-2, OWN-3, OWN-4, OWN-6, REAP-1, REAP-2, REAP-3, REAP-4, REAP-5, REST-2, REST-3,
//! REST-4, REST-11.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use conformance::sim::docker::Call;
use elasticache_host::engine::{ContainerEngine, ContainerState};
use elasticache_host::{Cache, Error, Restore, Runtime};

mod sim_support;

use sim_support::{Plan, World, durable, key, redis, restored, soon};

const LEASE: Duration = Duration::from_secs(60);
/// After it, a lease that was not renewed has ended, whatever the engine's clock rounds.
const PAST_IT: Duration = Duration::from_secs(63);

async fn leased(world: &World, instance: &str) -> Runtime {
    world.builder().policy_file(durable()).instance(instance).lease(LEASE).build().await.unwrap()
}

/// A cache with a key in it, and the name of its container.
async fn cache(world: &World, runtime: &Runtime, id: &str) -> (Cache, String) {
    let cache = runtime.ensure(redis(id)).await.unwrap();
    world.write(&cache, "k", "v").await;
    let name = world.sim.inspect_container(&cache.handle).await.unwrap().unwrap().name;
    (cache, name)
}

#[tokio::test]
async fn a_live_owner_s_caches_are_left_and_a_dead_one_s_are_reaped_with_their_data_kept() {
    let world = World::new().await;
    let (owner, reaper) = (leased(&world, "owner").await, leased(&world, "reaper").await);
    let (made, name) = cache(&world, &owner, "a").await;
    world.sim.advance(LEASE / 2);
    assert!(reaper.reap().await.unwrap().is_empty());
    assert_eq!(world.read(&made, "k").await.as_deref(), Some("v"));
    // The reaper is alive again by then, the owner is not.
    drop((owner, reaper));
    world.sim.advance(PAST_IT);
    let reaper = leased(&world, "reaper").await;
    let (own, _) = cache(&world, &reaper, "b").await;
    assert_eq!(reaper.reap().await.unwrap(), [name]);
    assert_eq!(world.read(&own, "k").await.as_deref(), Some("v"));
    // Two volumes with data, and the reaper's own lease; the dead owner's has gone.
    world.assert_has(&world.observe().await, 1, 3, "after reaping");
    let back = leased(&world, "owner").await.ensure(redis("a")).await.unwrap();
    assert_eq!(world.read(&back, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn an_owner_renews_its_lease_for_as_long_as_it_lives() {
    let world = World::new().await;
    let (owner, reaper) = (leased(&world, "owner").await, world.durable_as("reaper").await);
    let (_, name) = cache(&world, &owner, "a").await;
    let renewals = || world.sim.calls().iter().filter(|line| line.starts_with("create_volume")).count();
    // On one thread, all that can go on has gone on after so many turns, the task that renews among it.
    let settle = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    settle().await;
    tokio::time::pause();
    for _ in 0..6 {
        let before = renewals();
        world.sim.advance(LEASE / 3);
        // Timers are due at whole milliseconds, rounded up.
        tokio::time::advance(LEASE / 3 + Duration::from_millis(5)).await;
        settle().await;
        // However late the task came to its turn: its time is a little later then.
        for _ in 0..1_000 {
            if renewals() > before {
                break;
            }
            tokio::time::advance(Duration::from_millis(1)).await;
            settle().await;
        }
        assert_eq!(renewals(), before + 1);
    }
    assert!(reaper.reap().await.unwrap().is_empty(), "twice the lease's length has passed");
    drop(owner);
    world.sim.advance(PAST_IT);
    assert_eq!(reaper.reap().await.unwrap(), [name]);
}

#[tokio::test]
async fn an_owner_without_a_lease_is_never_taken_for_dead() {
    let world = World::new().await;
    let (made, _) = cache(&world, &world.durable_as("owner").await, "a").await;
    // Not even where an earlier life of it held one, which has ended.
    leased(&world, "owner").await.list().await.unwrap();
    world.sim.advance(PAST_IT * 1000);
    let before = world.observe().await.containers;
    assert!(leased(&world, "reaper").await.reap().await.unwrap().is_empty());
    assert_eq!(world.observe().await.containers, before);
    assert_eq!(world.read(&made, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn an_owner_that_comes_back_while_it_is_reaped_keeps_its_cache() {
    let world = World::new().await;
    let owner = leased(&world, "owner").await;
    let (made, _) = cache(&world, &owner, "a").await;
    drop(owner);
    world.sim.advance(PAST_IT);
    let reaper = leased(&world, "reaper").await;
    reaper.list().await.unwrap();
    // The reaper has found it, and asks its engine whether it can be ended.
    let gate = Plan::gate(Call::Command);
    world.engine.follow(gate.clone());
    let reaping = tokio::spawn(async move { reaper.reap().await });
    soon(gate.reached()).await;
    let owner = leased(&world, "owner").await;
    assert_eq!(owner.list().await.unwrap().len(), 1);
    gate.open();
    assert!(soon(reaping).await.unwrap().unwrap().is_empty());
    assert_eq!(world.read(&made, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn another_data_folder_s_owner_reaps_and_sees_nothing() {
    let world = World::new().await;
    let owner = leased(&world, "owner").await;
    let (made, _) = cache(&world, &owner, "a").await;
    drop(owner);
    world.sim.advance(PAST_IT);
    let folder = world.path().join("another");
    // It even calls itself by the same name.
    for instance in ["owner", "reaper"] {
        let builder = world.builder().policy_file(durable()).instance(instance).data_dir(&folder);
        let stranger = builder.cache_dir(folder.join("cache")).build().await.unwrap();
        let before = world.observe().await;
        assert!(stranger.reap().await.unwrap().is_empty());
        assert!(stranger.list().await.unwrap().is_empty());
        assert!(stranger.find(&key("a")).await.unwrap().is_none());
        stranger.stop_all().await.unwrap();
        assert!(!stranger.stop(&key("a")).await.unwrap());
        assert!(!stranger.remove_data(&key("a")).await.unwrap());
        assert!(matches!(stranger.ensure(redis("a")).await, Err(Error::Conflict { .. })));
        assert_eq!(world.observe().await, before);
    }
    assert_eq!(world.read(&made, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn look_alikes_with_copied_labels_are_invisible_to_every_operation() {
    let world = World::new().await;
    let runtime = world.durable().await;
    // What a cache's objects look like, copied to where the next cache's would be.
    let (original, container) = cache(&world, &runtime, "a").await;
    let twin = runtime.ensure(redis("b")).await.unwrap();
    let there = world.sim.inspect_container(&twin.handle).await.unwrap().unwrap();
    let volume = world.sim.list_volumes(&[("fakecloud-elasticache", "b")]).await.unwrap().pop().unwrap();
    runtime.stop(&key("b")).await.unwrap();
    runtime.remove_data(&key("b")).await.unwrap();

    let copied = world.sim.inspect_container(&container).await.unwrap().unwrap();
    let as_pairs = |labels: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
        labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let borrow = |pairs: &[(String, String)]| -> Vec<(&'static str, &'static str)> {
        pairs.iter().map(|(key, value)| (&*key.clone().leak(), &*value.clone().leak())).collect()
    };
    // The labels of `a` under a new name; those of `a`, said to be `b`'s, under `b`'s name.
    let stolen = borrow(&as_pairs(&copied.labels));
    world.sim.insert_foreign_container("look-alike", &stolen, true).unwrap();
    let mut renamed = stolen.clone();
    renamed.retain(|(key, _)| *key != "fakecloud-elasticache");
    renamed.push(("fakecloud-elasticache", "b"));
    world.sim.insert_foreign_container(&there.name, &renamed, true).unwrap();
    let mut lost = volume.labels.clone();
    lost.insert("fakecloud-elasticache-scope".to_owned(), "other".to_owned());
    let files = [("appendonlydir/x", &b"theirs"[..])];
    world.sim.insert_foreign_volume(&volume.name, &borrow(&as_pairs(&lost)), &files);

    let before = world.observe().await;
    let b = key("b");
    let args = ["PING".to_owned()];
    assert!(runtime.find(&b).await.unwrap().is_none());
    assert!(!runtime.stop(&b).await.unwrap());
    assert!(!runtime.remove_data(&b).await.unwrap());
    assert!(matches!(runtime.reboot(&b).await, Err(Error::NotFound { .. })));
    assert!(matches!(runtime.exec(&b, &args).await, Err(Error::NotFound { .. })));
    let file = world.path().join("x.rdb");
    assert!(matches!(runtime.snapshot(&b, &file).await, Err(Error::NotFound { .. })));
    assert!(matches!(runtime.ensure(redis("b")).await, Err(Error::Conflict { .. })));
    let rdb = world.rdb_file("restore.rdb", "r", "v");
    assert!(matches!(runtime.ensure(restored("b", &rdb, true)).await, Err(Error::Conflict { .. })));
    assert_eq!(runtime.list().await.unwrap(), [Cache { adopted: true, ..original.clone() }]);
    assert!(runtime.reap().await.unwrap().is_empty());
    assert_eq!(world.observe().await, before);

    runtime.stop_all().await.unwrap();
    let mut left = before;
    left.containers.retain(|there| there.name != container);
    assert_eq!(world.observe().await, left, "only its own was stopped");
    assert_eq!(world.sim.volume_file(&volume.name, "appendonlydir/x").as_deref(), Some(&b"theirs"[..]));
}

#[tokio::test]
async fn a_restore_over_existing_data_is_refused_unless_asked_for_by_name() {
    use ContainerState as S;
    let world = World::new().await;
    let runtime = world.durable().await;
    let file = world.rdb_file("restore.rdb", "r", "from the file");
    for state in [Some(S::Running), Some(S::Exited), Some(S::Dead), Some(S::Paused), None] {
        let id = format!("{state:?}").to_lowercase().replace(['(', ')'], "");
        let (_, name) = cache(&world, &runtime, &id).await;
        match state {
            Some(S::Running) => {}
            Some(S::Paused) => world.sim.set_state(&name, S::Paused).unwrap(),
            Some(state) => {
                world.sim.kill(&name).unwrap();
                world.sim.set_state(&name, state).unwrap();
            }
            None => assert!(runtime.stop(&key(&id)).await.unwrap()),
        }
        let error = runtime.ensure(restored(&id, &file, false)).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{state:?}: {error:?}");
        if state == Some(S::Paused) {
            world.sim.set_state(&name, S::Running).unwrap();
        }
        let kept = runtime.ensure(redis(&id)).await.unwrap();
        assert_eq!(world.read(&kept, "k").await.as_deref(), Some("v"), "{state:?}");
        assert_eq!(world.read(&kept, "r").await, None, "{state:?}");

        let replaced = runtime.ensure(restored(&id, &file, true)).await.unwrap();
        assert_eq!(world.read(&replaced, "k").await, None, "{state:?}");
        assert_eq!(world.read(&replaced, "r").await.as_deref(), Some("from the file"), "{state:?}");
    }
}

#[tokio::test]
async fn a_restore_from_a_damaged_file_creates_and_changes_nothing() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let (made, _) = cache(&world, &runtime, "there").await;
    let whole = std::fs::read(world.rdb_file("restore.rdb", "r", "v")).unwrap();
    let before = world.observe().await;
    world.sim.clear_calls();
    let damaged = world.path().join("damaged.rdb");
    let flipped = [&whole[..20], &[whole[20] ^ 1], &whole[21..]].concat();
    for bytes in [&whole[..0], &whole[..8], &whole[..whole.len() - 1], &flipped[..], b"<html>"] {
        std::fs::write(&damaged, bytes).unwrap();
        for (id, replace) in [("new", false), ("there", true)] {
            let error = runtime.ensure(restored(id, &damaged, replace)).await.unwrap_err();
            assert!(matches!(&error, Error::Invalid(input) if input.reason.contains("RDB")), "{error:?}");
        }
    }
    let missing = world.path().join("missing.rdb");
    for path in [&missing, &world.path().to_owned()] {
        let error = runtime.ensure(restored("new", path, false)).await.unwrap_err();
        assert!(matches!(&error, Error::File { .. }), "{error:?}");
    }
    assert!(world.sim.calls().is_empty(), "the engine was not even asked");
    assert_eq!(world.observe().await, before);
    assert_eq!(world.read(&made, "k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn what_another_instance_wrote_onto_an_unfinished_restore_is_not_overwritten() {
    let world = World::new().await;
    let (one, other) = (world.durable_as("one").await, world.durable_as("other").await);
    let (_, _) = cache(&world, &one, "source").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("source.rdb");
    one.snapshot(&key("source"), &file).await.unwrap();
    let restored = || {
        let mut spec = redis("a");
        spec.restore = Some(Restore { path: file.clone(), replace: false });
        spec
    };
    let half = one.ensure(restored()).await.unwrap();
    let name = world.sim.inspect_container(&half.handle).await.unwrap().unwrap().name;
    // As if the host had been killed between making the container and starting it.
    world.sim.stop_container(&name, 1).await.unwrap();
    world.sim.set_state(&name, ContainerState::Created).unwrap();
    // Nobody wrote since: doing it again is no overwriting.
    one.ensure(restored()).await.unwrap();
    let half = one.find(&key("a")).await.unwrap().unwrap();
    let name = world.sim.inspect_container(&half.handle).await.unwrap().unwrap().name;
    world.sim.stop_container(&name, 1).await.unwrap();
    world.sim.set_state(&name, ContainerState::Created).unwrap();

    let live = other.ensure(redis("a")).await.unwrap();
    world.write(&live, "precious", "data").await;
    other.stop(&key("a")).await.unwrap();
    let error = one.ensure(restored()).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    let live = other.ensure(redis("a")).await.unwrap();
    assert_eq!(world.read(&live, "precious").await.as_deref(), Some("data"));
}
