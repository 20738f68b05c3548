//! The Docker supplier against a real daemon. Without one these tests fail: what was not tried must not
//! read as passed.
//!
//! Clauses: DOCK-4, DOCK-5.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use elasticache_host::engine::docker::Docker;
use elasticache_host::engine::{
    Container, ContainerEngine, ContainerSpec, ContainerState, Content, EngineError, NewFile, Published,
    RestartPolicy,
};
use elasticache_host::progress::silent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Runs until told to end, and then says so.
const OBEDIENT: &str = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done";
const INSIDE: u16 = 6379;
/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(120);

fn image() -> String {
    std::env::var("TEST_ENGINE_IMAGE").unwrap_or_else(|_| "redis:7-alpine".to_owned())
}

/// What one test made; removed at its end, however it ends.
struct World {
    engine: Docker,
    containers: Mutex<Vec<String>>,
    volumes: Mutex<Vec<String>>,
}

impl World {
    async fn new() -> World {
        let engine = Docker::detect().await.expect("a container engine");
        World { engine, containers: Mutex::default(), volumes: Mutex::default() }
    }

    fn name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("test-engine-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Of a container that runs a line of shell.
    fn spec(&self, script: &str) -> ContainerSpec {
        let name = World::name();
        self.containers.lock().unwrap().push(name.clone());
        ContainerSpec {
            labels: BTreeMap::from([("test-engine".to_owned(), name.clone())]),
            name,
            image: image(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            publish: None,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            restart: RestartPolicy::Never,
            stop_grace: 10,
        }
    }

    async fn created(&self, script: &str) -> String {
        self.engine.create_container(&self.spec(script)).await.unwrap()
    }

    async fn running(&self, script: &str) -> String {
        let id = self.created(script).await;
        self.engine.start_container(&id).await.unwrap();
        id
    }

    async fn look(&self, id: &str) -> Container {
        self.engine.inspect_container(id).await.unwrap().expect("it exists")
    }

    /// Waits until it has said this, and so has come that far.
    async fn says(&self, id: &str, words: &str) {
        let said = async {
            while self.engine.log_tail(id, 10).await.unwrap() != words {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, said).await.expect("it says so");
    }

    async fn shell(&self, id: &str, script: &str) -> (i32, String) {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let output = self.engine.exec(id, &argv, 4096).await.unwrap();
        (output.exit_code, String::from_utf8(output.stdout).unwrap())
    }

    fn volume(&self) -> String {
        let name = World::name();
        self.volumes.lock().unwrap().push(name.clone());
        name
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let containers = std::mem::take(&mut *self.containers.lock().unwrap());
        let volumes = std::mem::take(&mut *self.volumes.lock().unwrap());
        // A runtime of its own: the test's may be on its way out.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let engine = Docker::detect().await.unwrap();
                for name in containers {
                    let _ = engine.stop_container(&name, 0).await;
                    let _ = engine.remove_container(&name).await;
                }
                for name in volumes {
                    let _ = engine.remove_volume(&name).await;
                }
            });
        });
        let _ = cleaning.join();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn publish(port: u16) -> Option<(IpAddr, Published)> {
    Some((LOCALHOST, Published { container_port: INSIDE, host_port: port }))
}

fn bytes_file(path: &str, bytes: &[u8]) -> NewFile {
    NewFile { path: path.to_owned(), content: Content::Bytes(bytes.to_vec()) }
}

/// A file of bytes that do not repeat soon.
fn big_file(length: u64) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    let mut state = 1u64;
    let mut left = length;
    let mut block = vec![0u8; 64 * 1024];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&state.to_le_bytes());
        }
        let count = left.min(block.len() as u64);
        file.write_all(&block[..count as usize]).unwrap();
        left -= count;
    }
    file.rewind().unwrap();
    file
}

