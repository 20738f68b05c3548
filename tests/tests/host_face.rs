//! The face that replaces fakecloud's native runtime: names, types and behaviour, on the engine in memory.
//!
//! Clauses: FACE-1, NAME-4, UP-1, UP-2, UP-7, BOOT-2, BOOT-4, DATA-2, DATA-8, EXEC-1, EXEC-2, EXEC-4, REAP-1,
//! REST-1, REST-4, REST-7, SNAP-2, SNAP-3, STOP-3.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use conformance::sim::rdb;
use elasticache_host::engine::ContainerEngine;
use elasticache_host::{
    CacheEngineKind, CacheExec, ElastiCacheRuntime, Error, PendingRdb, RunningCacheContainer, RuntimeError,
};

mod sim_support;

use sim_support::{World, durable, endpoint, key};

type Tags = BTreeMap<String, String>;

async fn face(world: &World) -> ElastiCacheRuntime {
    ElastiCacheRuntime::from_runtime(world.durable().await)
}

fn none() -> Tags {
    Tags::new()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Every name and type that an embedder writes. It compiles: that is the test; it is never run, since `new`
/// looks for a real engine.
#[allow(dead_code, reason = "compiling it is the test")]
async fn an_embedder(
    resource_id: &str,
    rdb_path: Option<&str>,
    dest_path: &str,
    redis_args: &[String],
    tags: &BTreeMap<String, String>,
) -> Result<(), RuntimeError> {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn future<T: Send>(future: T) -> T {
        future
    }
    let made: Option<ElastiCacheRuntime> = ElastiCacheRuntime::new();
    let runtime = made.ok_or(RuntimeError::Unavailable)?;
    shared(&runtime);
    let _: &str = runtime.cli_name();
    let _: &str = runtime.endpoint_host();
    let _: Option<PendingRdb> = runtime.pending_rdb();
    let redis: Result<RunningCacheContainer, RuntimeError> =
        future(runtime.ensure_redis(resource_id, rdb_path, tags)).await;
    let memcached: Result<RunningCacheContainer, RuntimeError> =
        future(runtime.ensure_memcached(resource_id, tags)).await;
    drop((redis?, memcached?));
    let () = future(runtime.stop_container(resource_id)).await;
    let () = future(runtime.remove_data_volume(resource_id)).await;
    let restarted: Result<(), RuntimeError> = future(runtime.restart_container(resource_id, tags)).await;
    let exec: Result<CacheExec, RuntimeError> = future(runtime.exec_redis(resource_id, redis_args)).await;
    let dumped: Result<(), RuntimeError> = future(runtime.dump_rdb(resource_id, dest_path)).await;
    let () = future(runtime.stop_all()).await;
    let () = future(runtime.reap_stale()).await;
    drop((restarted?, exec?, dumped?));
    Err(RuntimeError::ContainerStartFailed(String::from("in the embedder's own words")))
}

#[test]
fn the_structs_are_built_by_literal() {
    let running = RunningCacheContainer {
        container_id: String::from("id"),
        host_port: 20_000_u16,
        endpoint_address: String::from("127.0.0.1"),
        endpoint_port: 20_000_u16,
        engine: CacheEngineKind::Redis,
    };
    assert_eq!(running.engine, CacheEngineKind::Redis);
    for engine in [CacheEngineKind::Redis, CacheEngineKind::Memcached, CacheEngineKind::Valkey] {
        assert_eq!(RunningCacheContainer { engine, ..running.clone() }.host_port, 20_000);
    }
    let exec = CacheExec { success: true, stdout: b"PONG\n".to_vec(), stderr: Vec::<u8>::new() };
    assert!(exec.success);
    let pending: PendingRdb = Arc::default();
    let _: HashMap<String, Vec<u8>> = pending.read().clone();
    let error: Box<dyn std::error::Error + Send + Sync> = RuntimeError::Unavailable.into();
    assert!(!error.to_string().is_empty());
}

#[tokio::test]
async fn it_says_what_it_runs_on() {
    let world = World::new().await;
    let face = face(&world).await;
    assert_eq!((face.cli_name(), face.endpoint_host()), ("sim", "127.0.0.1"));
    assert!(face.pending_rdb().is_none());
    assert_eq!(face.runtime().instance(), sim_support::INSTANCE);
}

#[tokio::test]
async fn each_engine_is_brought_up_and_adopted_with_the_same_endpoint() {
    let world = World::new().await;
    let face = face(&world).await;
    let tags = Tags::from([("k".to_owned(), "v".to_owned())]);
    let redis = face.ensure_redis("r", None, &tags).await.unwrap();
    let valkey = face.ensure_valkey("v", None, &tags).await.unwrap();
    let memcached = face.ensure_memcached("m", &tags).await.unwrap();
    let kinds = [redis.engine, valkey.engine, memcached.engine];
    assert_eq!(kinds, [CacheEngineKind::Redis, CacheEngineKind::Valkey, CacheEngineKind::Memcached]);
    for running in [&redis, &valkey, &memcached] {
        assert_eq!(running.endpoint_address, "127.0.0.1");
        assert_eq!(running.endpoint_port, running.host_port);
        let there = world.sim.inspect_container(&running.container_id).await.unwrap().unwrap();
        assert_eq!(there.published.unwrap().host_port, running.host_port);
    }
    world.assert_has(&world.observe().await, 3, 2, "memcached keeps nothing");
    assert_eq!(face.clone().ensure_redis("r", None, &tags).await.unwrap(), redis);
    assert_eq!(face.ensure_valkey("v", None, &none()).await.unwrap(), valkey);
    assert_eq!(face.ensure_memcached("m", &none()).await.unwrap(), memcached);
}

#[tokio::test]
async fn data_and_endpoint_survive_a_restart_and_a_stop() {
    let world = World::new().await;
    let face = face(&world).await;
    let before = face.ensure_redis("a", None, &none()).await.unwrap();
    assert!(face.exec_redis("a", &words("SET k v")).await.unwrap().success);
    face.restart_container("a", &none()).await.unwrap();
    assert_eq!(face.ensure_redis("a", None, &none()).await.unwrap(), before);
    face.stop_container("a").await;
    world.assert_has(&world.observe().await, 0, 1, "its data stays");
    let after = face.ensure_redis("a", None, &none()).await.unwrap();
    assert_eq!(after.endpoint_port, before.endpoint_port);
    let exec = face.exec_redis("a", &words("GET k")).await.unwrap();
    assert_eq!(exec, CacheExec { success: true, stdout: b"v\n".to_vec(), stderr: Vec::new() });
    face.stop_container("a").await;
    face.remove_data_volume("a").await;
    world.assert_untouched(&world.observe().await, "after its data was deleted");
}

#[tokio::test]
async fn a_server_s_error_is_no_success_of_the_client() {
    let world = World::new().await;
    let face = face(&world).await;
    face.ensure_redis("a", None, &none()).await.unwrap();
    let exec = face.exec_redis("a", &words("NOSUCH command")).await.unwrap();
    assert!(!exec.success);
    let said = [exec.stdout, exec.stderr].concat();
    assert!(String::from_utf8(said).unwrap().contains("unknown command"));
    world.sim.set_save_error(Some("ERR on purpose".to_owned()));
    let dest = world.path().join("dump.rdb");
    let error = face.dump_rdb("a", dest.to_str().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert!(!dest.exists());
}

#[tokio::test]
async fn a_dump_can_be_started_from() {
    let world = World::new().await;
    let face = face(&world).await;
    face.ensure_redis("a", None, &none()).await.unwrap();
    face.exec_redis("a", &words("SET k v")).await.unwrap();
    let dest = world.path().join("dump.rdb");
    let dest = dest.to_str().unwrap();
    face.dump_rdb("a", dest).await.unwrap();
    assert_eq!(rdb::read(&std::fs::read(dest).unwrap()).unwrap().0.len(), 1);
    face.ensure_redis("b", Some(dest), &none()).await.unwrap();
    assert_eq!(face.exec_redis("b", &words("GET k")).await.unwrap().stdout, b"v\n");
    face.ensure_valkey("c", Some(dest), &none()).await.unwrap();
    // Over data that is there it is refused.
    let error = face.ensure_redis("a", Some(dest), &none()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Operation(Error::Conflict { .. })), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_in_words() {
    let world = World::new().await;
    let face = face(&world).await;
    let huge = "x".repeat(1025);
    for id in ["", "a\nb", huge.as_str()] {
        for error in [
            face.ensure_redis(id, None, &none()).await.unwrap_err(),
            face.ensure_memcached(id, &none()).await.unwrap_err(),
            face.restart_container(id, &none()).await.unwrap_err(),
            face.exec_redis(id, &words("PING")).await.unwrap_err(),
            face.dump_rdb(id, "/nowhere").await.unwrap_err(),
        ] {
            assert!(matches!(&error, RuntimeError::Operation(Error::Invalid(_))), "{error:?}");
        }
        // These have no result: they log, and change nothing.
        face.stop_container(id).await;
        face.remove_data_volume(id).await;
    }
    let missing = face.ensure_redis("a", Some("/nowhere/dump.rdb"), &none()).await.unwrap_err();
    assert!(missing.to_string().contains("/nowhere/dump.rdb"), "{missing}");
    world.assert_untouched(&world.observe().await, "after bad input");
}

#[tokio::test]
async fn what_does_not_exist_is_said_not_to() {
    let world = World::new().await;
    let face = face(&world).await;
    let dest = world.path().join("dump.rdb");
    for error in [
        face.restart_container("a", &none()).await.unwrap_err(),
        face.exec_redis("a", &words("PING")).await.unwrap_err(),
        face.dump_rdb("a", dest.to_str().unwrap()).await.unwrap_err(),
    ] {
        assert!(matches!(&error, RuntimeError::Operation(Error::NotFound { .. })), "{error:?}");
    }
    face.stop_container("a").await;
    face.remove_data_volume("a").await;
    world.assert_untouched(&world.observe().await, "after nothing was there");
}

#[tokio::test]
async fn a_container_that_does_not_start_is_a_failed_start_and_no_engine_is_unavailable() {
    let world = World::new().await;
    let face = face(&world).await;
    world.sim.remove_image("redis:7-alpine");
    let error = face.ensure_redis("a", None, &none()).await.unwrap_err();
    assert!(
        matches!(&error, RuntimeError::ContainerStartFailed(words) if words.contains("redis:7-alpine")),
        "{error:?}"
    );
    world.sim.add_image("redis:7-alpine");
    world.sim.fail_next(conformance::sim::docker::Call::InspectContainer, sim_support::unavailable(), false);
    let error = face.ensure_redis("a", None, &none()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unavailable), "{error:?}");
    face.ensure_redis("a", None, &none()).await.unwrap();
}

#[tokio::test]
async fn stopping_all_and_reaping_leave_data_and_others_alone() {
    let world = World::new().await;
    let face = face(&world).await;
    let other = world.durable_as("another").await;
    let theirs = other.ensure(sim_support::redis("theirs")).await.unwrap();
    for id in ["a", "b"] {
        face.ensure_redis(id, None, &none()).await.unwrap();
        face.exec_redis(id, &words("SET k v")).await.unwrap();
    }
    face.ensure_memcached("m", &none()).await.unwrap();
    face.stop_all().await;
    face.reap_stale().await;
    world.assert_has(&world.observe().await, 1, 3, "after all were stopped");
    assert_eq!(other.find(&key("theirs")).await.unwrap().unwrap().endpoint, Some(endpoint(&theirs)));
    face.ensure_redis("a", None, &none()).await.unwrap();
    assert_eq!(face.exec_redis("a", &words("GET k")).await.unwrap().stdout, b"v\n");
}

#[tokio::test]
async fn reaping_removes_what_a_dead_embedder_left() {
    let world = World::new().await;
    let lease = std::time::Duration::from_secs(60);
    let embedder =
        |instance: &str| world.builder().policy_file(durable()).instance(instance).lease(lease).build();
    let dead = ElastiCacheRuntime::from_runtime(embedder("dead").await.unwrap());
    dead.ensure_redis("a", None, &none()).await.unwrap();
    drop(dead);
    world.sim.advance(lease * 2);
    let face = ElastiCacheRuntime::from_runtime(embedder("alive").await.unwrap());
    face.reap_stale().await;
    // What stays is its data, and the reaper's own lease.
    world.assert_has(&world.observe().await, 0, 2, "after reaping");
}
