//! What the policy and its host cost by themselves: on an engine that answers at once, the same thing each
//! time, nothing is left of an operation but they.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use elasticache_host::{CacheKey, CacheSpec, Engine, Runtime, RuntimeBuilder};

use crate::calls::{Calls, counted};
use crate::noop::{NoEngine, NoProbes};
use crate::table::{Cost, Samples};

/// Operations before those that count: caches of the processor, pool of instances, branch predictors.
pub(crate) const WARM_UP: usize = 200;
/// Targets of the issue.
const UP_US: f64 = 100.0;
const LOAD_MS: f64 = 2.0;
const COMPILE_MS: f64 = 300.0;

/// Folders for this part alone.
pub(crate) struct Folders<'f> {
    pub(crate) data: &'f Path,
    pub(crate) cache: &'f Path,
}

impl Folders<'_> {
    pub(crate) fn builder(&self) -> RuntimeBuilder {
        Runtime::builder()
            .engine(Arc::new(NoEngine), Arc::new(NoProbes), "127.0.0.1")
            .instance("bench")
            .data_dir(self.data)
            .cache_dir(self.cache)
    }
}

/// The operations that are told apart, each with what it has beside the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// An instance and one call of it, which calls nothing.
    Describe,
    /// An operation in a task of its own, and one question to the engine.
    Find,
    /// The same under the lock of its cache, whose file is there.
    StopAgain,
    /// The same, and the file is made.
    Stop,
    /// A whole `up`, without a volume.
    Memcached,
    /// A whole `up`.
    Redis,
}

impl Operation {
    const ALL: [Operation; 6] = [
        Operation::Describe,
        Operation::Find,
        Operation::StopAgain,
        Operation::Stop,
        Operation::Memcached,
        Operation::Redis,
    ];

    /// A cache that was never heard of, as at the first `up` of it; or the same each time.
    pub(crate) fn key(self, run: &str) -> Result<CacheKey> {
        let id = match self {
            Operation::StopAgain => "the-same".to_owned(),
            _ => format!("{self:?}-{run}"),
        };
        Ok(CacheKey::new("", id)?)
    }

    pub(crate) async fn run(self, runtime: &Runtime, key: &CacheKey) -> Result<Duration> {
        let spec = |engine| CacheSpec::new(key.clone(), engine);
        let (redis, memcached) = (spec(Engine::Redis), spec(Engine::Memcached));
        let began = Instant::now();
        match self {
            Operation::Describe => drop(runtime.describe().await?),
            Operation::Find => ensure!(runtime.find(key).await?.is_none(), "there is no such cache"),
            Operation::StopAgain | Operation::Stop => {
                ensure!(!runtime.stop(key).await?, "there is no such cache")
            }
            Operation::Memcached => drop(runtime.ensure(memcached).await?),
            Operation::Redis => drop(runtime.ensure(redis).await?),
        }
        Ok(began.elapsed())
    }
}

