//! Ours and the floor side by side, on the real engine: one round after the other, and within a round one
//! step after the other, the order of the two swapped each time.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use elasticache_host::{CacheKey, CacheSpec, Engine, Runtime};
use tokio::task::JoinSet;

use crate::floor::{self, Floor, Template};
use crate::resp::{self, Redis, Reply};
use crate::table::{Pair, Samples};

/// Keys in the cache that is snapshotted.
const KEYS: usize = 1_000;
/// Between two measurements, for what the last one left to do in the background.
const REST: Duration = Duration::from_millis(100);

/// What is measured in each round, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Up,
    Exec,
    Snapshot,
    Reboot,
    Stop,
}

impl Step {
    const ALL: [Step; 5] = [Step::Up, Step::Exec, Step::Snapshot, Step::Reboot, Step::Stop];

    fn pair(self) -> Pair {
        let (name, target_p50, target_p99) = match self {
            Step::Up => ("up", 1.05, Some(1.15)),
            Step::Exec => ("exec", 1.10, None),
            Step::Snapshot => ("snapshot", 1.10, None),
            Step::Reboot => ("reboot", 1.10, None),
            Step::Stop => ("stop", 1.10, None),
        };
        let (ours, floor) = (Samples::default(), Samples::default());
        Pair { name: name.to_owned(), ours, floor, target_p50, target_p99 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Floor,
}

/// Which of the two goes first.
fn order(round: usize) -> [Side; 2] {
    if round.is_multiple_of(2) { [Side::Ours, Side::Floor] } else { [Side::Floor, Side::Ours] }
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
        let mut pairs: Vec<Pair> = steps.iter().map(|step| step.pair()).collect();
        let template = self.template().await?;
        for round in 0..=runs {
            progress(&format!("{round} of {runs} rounds"));
            let key = CacheKey::new("", format!("{}round-{round}", self.prefix))?;
            let mut caches = Caches { key, port: 0, floor: None };
            for side in order(round) {
                let took = self.timed(Step::Up, side, &template, &mut caches).await?;
                record(&steps, &mut pairs, round, Step::Up, side, took);
            }
            resp::fill(caches.port, KEYS).await?;
            resp::fill(caches.floor()?.port, KEYS).await?;
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
        let (ours, floor) = (Samples::default(), Samples::default());
        let name = format!("{count} at once");
        let mut pair = Pair { name, ours, floor, target_p50: 1.15, target_p99: None };
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

/// On a terminal only: elsewhere each would stay.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{text:<40}\r{text}");
    }
}

fn record(steps: &[Step], pairs: &mut [Pair], round: usize, step: Step, side: Side, took: Duration) {
    let pair = steps.iter().position(|wanted| *wanted == step).and_then(|at| pairs.get_mut(at));
    if let Some(pair) = pair.filter(|_| round > 0) {
        samples(pair, side).push(took.as_secs_f64() * 1e3);
    }
}

fn samples(pair: &mut Pair, side: Side) -> &mut Samples {
    match side {
        Side::Ours => &mut pair.ours,
        Side::Floor => &mut pair.floor,
    }
}

fn check_value(stdout: &[u8]) -> Result<()> {
    ensure!(stdout.starts_with(b"value:7:"), "GET gave {:?}", String::from_utf8_lossy(stdout));
    Ok(())
}

fn check_rdb(file: &std::path::Path) -> Result<()> {
    let bytes = std::fs::read(file)?;
    // Each value has more than 40 bytes, of which the format keeps at least a tenth.
    ensure!(bytes.starts_with(b"REDIS") && bytes.len() > KEYS * 10, "{} is no snapshot", file.display());
    Ok(())
}

async fn check_data(port: u16) -> Result<()> {
    match Redis::connect(port).await?.command(&[b"DBSIZE"]).await? {
        Reply::Line(size) if size == KEYS.to_string() => Ok(()),
        other => bail!("after the reboot DBSIZE is {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_goes_first_as_often() {
        assert_eq!(order(1), [Side::Floor, Side::Ours]);
        assert_eq!(order(2), [Side::Ours, Side::Floor]);
    }
}
