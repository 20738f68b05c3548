//! What the tests on a real Docker Engine share: a world of their own each, removed at its end.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use elasticache_host::{CacheKey, CacheSpec, Engine, Restore, Runtime, RuntimeBuilder};
use serde_json::Value;

pub mod docker;
pub mod documents;
pub mod proxy;
pub mod redis;
pub mod unsaved;

/// Nothing here takes longer, unless it hangs: an operation itself ends within twice the time that it has if nothing is
/// said, and tells then what it waited for.
pub const BOUND: Duration = Duration::from_secs(300);

/// The command line that was built: `CACHEHOST_BIN`, else the debug build of this workspace.
pub fn cachehost() -> PathBuf {
    built("CACHEHOST_BIN", "cachehost")
}

/// The policy that was built.
pub fn policy() -> PathBuf {
    built("FAKECLOUD_ELASTICACHE_POLICY", "policies/durable.wasm")
}

fn built(variable: &str, file: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug").join(file),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask build --debug`, or set {variable}",
        path.display()
    );
    path.canonicalize().unwrap()
}

/// Polls until there is something. For what Docker or an engine does and tells nobody.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < BOUND, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The most memory that a process had at any time of its life, which has to end well.
pub fn peak_memory(process: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", process.id());
    let mut peak = None;
    // The kernel keeps count; it only has to be asked while there is somebody to ask for.
    let ended = eventually("it ends", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        peak = kib.map(|kib| kib << 10).max(peak);
        process.try_wait().unwrap()
    });
    assert!(ended.success());
    peak.expect("the kernel says how much memory a process has (Linux does, in /proc)")
}

/// One test's instances, data folder and objects. Dropping it removes all of them, however the test ended.
pub struct World {
    pub instance: String,
    folder: tempfile::TempDir,
    tag: String,
    instances: Mutex<Vec<String>>,
    containers: Mutex<Vec<String>>,
    volumes: Mutex<Vec<String>>,
    images: Mutex<Vec<String>>,
}

