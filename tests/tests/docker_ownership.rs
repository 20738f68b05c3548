//! Whose a container or volume is, and that nobody else's is ever touched: on a real Docker Engine. The
//! numbers are those of the list of traps.
//!
//! Clauses: NAME-1, NAME-2, NAME-3, OWN-1, OWN-2, OWN-3, OWN-4, OWN-5, REAP-1, REAP-2, REAP-3, UP-4, UP-8.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use elasticache_host::{CacheKey, CacheSpec, Engine, Error, Runtime};
use serde_json::Value;

use support::proxy::{Fate, Proxy};
use support::redis::Redis;
use support::{World, docker, eventually, redis_of};

/// The shortest lease there is: of those who are to die.
const SHORT: Duration = Duration::from_secs(3);
/// Of those who live on: a slow machine renews it in time, too.
const LONG: Duration = Duration::from_secs(120);

/// The labels of an object, as options that give them to another.
fn labels_of(name: &str) -> Vec<String> {
    let inspected = docker::inspect(name);
    let labels = inspected["Config"]["Labels"].as_object().or(inspected["Labels"].as_object()).unwrap();
    labels.iter().map(|(label, value)| format!("--label={label}={}", value.as_str().unwrap())).collect()
}

fn name_of(handle: &str) -> String {
    docker::run(&["inspect", "--format", "{{.Name}}", handle]).trim_start_matches('/').to_owned()
}

/// Somebody else's container that runs, with these options.
fn somebody(world: &World, name: &str, options: &[String]) -> String {
    let name = world.will_make_container(&world.id(name));
    let mut args = vec!["run", "-d", "--name", &name];
    args.extend(options.iter().map(String::as_str));
    args.extend(["redis:7-alpine", "redis-server", "--save", ""]);
    docker::run(&args);
    name
}

/// Every operation there is, on one cache.
async fn everything(runtime: &Runtime, key: &CacheKey, folder: &std::path::Path) {
    let cache = runtime.ensure(redis_of(key)).await.unwrap();
    Redis::of(&cache).set("k", "v");
    runtime.reboot(key).await.unwrap();
    assert!(runtime.exec(key, &["GET".to_owned(), "k".to_owned()]).await.unwrap().success);
    runtime.snapshot(key, &folder.join("s.rdb")).await.unwrap();
    assert_eq!(runtime.list().await.unwrap().len(), 1);
    assert!(runtime.find(key).await.unwrap().is_some());
    runtime.reap().await.unwrap();
    assert!(runtime.stop(key).await.unwrap());
    runtime.stop_all().await.unwrap();
    assert!(runtime.remove_data(key).await.unwrap());
    assert_eq!(runtime.list().await.unwrap(), []);
}

