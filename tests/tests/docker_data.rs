//! What was acknowledged is there afterwards, and a snapshot is whole or is not there: on a real Docker
//! Engine. The numbers are those of the list of traps.
//!
//! Clauses: DATA-1, DATA-2, DATA-3, DATA-4, DATA-10, NAME-6, REST-1, REST-2, REST-10, SNAP-1, SNAP-2, SNAP-5,
//! SNAP-7, STOP-5.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use elasticache_host::{CacheKey, CacheSpec, Engine, Error, Runtime};

use support::proxy::{Fate, Proxy};
use support::redis::{Redis, Reply, Writer};
use support::{World, docker, eventually, files_in, from_file, peak_memory, ran, redis_of};

const KEYS: usize = 100_000;
/// Moments of an operation at which its process is killed, beside those at which it asks the daemon for something:
/// while it talks to an engine, and while it works.
const MOMENTS: u32 = 6;
/// Bytes of the file that never comes into memory whole.
const LARGE: usize = 256 << 20;
/// What moving it may take: the buffers on its way.
const BUFFERS: u64 = 32 << 20;

/// A redis with all its keys, each acknowledged.
async fn filled(runtime: &Runtime, key: &CacheKey, engine: Engine, keys: usize) -> elasticache_host::Cache {
    let cache = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap();
    Redis::of(&cache).fill(keys);
    cache
}

