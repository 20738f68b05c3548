//! Every scenario that applies to a policy, and what that comes to.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use elasticache_host::{Description, Engine, Manifest, Runtime};
use futures_util::{StreamExt, stream};

use crate::corpus::{Engines, Scenario};
use crate::faults::Tap;
use crate::runner::{self, Setting};
use crate::trace;
use crate::world::World;

/// How one scenario ended with one engine.
#[derive(Debug)]
pub enum Outcome {
    /// What must be seen was seen.
    Passed {
        /// How many changes the simulation made as the real engine did; none where it was not held against one.
        compared: Option<usize>,
    },
    /// It was not.
    Failed(anyhow::Error),
    /// It was not tried, and so nothing is known.
    Skipped(&'static str),
    /// It is about what this policy does not claim: a promise, or engines.
    NotClaimed(String),
}

/// A line of the report.
#[derive(Debug)]
pub struct Line {
    /// The scenario.
    pub name: String,
    /// Its sentence.
    pub title: String,
    /// The clauses that it tests.
    pub clauses: Vec<String>,
    /// The engine, if it came to that.
    pub engine: Option<Engine>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Line {
    fn of(scenario: &Scenario, engine: Option<Engine>, outcome: Outcome) -> Self {
        let Scenario { name, title, clauses, .. } = scenario;
        Self { name: name.clone(), title: title.clone(), clauses: clauses.clone(), engine, outcome }
    }
}

/// What came of all of them.
#[derive(Debug)]
pub struct Judged {
    /// Each scenario with each engine.
    pub lines: Vec<Line>,
    /// What the policy says of itself there, if it says anything.
    pub description: Option<Description>,
}

/// Runs scenarios against an environment's policy, some at once, and reports each as it ends, in order.
///
/// # Errors
/// If the file is no policy.
pub async fn judge(
    scenarios: Vec<Scenario>,
    worlds: impl Fn() -> World,
    environment: &Manifest,
    at_once: usize,
    mut report: impl FnMut(&Line),
) -> Result<Judged> {
    let data = tempfile::tempdir()?;
    let data = data.path();
    // Compiled once here, and found in its cache by all that follow.
    let builder = Runtime::builder().environment(environment.clone()).data_dir(data).cache_dir(data);
    let world = worlds();
    let backend = world.backend();
    let runtime = world.equip(builder)?.build().await?;
    let mut lines = Vec::new();
    let description = match runtime.describe().await {
        Ok(description) => Some(description),
        Err(error) => {
            let line = undescribed(error);
            report(&line);
            lines.push(line);
            None
        }
    };
    let keeps_endpoints =
        description.as_ref().is_some_and(|of| of.promises.contains(&"endpoint-survives-reboot"));
    let mut jobs = Vec::new();
    for scenario in scenarios {
        let scenario = Arc::new(scenario);
        match plan(&scenario, description.as_ref(), backend) {
            Ok(engines) => {
                jobs.extend(engines.into_iter().map(|engine| (Arc::clone(&scenario), Ok(engine), worlds())));
            }
            Err(outcome) => jobs.push((scenario, Err(outcome), worlds())),
        }
    }
    let mut ended = stream::iter(jobs)
        .map(|(scenario, planned, world)| async move {
            match planned {
                Err(outcome) => Line::of(&scenario, None, outcome),
                Ok(engine) => {
                    let instance = instance(&world, &scenario.name, engine);
                    let setting = Setting {
                        world,
                        environment: environment.clone(),
                        loaded: None,
                        engine,
                        keeps_endpoints,
                        instance,
                        data: data.to_owned(),
                        keys: u32::MAX,
                    };
                    let outcome = match run(&scenario, setting).await {
                        Ok(compared) => Outcome::Passed { compared },
                        Err(error) => Outcome::Failed(error),
                    };
                    Line::of(&scenario, Some(engine), outcome)
                }
            }
        })
        .buffered(at_once);
    while let Some(line) = ended.next().await {
        report(&line);
        lines.push(line);
    }
    Ok(Judged { lines, description })
}

/// Whose caches a scenario's are. Others may be at it on a real engine; a simulated one is nobody else's, and there what
/// is said of a failure is to be the same in every run.
fn instance(world: &World, name: &str, engine: Engine) -> String {
    if world.is_real() {
        format!("conformance-{}-{name}-{engine}", std::process::id())
    } else {
        format!("conformance-{name}-{engine}")
    }
}

/// The scenarios that are not run, each with why.
pub fn left_out(scenarios: &[Arc<Scenario>], description: &Description, backend: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for scenario in scenarios {
        if let Err(outcome) = plan(scenario, Some(description), backend) {
            lines.push(Line::of(scenario, None, outcome));
        }
    }
    lines
}

/// What every policy owes before any scenario.
pub fn undescribed(error: elasticache_host::Error) -> Line {
    Line {
        name: "describe".to_owned(),
        title: "a policy describes itself".to_owned(),
        clauses: vec!["DESC-1".to_owned()],
        engine: None,
        outcome: Outcome::Failed(error.into()),
    }
}

/// Runs a scenario; in the real world also beside the simulated one, which must do the same. Returns how many changes
/// that were.
async fn run(scenario: &Scenario, setting: Setting) -> Result<Option<usize>> {
    let Some(simulated) = setting.world.simulated().filter(|_| trace::is_comparable(scenario)) else {
        return runner::run(scenario, setting).await.map(|()| None);
    };
    let taps = [Tap::default(), Tap::default()];
    let real = setting.world.behind(&taps[0]);
    let beside = Setting { world: simulated.behind(&taps[1]), ..setting.clone() };
    runner::run(scenario, Setting { world: real, ..setting }).await?;
    runner::run(scenario, beside).await.context("in the simulation, unlike in truth")?;
    trace::compare(scenario, &taps[0].lines(), &taps[1].lines()).map(Some)
}

/// With which engines a scenario is run, or why it is not.
pub(crate) fn plan(
    scenario: &Scenario,
    description: Option<&Description>,
    backend: &str,
) -> Result<Vec<Engine>, Outcome> {
    let Some(description) = description else {
        return Err(Outcome::Skipped("the policy does not describe itself"));
    };
    if scenario.backend.as_deref().is_some_and(|only| only != backend) {
        return Err(Outcome::NotClaimed(format!("running on another backend than {backend}")));
    }
    let made = |promise: &&String| description.promises.contains(&promise.as_str());
    if let Some(promise) = scenario.promises.iter().find(|promise| !made(promise)) {
        return Err(Outcome::NotClaimed(promise.clone()));
    }
    let engines = engines(scenario, description);
    if engines.is_empty() {
        let which =
            if scenario.engines == Engines::Volatile { "memcached" } else { "an engine that keeps data" };
        Err(Outcome::NotClaimed(which.to_owned()))
    } else {
        Ok(engines)
    }
}

/// The engines that it is for, of those that the policy claims.
pub(crate) fn engines(scenario: &Scenario, description: &Description) -> Vec<Engine> {
    let fits = |engine: &Engine| match scenario.engines {
        Engines::All => true,
        Engines::Persistent => *engine != Engine::Memcached,
        Engines::Volatile => *engine == Engine::Memcached,
    };
    description.engines.iter().copied().filter(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Place;

    #[test]
    fn whose_caches_they_are_in_a_simulation_does_not_depend_on_the_process() {
        let sim = World::sim(Place::Docker);
        assert_eq!(instance(&sim, "a-reboot", Engine::Valkey), "conformance-a-reboot-valkey");
    }
}