/// Trap 7: process ids say nothing; a lease on the engine does.
#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_takes_what_the_dead_left_and_never_what_the_living_have() {
    let world = World::new("reap");
    let [alive, dead, other] = ["alive", "dead", "other"].map(|name| world.other_instance(name));
    let leased = async |instance: &str, lease| world.builder_of(instance).lease(lease).build().await.unwrap();
    let (living, reaper) = (leased(&alive, LONG).await, leased(&other, LONG).await);
    let keys = ["living", "dying", "unleased"].map(|name| world.key(name));
    let kept = living.ensure(redis_of(&keys[0])).await.unwrap();
    let unleased = world.done(&["up", keys[2].id()]);
    let lives = || [docker::life(&kept.handle), docker::life(unleased["handle"].as_str().unwrap())];
    let before = lives();

    // Nobody is dead yet.
    assert_eq!(reaper.reap().await.unwrap(), [""; 0]);
    let dying = leased(&dead, SHORT).await;
    let left = dying.ensure(redis_of(&keys[1])).await.unwrap();
    Redis::of(&left).set("k", "of the dead");
    let name = name_of(&left.handle);
    drop(dying);
    // Its lease runs out by itself; how long that takes is the engine's clock's affair.
    let until_removed = async {
        loop {
            let removed = reaper.reap().await.unwrap();
            if !removed.is_empty() {
                break removed;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert_eq!(tokio::time::timeout(support::BOUND, until_removed).await.unwrap(), [name]);
    assert_eq!(docker::containers_of(&dead), [""; 0]);
    assert_eq!(lives(), before, "the living and the unleased are untouched");
    assert_eq!(world.cli(&["reap"]).json(), serde_json::json!({"removed": []}));
    assert_eq!(lives(), before);

    // What it took away was a container, not data.
    assert!(docker::volume_exists(&world.volume_of("dying")));
    let again = reaper.ensure(redis_of(&keys[1])).await.unwrap();
    assert_eq!(Redis::of(&again).get("k").as_deref(), Some("of the dead"));
    drop(living);
}

/// Trap 7: two embedders on one data folder do not take each other's caches.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_runs_under_another_instance_is_refused_by_name() {
    let world = World::new("two");
    let (first, second) = (world.other_instance("first"), world.other_instance("second"));
    let one = world.builder_of(&first).build().await.unwrap();
    let two = world.builder_of(&second).build().await.unwrap();
    let key = world.key("k");
    let cache = one.ensure(redis_of(&key)).await.unwrap();
    let before = docker::life(&cache.handle);
    // Two engines on one folder of data would destroy it.
    let error = two.ensure(redis_of(&key)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.contains(&first)), "{error:?}");
    assert_eq!(two.list().await.unwrap(), []);
    assert_eq!(two.find(&key).await.unwrap(), None);
    assert!(!two.stop(&key).await.unwrap());
    two.stop_all().await.unwrap();
    assert!(matches!(two.remove_data(&key).await.unwrap_err(), Error::Conflict { .. }));
    assert_eq!(docker::life(&cache.handle), before);
    // Once it is stopped there, it can be had here, data and all.
    Redis::of(&cache).set("k", "v");
    one.stop(&key).await.unwrap();
    let taken = two.ensure(redis_of(&key)).await.unwrap();
    assert_eq!(Redis::of(&taken).get("k").as_deref(), Some("v"));
}

/// Trap 11.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_look_alike_once_sanitized_share_nothing() {
    let world = World::new("names");
    let runtime = world.runtime().await;
    let tag = world.id("weird");
    let long = format!("{tag}{}", "é".repeat(400));
    let keys: Vec<CacheKey> = [
        ("", format!("{tag}/id:1")),
        ("", format!("{tag}-id-1")),
        ("", format!("{tag}-ID-1")),
        ("scope", format!("{tag}-id-1")),
        ("scope-2", format!("{tag}-id-1")),
        ("", long),
    ]
    .map(|(scope, id)| CacheKey::new(scope, id).unwrap())
    .into();
    for (n, key) in keys.iter().enumerate() {
        let cache = runtime.ensure(redis_of(key)).await.unwrap();
        assert!(!cache.adopted, "{key}");
        assert_eq!(Redis::of(&cache).size(), 0, "{key}");
        Redis::of(&cache).set("who", &n.to_string());
    }
    assert_eq!(world.objects().len(), 2 * keys.len(), "a container and a volume each: {:?}", world.objects());
    assert!(docker::volume_exists(&format!("fakecloud-elasticache-data-{tag}-id-1")), "as it always was");
    let mut listed: Vec<CacheKey> =
        runtime.list().await.unwrap().into_iter().map(|cache| cache.key).collect();
    listed.sort();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(listed, sorted);

    // Away with one and its data: the others stay.
    runtime.stop(&keys[0]).await.unwrap();
    assert!(runtime.remove_data(&keys[0]).await.unwrap());
    for (n, key) in keys.iter().enumerate().skip(1) {
        let cache = runtime.reboot(key).await.unwrap();
        assert_eq!(Redis::of(&cache).get("who"), Some(n.to_string()), "{key}");
    }
}