fn check(cache: &elasticache_host::Cache, keys: usize) {
    let mut redis = Redis::of(cache);
    assert_eq!(redis.size(), keys as i64);
    redis.check(keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_survives_a_reboot_a_stop_and_stop_all() {
    let world = World::new("survive");
    let runtime = world.runtime().await;
    for (engine, keys) in [(Engine::Redis, KEYS), (Engine::Valkey, KEYS)] {
        let key = world.key(engine.as_str());
        filled(&runtime, &key, engine, keys).await;
        check(&runtime.reboot(&key).await.unwrap(), keys);

        assert!(runtime.stop(&key).await.unwrap());
        check(&runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap(), keys);

        runtime.stop_all().await.unwrap();
        assert_eq!(world.containers(), [""; 0]);
        // Another runtime, as after a restart of the embedder.
        let next = world.runtime().await;
        check(&next.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap(), keys);
        next.stop(&key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_survives_a_kill_of_the_engine_and_the_removal_of_its_container() {
    let world = World::new("kill");
    let runtime = world.runtime().await;
    let key = world.key("k");
    let cache = filled(&runtime, &key, Engine::Redis, KEYS).await;
    docker::run(&["kill", &cache.handle]);
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    check(&cache, KEYS);

    docker::run(&["kill", &cache.handle]);
    check(&runtime.reboot(&key).await.unwrap(), KEYS);

    docker::run(&["stop", &cache.handle]);
    docker::run(&["rm", "-v", &cache.handle]);
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    check(&cache, KEYS);

    docker::run(&["rm", "-f", "-v", &cache.handle]);
    check(&runtime.ensure(redis_of(&key)).await.unwrap(), KEYS);
}

/// Kills the command before each request that it sends to the daemon and after each that changes something, and at
/// moments spread over all of its duration. `before` sets the scene, `after` judges it.
fn killed_at_any_moment(world: &World, args: &[&str], before: impl Fn(), after: impl Fn(&str)) {
    before();
    let began = Instant::now();
    assert!(world.spawn(args).wait().unwrap().success());
    let duration = began.elapsed();
    after("to its end");
    for moment in 1..=MOMENTS {
        before();
        let mut process = world.spawn(args);
        std::thread::sleep(duration * moment / (MOMENTS + 1));
        process.kill().unwrap();
        process.wait().unwrap();
        after(&format!("moment {moment} of {MOMENTS}"));
    }
    let mut requests = Vec::new();
    loop {
        before();
        let Some(line) = killed_at_request(world, requests.len(), Fate::Refuse, args) else { break };
        after(&format!("before {line}"));
        if !line.starts_with("GET") && !line.starts_with("HEAD") {
            before();
            killed_at_request(world, requests.len(), Fate::Pass, args);
            after(&format!("after {line}"));
        }
        requests.push(line);
    }
    after("past its last request");
    assert!(!requests.is_empty(), "{args:?} asked for nothing");
}

/// A command on its way, and how far it comes.
#[derive(Default)]
struct Victim {
    process: Option<Child>,
    requests: usize,
    /// The first line of the request at which it was killed.
    killed_at: Option<String>,
}

/// Kills the command as it sends its request number `at`, which has this fate thereafter. Its first line; none if the
/// command sends fewer, and so comes to its end.
fn killed_at_request(world: &World, at: usize, fate: Fate, args: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let victim: Arc<Mutex<Victim>> = Arc::default();
    let seen = Arc::clone(&victim);
    let proxy = Proxy::start(folder.path(), move |line: &str, _: &[u8]| {
        let mut victim = seen.lock().unwrap();
        if line.contains("/_ping") {
            return Fate::Pass;
        }
        victim.requests += 1;
        if victim.requests <= at {
            return Fate::Pass;
        }
        if victim.killed_at.is_some() {
            // What it sent over another connection just before.
            return Fate::Refuse;
        }
        victim.killed_at = Some(line.to_owned());
        let process = victim.process.as_mut().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        fate
    });
    let mut command = world.command();
    command.args(args).env("DOCKER_HOST", proxy.host()).stdout(Stdio::null()).stderr(Stdio::null());
    // Locked until it is known, which is before anything that it sends is looked at.
    let mut starting = victim.lock().unwrap();
    starting.process = Some(command.spawn().unwrap());
    drop(starting);
    let ended = || victim.lock().unwrap().process.as_mut().unwrap().try_wait().unwrap();
    let status = eventually("it ends", ended);
    let line = victim.lock().unwrap().killed_at.take();
    assert_eq!(line.is_none(), status.success(), "{args:?}: {status} at {line:?}");
    line
}

fn endpoint(cache: &serde_json::Value) -> elasticache_host::Endpoint {
    elasticache_host::Endpoint {
        address: cache["endpoint"]["address"].as_str().unwrap().to_owned(),
        port: u16::try_from(cache["endpoint"]["port"].as_u64().unwrap()).unwrap(),
    }
}

/// Brings it up again: all keys are there, and one container and one volume, no more.
fn comes_up(world: &World, id: &str, keys: usize, what: &str) {
    let endpoint = endpoint(&world.done(&["up", id]));
    // An engine that was told to end answers for a while yet; whoever waits for it sees it go.
    let mut waiting = Redis::at(&endpoint);
    waiting.send(&["BLPOP", "nothing", "0.3"]).unwrap();
    let mut redis = Redis::at(&endpoint);
    assert_eq!(redis.size(), keys as i64, "{what}");
    redis.check(keys);
    assert_eq!(world.objects().len(), 2, "{what}: {:?}", world.objects());
    assert_eq!(waiting.reply().ok(), Some(Reply::Array(Vec::new())), "{what}: it was ending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_of_the_host_at_any_moment_of_a_reboot_loses_nothing() {
    let world = World::new("kreboot");
    let id = world.id("k");
    filled(&world.runtime().await, &world.key("k"), Engine::Redis, KEYS).await;
    killed_at_any_moment(&world, &["reboot", &id], || (), |at| comes_up(&world, &id, KEYS, at));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_of_the_host_at_any_moment_of_down_or_up_loses_nothing() {
    let world = World::new("kdown");
    let id = world.id("k");
    filled(&world.runtime().await, &world.key("k"), Engine::Redis, KEYS).await;
    let judge = |at: &str| comes_up(&world, &id, KEYS, at);
    killed_at_any_moment(&world, &["down", &id], || (), judge);
    killed_at_any_moment(&world, &["up", &id], || drop(world.done(&["down", &id])), judge);
    let stopped = || drop(docker::run(&["stop", world.containers()[0].split(' ').next().unwrap()]));
    killed_at_any_moment(&world, &["up", &id], stopped, judge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_of_the_host_at_any_moment_of_a_restore_leaves_all_of_the_file_or_nothing() {
    let world = World::new("kfrom");
    let (id, other) = (world.id("k"), world.id("source"));
    let file = world.folder("out").join("s.rdb");
    let from = file.to_str().unwrap();
    let runtime = world.runtime().await;
    filled(&runtime, &world.key("source"), Engine::Redis, KEYS).await;
    world.done(&["snapshot", &other, from]);
    world.done(&["down", &other, "--delete-data"]);

    let gone = || drop(world.done(&["down", &id, "--delete-data"]));
    killed_at_any_moment(&world, &["up", &id, "--from", from], gone, |at| {
        // Again, as whoever was killed would: done now, or refused since it was done then.
        let again = world.cli(&["up", &id, "--from", from]);
        if again.code() != 0 {
            assert_eq!(again.error().0, "conflict", "{at}: {again:?}");
        }
        comes_up(&world, &id, KEYS, at);
    });

    // In the place of other data: the old or the new, and nothing between.
    let old = || {
        gone();
        let up = world.done(&["up", &id]);
        assert_eq!(up["adopted"], false);
        world.done(&["exec", &id, "--", "SET", "old", "data"]);
    };
    killed_at_any_moment(&world, &["up", &id, "--from", from, "--replace-data"], old, |at| {
        let up = world.done(&["up", &id]);
        let mut redis = Redis::at(&endpoint(&up));
        let (size, read) = (redis.size(), redis.get("old"));
        match read.as_deref() {
            Some("data") => assert_eq!(size, 1, "{at}"),
            _ => {
                assert_eq!((size, read), (KEYS as i64, None), "{at}");
                redis.check(KEYS);
            }
        }
        assert_eq!(world.objects().len(), 2, "{at}: {:?}", world.objects());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_of_the_host_at_any_moment_of_a_snapshot_leaves_a_whole_file_or_none() {
    let world = World::new("ksnap");
    let id = world.id("k");
    let runtime = world.runtime().await;
    let cache = filled(&runtime, &world.key("k"), Engine::Redis, KEYS).await;
    let before = docker::life(&cache.handle);
    let folder = world.folder("out");
    let file = folder.join("s.rdb");
    let gone = || drop(std::fs::remove_file(&file));
    killed_at_any_moment(&world, &["snapshot", &id, file.to_str().unwrap()], gone, |at| {
        comes_up(&world, &id, KEYS, at);
        assert_eq!(docker::life(&cache.handle), before, "{at}");
        if file.exists() {
            elasticache_host::rdb::check_file(&std::fs::File::open(&file).unwrap()).unwrap();
        }
        // A process that was killed cannot clear up after itself; the next one does.
        world.done(&["snapshot", &id, file.to_str().unwrap()]);
        assert_eq!(files_in(&folder), ["s.rdb"], "{at}");
    });
}

/// The volume that an earlier runtime made, as one that knows only `dump.rdb` left it.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_an_earlier_runtime_is_attached_again_with_its_data() {
    let world = World::new("legacy");
    let runtime = world.runtime().await;
    for (engine, image, client) in [
        (Engine::Redis, "redis:7-alpine", "redis-cli"),
        (Engine::Valkey, "valkey/valkey:8-alpine", "valkey-cli"),
    ] {
        let name = engine.as_str();
        let key = world.key(name);
        let volume = world.will_make_volume(&world.volume_of(name));
        let old = world.will_make_container(&format!("old-{}", key.id()));
        docker::run(&["volume", "create", &volume]);
        let mountpoint = || docker::inspect(&volume)["Mountpoint"].clone();
        let created = mountpoint();
        let (mount, label) = (format!("{volume}:/data"), format!("fakecloud-elasticache={}", key.id()));
        docker::run(&["run", "-d", "--name", &old, "--label", &label, "-v", &mount, image]);
        let ask =
            |command: &str| docker::attempt(&["exec", &old, "sh", "-c", &format!("{client} {command}")]);
        support::eventually("it answers", || (ask("PING").ok()? == "PONG").then_some(()));
        let script = "for n = 1, 1000 do redis.call('SET', 'old:' .. n, n) end";
        ask(&format!("EVAL \"{script}\" 0")).unwrap();
        assert_eq!(ask("SAVE").unwrap(), "OK");

        // While that one runs, its data is its own.
        let error = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap_err();
        assert!(matches!(&error, Error::Conflict { what } if what.contains(&old)), "{error:?}");
        assert_eq!(docker::state(&old), "running");
        docker::run(&["rm", "-f", &old]);

        let cache = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap();
        assert_eq!((Redis::of(&cache).size(), Redis::of(&cache).get("old:7")), (1000, Some("7".into())));
        Redis::of(&cache).set("new", "er");
        runtime.reboot(&key).await.unwrap();
        runtime.stop(&key).await.unwrap();
        let cache = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap();
        assert_eq!((Redis::of(&cache).size(), Redis::of(&cache).get("new")), (1001, Some("er".into())));
        assert_eq!(mountpoint(), created, "the very same");
        runtime.stop(&key).await.unwrap();
        assert!(runtime.remove_data(&key).await.unwrap());
        assert!(!docker::volume_exists(&volume));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_write_load_is_consistent_and_restores_into_another_cache() {
    let world = World::new("load");
    let runtime = world.runtime().await;
    let folder = world.folder("out");
    for engine in [Engine::Redis, Engine::Valkey] {
        let (key, copy) = (world.key(engine.as_str()), world.key(&format!("{engine}-copy")));
        let cache = filled(&runtime, &key, engine, 20_000).await;
        for round in 0..3 {
            let file = folder.join(format!("{engine}-{round}.rdb"));
            let (before, _) = Redis::of(&cache).counts();
            let writer = Writer::start(cache.endpoint.as_ref().unwrap());
            let info = runtime.snapshot(&key, &file).await.unwrap();
            let after = writer.finish();
            assert_eq!(info.size, std::fs::metadata(&file).unwrap().len());
            let restored = runtime.ensure(from_file(&copy, engine, &file, round > 0)).await.unwrap();
            let (one, other) = Redis::of(&restored).counts();
            assert_eq!(one, other, "{engine}, round {round}: half a transaction");
            assert!((before..=after).contains(&one), "{engine}, round {round}: {before} {one} {after}");
            Redis::of(&restored).check(20_000);
            // And it is a cache like any other.
            Redis::of(&restored).set("own", "write");
            let rebooted = runtime.reboot(&copy).await.unwrap();
            assert_eq!(Redis::of(&rebooted).get("own").as_deref(), Some("write"));
            assert_eq!(Redis::of(&cache).get("own"), None, "the source is apart");
        }
        runtime.stop_all().await.unwrap();
    }
    let names = ["redis", "valkey"].map(|engine| [0, 1, 2].map(|round| format!("{engine}-{round}.rdb")));
    assert_eq!(files_in(&folder), names.concat(), "no temporary file is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_is_an_error_and_leaves_no_file() {
    let world = World::new("full");
    filled(&world.runtime().await, &world.key("k"), Engine::Redis, KEYS).await;
    let folder = world.folder("full");
    std::fs::write(folder.join("there.rdb"), "old").unwrap();
    // A limit on the size of files is the full disk that everybody can have: a write in the middle fails. Half a
    // MiB, and the signal that comes with it ignored, as the host's own writes expect an error.
    let script = r#"trap "" XFSZ; ulimit -f 1024; exec "$0" "$@""#;
    for name in ["new.rdb", "there.rdb"] {
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(support::cachehost());
        command.args(["--json", "snapshot", &world.id("k")]).arg(folder.join(name));
        for (name, value) in world.command().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let ran = ran(&mut command);
        assert_eq!(ran.code(), 1, "{ran:?}");
        assert!(ran.error().1.to_lowercase().contains("file too large"), "{ran:?}");
        assert_eq!(files_in(&folder), ["there.rdb"], "{name}");
        assert_eq!(std::fs::read_to_string(folder.join("there.rdb")).unwrap(), "old");
    }
}

/// Trap 15.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_256_mib_is_never_in_memory_whole() {
    let world = World::new("large");
    let folder = world.folder("out");
    let (small, large) = (folder.join("small.rdb"), folder.join("large.rdb"));
    let runtime = world.runtime().await;
    let peak = |args: &[&str]| peak_memory(&mut world.spawn(args));
    let there_and_back = |name: &str, file: &Path| {
        let (id, copy, file) = (world.id(name), world.id(&format!("{name}-copy")), file.to_str().unwrap());
        [peak(&["snapshot", &id, file]), peak(&["up", &copy, "--from", file])]
    };
    filled(&runtime, &world.key("small"), Engine::Redis, 10).await;
    let least = there_and_back("small", &small);

    let cache = runtime.ensure(redis_of(&world.key("large"))).await.unwrap();
    let text = Redis::of(&cache).fill_large(LARGE);
    let most = there_and_back("large", &large);
    assert!(std::fs::metadata(&large).unwrap().len() > (LARGE as u64) * 9 / 10, "it was compressed");
    for (least, most) in std::iter::zip(least, most) {
        assert!(most < least + BUFFERS, "{least} bytes for a small file, {most} for a large one");
    }
    let mut copy = Redis::of(&runtime.find(&world.key("large-copy")).await.unwrap().unwrap());
    assert_eq!(copy.size(), (LARGE >> 20) as i64);
    assert!(copy.get("large:255").unwrap() == text);
}

/// Trap 3: what comes out is checked, not believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_breaks_off_is_an_error_and_leaves_no_file() {
    let world = World::new("cut");
    let cache = filled(&world.runtime().await, &world.key("k"), Engine::Redis, KEYS).await;
    let folder = world.folder("out");
    for bytes in [10, 1_000, 100_000, 1_000_000] {
        let proxy = Proxy::start(&world.folder(&format!("cut-{bytes}")), move |line: &str, _: &[u8]| {
            if line.starts_with("GET") && line.contains("/archive") { Fate::Cut(bytes) } else { Fate::Pass }
        });
        let mut cachehost = world.command();
        cachehost.args(["--json", "snapshot", &world.id("k")]).arg(folder.join("s.rdb"));
        let ran = ran(cachehost.env("DOCKER_HOST", proxy.host()));
        assert!([1, 3].contains(&ran.code()), "{bytes}: {ran:?}");
        assert_eq!(files_in(&folder), [""; 0], "{bytes}: {}", ran.error().1);
    }
    check(&cache, KEYS);
}

/// An RDB file of the engine's own, and ways to damage it.
fn damaged(good: &Path, folder: &Path) -> Vec<std::path::PathBuf> {
    let bytes = std::fs::read(good).unwrap();
    let middle = bytes.len() / 2;
    let mut flipped = bytes.clone();
    flipped[middle] ^= 1;
    let cases = [
        ("empty", Vec::new()),
        ("text", b"not a snapshot at all".to_vec()),
        ("half", bytes[..middle].to_vec()),
        ("short", bytes[..bytes.len() - 1].to_vec()),
        ("longer", [&bytes[..], b"x"].concat()),
        ("flipped", flipped),
    ];
    cases
        .map(|(name, bytes)| {
            let path = folder.join(format!("{name}.rdb"));
            std::fs::write(&path, bytes).unwrap();
            path
        })
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_file_is_refused_before_anything_is_made() {
    let world = World::new("corrupt");
    let runtime = world.runtime().await;
    let folder = world.folder("out");
    let (source, key) = (world.key("source"), world.key("k"));
    let cache = filled(&runtime, &source, Engine::Redis, 1000).await;
    let good = folder.join("good.rdb");
    runtime.snapshot(&source, &good).await.unwrap();
    let before = world.objects();
    for file in damaged(&good, &folder) {
        let name = file.file_name().unwrap().to_str().unwrap();
        for (key, replace) in [(&key, false), (&key, true), (&source, true)] {
            let error = runtime.ensure(from_file(key, Engine::Redis, &file, replace)).await.unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{name}: {error:?}");
        }
        assert_eq!(world.objects(), before, "{name}");
    }
    check(&cache, 1000);
    check(&runtime.ensure(from_file(&key, Engine::Redis, &good, false)).await.unwrap(), 1000);
}
