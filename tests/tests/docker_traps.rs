//! What went wrong in other emulators cannot go wrong here: on a real Docker Engine, with real engines. The
//! numbers are those of the list of traps; who owns what is in `docker_ownership.rs`.
//!
//! Clauses: BOOT-2, BOOT-3, BOOT-7, DATA-1, DATA-2, DATA-4, DATA-5, DATA-6, DOCK-2, DOCK-3, DOCK-4, DOCK-6, FAIL-8,
//! LIST-2, REST-3, REST-4, SNAP-2, SNAP-6, STOP-1, STOP-3, STOP-4, STOP-5, TURN-1, TURN-2, UP-6, UP-9.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use elasticache_host::engine::ContainerEngine as _;
use elasticache_host::engine::docker::Docker;
use elasticache_host::probes::tcp::TcpProbes;
use elasticache_host::{CacheSpec, CacheState, Engine, Error, Grants};

use support::proxy::{Fate, Proxy};
use support::redis::{Redis, Reply, Writer};
use support::{World, docker, eventually, files_in, from_file, redis_of, unsaved};

/// Keys of which each takes the engine so long to load or to save as it is told to.
const SLOW: usize = 10_000;

/// Trap 1.
#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_keeps_the_endpoint_and_a_client_that_reconnects_there_gets_its_data() {
    let world = World::new("reboot");
    let runtime = world.runtime().await;
    for engine in [Engine::Redis, Engine::Valkey] {
        let key = world.key(engine.as_str());
        let before = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap();
        let old = before.endpoint.clone().unwrap();
        for round in 0..5 {
            Redis::at(&old).set("round", &round.to_string());
            let after = runtime.reboot(&key).await.unwrap();
            assert_eq!((&after.endpoint, &after.handle), (&before.endpoint, &before.handle));
            assert_eq!(Redis::at(&old).get("round"), Some(round.to_string()));
        }
    }
}

/// Trap 1: memcached keeps its endpoint, and nothing else, as on AWS.
#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_flushes_memcached_and_keeps_its_endpoint() {
    let world = World::new("flush");
    let runtime = world.runtime().await;
    let key = world.key("m");
    let before = runtime.ensure(CacheSpec::new(key.clone(), Engine::Memcached)).await.unwrap();
    assert_eq!(Redis::of(&before).text("set k 0 0 1\r\nv\r\n"), "STORED");
    let after = runtime.reboot(&key).await.unwrap();
    assert_eq!(after.endpoint, before.endpoint);
    assert_eq!(Redis::of(&before).text("get k\r\n"), "END");
}

/// Traps 1 and 25.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_by_somebody_else_keeps_the_endpoint_and_is_observed_anew() {
    let world = World::new("restart");
    let runtime = world.runtime().await;
    let key = world.key("r");
    let before = runtime.ensure(redis_of(&key)).await.unwrap();
    let old = before.endpoint.clone().unwrap();
    Redis::at(&old).set("k", "v");

    docker::run(&["restart", &before.handle]);
    assert_eq!(Redis::reconnect(&old).get("k").as_deref(), Some("v"));
    let after = runtime.find(&key).await.unwrap().unwrap();
    assert_eq!((after.state, after.endpoint), (CacheState::Available, before.endpoint.clone()));

    docker::run(&["stop", &before.handle]);
    let stopped = runtime.find(&key).await.unwrap().unwrap();
    assert_eq!((stopped.state, stopped.endpoint), (CacheState::Stopped, None));
    assert_eq!(runtime.list().await.unwrap()[0].state, CacheState::Stopped);
    docker::run(&["start", &before.handle]);
    assert_eq!(Redis::reconnect(&old).get("k").as_deref(), Some("v"));
    assert_eq!(runtime.find(&key).await.unwrap().unwrap().state, CacheState::Available);

    // Removed and made anew: another handle, and nobody remembers the old one.
    docker::run(&["rm", "-f", &before.handle]);
    assert_eq!(runtime.find(&key).await.unwrap(), None);
    assert!(matches!(runtime.reboot(&key).await, Err(Error::NotFound { .. })));
    let anew = runtime.ensure(redis_of(&key)).await.unwrap();
    assert_ne!(anew.handle, before.handle);
    assert_eq!((anew.adopted, anew.endpoint.clone()), (false, before.endpoint));
    assert_eq!(Redis::of(&anew).get("k").as_deref(), Some("v"));
}

