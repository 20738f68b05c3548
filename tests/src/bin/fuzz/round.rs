//! One round: operations of all kinds on a few caches, and what must hold after each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use conformance::sim::docker::SimDocker;
use conformance::sim::rdb;
use elasticache_host::engine::{Container, ContainerEngine, Volume};
use elasticache_host::{CacheKey, CacheSpec, Engine, Error, Fault, Limits, Restore, Runtime};
use tempfile::TempDir;

/// Operations of one round.
const OPERATIONS: u64 = 40;
/// Of these, the first ones are another owner's, who is then dead.
const OF_THE_DEAD: u64 = 5;
const LEASE: Duration = Duration::from_secs(60);
/// What waits is ended soon, so that others get their turn.
const DEADLINE: Duration = Duration::from_millis(500);
/// Past it, an operation is not going to end.
const NEVER: Duration = Duration::from_secs(60);
/// Calls of the engine that are told about what should not be there.
const STORY: usize = 20;
const BYSTANDERS: &str = "bystander-data";
/// How a policy can break off. Any other words are the host's, and mean that it lost track of something.
const TRAPS: [&str; 5] =
    ["unreachable", "unknown handle index", "wrong type", "out of bounds", "call stack exhausted"];

/// What rounds share.
pub struct Fuzzer {
    folder: TempDir,
    policy: PathBuf,
    rdb: PathBuf,
}

/// SplitMix64, as in the policy.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// All that an engine holds.
struct Seen {
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

impl Seen {
    async fn on(engine: &SimDocker) -> Result<Self> {
        Ok(Self { containers: engine.list_containers(&[]).await?, volumes: engine.list_volumes(&[]).await? })
    }

    fn names(&self) -> BTreeSet<&str> {
        let containers = self.containers.iter().map(|container| container.name.as_str());
        containers.chain(self.volumes.iter().map(|volume| volume.name.as_str())).collect()
    }

    /// Whether everything is there, as it is here. What a policy makes may bear the name that another kind of object
    /// has.
    fn is_in(&self, now: &Self) -> bool {
        self.containers.iter().all(|container| now.containers.contains(container))
            && self.volumes.iter().all(|volume| now.volumes.contains(volume))
    }
}

impl Fuzzer {
    pub async fn new(policy: &Path) -> Result<Self> {
        let folder = TempDir::new().context("no folder for temporary files")?;
        let rdb = folder.path().join("start.rdb");
        let keys = [(b"k".to_vec(), b"v".to_vec())].into_iter().collect();
        std::fs::write(&rdb, rdb::write(&[("redis-ver", "7.4.0")], &keys))?;
        let fuzzer = Self { folder, policy: policy.to_owned(), rdb };
        // Compiled once; each round finds it.
        fuzzer.runtime(&SimDocker::new(), 0, "first", &fuzzer.folder.path().join("data")).await?;
        Ok(fuzzer)
    }

    /// A data folder of a round's own, in another folder: with its own locks, since what another round's operation
    /// left to be mended is no affair of this one's, and with the secret that the compiled policy is sealed with.
    fn data_folder(&self, within: &Path) -> Result<PathBuf> {
        const SECRET: &str = "owner.key";
        let data = within.join("data");
        std::fs::create_dir(&data)?;
        std::fs::copy(self.folder.path().join("data").join(SECRET), data.join(SECRET))?;
        Ok(data)
    }

    async fn runtime(&self, engine: &SimDocker, seed: u64, instance: &str, data: &Path) -> Result<Runtime> {
        let engine = Arc::new(engine.clone());
        let limits = Limits { cleanup: Duration::from_millis(50), pull: DEADLINE, ..Limits::default() };
        Runtime::builder()
            .engine(engine.clone(), engine, "127.0.0.1")
            .instance(instance)
            .lease(LEASE)
            .data_dir(data)
            .cache_dir(self.folder.path().join("compiled"))
            .publish_address([127, 0, 0, 1].into())
            .policy_file(&self.policy)
            .setting("seed", seed.to_string())
            .limits(limits)
            .timeout(DEADLINE)
            .build()
            .await
            .with_context(|| format!("no runtime with {}", self.policy.display()))
    }

