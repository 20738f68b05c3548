//! Ours and the floor side by side, on the real engine: one round after the other, and within a round one
//! step after the other, the order of the two swapped each time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use elasticache_host::{CacheKey, CacheSpec, Engine, Runtime};
use tokio::task::JoinSet;

use crate::floor::{self, Floor, Template};
use crate::resp::{self, Redis, Reply};
use crate::rounds::{KEYS, REST, Side, Step, check_rdb, check_value, order, pair, progress, record, samples};
use crate::table::Pair;

impl Step {
    /// What the two sides may differ by: in the medians, and where that is asked for in the p99s.
    fn targets(self) -> (f64, Option<f64>) {
        match self {
            Step::Up => (1.05, Some(1.15)),
            Step::Exec | Step::Snapshot | Step::Reboot | Step::Stop => (1.10, None),
        }
    }
}

/// Both sides, and what they are to be called.
pub(crate) struct Arena {
    pub(crate) runtime: Runtime,
    pub(crate) floor: Floor,
    /// Begins every name and id of this bench.
    pub(crate) prefix: String,
    /// Where snapshots go.
    pub(crate) folder: PathBuf,
}

/// The two caches of a round.
struct Caches {
    key: CacheKey,
    port: u16,
    floor: Option<floor::Cache>,
}

impl Caches {
    fn floor(&self) -> Result<&floor::Cache> {
        self.floor.as_ref().context("the floor's cache is not up")
    }
}

impl Arena {
    /// `runs` rounds of the steps wanted, and one before them that does not count.
    pub(crate) async fn steps(&mut self, wanted: &[Step], runs: usize) -> Result<Vec<Pair>> {
        let steps: Vec<Step> = Step::ALL.into_iter().filter(|step| wanted.contains(step)).collect();
        let mut pairs: Vec<Pair> = steps.iter().map(|step| pair(step.name(), step.targets())).collect();
        let template = self.template().await?;
        for round in 0..=runs {
            progress(&format!("{round} of {runs} rounds"));
            let key = CacheKey::new("", format!("{}round-{round}", self.prefix))?;
            let mut caches = Caches { key, port: 0, floor: None };
            for side in order(round) {
                let took = self.timed(Step::Up, side, &template, &mut caches).await?;
                record(&steps, &mut pairs, round, Step::Up, side, took);
            }
            resp::fill(Redis::connect(caches.port).await?, KEYS).await?;
            resp::fill(Redis::connect(caches.floor()?.port).await?, KEYS).await?;
            for step in Step::ALL {
                // Stopping belongs to every round, counted or not.
                if step == Step::Up || (step != Step::Stop && !steps.contains(&step)) {
                    continue;
                }
                for side in order(round) {
                    let took = self.timed(step, side, &template, &mut caches).await?;
                    record(&steps, &mut pairs, round, step, side, took);
                }
            }
            self.runtime.remove_data(&caches.key).await?;
            self.floor.remove_data(caches.floor()?).await?;
        }
        progress("");
        Ok(pairs)
    }

    /// Makes a cache of ours once, for the floor to copy.
    async fn template(&mut self) -> Result<Template> {
        let key = CacheKey::new("", format!("{}template", self.prefix))?;
        let cache = self.runtime.ensure(CacheSpec::new(key.clone(), Engine::Redis)).await?;
        let template = self.floor.template(&cache.handle).await?;
        self.runtime.stop(&key).await?;
        self.runtime.remove_data(&key).await?;
        Ok(template)
    }