/// Trap 1: the daemon starts a crashed engine again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_crashes_comes_back_at_its_endpoint_with_every_acknowledged_write() {
    let world = World::new("crash");
    let runtime = world.runtime().await;
    let key = world.key("c");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    let endpoint = cache.endpoint.clone().unwrap();
    let writer = Writer::start(&endpoint);
    docker::signal_engine(&cache.handle, "-KILL");
    let acknowledged = writer.finish();
    let (one, other) = Redis::reconnect(&endpoint).counts();
    assert!(one >= acknowledged && one == other, "{one}, {other} of {acknowledged}");
    assert_eq!(runtime.ensure(redis_of(&key)).await.unwrap().endpoint, cache.endpoint);
}

/// Trap 2.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_loses_no_acknowledged_write() {
    let world = World::new("stop");
    let runtime = world.runtime().await;
    let key = world.key("s");
    let mut least = 0;
    for round in 0..3 {
        let cache = runtime.ensure(redis_of(&key)).await.unwrap();
        let (one, other) = Redis::of(&cache).counts();
        assert!(one >= least && one == other, "round {round}: {one}, {other} of {least}");
        let writer = Writer::start(cache.endpoint.as_ref().unwrap());
        assert!(runtime.stop(&key).await.unwrap());
        least = writer.finish();
        assert!(world.containers().is_empty());
    }
    assert!(!runtime.stop(&key).await.unwrap(), "there is none any more");
}

/// Trap 2.
#[tokio::test(flavor = "multi_thread")]
async fn stop_all_loses_no_acknowledged_write_of_any_cache() {
    let world = World::new("stopall");
    let runtime = world.runtime().await;
    let mut specs: Vec<CacheSpec> = ["a", "b", "c"].map(|name| redis_of(&world.key(name))).into();
    specs.push(CacheSpec::new(world.key("v"), Engine::Valkey));
    let mut writers = Vec::new();
    for spec in &specs {
        let cache = runtime.ensure(spec.clone()).await.unwrap();
        writers.push(Writer::start(cache.endpoint.as_ref().unwrap()));
    }
    runtime.ensure(CacheSpec::new(world.key("m"), Engine::Memcached)).await.unwrap();
    runtime.stop_all().await.unwrap();
    assert_eq!(world.containers(), [""; 0]);
    for (spec, writer) in specs.iter().zip(writers) {
        let acknowledged = writer.finish();
        let cache = runtime.ensure(spec.clone()).await.unwrap();
        let (one, other) = Redis::of(&cache).counts();
        assert!(one >= acknowledged && one == other, "{one}, {other} of {acknowledged}");
    }
}

