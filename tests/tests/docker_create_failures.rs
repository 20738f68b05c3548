//! A create that fails, at whichever step, says why, leaves no container, and leaves data that was there
//! alone: on a real Docker Engine.
//!
//! Clauses: FAIL-5, FAIL-9, UP-3, UP-7, DOCK-1, DOCK-4, OWN-7.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use elasticache_host::{CacheKey, Error, Manifest};

use support::proxy::{Fate, Proxy};
use support::redis::Redis;
use support::{Ran, World, docker, ran, redis_of};

/// An error as an embedder sees it and as the command line tells it.
struct Failure {
    is: fn(&Error) -> bool,
    code: &'static str,
    exit: i32,
    says: &'static str,
    /// The deadline of the operation.
    within: Duration,
}

/// The container engine's own error, with these words in it.
fn engine_error(says: &'static str) -> Failure {
    let is = |error: &Error| matches!(error, Error::Engine { .. });
    Failure { is, code: "engine-error", exit: 1, says, within: support::BOUND }
}

/// An environment in which redis is this image, as whoever runs the host would write it.
fn environment(world: &World, image: &str) -> PathBuf {
    let path = world.folder("env").join("env.toml");
    let text = Manifest::standard_text()
        .replace("images = [", &format!("images = [{image:?}, "))
        .replace("[config]", &format!("[config]\n\"image.redis\" = {image:?}"));
    std::fs::write(&path, text).unwrap();
    path
}

/// Fails to create a new cache, and one whose data is there already: each time with the same error, in the library
/// and on the command line, and with nothing left that was not there before.
async fn fails(world: &World, environment: &Path, failure: Failure) {
    let (new, old) = (world.key("new"), world.key("old"));
    let good = world.runtime().await;
    let cache = good.ensure(redis_of(&old)).await.unwrap();
    Redis::of(&cache).fill(100);
    good.stop(&old).await.unwrap();

    let bad = world.builder().environment(Manifest::read(environment).unwrap()).timeout(failure.within);
    let bad = bad.build().await.unwrap();
    for key in [&new, &old] {
        let error = bad.ensure(redis_of(key)).await.unwrap_err();
        assert!((failure.is)(&error) && error.code() == failure.code, "{key}: {error:?}");
        assert!(error.to_string().contains(failure.says), "{key}: {error}");
        assert_eq!(world.objects(), [world.volume_of("old")], "{key}: {error}");

        let seconds = failure.within.as_secs().to_string();
        let env = environment.to_str().unwrap();
        let ran = world.cli(&["--env", env, "--timeout", &seconds, "up", key.id()]);
        let (code, message) = ran.error();
        assert_eq!((ran.code(), code.as_str()), (failure.exit, failure.code), "{key}: {ran:?}");
        assert!(message.contains(failure.says), "{key}: {message}");
        assert_eq!(world.objects(), [world.volume_of("old")], "{key}: {message}");
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
    // Nobody listens there, so nothing can be pulled.
    let image = "127.0.0.1:1/no/such-image:7";
    fails(&world, &environment(&world, image), engine_error("127.0.0.1:1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_its_registry_does_not_have_leaves_nothing() {
    let world = World::new("registry");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let image = format!("127.0.0.1:{}/nothing:7", listener.local_addr().unwrap().port());
    // Ends with the process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let count = client.read(&mut request).unwrap_or(0);
            let (status, body) = match request[..count].starts_with(b"GET /v2/ ") {
                true => ("200 OK", "{}"),
                false => (
                    "404 Not Found",
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
            };
            let _ = write!(
                client,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
                 Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    // Not `not-found`: that would be the cache.
    fails(&world, &environment(&world, &image), engine_error("manifest unknown")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_by_a_name_that_none_can_have_leaves_nothing() {
    let world = World::new("no-name");
    fails(&world, &environment(&world, "NOT-A-NAME"), engine_error("invalid reference format")).await;
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
    fails(&world, &environment(&world, &image), engine_error("redis-server")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_ends_at_once_leaves_nothing_but_its_last_words() {
    let world = World::new("ends");
    let image = image(&world, "ends", r#"["sh", "-c", "echo out of cheese >&2; exit 3"]"#);
    fails(&world, &environment(&world, &image), engine_error("out of cheese")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_never_gets_ready_leaves_nothing() {
    let world = World::new("never");
    let image = image(&world, "never", r#"["sh", "-c", "sleep 1000"]"#);
    let is = |error: &Error| matches!(error, Error::Timeout { .. });
    let failure = Failure { is, code: "timeout", exit: 1, says: "", within: Duration::from_secs(3) };
    fails(&world, &environment(&world, &image), failure).await;
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
