//! Runtimes with real policies on the simulated Docker, and an engine that can be made to fail, hang or
//! wait at a chosen call.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use conformance::sim::docker::SimDocker;
use conformance::sim::rdb;
use elasticache_host::engine::{Container, ContainerEngine, Volume};
use elasticache_host::probes::{Probes, Reply};
use elasticache_host::{Cache, CacheKey, CacheSpec, Endpoint, Engine, Restore, Runtime, RuntimeBuilder};
use tempfile::TempDir;

mod watched;

pub use watched::{Plan, Watched, unavailable};

/// The instance of runtimes that are given none.
pub const INSTANCE: &str = "tests";
/// Longer than anything takes that has not gone wrong; a test that reaches it fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The shipped policy.
pub fn durable() -> PathBuf {
    built("FAKECLOUD_ELASTICACHE_POLICY", "policies/durable.wasm")
}

/// A shipped policy, its manifest beside it.
pub fn policy(name: &str) -> PathBuf {
    durable().with_file_name(format!("{name}.wasm"))
}

/// A policy that misbehaves, by the name of its file in `tests/hostile/examples`.
pub fn hostile(name: &str) -> PathBuf {
    there(named("HOSTILE_POLICIES", "test-policies").join(format!("{name}.wasm")))
}

/// What `cargo xtask test` names, or else has built.
fn built(variable: &str, place: &str) -> PathBuf {
    there(named(variable, place))
}

fn named(variable: &str, place: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        // The folder that `target/tmp` lies in.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debug").join(place),
    }
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing; `cargo xtask test` builds it", path.display());
    path
}

/// An engine with bystanders in it, and a data folder. Clones of the engine are the same engine.
pub struct World {
    pub sim: SimDocker,
    pub engine: Watched,
    folder: TempDir,
    before: Observed,
}

/// All that an engine holds, and what is in the bystanders' volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
    bystanders: Option<Vec<u8>>,
}

impl Observed {
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let mut containers: Vec<_> = self.containers.iter().map(|c| c.name.as_str()).collect();
        containers.sort_unstable();
        (containers, self.volumes.iter().map(|v| v.name.as_str()).collect())
    }
}

const BYSTANDERS: &str = "bystander-data";

impl World {
    pub async fn new() -> Self {
        let sim = SimDocker::new();
        let folder = TempDir::new().unwrap();
        // One secret for all tests: compiled policies are sealed with it, and compiling takes its time.
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("data/owner.key"), [7; 32]).unwrap();
        sim.insert_foreign_container("bystander-running", &[("somebody", "else")], true).unwrap();
        sim.insert_foreign_container(
            "bystander-ended",
            &[("fakecloud-elasticache", "bystander"), ("fakecloud-instance", INSTANCE)],
            false,
        )
        .unwrap();
        sim.insert_foreign_volume(BYSTANDERS, &[("somebody", "else")], &[("dump.rdb", b"theirs")]);
        let mut world = Self {
            engine: Watched::new(sim.clone()),
            before: Observed { containers: Vec::new(), volumes: Vec::new(), bystanders: None },
            sim,
            folder,
        };
        world.before = world.observe().await;
        world
    }

    /// What there is now.
    pub async fn observe(&self) -> Observed {
        Observed {
            containers: self.sim.list_containers(&[]).await.unwrap(),
            volumes: self.sim.list_volumes(&[]).await.unwrap(),
            bystanders: self.sim.volume_file(BYSTANDERS, "dump.rdb"),
        }
    }

    /// That nothing is there but what was there before any cache, unchanged.
    #[track_caller]
    pub fn assert_untouched(&self, now: &Observed, when: &str) {
        assert_eq!(*now, self.before, "{when}");
    }

    /// That beside what was there before any cache, there are just these numbers of containers and volumes.
    #[track_caller]
    pub fn assert_has(&self, now: &Observed, containers: usize, volumes: usize, when: &str) {
        let mut rest = now.clone();
        rest.containers.retain(|container| self.before.containers.contains(container));
        rest.volumes.retain(|volume| self.before.volumes.contains(volume));
        assert_eq!(rest, self.before, "what others have was touched {when}");
        let new = (now.containers.len() - rest.containers.len(), now.volumes.len() - rest.volumes.len());
        assert_eq!(new, (containers, volumes), "{when}: {:?}", now.names());
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A runtime on this engine, its policy still to be named.
    pub fn builder(&self) -> RuntimeBuilder {
        let engine = Arc::new(self.engine.clone());
        Runtime::builder()
            .engine(engine.clone(), engine, "127.0.0.1")
            .instance(INSTANCE)
            .data_dir(self.folder.path().join("data"))
            .cache_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("sim-policies"))
            .publish_address([127, 0, 0, 1].into())
            .timeout(PATIENCE)
    }

    pub async fn durable(&self) -> Runtime {
        self.builder().policy_file(durable()).build().await.unwrap()
    }

    /// The same as another embedder on the same data folder.
    pub async fn durable_as(&self, instance: &str) -> Runtime {
        self.builder().policy_file(durable()).instance(instance).build().await.unwrap()
    }

    /// An RDB file with one key.
    pub fn rdb_file(&self, name: &str, key: &str, value: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let keys = [(key.as_bytes().to_vec(), value.as_bytes().to_vec())].into_iter().collect();
        std::fs::write(&path, rdb::write(&[("redis-ver", "7.4.0")], &keys)).unwrap();
        path
    }

    /// What a client does, past whatever is watched. `None` for nil.
    pub async fn ask(&self, endpoint: &Endpoint, line: &str) -> Option<String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match self.sim.command(endpoint, &args, 64 << 10).await.unwrap() {
            Reply::Status(text) => Some(text),
            Reply::Bulk(bytes) => Some(String::from_utf8(bytes).unwrap()),
            Reply::Integer(number) => Some(number.to_string()),
            Reply::Nil => None,
            other => panic!("{line} was answered with {other:?}"),
        }
    }

    /// Writes a key and sees to it that the write was acknowledged.
    pub async fn write(&self, cache: &Cache, key: &str, value: &str) {
        let answer = self.ask(&endpoint(cache), &format!("SET {key} {value}")).await;
        assert_eq!(answer.as_deref(), Some("OK"));
    }

    pub async fn read(&self, cache: &Cache, key: &str) -> Option<String> {
        self.ask(&endpoint(cache), &format!("GET {key}")).await
    }
}

pub fn endpoint(cache: &Cache) -> Endpoint {
    cache.endpoint.clone().expect("it publishes a port")
}

pub fn key(id: &str) -> CacheKey {
    CacheKey::new("", id).unwrap()
}

pub fn redis(id: &str) -> CacheSpec {
    CacheSpec::new(key(id), Engine::Redis)
}

/// A redis that starts from a file.
pub fn restored(id: &str, path: &Path, replace: bool) -> CacheSpec {
    CacheSpec { restore: Some(Restore { path: path.to_owned(), replace }), ..redis(id) }
}

/// Waits for something that comes unless something went wrong.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it came to no end")
}