/// Trap 3.
#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_fails_is_an_error_and_an_older_file_is_not_passed_off_as_the_snapshot() {
    let world = World::new("save");
    let runtime = world.runtime().await;
    let folder = world.folder("out");
    for (engine, client) in [(Engine::Redis, "redis-cli"), (Engine::Valkey, "valkey-cli")] {
        let key = world.key(engine.as_str());
        let cache = runtime.ensure(CacheSpec::new(key.clone(), engine)).await.unwrap();
        Redis::of(&cache).set("k", "old");
        let first = folder.join(format!("{client}.rdb"));
        runtime.snapshot(&key, &first).await.unwrap();
        let bytes = std::fs::read(&first).unwrap();
        Redis::of(&cache).set("k", "new");

        // The engine writes to this name first; a folder there is in its way. The good dump.rdb of the
        // first snapshot still lies in the container.
        docker::shell(&cache.handle, "mkdir -p /data/temp-1.rdb/x");
        let error = runtime.snapshot(&key, &folder.join("second.rdb")).await.unwrap_err();
        assert!(matches!(&error, Error::Engine { message } if message.contains("SAVE")), "{error:?}");
        let error = runtime.snapshot(&key, &first).await.unwrap_err();
        assert!(matches!(error, Error::Engine { .. }), "{error:?}");
        assert_eq!(std::fs::read(&first).unwrap(), bytes, "the file that was there is as it was");
        assert!(!folder.join("second.rdb").exists());

        // An error of the server is no success, whatever the exit code of its client.
        let saved = runtime.exec(&key, &["SAVE".to_owned()]).await.unwrap();
        assert!(!saved.success, "{saved:?}");
        let ran = world.cli(&["exec", &world.id(engine.as_str()), "--", "SAVE"]);
        assert_eq!((ran.code(), &ran.json()["success"]), (1, &serde_json::json!(false)), "{ran:?}");

        docker::shell(&cache.handle, "rm -r /data/temp-1.rdb");
        runtime.snapshot(&key, &first).await.unwrap();
        assert_ne!(std::fs::read(&first).unwrap(), bytes);
        assert_eq!(Redis::of(&cache).get("k").as_deref(), Some("new"), "it went on all the time");
    }
    assert_eq!(files_in(&folder), ["redis-cli.rdb", "valkey-cli.rdb"]);
}

/// Trap 5.
#[tokio::test(flavor = "multi_thread")]
async fn operations_on_one_cache_at_once_all_end_and_lose_nothing() {
    let world = World::new("atonce");
    // Two runtimes are two processes, as far as they can tell.
    let (one, two) = (world.runtime().await, world.runtime().await);
    let key = world.key("k");
    let cache = one.ensure(redis_of(&key)).await.unwrap();
    Redis::of(&cache).fill(1000);

    let (first, second) = tokio::join!(one.reboot(&key), two.reboot(&key));
    assert_eq!(first.unwrap().endpoint, cache.endpoint);
    assert_eq!(second.unwrap().endpoint, cache.endpoint);
    Redis::of(&cache).check(1000);

    for round in 0..3 {
        let file = world.folder("out").join(format!("{round}.rdb"));
        let (rebooted, stopped, ensured, saved, again) = tokio::join!(
            one.reboot(&key),
            two.stop(&key),
            one.ensure(redis_of(&key)),
            two.snapshot(&key, &file),
            two.ensure(redis_of(&key)),
        );
        // In which order they come is open: what may be missing is the cache, never its data.
        for error in [rebooted.err(), saved.err()].into_iter().flatten() {
            assert!(matches!(error, Error::NotFound { .. }), "round {round}: {error:?}");
        }
        stopped.unwrap();
        ensured.unwrap();
        again.unwrap();
        let cache = one.ensure(redis_of(&key)).await.unwrap();
        Redis::of(&cache).check(1000);
        assert_eq!(world.objects().len(), 2, "one container, one volume: {:?}", world.objects());
    }
}

