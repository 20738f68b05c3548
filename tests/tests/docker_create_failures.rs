//! A create that fails, at whichever step, says why, leaves no container, and leaves data that was there
//! alone: on a real Docker Engine.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use elasticache_host::{CacheKey, Error, RuntimeBuilder};

use support::proxy::{Fate, Proxy};
use support::redis::Redis;
use support::{Ran, World, docker, ran, redis_of};

/// Fails to create a new cache, and one whose data is there already: each time with an error that `is_right`,
/// and with nothing left that was not there before.
async fn fails(world: &World, builder: impl Fn() -> RuntimeBuilder, is_right: impl Fn(&Error) -> bool) {
    let (new, old) = (world.key("new"), world.key("old"));
    let good = world.runtime().await;
    let cache = good.ensure(redis_of(&old)).await.unwrap();
    Redis::of(&cache).fill(100);
    good.stop(&old).await.unwrap();

    let bad = builder().build().await.unwrap();
    for key in [&new, &old] {
        let error = bad.ensure(redis_of(key)).await.unwrap_err();
        assert!(is_right(&error), "{key}: {error:?}");
        assert_eq!(world.objects(), [world.volume_of("old")], "{key}: {error}");
    }
    let cache = good.ensure(redis_of(&old)).await.unwrap();
    Redis::of(&cache).check(100);
}