fn nothing_moved() -> Box<dyn Fn(u64) + Send> {
    Box::new(|_| ())
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_container_is_seen_as_it_is_at_each_step_of_its_life() {
    let world = World::new().await;
    let engine = &world.engine;
    let port = free_port();
    let spec = ContainerSpec { publish: publish(port), ..world.spec(OBEDIENT) };
    let id = engine.create_container(&spec).await.unwrap();
    let seen = world.look(&spec.name).await;
    assert_eq!((seen.id.as_str(), seen.name.as_str()), (id.as_str(), spec.name.as_str()));
    assert_eq!((seen.state, seen.published, seen.exit_code), (ContainerState::Created, None, None));
    assert_eq!(seen.labels.get("test-engine"), Some(&spec.name));
    assert!(seen.image.ends_with(&image()), "{}", seen.image);

    engine.start_container(&id).await.unwrap();
    engine.start_container(&id).await.expect("one that runs is left");
    let published = Some(Published { container_port: INSIDE, host_port: port });
    let seen = world.look(&id).await;
    assert_eq!((seen.state, seen.published, seen.exit_code), (ContainerState::Running, published, None));
    let listed = engine.list_containers(&[("test-engine", &spec.name)]).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&seen));
    assert!(engine.list_containers(&[("test-engine", "another")]).await.unwrap().is_empty());
    assert!(matches!(engine.remove_container(&id).await, Err(EngineError::Conflict { .. })));

    engine.restart_container(&id, 10).await.unwrap();
    assert_eq!(world.look(&id).await, seen, "the same port too");

    engine.stop_container(&id, 10).await.unwrap();
    engine.stop_container(&id, 10).await.expect("one that does not run is left");
    let seen = world.look(&id).await;
    assert_eq!((seen.state, seen.published, seen.exit_code), (ContainerState::Exited, None, Some(7)));
    assert_eq!(engine.wait_exit(&id).await, Ok(7));
    assert_eq!(engine.log_tail(&id, 1).await.unwrap(), "bye\n");

    engine.remove_container(&id).await.unwrap();
    assert_eq!(engine.inspect_container(&id).await, Ok(None));
    assert!(matches!(engine.remove_container(&id).await, Err(EngineError::NotFound { .. })));
    assert!(matches!(engine.start_container(&id).await, Err(EngineError::NotFound { .. })));
    assert!(matches!(engine.wait_exit(&id).await, Err(EngineError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_taken_name_is_a_conflict() {
    let world = World::new().await;
    let spec = world.spec("true");
    world.engine.create_container(&spec).await.unwrap();
    let again = world.engine.create_container(&spec).await;
    assert!(matches!(again, Err(EngineError::Conflict { object, .. }) if object == spec.name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_image_is_not_found() {
    let world = World::new().await;
    let spec = ContainerSpec { image: "test-engine-no-such-image:1".to_owned(), ..world.spec("true") };
    let answer = world.engine.create_container(&spec).await;
    assert!(matches!(answer, Err(EngineError::NotFound { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_taken_port_is_reported_with_its_number() {
    let world = World::new().await;
    let port = free_port();
    let first = ContainerSpec { publish: publish(port), ..world.spec(OBEDIENT) };
    let second = ContainerSpec { publish: publish(port), ..world.spec(OBEDIENT) };
    let first = world.engine.create_container(&first).await.unwrap();
    let second = world.engine.create_container(&second).await.unwrap();
    world.engine.start_container(&first).await.unwrap();
    let taken = EngineError::PortTaken { port, object: second.clone() };
    assert_eq!(world.engine.start_container(&second).await, Err(taken.clone()), "by a container");
    assert!(!world.engine.port_is_free(LOCALHOST, port).await);
    let seen = world.look(&second).await;
    assert_eq!((seen.state, seen.published), (ContainerState::Created, None), "{seen:?}");

    world.engine.stop_container(&first, 0).await.unwrap();
    assert!(world.engine.port_is_free(LOCALHOST, port).await);
    let listener = TcpListener::bind((LOCALHOST, port)).unwrap();
    assert!(!world.engine.port_is_free(LOCALHOST, port).await);
    assert_eq!(world.engine.start_container(&second).await, Err(taken.clone()), "by a program");
    assert_eq!(world.engine.restart_container(&second, 0).await, Err(taken), "when restarted");
    drop(listener);
    world.engine.start_container(&second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_ignores_sigterm_is_killed_after_the_grace() {
    let world = World::new().await;
    // Its own grace is an hour: whoever forgets the one that is given waits for that.
    let deaf = "trap 'echo told' TERM; echo deaf; while :; do sleep 0.05; done";
    let spec = ContainerSpec { stop_grace: 3600, ..world.spec(deaf) };
    let id = world.engine.create_container(&spec).await.unwrap();
    world.engine.start_container(&id).await.unwrap();
    world.says(&id, "deaf\n").await;
    let start = Instant::now();
    tokio::time::timeout(BOUND, world.engine.stop_container(&id, 1)).await.expect("the grace given").unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "it had its grace");
    assert_eq!(world.engine.wait_exit(&id).await, Ok(137));
    assert_eq!(world.engine.log_tail(&id, 10).await.unwrap(), "deaf\ntold\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn waiting_ends_with_the_container_and_tells_its_code() {
    let world = World::new().await;
    let id = world.running("sleep 0.5; exit 3").await;
    assert_eq!(world.engine.wait_exit(&id).await, Ok(3));
    assert_eq!(world.look(&id).await.exit_code, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_exec_gives_both_streams_apart_and_the_code() {
    let world = World::new().await;
    let id = world.running(OBEDIENT).await;
    let argv = ["sh", "-c", "printf out; printf err >&2; exit 5"].map(str::to_owned);
    let output = world.engine.exec(&id, &argv, 3).await.unwrap();
    assert_eq!((output.exit_code, &output.stdout[..], &output.stderr[..]), (5, &b"out"[..], &b"err"[..]));

    let output = world.engine.exec(&id, &["no-such-program".to_owned()], 4096).await.unwrap();
    assert!([126, 127].contains(&output.exit_code), "{output:?}");

    let flood = ["sh", "-c", "while :; do echo much; done"].map(str::to_owned);
    let answer = world.engine.exec(&id, &flood, 100_000).await;
    assert!(matches!(answer, Err(EngineError::Failed { .. })), "{answer:?}");

    let late = ["sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 9"].map(str::to_owned);
    assert_eq!(world.engine.exec(&id, &late, 10).await.unwrap().exit_code, 9, "after its output closed");

    world.engine.stop_container(&id, 5).await.unwrap();
    let stopped = world.engine.exec(&id, &argv, 10).await;
    assert!(matches!(stopped, Err(EngineError::Conflict { .. })), "{stopped:?}");
    let gone = world.engine.exec("test-engine-none", &argv, 10).await;
    assert!(matches!(gone, Err(EngineError::NotFound { .. })), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_exec_does_not_outlive_its_container() {
    let world = World::new().await;
    let id = world.running(OBEDIENT).await;
    let argv = ["sh", "-c", "touch /tmp/runs; sleep 600"].map(str::to_owned);
    let (ended, stopped) =
        tokio::join!(tokio::time::timeout(BOUND, world.engine.exec(&id, &argv, 10)), async {
            let runs = async {
                while world.engine.stat_file(&id, "/tmp/runs").await.unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(BOUND, runs).await.expect("it runs");
            world.engine.stop_container(&id, 0).await
        });
    stopped.unwrap();
    let ended = ended.expect("it ends");
    assert!(!matches!(&ended, Ok(output) if output.exit_code == 0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_log_tail_is_short_whatever_was_written() {
    let world = World::new().await;
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 0.5; echo last >&2";
    let id = world.running(script).await;
    world.engine.wait_exit(&id).await.unwrap();
    let tail = world.engine.log_tail(&id, 10_000).await.unwrap();
    assert!(tail.len() <= 4096 && tail.len() > 4000, "{}", tail.len());
    assert!(tail.contains("line 2999\n") && tail.contains("last\n"), "{tail}");
    assert_eq!(world.engine.log_tail(&id, 2).await.unwrap().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_of_64_mib_goes_in_and_comes_out_whole() {
    const LENGTH: u64 = 64 * 1024 * 1024;
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let mut source = big_file(LENGTH);
    // Not at its start, which is where it is to be read from.
    source.seek(io::SeekFrom::Start(100)).unwrap();
    let moved = Arc::new(AtomicU64::new(0));
    let counter = moved.clone();
    let files = vec![
        bytes_file("deep/er/small", b"small"),
        NewFile { path: "deep/big".to_owned(), content: Content::File(source.try_clone().unwrap(), LENGTH) },
    ];
    let count = Box::new(move |bytes| {
        counter.fetch_add(bytes, Ordering::Relaxed);
    });
    world.engine.put_files(&id, "/tmp", files, count).await.unwrap();
    assert_eq!(moved.load(Ordering::Relaxed), LENGTH + 5);

    let mut target = tempfile::tempfile().unwrap();
    let sink = Box::new(target.try_clone().unwrap());
    assert_eq!(world.engine.get_file(&id, "/tmp/deep/big", sink).await, Ok(LENGTH));
    source.rewind().unwrap();
    target.rewind().unwrap();
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for _ in 0..LENGTH / (1 << 20) {
        source.read_exact(&mut left).unwrap();
        target.read_exact(&mut right).unwrap();
        assert!(left == right);
    }

    world.engine.start_container(&id).await.unwrap();
    world.engine.put_files(&id, "/tmp", vec![bytes_file("late", b"")], nothing_moved()).await.unwrap();
    let (code, modes) = world.shell(&id, "cd /tmp; stat -c '%a %u %g %s' deep deep/er/small late").await;
    assert_eq!(code, 0);
    let lines: Vec<&str> = modes.lines().collect();
    assert!(lines[0].starts_with("777 0 0 "), "{modes}");
    assert_eq!(lines[1..], ["644 0 0 5", "644 0 0 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_shorter_than_announced_is_an_error_and_not_a_short_archive() {
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let file = NewFile { path: "cut".to_owned(), content: Content::File(big_file(1 << 20), (1 << 20) + 1) };
    let files = vec![file, bytes_file("after", b"x")];
    let answer = world.engine.put_files(&id, "/tmp", files, nothing_moved()).await;
    assert!(matches!(answer, Err(EngineError::Io { .. })), "{answer:?}");
    assert_eq!(world.engine.stat_file(&id, "/tmp/after").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_for_a_place_that_is_not_there_are_not_found() {
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    for (id, folder) in [(id.as_str(), "/no/such/folder"), ("test-engine-none", "/tmp")] {
        for length in [10, 16 << 20] {
            let file = NewFile { path: "a".to_owned(), content: Content::File(big_file(length), length) };
            let answer = world.engine.put_files(id, folder, vec![file], nothing_moved()).await;
            assert!(matches!(answer, Err(EngineError::NotFound { .. })), "{folder} {length} {answer:?}");
        }
    }
    let answer = world.engine.put_files(&id, "/tmp", vec![bytes_file("../a", b"")], nothing_moved()).await;
    assert!(matches!(answer, Err(EngineError::Failed { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_a_regular_file_can_be_fetched() {
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let get = |id: &str, path: &str| {
        let (id, path) = (id.to_owned(), path.to_owned());
        let engine = &world.engine;
        async move { engine.get_file(&id, &path, Box::new(io::sink())).await }
    };
    assert!(matches!(get(&id, "/tmp/none").await, Err(EngineError::NotFound { .. })));
    assert!(matches!(get("test-engine-none", "/tmp").await, Err(EngineError::NotFound { .. })));
    let folder = get(&id, "/tmp").await;
    assert!(matches!(folder, Err(EngineError::Failed { .. })), "{folder:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_sink_that_fails_is_an_io_error() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("full"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let file = NewFile { path: "big".to_owned(), content: Content::File(big_file(16 << 20), 16 << 20) };
    world.engine.put_files(&id, "/tmp", vec![file], nothing_moved()).await.unwrap();
    let answer = world.engine.get_file(&id, "/tmp/big", Box::new(Full(1 << 20))).await;
    let Err(EngineError::Io { message, .. }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("full"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropping_get_file_ends_its_thread() {
    /// Waits for leave at its first write, and tells by its end that its thread is done with it.
    struct Gate {
        leave: mpsc::Receiver<()>,
        reached: tokio::sync::mpsc::UnboundedSender<()>,
        written: Arc<AtomicU64>,
    }
    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed) == 0 {
                let _ = self.reached.send(());
                let _ = self.leave.recv();
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    const LENGTH: u64 = 32 << 20;
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let file = NewFile { path: "big".to_owned(), content: Content::File(big_file(LENGTH), LENGTH) };
    world.engine.put_files(&id, "/tmp", vec![file], nothing_moved()).await.unwrap();

    let (open, leave) = mpsc::channel();
    let (reached, mut events) = tokio::sync::mpsc::unbounded_channel();
    let written = Arc::new(AtomicU64::new(0));
    let gate = Box::new(Gate { leave, reached, written: written.clone() });
    tokio::select! {
        answer = world.engine.get_file(&id, "/tmp/big", gate) => panic!("{answer:?}"),
        event = events.recv() => assert_eq!(event, Some(())),
    }
    open.send(()).unwrap();
    let end = tokio::time::timeout(BOUND, events.recv()).await;
    assert_eq!(end, Ok(None), "the sink is dropped");
    assert!(written.load(Ordering::Relaxed) < LENGTH, "what was on its way at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropping_put_files_ends_its_thread() {
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let (sender, mut moved) = tokio::sync::mpsc::unbounded_channel();
    let count = Box::new(move |bytes| {
        let _ = sender.send(bytes);
    });
    const LENGTH: u64 = 256 << 20;
    let file = tempfile::tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    let file = NewFile { path: "big".to_owned(), content: Content::File(file, LENGTH) };
    tokio::select! {
        answer = world.engine.put_files(&id, "/tmp", vec![file], count) => panic!("{answer:?}"),
        event = moved.recv() => assert!(event.is_some()),
    }
    let drained = async { while moved.recv().await.is_some() {} };
    tokio::time::timeout(BOUND, drained).await.expect("the thread ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stat_tells_a_folder_from_a_file() {
    let world = World::new().await;
    let id = world.created(OBEDIENT).await;
    let files = vec![bytes_file("folder/file", b"12345")];
    world.engine.put_files(&id, "/tmp", files, nothing_moved()).await.unwrap();
    let folder = world.engine.stat_file(&id, "/tmp/folder").await.unwrap().unwrap();
    assert!(folder.directory && folder.size == 0);
    let file = world.engine.stat_file(&id, "/tmp/folder/file").await.unwrap().unwrap();
    assert!(!file.directory && file.size == 5);
    assert_eq!(world.engine.stat_file(&id, "/tmp/none").await, Ok(None));
    let gone = world.engine.stat_file("test-engine-none", "/tmp").await;
    assert!(
        matches!(gone, Err(EngineError::NotFound { .. })),
        "a container that is gone is not an empty place"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn create_volume_returns_the_older_one() {
    let world = World::new().await;
    let name = world.volume();
    let labels = |owner: &str| {
        BTreeMap::from([("test-engine".to_owned(), name.clone()), ("owner".to_owned(), owner.to_owned())])
    };
    let first = world.engine.create_volume(&name, &labels("first")).await.unwrap();
    assert_eq!((&first.name, &first.labels), (&name, &labels("first")));
    let age = SystemTime::now().duration_since(first.created.unwrap()).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
    let second = world.engine.create_volume(&name, &labels("second")).await.unwrap();
    assert_eq!(second, first);
    assert_eq!(world.engine.inspect_volume(&name).await, Ok(Some(first.clone())));
    assert_eq!(
        world.engine.list_volumes(&[("test-engine", &name), ("owner", "first")]).await,
        Ok(vec![first])
    );
    assert_eq!(world.engine.list_volumes(&[("test-engine", &name), ("owner", "second")]).await, Ok(vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_volume_outlives_its_container_and_cannot_be_removed_before() {
    let world = World::new().await;
    let volume = world.volume();
    world.engine.create_volume(&volume, &BTreeMap::new()).await.unwrap();
    let mounts = vec![(volume.clone(), "/data".to_owned())];
    let first = ContainerSpec { mounts: mounts.clone(), ..world.spec("true") };
    let first = world.engine.create_container(&first).await.unwrap();
    world
        .engine
        .put_files(&first, "/data", vec![bytes_file("kept", b"kept")], nothing_moved())
        .await
        .unwrap();
    let used = world.engine.remove_volume(&volume).await;
    assert!(matches!(used, Err(EngineError::Conflict { .. })), "{used:?}");
    world.engine.remove_container(&first).await.unwrap();

    let second = ContainerSpec { mounts, ..world.spec("true") };
    let second = world.engine.create_container(&second).await.unwrap();
    let sink = Shared::default();
    assert_eq!(world.engine.get_file(&second, "/data/kept", Box::new(sink.clone())).await, Ok(4));
    assert_eq!(&sink.0.lock().unwrap()[..], b"kept");
    world.engine.remove_container(&second).await.unwrap();
    world.engine.remove_volume(&volume).await.unwrap();
    assert_eq!(world.engine.inspect_volume(&volume).await, Ok(None));
    assert!(matches!(world.engine.remove_volume(&volume).await, Err(EngineError::NotFound { .. })));
}

/// A registry that has nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_image_that_the_registry_does_not_have_is_not_found() {
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let count = stream.read(&mut request).await.unwrap_or(0);
                let known = request[..count].starts_with(b"GET /v2/ ");
                let (status, body) = match known {
                    true => ("200 OK", "{}"),
                    false => (
                        "404 Not Found",
                        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                    ),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
                     Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let world = World::new().await;
    let image = format!("127.0.0.1:{port}/nothing:1");
    let answer = world.engine.pull_image(&image, silent()).await;
    serving.abort();
    assert!(matches!(answer, Err(EngineError::NotFound { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_name_that_would_ask_about_something_else_is_refused() {
    let world = World::new().await;
    for name in ["", "../version", "a/b", "json?all=1"] {
        let answer = world.engine.inspect_container(name).await;
        assert!(matches!(answer, Err(EngineError::Failed { .. })), "{name} {answer:?}");
    }
}

fn only<'a>(name: &'a str, value: &'a str) -> impl Fn(&str) -> Option<String> + Send + Sync + 'a {
    move |asked| (asked == name).then(|| value.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_engine_that_was_named_and_does_not_answer_is_an_error() {
    let answer = Docker::detect_with(only("DOCKER_HOST", "unix:///no/such.sock")).await;
    let Err(EngineError::Unavailable { message, .. }) = answer else { panic!("{answer:?}") };
    assert!(
        message.contains("unix:///no/such.sock") && message.contains("because DOCKER_HOST is set"),
        "{message}"
    );
    assert!(message.contains("start Docker"), "{message}");
}

/// On a clock that stands while anything can go on, and else runs to the next deadline.
#[tokio::test(start_paused = true)]
async fn an_engine_that_never_answers_is_given_up_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mute.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let host = format!("unix://{}", path.display());
    let start = tokio::time::Instant::now();
    let answer = Docker::detect_with(only("DOCKER_HOST", &host)).await;
    let Err(EngineError::Unavailable { message, .. }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("no answer within 2 s"), "{message}");
    let waited = start.elapsed().as_secs();
    assert_eq!(waited, 2, "no longer than it says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_endpoint_is_on_this_machine_unless_we_are_in_a_container() {
    let detected = Docker::detect().await.unwrap();
    if std::env::var_os("DOCKER_HOST").is_none() && std::env::var_os("FAKECLOUD_IN_CONTAINER").is_none() {
        assert_eq!(detected.endpoint_host(), "127.0.0.1");
    }
    let contained = Docker::detect_with(|name| match name {
        "FAKECLOUD_IN_CONTAINER" => Some("1".to_owned()),
        other => std::env::var(other).ok(),
    });
    let contained = contained.await.unwrap();
    let expected =
        if contained.name() == "podman" { "host.containers.internal" } else { "host.docker.internal" };
    assert_eq!(contained.endpoint_host(), expected);
}
