//! What a decent policy's operations suffer from a hostile one in the same process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use elasticache_host::{CacheKey, CacheSpec, Engine, Error, Runtime};

use crate::policy::{Folders, Operation, WARM_UP};
use crate::table::{Contrast, Samples};

/// Those that use as much of something as they are let.
const HOSTILE: [&str; 5] = ["endless_loop", "endless_recursion", "memory_bomb", "call_flood", "bytes_flood"];
/// Target of the issue.
const MOST: f64 = 1.10;
/// Turns of each neighbour: alone and beside it, again and again, since machines have moods.
const TURNS: usize = 10;

/// A whole `up`, one after the other: alone, beside a thread that computes and has to do with no policy, and beside
/// operations of one hostile policy at a time, one after the other.
pub(crate) async fn suffering(
    folders: &Folders<'_>,
    hostile: &Path,
    runs: usize,
) -> Result<(Vec<Contrast>, Vec<String>)> {
    let decent = folders.builder().build().await?;
    let each = runs.div_ceil(TURNS).max(1);
    let mut ups = Ups { runtime: decent, count: 0 };
    ups.run(WARM_UP, &mut Samples::default()).await?;
    let (mut contrasts, mut notes) = (Vec::new(), Vec::new());
    let (mut with, mut without) = (Samples::default(), Samples::default());
    for _ in 0..TURNS {
        ups.run(each, &mut without).await?;
        let thread = Thread::start();
        ups.run(each, &mut with).await?;
        thread.end()?;
    }
    contrasts.push(contrast("neighbours: a thread of no policy's", with, without, None));
    for name in HOSTILE {
        let file = hostile.join(format!("{name}.wasm"));
        let runtime = folders.builder().policy_file(&file).build().await?;
        let (mut with, mut without, mut operations) = (Samples::default(), Samples::default(), 0);
        for _ in 0..TURNS {
            ups.run(each, &mut without).await?;
            let neighbour = Neighbour::start(&runtime);
            ups.run(each, &mut with).await?;
            operations += neighbour.end().await?;
        }
        notes.push(format!("neighbours: {name} was ended by the host {operations} times"));
        contrasts.push(contrast(&format!("neighbours: {name}"), with, without, Some(MOST)));
    }
    notes.push(
        "neighbours: with is a whole up on the no-op engine beside one operation at a time of the hostile policy, in \
         the same process and under standard limits; without is the same alone, turn by turn. What a thread that \
         only computes does to it is the machine's part: two processors may be one core"
            .to_owned(),
    );
    Ok((contrasts, notes))
}

fn contrast(name: &str, with: Samples, without: Samples, target_p99: Option<f64>) -> Contrast {
    Contrast { name: name.to_owned(), unit: "µs", with, without, target_p99 }
}

/// Decent operations, each on a cache of its own.
struct Ups {
    runtime: Runtime,
    count: usize,
}

impl Ups {
    async fn run(&mut self, runs: usize, samples: &mut Samples) -> Result<()> {
        for _ in 0..runs {
            self.count += 1;
            let key = Operation::Redis.key(&format!("neighbour-{}", self.count))?;
            samples.push(Operation::Redis.run(&self.runtime, &key).await?.as_secs_f64() * 1e6);
        }
        Ok(())
    }
}

/// Somebody who computes.
struct Thread {
    enough: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Thread {
    fn start() -> Self {
        let enough = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::hint::black_box(());
            }
        });
        Self { enough, thread }
    }

    fn end(self) -> Result<()> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("a thread that computes broke off")
    }
}

/// Operations of a hostile policy, again and again.
struct Neighbour {
    enough: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Neighbour {
    fn start(runtime: &Runtime) -> Self {
        let (enough, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (runtime, seen, count) = (runtime.clone(), Arc::clone(&enough), Arc::clone(&ended));
        let task = tokio::spawn(async move {
            let spec = CacheSpec::new(CacheKey::new("", "bad")?, Engine::Redis);
            while !seen.load(Ordering::Relaxed) {
                match runtime.ensure(spec.clone()).await {
                    Err(Error::Fault { .. }) => count.fetch_add(1, Ordering::Relaxed),
                    other => bail!("a hostile policy came to {other:?}"),
                };
            }
            Ok(())
        });
        Self { enough, ended, task }
    }

    /// How many operations were ended by the host; the last one comes to its end too.
    async fn end(self) -> Result<u64> {
        self.enough.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.ended.load(Ordering::Relaxed))
    }
}