/// An image made of a local one, with another entry point.
fn image(world: &World, name: &str, entry_point: &str) -> String {
    let image = world.will_make_image(name);
    let container = world.will_make_container(&world.id(&format!("base-{name}")));
    docker::run(&["create", "--name", &container, "redis:7-alpine"]);
    docker::run(&["commit", "--change", &format!("ENTRYPOINT {entry_point}"), &container, &image]);
    docker::run(&["rm", "-v", &container]);
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_leaves_nothing() {
    let world = World::new("image");
    // Nobody listens there, so nothing can be pulled: a registry's "no" comes as an error likewise.
    for image in ["127.0.0.1:1/no/such-image:7", "NOT A NAME"] {
        let builder = || world.builder().setting("image.redis", image);
        let is_right = |error: &Error| {
            matches!(error, Error::Engine { .. } | Error::NotFound { .. } | Error::Invalid(_))
        };
        fails(&world, builder, is_right).await;
        world.done(&["down", &world.id("old"), "--delete-data"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_engine_refuses_leaves_nothing() {
    let world = World::new("start");
    // An image with one file that is no program.
    let image = world.will_make_image("empty");
    let mut import =
        Command::new("docker").args(["import", "-", &image]).stdin(Stdio::piped()).spawn().unwrap();
    let mut header = vec![0; 512];
    header[..5].copy_from_slice(b"empty");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(&[header, vec![0; 1024]].concat()).unwrap();
    drop(stdin);
    assert!(import.wait().unwrap().success());
    fails(
        &world,
        || world.builder().setting("image.redis", &image),
        |error| {
            matches!(error, Error::Engine { message } | Error::NotFound { what: message }
            if message.contains("redis-server"))
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_ends_at_once_leaves_nothing_but_its_last_words() {
    let world = World::new("ends");
    let image = image(&world, "ends", r#"["sh", "-c", "echo out of cheese >&2; exit 3"]"#);
    fails(
        &world,
        || world.builder().setting("image.redis", &image),
        |error| matches!(error, Error::Engine { message } if message.contains("out of cheese")),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_never_gets_ready_leaves_nothing() {
    let world = World::new("never");
    let image = image(&world, "never", r#"["sh", "-c", "sleep 1000"]"#);
    let builder = || world.builder().setting("image.redis", &image).timeout(Duration::from_secs(3));
    fails(&world, builder, |error| matches!(error, Error::Timeout { .. })).await;
}

/// Takes the port of each container just before it is made, as another program would.
#[tokio::test(flavor = "multi_thread")]
async fn ports_that_are_taken_each_time_leave_nothing() {
    let world = World::new("ports");
    let id = world.id("old");
    filled(&world, "old");
    world.done(&["down", &id]);
    let held: Arc<Mutex<Vec<TcpListener>>> = Arc::default();
    let holding = Arc::clone(&held);
    let proxy = Proxy::start(&world.folder("proxy"), move |line: &str, request: &[u8]| {
        if line.starts_with("POST") && line.contains("/containers/create") {
            let text = String::from_utf8_lossy(request);
            let port = text.split("\"HostPort\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let port: u16 = port.expect("the port in one piece with the request").parse().unwrap();
            holding.lock().unwrap().push(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        }
        Fate::Pass
    });
    for id in [&id, &world.id("new")] {
        let ran = through(&world, &proxy, &["up", id]);
        assert_eq!(ran.code(), 1, "{ran:?}");
        let last = held.lock().unwrap().last().unwrap().local_addr().unwrap().port();
        assert!(ran.error().1.contains(&last.to_string()), "it names the port: {ran:?}");
        assert_eq!(world.objects(), [world.volume_of("old")]);
    }
    held.lock().unwrap().clear();
    check(&world, "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_taken_while_a_cache_is_stopped_gives_it_another_with_its_data() {
    let world = World::new("port");
    let runtime = world.runtime().await;
    let key = world.key("p");
    let cache = runtime.ensure(redis_of(&key)).await.unwrap();
    let port = cache.endpoint.clone().unwrap().port;
    Redis::of(&cache).fill(100);

    // Stopped by somebody else: its container still wants the old port.
    docker::run(&["stop", &cache.handle]);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let moved = runtime.ensure(redis_of(&key)).await.unwrap();
    assert_ne!(moved.endpoint.clone().unwrap().port, port);
    assert!(moved.adopted);
    Redis::of(&moved).check(100);
    assert_eq!(world.objects().len(), 2, "{:?}", world.objects());

    // Removed by us: a new one looks for a free port in the first place.
    runtime.stop(&key).await.unwrap();
    let moved = runtime.ensure(redis_of(&key)).await.unwrap();
    assert_ne!(moved.endpoint.clone().unwrap().port, port);
    Redis::of(&moved).check(100);
    runtime.stop(&key).await.unwrap();
    drop(taken);
    let back = runtime.ensure(redis_of(&key)).await.unwrap();
    assert_eq!(back.endpoint, cache.endpoint, "its own is free again");
}

/// The command line, through a proxy.
fn through(world: &World, proxy: &Proxy, args: &[&str]) -> Ran {
    let mut command = world.command();
    command.args(["--json", "--timeout", "30"]).args(args).env("DOCKER_HOST", proxy.host());
    ran(&mut command)
}

fn endpoint(cache: &serde_json::Value) -> elasticache_host::Endpoint {
    elasticache_host::Endpoint {
        address: cache["endpoint"]["address"].as_str().unwrap().to_owned(),
        port: u16::try_from(cache["endpoint"]["port"].as_u64().unwrap()).unwrap(),
    }
}

fn filled(world: &World, name: &str) {
    Redis::at(&endpoint(&world.done(&["up", &world.id(name)]))).fill(100);
}

fn check(world: &World, name: &str) {
    Redis::at(&endpoint(&world.done(&["up", &world.id(name)]))).check(100);
}

/// The steps of a create that change something, by the request that does it.
const STEPS: [&str; 3] = ["/volumes/create", "/containers/create", "/start"];

fn is_step(line: &str, step: &str) -> bool {
    line.starts_with("POST") && line.contains(step)
}

/// The reply to one request is lost, with what it asked for done or not done; then the daemon is there again.
#[test]
fn a_reply_that_is_lost_leaves_the_cache_or_nothing() {
    let world = World::new("lost");
    let old = world.id("old");
    filled(&world, "old");
    for step in STEPS {
        for fate in [Fate::LoseReply, Fate::Refuse] {
            for id in [&world.id("new"), &old] {
                world.done(&["down", &old]);
                let first = Mutex::new(true);
                let folder = world.folder(&format!("{}-{fate:?}-{id}", step.replace('/', "")));
                let proxy = Proxy::start(&folder, move |line: &str, _: &[u8]| {
                    let lose = is_step(line, step) && std::mem::take(&mut *first.lock().unwrap());
                    if lose { fate } else { Fate::Pass }
                });
                let what = format!("{step} {fate:?} {id}");
                let ran = through(&world, &proxy, &["up", id]);
                let asked = proxy.requests().iter().any(|line| is_step(line, step));
                // A volume that is there is not made again.
                assert_eq!(asked, !(*id == old && step == STEPS[0]), "{what}: {:?}", proxy.requests());
                if ran.code() == 0 {
                    assert_eq!(ran.json()["state"], "available", "{what}");
                    assert_eq!(world.containers().len(), 1, "{what}");
                    world.done(&["down", id]);
                    if *id != old {
                        world.done(&["down", id, "--delete-data"]);
                    }
                } else {
                    assert_eq!((ran.code(), ran.error().0.as_str()), (3, "unavailable"), "{what}: {ran:?}");
                }
                assert_eq!(world.objects(), [world.volume_of("old")], "{what}");
                check(&world, "old");
            }
        }
    }
}

/// The daemon goes away for good in the middle, so nobody can clean up; what is left does no harm.
#[test]
fn a_daemon_that_goes_away_is_reported_and_the_next_up_converges() {
    let world = World::new("gone");
    for name in ["new", "old"] {
        for step in STEPS {
            for fate in [Fate::Die, Fate::DieAfter] {
                filled(&world, "old");
                world.done(&["down", &world.id("old")]);
                let folder = world.folder(&format!("{}-{fate:?}-{name}", step.replace('/', "")));
                let proxy = Proxy::start(
                    &folder,
                    move |line: &str, _: &[u8]| {
                        if is_step(line, step) { fate } else { Fate::Pass }
                    },
                );
                let what = format!("{step} {fate:?} {name}");
                let ran = through(&world, &proxy, &["up", &world.id(name)]);
                if name == "old" && step == STEPS[0] {
                    // Its volume is there: that step is none.
                    assert_eq!(ran.code(), 0, "{what}: {ran:?}");
                } else {
                    assert_eq!((ran.code(), ran.error().0.as_str()), (3, "unavailable"), "{what}: {ran:?}");
                }
                let up = world.done(&["up", &world.id(name)]);
                assert_eq!(up["state"], "available", "{what}");
                assert_eq!(world.containers().len(), 1, "{what}");
                check(&world, "old");
                world.done(&["down", &world.id("new"), "--delete-data"]);
            }
        }
    }
}

/// Input that the policy refuses is refused before anything is touched.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_refused_before_anything_is_made() {
    let world = World::new("refused");
    let runtime = world.runtime().await;
    for version in ["", "6.2", "latest", "7.1.2.3", "../7"] {
        let mut spec = redis_of(&CacheKey::new("", world.id("v")).unwrap());
        spec.version = Some(version.to_owned());
        assert!(matches!(runtime.ensure(spec).await, Err(Error::Invalid(_))), "{version:?}");
    }
    assert_eq!(world.objects(), [""; 0]);
}