/// An image whose redis takes its time to load: a few hundred microseconds for each key, over which it looks after
/// its clients now and then.
fn slow_loader(world: &World) -> String {
    let image = world.will_make_image("slow");
    let base = world.will_make_container(&world.id("base"));
    docker::run(&["create", "--name", &base, "redis:7-alpine"]);
    let command = "exec \\\"$@\\\" --key-load-delay 300 --loading-process-events-interval-bytes 1024";
    let entry_point = format!(r#"ENTRYPOINT ["sh", "-c", "{command}", "sh"]"#);
    docker::run(&["commit", "--change", &entry_point, &base, &image]);
    docker::run(&["rm", "-v", &base]);
    image
}

/// Trap 8.
#[tokio::test(flavor = "multi_thread")]
async fn ready_means_that_the_data_is_loaded() {
    let world = World::new("ready");
    let image = slow_loader(&world);
    let grants = Grants::standard().with_images(&image).unwrap();
    let runtime = world.builder().grants(grants).setting("image.redis", &image).build().await.unwrap();
    let key = world.key("r");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    Redis::of(&cache).fill(SLOW);
    let endpoint = cache.endpoint.clone().unwrap();

    for round in ["reboot", "ensure"] {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        if round == "ensure" {
            docker::run(&["stop", &cache.handle]);
        }
        // Somebody who asks too early, to show that there is such a time.
        let endpoint = endpoint.clone();
        let impatient = std::thread::spawn(move || {
            let mut loading = 0;
            while is_done.try_recv().is_err() {
                if let Ok(mut redis) = Redis::try_connect(&endpoint)
                    && let Ok(Reply::Error(words)) = redis.try_command(&["DBSIZE"])
                    && words.starts_with("LOADING")
                {
                    loading += 1;
                }
            }
            loading
        });
        let ready = match round {
            "reboot" => runtime.reboot(&key).await.unwrap(),
            _ => runtime.ensure(redis_of(&key)).await.unwrap(),
        };
        let first = Redis::of(&ready).try_command(&["DBSIZE"]).unwrap();
        done.send(()).unwrap();
        assert_eq!(first, Reply::Integer(SLOW as i64), "{round}");
        assert!(impatient.join().unwrap() > 0, "{round}: nobody saw it load, so this shows nothing");
    }
}

/// Trap 9: a daemon that accepts and never answers.
#[test]
fn a_daemon_that_never_answers_is_given_up() {
    let world = World::new("mute");
    let path = world.folder("mute").join("docker.sock");
    let _accepts = UnixListener::bind(&path).unwrap();
    for command in [&["up", "a"][..], &["ls"], &["describe", "a"], &["down", "a"], &["reap"]] {
        let mut cachehost = world.command();
        cachehost.arg("--json").args(command).env("DOCKER_HOST", format!("unix://{}", path.display()));
        let ran = support::ran(&mut cachehost);
        let (code, message) = ran.error();
        assert_eq!((ran.code(), code.as_str()), (3, "unavailable"), "{command:?}: {ran:?}");
        assert!(message.contains("no answer within"), "{message}");
    }
}

/// Trap 9: a daemon that stops answering in the middle.
#[test]
fn a_daemon_that_hangs_in_the_middle_ends_the_operation_in_time() {
    let world = World::new("hang");
    let id = world.id("h");
    for step in ["/volumes", "/containers/create", "/start"] {
        let proxy =
            Proxy::start(&world.folder(&step.replace('/', "_")), move |line: &str, _: &[u8]| match line {
                line if line.starts_with("POST") && line.contains(step) => Fate::Hang,
                _ => Fate::Pass,
            });
        let mut cachehost = world.command();
        cachehost.args(["--json", "--timeout", "3", "up", &id]).env("DOCKER_HOST", proxy.host());
        let ran = support::ran(&mut cachehost);
        assert_eq!((ran.code(), ran.error().0.as_str()), (1, "timeout"), "{step}: {ran:?}");
        assert_eq!(world.objects(), [""; 0], "{step}");
    }
}

/// Trap 10.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_port_published_on_ipv4_and_ipv6_the_one_on_ipv4_counts() {
    let world = World::new("v4");
    let mut ports = [0; 2].map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    ports.sort_by_key(|listener| listener.local_addr().unwrap().port());
    let [lower, higher] = ports.map(|listener| listener.local_addr().unwrap().port());
    // Neither the first nor the last line, nor the lower or higher port, is always the right one.
    for (round, (v4, v6)) in [(lower, higher), (higher, lower)].into_iter().enumerate() {
        let name = world.will_make_container(&world.id(&format!("both-{round}")));
        let (on_v4, on_v6) = (format!("0.0.0.0:{v4}:6379"), format!("[::]:{v6}:6379"));
        let label = format!("test-v4={name}");
        docker::run(&[
            "run",
            "-d",
            "--name",
            &name,
            "--label",
            &label,
            "-p",
            &on_v6,
            "-p",
            &on_v4,
            "redis:7-alpine",
        ]);
        let engine = Docker::detect().await.unwrap();
        let inspected = engine.inspect_container(&name).await.unwrap().unwrap();
        assert_eq!(inspected.published.unwrap().host_port, v4);
        let listed = engine.list_containers(&[("test-v4", name.as_str())]).await.unwrap();
        assert_eq!(listed[0].published.unwrap().host_port, v4);
        docker::remove("rm", &[name]);
    }
}