impl World {
    pub fn new(name: &str) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let _ = docker::run(&["version", "--format", "{{.Server.Version}}"]);
        let tag = format!("{}-{}-{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let world = World {
            instance: format!("test-{tag}"),
            folder: tempfile::Builder::new().prefix("cachehost-test-").tempdir().unwrap(),
            tag,
            instances: Mutex::default(),
            containers: Mutex::default(),
            volumes: Mutex::default(),
            images: Mutex::default(),
        };
        world.instances.lock().unwrap().push(world.instance.clone());
        world
    }

    /// An id that no other test has.
    pub fn id(&self, name: &str) -> String {
        format!("t{}-{name}", self.tag)
    }

    pub fn key(&self, name: &str) -> CacheKey {
        CacheKey::new("", self.id(name)).unwrap()
    }

    /// Where the volume of such an id is, and earlier runtimes put theirs.
    pub fn volume_of(&self, name: &str) -> String {
        format!("fakecloud-elasticache-data-{}", self.id(name))
    }

    /// Another instance beside this world's own, on the same data folder.
    pub fn other_instance(&self, name: &str) -> String {
        let instance = format!("{}-{name}", self.instance);
        self.instances.lock().unwrap().push(instance.clone());
        instance
    }

    /// A container that the test makes under this name will be removed.
    pub fn will_make_container(&self, name: &str) -> String {
        self.containers.lock().unwrap().push(name.to_owned());
        name.to_owned()
    }

    /// A volume that the test makes under this name will be removed.
    pub fn will_make_volume(&self, name: &str) -> String {
        self.volumes.lock().unwrap().push(name.to_owned());
        name.to_owned()
    }

    /// A name for an image, removed at the end.
    pub fn will_make_image(&self, name: &str) -> String {
        let image = format!("cachehost-test/{}:{name}", self.tag);
        self.images.lock().unwrap().push(image.clone());
        image
    }

    /// A folder of this test's own.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn builder(&self) -> RuntimeBuilder {
        self.builder_of(&self.instance)
    }

    pub fn builder_of(&self, instance: &str) -> RuntimeBuilder {
        Runtime::builder()
            .instance(instance)
            .policy_file(policy())
            .data_dir(self.folder.path().join("data"))
            .cache_dir(self.folder.path().join("cache"))
            .timeout(BOUND)
    }

    pub async fn runtime(&self) -> Runtime {
        self.builder().build().await.unwrap()
    }

    /// The command line, as this world's instance, without its arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(cachehost());
        command
            .env("FAKECLOUD_ELASTICACHE_DATA_DIR", self.folder.path().join("data"))
            .env("FAKECLOUD_ELASTICACHE_CACHE_DIR", self.folder.path().join("cache"))
            .env("FAKECLOUD_ELASTICACHE_POLICY", policy())
            .env("FAKECLOUD_ELASTICACHE_INSTANCE", &self.instance)
            .env_remove("CACHEHOST_LOG")
            .stdin(Stdio::null())
            .current_dir(self.folder.path());
        command
    }

    /// Runs the command line with `--json`, to its end.
    pub fn cli(&self, args: &[&str]) -> Ran {
        let mut command = self.command();
        command.arg("--json").args(args);
        ran(&mut command)
    }

    /// As `cli`, and it has to succeed; returns what it printed.
    pub fn done(&self, args: &[&str]) -> Value {
        let ran = self.cli(args);
        assert_eq!(ran.code(), 0, "{args:?}: {ran:?}");
        ran.json()
    }

    /// As `cli`, as a process that still runs.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command();
        command.arg("--json").args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// All containers and volumes of this world, with what identifies each: equal before and after means
    /// untouched.
    pub fn objects(&self) -> Vec<String> {
        let mut all = Vec::new();
        for instance in self.instances.lock().unwrap().iter() {
            all.extend(docker::containers_of(instance));
            all.extend(docker::volumes_with(&format!("fakecloud-instance={instance}")));
        }
        all.sort();
        all
    }

    /// The containers of this world's own instance.
    pub fn containers(&self) -> Vec<String> {
        docker::containers_of(&self.instance)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Each is tried whatever became of the others; what fails shows in the test's output.
        let instances = self.instances.lock().unwrap();
        docker::remove("rm", &self.containers.lock().unwrap());
        for instance in instances.iter() {
            let label = format!("label=fakecloud-instance={instance}");
            docker::remove("rm", &docker::lines(&["ps", "-aq", "--no-trunc", "--filter", &label]));
        }
        // Volumes last: containers of another instance may have used them.
        for instance in instances.iter() {
            let mut volumes = docker::volumes_with(&format!("fakecloud-instance={instance}"));
            volumes.extend(docker::volumes_with(&format!("fakecloud-elasticache-lease-of={instance}")));
            docker::remove("volume", &volumes);
        }
        docker::remove("volume", &self.volumes.lock().unwrap());
        docker::remove("rmi", &self.images.lock().unwrap());
    }
}

/// What a finished process left.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// The one document on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code and the sentence of the error document.
    pub fn error(&self) -> (String, String) {
        let document: Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(document.as_object().unwrap().len(), 1, "{self:?}");
        assert_eq!(document["error"].as_object().unwrap().len(), 2, "{self:?}");
        let text = |name: &str| document["error"][name].as_str().unwrap().to_owned();
        (text("code"), text("message"))
    }
}

/// Runs a process to its end, which has to come.
pub fn ran(command: &mut Command) -> Ran {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > BOUND {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} hangs: {:?}", stderr.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ran { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn drain(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A spec that starts from a file.
pub fn from_file(key: &CacheKey, engine: Engine, path: &Path, replace: bool) -> CacheSpec {
    let restore = Some(Restore { path: path.to_owned(), replace });
    CacheSpec { restore, ..CacheSpec::new(key.clone(), engine) }
}

pub fn redis_of(key: &CacheKey) -> CacheSpec {
    CacheSpec::new(key.clone(), Engine::Redis)
}

/// The names of all files in a folder.
pub fn files_in(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}