    /// One step of one side. Only what stands between the two looks at the clock is measured.
    async fn timed(
        &mut self,
        step: Step,
        side: Side,
        template: &Template,
        caches: &mut Caches,
    ) -> Result<Duration> {
        tokio::time::sleep(REST).await;
        let file = self.folder.join(format!("{side:?}.rdb"));
        let (runtime, floor) = (&self.runtime, &mut self.floor);
        let began = Instant::now();
        let took;
        match (step, side) {
            (Step::Up, Side::Ours) => {
                let cache = runtime.ensure(CacheSpec::new(caches.key.clone(), Engine::Redis)).await?;
                took = began.elapsed();
                ensure!(!cache.adopted, "a cache of that name was there already");
                caches.port = cache.endpoint.context("a cache without an endpoint")?.port;
                ensure!(resp::is_ready(caches.port).await, "ours was said to be up, and does not answer");
            }
            (Step::Up, Side::Floor) => {
                caches.floor = Some(floor.up(template, caches.key.id()).await?);
                took = began.elapsed();
            }
            (Step::Exec, Side::Ours) => {
                let args = ["GET", "key:7"].map(str::to_owned);
                let output = runtime.exec(&caches.key, &args).await?;
                took = began.elapsed();
                ensure!(output.success, "GET failed in ours");
                check_value(&output.stdout)?;
            }
            (Step::Exec, Side::Floor) => {
                let output = floor.exec(caches.floor()?, &["GET", "key:7"]).await?;
                took = began.elapsed();
                check_value(&output)?;
            }
            (Step::Snapshot, Side::Ours) => {
                runtime.snapshot(&caches.key, &file).await?;
                took = began.elapsed();
                check_rdb(&file)?;
            }
            (Step::Snapshot, Side::Floor) => {
                floor.snapshot(caches.floor()?, &file).await?;
                took = began.elapsed();
                check_rdb(&file)?;
            }
            (Step::Reboot, Side::Ours) => {
                let cache = runtime.reboot(&caches.key).await?;
                took = began.elapsed();
                ensure!(cache.endpoint.is_some_and(|e| e.port == caches.port), "the port changed");
                check_data(caches.port).await?;
            }
            (Step::Reboot, Side::Floor) => {
                floor.reboot(caches.floor()?).await?;
                took = began.elapsed();
                check_data(caches.floor()?.port).await?;
            }
            (Step::Stop, Side::Ours) => {
                let stopped = runtime.stop(&caches.key).await?;
                took = began.elapsed();
                ensure!(stopped, "ours was not there to be stopped");
            }
            (Step::Stop, Side::Floor) => {
                floor.stop(caches.floor()?).await?;
                took = began.elapsed();
            }
        }
        Ok(took)
    }

    /// `count` caches at once, from the first call to the last PONG.
    pub(crate) async fn concurrent(&mut self, count: usize, rounds: usize) -> Result<Pair> {
        let mut pair = pair(&format!("{count} at once"), (1.15, None));
        let template = self.template().await?;
        for round in 0..=rounds {
            // The round before the first that counts needs no more than a few.
            let now = if round == 0 { count.min(4) } else { count };
            for side in order(round) {
                progress(&format!("{round} of {rounds} rounds, {side:?}"));
                let took = match side {
                    Side::Ours => self.ours_at_once(round, now).await?,
                    Side::Floor => self.floor_at_once(&template, round, now).await?,
                };
                if round > 0 {
                    samples(&mut pair, side).push(took.as_secs_f64() * 1e3);
                }
                // Neither side may find the other's still running.
                self.floor.sweep(&format!("{}at-once-", self.prefix)).await?;
                tokio::time::sleep(REST * 10).await;
            }
        }
        progress("");
        Ok(pair)
    }

    async fn ours_at_once(&mut self, round: usize, count: usize) -> Result<Duration> {
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for number in 0..count {
            let key = CacheKey::new("", format!("{}at-once-{round}-{number}", self.prefix))?;
            let runtime = self.runtime.clone();
            tasks.spawn(async move { runtime.ensure(CacheSpec::new(key, Engine::Redis)).await });
        }
        while let Some(cache) = tasks.join_next().await {
            cache??;
        }
        Ok(began.elapsed())
    }

    async fn floor_at_once(&mut self, template: &Template, round: usize, count: usize) -> Result<Duration> {
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for number in 0..count {
            let name = format!("{}at-once-{round}-{number}", self.prefix);
            // One connection each: on one, only one of them could be asked for at a time.
            let (mut floor, template) = (self.floor.another().await?, template.clone());
            tasks.spawn(async move { floor.up(&template, &name).await });
        }
        while let Some(cache) = tasks.join_next().await {
            cache??;
        }
        Ok(began.elapsed())
    }
}

async fn check_data(port: u16) -> Result<()> {
    match Redis::connect(port).await?.command(&[b"DBSIZE"]).await? {
        Reply::Line(size) if size == KEYS.to_string() => Ok(()),
        other => bail!("after the reboot DBSIZE is {other:?}"),
    }
}