/// Trap 24: a label alone proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn look_alikes_and_strangers_are_neither_seen_nor_touched_by_any_operation() {
    let world = World::new("alike");
    let runtime = world.runtime().await;
    let key = world.key("mine");
    let folder = world.folder("out");
    let mine = runtime.ensure(redis_of(&key)).await.unwrap();
    let copied = labels_of(&mine.handle);
    let copied_volume = labels_of(&world.volume_of("mine"));
    let changed: Vec<String> =
        copied.iter().map(|label| label.replace(key.id(), &format!("{}-2", key.id()))).collect();
    runtime.stop(&key).await.unwrap();

    // One that says it is another of our caches, one of another instance, one without any label; and one
    // with every label of ours under another name. That one is stopped: two engines on one folder of data
    // would be refused.
    let neighbour = world.builder_of(&world.other_instance("neighbour")).build().await.unwrap();
    let theirs = neighbour.ensure(redis_of(&world.key("theirs"))).await.unwrap();
    let mut others = vec![
        somebody(&world, "changed", &changed),
        somebody(&world, "stranger", &[]),
        somebody(&world, "alike", &copied),
        theirs.handle,
    ];
    docker::run(&["stop", "-t", "1", &others[2]]);
    let volume = world.will_make_volume(&world.id("alike"));
    let mut args = vec!["volume", "create"];
    args.extend(copied_volume.iter().map(String::as_str));
    args.push(&volume);
    docker::run(&args);
    let lives = |others: &[String]| -> Vec<String> { others.iter().map(|name| docker::life(name)).collect() };
    let before = lives(&others);
    let volume_before = docker::inspect(&volume);

    everything(&runtime, &key, &folder).await;
    assert_eq!(lives(&others), before);
    assert_eq!(docker::inspect(&volume), volume_before);

    // Running, it keeps our cache from starting, and is still left alone.
    docker::run(&["start", &others[2]]);
    let before = lives(&others);
    runtime.stop_all().await.unwrap();
    runtime.reap().await.unwrap();
    assert!(!runtime.stop(&key).await.unwrap());
    assert_eq!(runtime.list().await.unwrap(), []);
    assert_eq!(lives(&others), before);
    others.clear();
}

/// Trap 23: never delete whoever holds the name and try again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_under_a_container_s_name_is_a_conflict_and_untouched() {
    let world = World::new("taken");
    let runtime = world.runtime().await;
    let key = world.key("k");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    Redis::of(&cache).set("k", "v");
    let (name, labels) = (name_of(&cache.handle), labels_of(&cache.handle));
    runtime.stop(&key).await.unwrap();
    // Without labels, and with all of ours but one that is another.
    let forged: Vec<String> = labels.iter().map(|label| label.replace("-leased=no", "-leased=yes")).collect();
    assert_ne!(forged, labels);
    for options in [vec![], forged] {
        world.will_make_container(&name);
        let mut args = vec!["create", "--name", &name];
        args.extend(options.iter().map(String::as_str));
        args.push("redis:7-alpine");
        docker::run(&args);
        let before = docker::life(&name);
        let error = runtime.ensure(redis_of(&key)).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert!(matches!(runtime.reboot(&key).await.unwrap_err(), Error::NotFound { .. }));
        assert!(!runtime.stop(&key).await.unwrap());
        runtime.stop_all().await.unwrap();
        runtime.reap().await.unwrap();
        assert_eq!(runtime.find(&key).await.unwrap(), None);
        assert_eq!(docker::life(&name), before);
        assert!(docker::volume_exists(&world.volume_of("k")), "the data stays");
        docker::run(&["rm", "-v", &name]);
    }
    let again = runtime.ensure(redis_of(&key)).await.unwrap();
    assert_eq!(Redis::of(&again).get("k").as_deref(), Some("v"));
}

/// Trap 24: a new cache whose container's name is taken leaves no volume behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_over_a_name_leaves_nothing_that_was_not_there() {
    let world = World::new("fresh");
    let runtime = world.runtime().await;
    let key = world.key("k");
    let name = name_of(&runtime.ensure(redis_of(&key)).await.unwrap().handle);
    runtime.stop(&key).await.unwrap();
    runtime.remove_data(&key).await.unwrap();
    world.will_make_container(&name);
    docker::run(&["create", "--name", &name, "redis:7-alpine"]);
    assert!(matches!(runtime.ensure(redis_of(&key)).await.unwrap_err(), Error::Conflict { .. }));
    assert!(!docker::volume_exists(&world.volume_of("k")));
    assert_eq!(docker::state(&name), "created");
}

