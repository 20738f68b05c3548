//! The corpus with faults, in a simulated world.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use conformance::corpus::{self, Scenario};
use conformance::explore::{Done, Faults, RANDOM, Schedule, Subject, attempt, random};
use conformance::faults::{Line, Planned};
use elasticache_host::Engine;
use std::sync::Mutex;

use crate::Args;

/// Violations that are shown with their words; the others are counted.
const SHOWN: usize = 20;

/// Runs the schedules and prints what came of them.
///
/// # Errors
/// If they cannot be run.
pub(crate) fn explore(runtime: &tokio::runtime::Runtime, args: &Args, faults: Faults) -> Result<ExitCode> {
    let scenarios = corpus::all()?.into_iter().filter(|scenario| scenario.name.contains(&args.only));
    let scenarios: Vec<Arc<Scenario>> = scenarios.map(Arc::new).collect();
    let cache = tempfile::tempdir()?;
    let environment = crate::environment(args)?;
    let subject = runtime.block_on(Subject::load(&environment, cache.path()))?;
    if let Some(wanted) = &args.replay {
        return replay(&subject, &scenarios, wanted);
    }
    let (count, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(BTreeMap::new());
    let begun = Instant::now();
    conformance::explore::explore(&subject, &scenarios, faults, &|Done { schedule, trial }| {
        count.fetch_add(1, Ordering::Relaxed);
        calls.fetch_add(trial.calls.len(), Ordering::Relaxed);
        if let Some(violation) = &trial.violation
            && let Ok(mut failed) = failed.lock()
        {
            failed.insert(name(schedule), violation.to_string());
        }
    })?;
    let (count, calls) = (count.into_inner(), calls.into_inner());
    let failed = failed.into_inner().unwrap_or_default();
    for (schedule, violation) in failed.iter().take(SHOWN) {
        println!(
            "FAIL  {violation}\n      replay: cargo xtask conformance --backend sim --replay {schedule}"
        );
    }
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    println!(
        "{count} schedules with {calls} calls in {:.1} s ({:.0} a minute); {} violations",
        minutes * 60.0,
        count as f64 / minutes,
        failed.len()
    );
    println!("verdict: {}", if failed.is_empty() { "conforms" } else { "fails" });
    Ok(ExitCode::from(u8::from(!failed.is_empty())))
}

/// What `--replay` takes.
fn name(schedule: &Schedule) -> String {
    let faults: Vec<String> = schedule.faults.iter().map(Planned::to_string).collect();
    format!("{}/{}/{}", schedule.scenario.name, schedule.engine, faults.join(","))
}

fn replay(subject: &Subject, scenarios: &[Arc<Scenario>], wanted: &str) -> Result<ExitCode> {
    let parts: Vec<&str> = wanted.split('/').collect();
    let &[scenario, engine, faults] = parts.as_slice() else {
        bail!("{wanted:?} is not SCENARIO/ENGINE/CALL:FAULT,...");
    };
    let faults = faults.split(',').filter(|planned| !planned.is_empty()).map(str::parse);
    let faults = faults.collect::<Result<_>>()?;
    let schedule = match scenario.strip_prefix(RANDOM) {
        Some(seed) => {
            let seed = seed.parse().with_context(|| format!("{seed:?} is no seed"))?;
            Schedule { faults, ..random(subject, seed) }
        }
        None => {
            let known = scenarios.iter().find(|known| known.name == scenario);
            let scenario =
                known.with_context(|| format!("there is no scenario {scenario:?} in tests/corpus"))?;
            Schedule {
                scenario: Arc::clone(scenario),
                engine: engine.parse::<Engine>()?,
                faults,
                order: None,
            }
        }
    };
    let trial = attempt(subject, &schedule)?;
    for (at, line) in trial.calls.iter().enumerate() {
        println!("{}", shown(at, line));
    }
    match &trial.violation {
        Some(violation) => println!("FAIL  {violation}"),
        None => println!("pass  {}", schedule.scenario.title),
    }
    Ok(ExitCode::from(u8::from(trial.violation.is_some())))
}

fn shown(at: usize, line: &Line) -> String {
    let fault = line.fault.map(|fault| format!("  <-- {fault}")).unwrap_or_default();
    format!("{at:>4}  host {}  {} {} = {}{fault}", line.host, line.call, line.object, line.result)
}
