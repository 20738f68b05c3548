//! Taking up another policy while the runtime stays: from the call until new operations begin on the new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use elasticache_host::{CacheKey, CacheSpec, Engine, PolicySource, Runtime};
use tokio::task::JoinSet;

use crate::policy::Folders;
use crate::table::{Cost, Samples};

/// Between which it goes to and fro.
const POLICIES: [&str; 2] = ["ephemeral.wasm", "durable.wasm"];
/// Caches that each source of load goes round.
const CACHES: usize = 16;

/// With the component compiled before and not, while nothing else runs and while operations do.
pub(crate) async fn time(
    folders: &Folders<'_>,
    policies: &Path,
    runs: usize,
    scratch: &Path,
) -> Result<(Vec<Cost>, Vec<String>)> {
    let cold_cache = scratch.join("swap-cold");
    let warm = folders.builder().build().await?;
    let cold = Folders { data: folders.data, cache: &cold_cache }.builder().build().await?;
    let (mut costs, mut notes) = (Vec::new(), Vec::new());
    for name in POLICIES {
        warm.swap_policy(PolicySource::file(policies.join(name))).await?;
    }
    for (kind, runtime, cache) in
        [("compiled before", &warm, None), ("first compile", &cold, Some(&cold_cache))]
    {
        for loaded in [false, true] {
            let load = loaded.then(|| Load::start(runtime));
            let samples = swaps(runtime, policies, runs, cache).await?;
            let beside = if loaded { "under load" } else { "idle" };
            if let Some(load) = load {
                let (operations, sources) = load.end().await?;
                notes.push(format!(
                    "swap, {kind}, under load: {sources} sources of up, one after the other each; {operations} \
                     ended meanwhile, none failed"
                ));
            }
            costs.push(Cost { name: format!("swap: {kind}, {beside}"), unit: "ms", samples, target: None });
        }
    }
    Ok((costs, notes))
}

async fn swaps(runtime: &Runtime, policies: &Path, runs: usize, cache: Option<&PathBuf>) -> Result<Samples> {
    let mut samples = Samples::default();
    for run in 0..=runs {
        if let Some(cache) = cache {
            std::fs::remove_dir_all(cache).with_context(|| format!("clearing {}", cache.display()))?;
        }
        let name = POLICIES.get(run % POLICIES.len()).context("one of the policies")?;
        let source = PolicySource::file(policies.join(name));
        let began = Instant::now();
        runtime.swap_policy(source).await?;
        if run > 0 {
            samples.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(samples)
}

/// Operations one after the other, from as many sources as there are processors.
struct Load {
    enough: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    sources: JoinSet<Result<()>>,
}

impl Load {
    fn start(runtime: &Runtime) -> Self {
        let (enough, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut sources = JoinSet::new();
        for source in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (runtime, enough, ended) = (runtime.clone(), Arc::clone(&enough), Arc::clone(&ended));
            sources.spawn(async move {
                for at in (0..CACHES).cycle() {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = CacheKey::new("", format!("load-{source}-{at}"))?;
                    runtime.ensure(CacheSpec::new(key, Engine::Redis)).await?;
                    ended.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Self { enough, ended, sources }
    }

    /// How many operations ended, and from how many sources.
    async fn end(mut self) -> Result<(u64, usize)> {
        self.enough.store(true, Ordering::Relaxed);
        let mut sources = 0;
        while let Some(ended) = self.sources.join_next().await {
            ended??;
            sources += 1;
        }
        Ok((self.ended.load(Ordering::Relaxed), sources))
    }
}