    /// Runs a round, and returns how many operations it had.
    pub async fn round(&self, seed: u64) -> Result<u64> {
        let engine = SimDocker::new();
        engine.insert_foreign_container("bystander-running", &[("somebody", "else")], true)?;
        let looks_ours = [("fakecloud-elasticache", "bystander"), ("fakecloud-instance", "fuzz")];
        engine.insert_foreign_container("bystander-ended", &looks_ours, false)?;
        engine.insert_foreign_volume(BYSTANDERS, &[("somebody", "else")], &[("dump.rdb", b"theirs")]);
        let bystanders = Seen::on(&engine).await?;
        // An earlier runtime's, which is a policy's to use.
        engine.insert_foreign_volume("fakecloud-elasticache-data-k0", &[], &[("dump.rdb", b"old")]);

        let mut random = Random(seed);
        let folder = TempDir::new_in(self.folder.path())?;
        let data = self.data_folder(folder.path())?;
        let mut runtime = self.runtime(&engine, seed, "dead", &data).await?;
        for at in 0..OPERATIONS {
            if at == OF_THE_DEAD {
                drop(runtime);
                engine.advance(3 * LEASE);
                runtime = self.runtime(&engine, seed, "fuzz", &data).await?;
            }
            let (before, mends) = (Seen::on(&engine).await?, has_cut_off(&data)?);
            let operation = self.operate(&runtime, &mut random, folder.path());
            let outcome =
                tokio::time::timeout(NEVER, operation).await.context("an operation without an end")?;
            let (name, outcome) = outcome;
            let calls = engine.calls();
            engine.clear_calls();
            let after = Seen::on(&engine).await?;
            let what = || format!("operation {at}, {name}, which came to {outcome:?}");
            if let Err(error) = &outcome {
                possible(error).with_context(what)?;
                let (was, is) = (before.names(), after.names());
                let left: Vec<_> = is.difference(&was).collect();
                // A lease is no operation's.
                let left: Vec<_> = left.into_iter().filter(|name| !name.contains("lease")).collect();
                let about =
                    |call: &&String| left.iter().any(|name| call.split(' ').any(|word| word == **name));
                let mut story: Vec<_> = calls.iter().filter(about).rev().take(STORY).collect();
                story.reverse();
                // The reboot that comes before an ensure then is an operation of its own, and what it made may stay.
                ensure!(
                    left.is_empty() || (mends && name == "ensure"),
                    "{left:?} was left by {}; the last calls about it: {story:?}",
                    what()
                );
            }
            ensure!(bystanders.is_in(&after), "bystanders were touched by {}", what());
            let data = engine.volume_file(BYSTANDERS, "dump.rdb");
            ensure!(data.as_deref() == Some(b"theirs"), "a bystander's data was touched by {}", what());
        }
        Ok(OPERATIONS)
    }

    /// Any operation on any cache.
    async fn operate(
        &self,
        runtime: &Runtime,
        random: &mut Random,
        folder: &Path,
    ) -> (&'static str, Result<(), Error>) {
        let scope = if random.below(4) == 0 { "s" } else { "" };
        let key = match CacheKey::new(scope, format!("k{}", random.below(3))) {
            Ok(key) => key,
            Err(error) => return ("key", Err(error.into())),
        };
        match random.below(14) {
            0..=4 => {
                let engine = [Engine::Redis, Engine::Valkey, Engine::Memcached][random.below(3) as usize];
                let mut spec = CacheSpec::new(key, engine);
                if random.below(3) == 0 {
                    let replace = random.below(2) == 0;
                    spec.restore = Some(Restore { path: self.rdb.clone(), replace });
                }
                ("ensure", runtime.ensure(spec).await.map(drop))
            }
            5 => ("reboot", runtime.reboot(&key).await.map(drop)),
            6 => ("snapshot", runtime.snapshot(&key, &folder.join("x.rdb")).await.map(drop)),
            7 => ("stop", runtime.stop(&key).await.map(drop)),
            8 => ("remove-data", runtime.remove_data(&key).await.map(drop)),
            9 => ("exec", runtime.exec(&key, &["PING".to_owned()]).await.map(drop)),
            10 => ("find", runtime.find(&key).await.map(drop)),
            11 => ("list", runtime.list().await.map(drop)),
            12 => ("stop-all", runtime.stop_all().await),
            _ => ("reap", runtime.reap().await.map(drop)),
        }
    }
}

/// Whether the host noted of an operation that it may be going on still, so that the next ensure mends that first.
fn has_cut_off(data: &Path) -> Result<bool> {
    for lock in std::fs::read_dir(data.join("locks"))? {
        if lock?.metadata()?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a policy can bring an error about. What only the host, its files or its own tasks can is none of these.
fn possible(error: &Error) -> Result<()> {
    match error {
        Error::Fault { fault: Fault::Trap(words), .. } => {
            ensure!(TRAPS.iter().any(|trap| words.contains(trap)), "a trap of no policy's: {words}");
        }
        Error::Other { message } if message.contains("ended early") => bail!("a task ended early: {message}"),
        Error::Policy(_) | Error::Manifest(_) | Error::File { .. } => bail!("no policy brings that about"),
        Error::Fault { .. }
        | Error::Other { .. }
        | Error::Invalid(_)
        | Error::NotFound { .. }
        | Error::Conflict { .. }
        | Error::Unavailable { .. }
        | Error::Denied { .. }
        | Error::Timeout { .. }
        | Error::Engine { .. }
        | Error::Corrupt { .. } => {}
        other => bail!("an error of a kind that is new: {other:?}"),
    }
    Ok(())
}