/// Trap 24.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_volume_under_a_cache_s_name_is_a_conflict_and_never_deleted() {
    let world = World::new("volume");
    let runtime = world.runtime().await;
    // Someone else's cache has a mark, but not for this volume.
    runtime.ensure(redis_of(&world.key("donor"))).await.unwrap();
    let copied = labels_of(&world.volume_of("donor"));
    let key = world.key("k");
    let scoped = CacheKey::new("scope", key.id()).unwrap();
    runtime.ensure(redis_of(&scoped)).await.unwrap();
    let in_scope = docker::volumes_with(&format!("fakecloud-elasticache={}", key.id()));
    let [in_scope] = &in_scope[..] else { panic!("{in_scope:?}") };
    runtime.stop(&scoped).await.unwrap();
    runtime.remove_data(&scoped).await.unwrap();

    // With copied labels in the empty scope; bare in another scope, where no earlier runtime had any.
    for (key, name, labels) in [(&key, world.volume_of("k"), copied), (&scoped, in_scope.clone(), vec![])] {
        world.will_make_volume(&name);
        let mut args = vec!["volume", "create"];
        args.extend(labels.iter().map(String::as_str));
        args.push(&name);
        docker::run(&args);
        let mount = format!("{name}:/data");
        docker::run(&["run", "--rm", "-v", &mount, "redis:7-alpine", "sh", "-c", "echo mine > /data/note"]);
        let before = docker::inspect(&name);

        let error = runtime.ensure(redis_of(key)).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert!(!runtime.remove_data(key).await.unwrap());
        let ran = world.cli(&["--scope", key.scope(), "down", key.id(), "--delete-data"]);
        assert_eq!((ran.code(), &ran.json()["data_deleted"]), (0, &Value::Bool(false)), "{ran:?}");
        assert_eq!(docker::inspect(&name), before);
        let read = ["run", "--rm", "-v", &mount, "redis:7-alpine", "cat", "/data/note"];
        assert_eq!(docker::run(&read), "mine");
    }
    assert_eq!(world.containers().len(), 1, "only the donor's: {:?}", world.containers());
}

/// Trap 24: a created container may be in the middle of a start, but not while we hold its key's lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_a_crashed_start_left_is_replaced() {
    let world = World::new("left");
    let id = world.id("l");
    for engine in ["redis", "memcached"] {
        // Held back before its start, the process is killed: what it made stays as it is.
        let proxy = Proxy::start(&world.folder(engine), |line: &str, _: &[u8]| {
            if line.starts_with("POST") && line.contains("/start") { Fate::Hang } else { Fate::Pass }
        });
        let mut cachehost = world.command();
        cachehost.args(["up", &id, "--engine", engine]).env("DOCKER_HOST", proxy.host());
        let mut up = cachehost.stderr(std::process::Stdio::null()).spawn().unwrap();
        let is_start = |line: &String| line.contains("/start");
        eventually("it comes to its start", || proxy.requests().iter().any(is_start).then_some(()));
        up.kill().unwrap();
        up.wait().unwrap();
        let left = world.containers();
        assert_eq!(left.len(), 1);
        assert_eq!(docker::state(left[0].split(' ').next().unwrap()), "created");

        assert_eq!(world.cli(&["reboot", &id]).code(), 5, "one that never ran is no cache yet");
        let up = world.done(&["up", &id, "--engine", engine]);
        assert_eq!((&up["state"], &up["adopted"]), (&Value::from("available"), &Value::Bool(false)));
        let now = world.containers();
        assert_eq!(now.len(), 1);
        assert_ne!(now, left);
        world.done(&["down", &id, "--delete-data"]);
    }
    assert_eq!(world.objects(), [""; 0]);
}

/// What one engine holds is not given to another that has the same id.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_there_with_another_engine_is_a_conflict_and_runs_on() {
    let world = World::new("engine");
    let runtime = world.runtime().await;
    let key = world.key("k");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    let before = docker::life(&cache.handle);
    for engine in [Engine::Valkey, Engine::Memcached] {
        let error = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict { what } if what.contains("redis")), "{error:?}");
    }
    assert_eq!(docker::life(&cache.handle), before);
}