/// The cost of a whole `up`, and of its parts as far as they can be told apart.
pub(crate) async fn operations(folders: &Folders<'_>, runs: usize) -> Result<(Vec<Cost>, Vec<String>)> {
    let runtime = folders.builder().build().await?;
    let mut measured: Vec<Samples> = Operation::ALL.iter().map(|_| Samples::default()).collect();
    for run in 0..WARM_UP + runs {
        // One after the other, so that a slow moment of the machine slows each of them.
        for (operation, samples) in Operation::ALL.iter().zip(&mut measured) {
            let key = operation.key(&run.to_string())?;
            let took = operation.run(&runtime, &key).await?;
            if run >= WARM_UP {
                samples.push(took.as_secs_f64() * 1e6);
            }
        }
    }
    // Last, since whoever listens to the host's own account slows it.
    let redis = calls(folders, Operation::Redis)?;
    let memcached = calls(folders, Operation::Memcached)?;
    let [describe, find, again, stop, without_volume, up] =
        <[Samples; 6]>::try_from(measured).ok().context("as many results as operations")?;
    let more = redis.all.saturating_sub(memcached.all).max(1);
    let crossing = difference(&up, &without_volume, more as f64);
    let new_lock = difference(&stop, &find, 1.0);
    let old_lock = difference(&again, &find, 1.0);
    let unlocked = difference(&up, &new_lock, 1.0);
    let notes = vec![
        format!(
            "up on the no-op engine makes {} host calls, {} of which would wait for the engine; it includes the \
             operation's task, the marks (HMAC) and, in the first line, the cache's lock file",
            redis.all, redis.engine
        ),
        format!(
            "differences, run by run: a host call is redis less memcached, {more} calls for the volume, among \
             them making and marking it; the lock is stop less find of no cache"
        ),
    ];
    let cost = |name: &str, samples, target| Cost { name: name.to_owned(), unit: "µs", samples, target };
    let costs = vec![
        cost("policy: a whole up, with its new lock file", up, Some(UP_US)),
        cost("policy: a whole up, less the lock", unlocked, Some(UP_US)),
        cost("policy: a whole up of a memcached", without_volume, None),
        cost("policy: instantiate, one call", describe, None),
        cost("policy: find of no cache", find, None),
        cost("policy: a host call, with its work", crossing, None),
        cost("policy: a cache's lock, file made", new_lock, None),
        cost("policy: a cache's lock, file there", old_lock, None),
    ];
    Ok((costs, notes))
}

/// The difference of each pair of runs, shared among `parts`.
fn difference(more: &Samples, less: &Samples, parts: f64) -> Samples {
    Samples(more.0.iter().zip(&less.0).map(|(more, less)| (more - less) / parts).collect())
}

/// How many calls of the host an operation makes. In a thread and a runtime of its own, where every step
/// of it can be listened to.
fn calls(folders: &Folders<'_>, operation: Operation) -> Result<Calls> {
    let builder = folders.builder();
    let thread = std::thread::spawn(move || -> Result<Calls> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio
            .block_on(async {
                let runtime = builder.build().await?;
                Ok::<_, anyhow::Error>(runtime)
            })
            .and_then(|runtime| {
                let key = CacheKey::new("", "counted")?;
                let (outcome, calls) = counted(|| tokio.block_on(operation.run(&runtime, &key)));
                outcome.map(|_| calls)
            })
    });
    thread.join().ok().context("the thread that counts calls broke off")?
}

/// Loading a policy that was compiled before, and compiling one.
pub(crate) async fn load(
    folders: &Folders<'_>,
    runs: usize,
    scratch: &Path,
) -> Result<(Vec<Cost>, Vec<String>)> {
    folders.builder().build().await?;
    let (mut warm, mut cold) = (Samples::default(), Samples::default());
    for run in 0..=runs {
        let (loaded, compiled) = (build(folders).await?, {
            let fresh: PathBuf = scratch.join(format!("compile-{run}"));
            build(&Folders { data: folders.data, cache: &fresh }).await?
        });
        if run > 0 {
            warm.push(loaded.as_secs_f64() * 1e3);
            cold.push(compiled.as_secs_f64() * 1e3);
        }
    }
    let cost = |name: &str, samples, target| Cost { name: name.to_owned(), unit: "ms", samples, target };
    let costs = vec![
        cost("load: compiled before", warm, Some(LOAD_MS)),
        cost("load: first compile", cold, Some(COMPILE_MS)),
    ];
    let note = "loads are whole builds of a runtime: key file, lock folder, engine, pool and linker included; \
                the thread pool that compiles is there already";
    Ok((costs, vec![note.to_owned()]))
}

async fn build(folders: &Folders<'_>) -> Result<Duration> {
    let builder = folders.builder();
    let began = Instant::now();
    let runtime = builder.build().await?;
    let took = began.elapsed();
    drop(runtime);
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_run_by_run() {
        let (more, less) = (Samples(vec![9.0, 12.0]), Samples(vec![1.0, 2.0]));
        assert_eq!(difference(&more, &less, 4.0).0, [2.0, 2.5]);
    }
}