/// Trap 13.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_flight_at_shutdown_does_not_leak() {
    let world = World::new("inflight");
    for give_up in [false, true] {
        let proxy = Proxy::start(&world.folder(&format!("{give_up}")), |_: &str, _: &[u8]| Fate::Pass);
        let host = proxy.host();
        let engine = Docker::detect_with(|name| (name == "DOCKER_HOST").then(|| host.clone())).await.unwrap();
        let builder = world.builder().engine(Arc::new(engine), Arc::new(TcpProbes), "127.0.0.1");
        let runtime = builder.build().await.unwrap();
        let names = ["a", "b", "c"].map(|name| format!("{name}-{give_up}"));
        let starts = names.each_ref().map(|name| {
            let (runtime, spec) = (runtime.clone(), redis_of(&world.key(name)));
            tokio::spawn(async move { runtime.ensure(spec).await })
        });
        // Their volumes are what they make first.
        let under_way = || proxy.requests().iter().filter(|line| line.contains("/volumes/create")).count();
        eventually("all are under way", || (under_way() == names.len()).then_some(()));
        if give_up {
            // Whoever asked has gone away; what was begun has not.
            starts.iter().for_each(tokio::task::JoinHandle::abort);
        }
        runtime.stop_all().await.unwrap();
        assert_eq!(world.containers(), [""; 0]);
        for start in starts {
            assert!(start.await.map_or(give_up, |ensured| ensured.is_ok()));
        }
        assert_eq!(world.containers(), [""; 0], "nor afterwards");
    }
}

/// Trap 16.
#[tokio::test(flavor = "multi_thread")]
async fn ports_are_published_on_loopback_only_unless_asked_for() {
    let world = World::new("loopback");
    let runtime = world.runtime().await;
    for engine in Engine::ALL {
        let cache = runtime.ensure(CacheSpec::new(world.key(engine.as_str()), engine)).await.unwrap();
        let ports = docker::inspect(&cache.handle)["NetworkSettings"]["Ports"].clone();
        let bindings: Vec<_> = ports
            .as_object()
            .unwrap()
            .values()
            .flat_map(|b| b.as_array().cloned().unwrap_or_default())
            .collect();
        assert_eq!(bindings.len(), 1, "{ports}");
        assert_eq!(bindings[0]["HostIp"], "127.0.0.1", "{engine}");
    }
    let open = world.builder().publish_address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).build().await.unwrap();
    let key = world.key("open");
    let cache = open.ensure(redis_of(&key)).await.unwrap();
    let binding = docker::inspect(&cache.handle)["HostConfig"]["PortBindings"]["6379/tcp"][0].clone();
    assert_eq!(binding["HostIp"], "0.0.0.0");
    Redis::of(&cache).set("k", "v");
    assert_eq!(open.find(&key).await.unwrap().unwrap().endpoint, cache.endpoint);
}

/// Trap 17.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_died_or_froze_is_not_reported_as_available() {
    let world = World::new("dead");
    let runtime = world.runtime().await;
    let key = world.key("d");
    let id = world.id("d");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    let described = |state: &str| {
        let (describe, listed) = (world.done(&["describe", &id]), world.done(&["ls"]));
        assert_eq!((&describe["state"], &listed[0]["state"]), (&state.into(), &state.into()));
        describe
    };
    assert_eq!(described("available")["endpoint"]["port"], cache.endpoint.clone().unwrap().port);

    docker::signal_engine(&cache.handle, "-STOP");
    described("starting");
    docker::signal_engine(&cache.handle, "-CONT");
    described("available");

    docker::run(&["kill", &cache.handle]);
    let dead = described("stopped");
    assert_eq!((&dead["endpoint"], &dead["host_port"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(runtime.ensure(redis_of(&key)).await.unwrap().state, CacheState::Available);
}

/// Trap 18.
#[tokio::test(flavor = "multi_thread")]
async fn restoring_over_data_is_refused_unless_asked_for_and_leaves_the_data_alone() {
    let world = World::new("over");
    let runtime = world.runtime().await;
    let file = world.folder("out").join("old.rdb");
    let key = world.key("o");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    Redis::of(&cache).set("k", "old");
    runtime.snapshot(&key, &file).await.unwrap();
    Redis::of(&cache).set("k", "newer");
    let refused = |outcome: Result<elasticache_host::Cache, Error>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    };
    let before = docker::life(&cache.handle);

    refused(runtime.ensure(from_file(&key, Engine::Redis, &file, false)).await);
    assert_eq!(docker::life(&cache.handle), before, "it runs on, untouched");
    assert_eq!(Redis::of(&cache).get("k").as_deref(), Some("newer"));

    docker::run(&["stop", &cache.handle]);
    refused(runtime.ensure(from_file(&key, Engine::Redis, &file, false)).await);
    assert_eq!(docker::state(&cache.handle), "exited");

    runtime.stop(&key).await.unwrap();
    refused(runtime.ensure(from_file(&key, Engine::Redis, &file, false)).await);
    assert_eq!(world.containers(), [""; 0], "only the volume is there");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    assert_eq!(Redis::of(&cache).get("k").as_deref(), Some("newer"));

    let replaced = runtime.ensure(from_file(&key, Engine::Redis, &file, true)).await.unwrap();
    assert_eq!(Redis::of(&replaced).get("k").as_deref(), Some("old"));
    runtime.reboot(&key).await.unwrap();
    assert_eq!(Redis::of(&replaced).get("k").as_deref(), Some("old"));
}

/// Trap 26: SIGTERM ends a running BGSAVE.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_or_reboot_during_a_background_save_loses_nothing() {
    let world = World::new("bgsave");
    let runtime = world.runtime().await;
    let key = world.key("b");
    let mut cache = runtime.ensure(redis_of(&key)).await.unwrap();
    Redis::of(&cache).fill(SLOW);
    for round in 0..2 {
        let mut redis = Redis::of(&cache);
        redis.save_slowly();
        redis.set("last", &round.to_string());
        if round == 0 {
            runtime.reboot(&key).await.unwrap();
        } else {
            runtime.stop(&key).await.unwrap();
            cache = runtime.ensure(redis_of(&key)).await.unwrap();
        }
        let mut redis = Redis::of(&cache);
        assert_eq!(redis.get("last"), Some(round.to_string()));
        assert_eq!(redis.size(), SLOW as i64 + 1);
        redis.check(SLOW);
    }
    // A snapshot waits for its turn, and has what came after the other one had begun.
    let mut redis = Redis::of(&cache);
    redis.save_slowly();
    redis.set("last", "of all");
    let file = world.folder("out").join("s.rdb");
    runtime.snapshot(&key, &file).await.unwrap();
    let copy = runtime.ensure(from_file(&world.key("copy"), Engine::Redis, &file, false)).await.unwrap();
    assert_eq!(Redis::of(&copy).get("last").as_deref(), Some("of all"));
    assert_eq!(Redis::of(&copy).size(), SLOW as i64 + 1);
}

/// Trap 26: with no save points and no append-only file, SIGTERM saves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn turning_the_append_only_file_off_loses_nothing() {
    let world = World::new("aofoff");
    unsaved::nothing_is_lost_with_the_append_only_file_off(&world.runtime().await, &world.key("a")).await;
}

/// Trap 26: if the last save fails, the engine's kill timer would lose the data.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_whose_data_cannot_be_made_safe_is_not_stopped() {
    let world = World::new("unsafe");
    let shell = async |handle: &str, script: &str| drop(docker::shell(handle, script));
    let life = async |handle: &str| docker::life(handle);
    unsaved::what_cannot_be_made_safe_runs_on(&world.runtime().await, &world.key("u"), shell, life).await;
}
