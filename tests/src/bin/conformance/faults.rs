//! The corpus with faults, in a simulated world.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use conformance::certificate::{self, Matrix, Seen};
use conformance::corpus::{self, Scenario};
use conformance::explore::{
    Event, Faults, NO_ENGINE, Schedule, Subject, Undescribed, Violation, attempt, cases, is_random, named,
    persistent, shrink,
};
use conformance::faults::Line;
use conformance::report::model::Skip;
use conformance::spec::Profile;
use conformance::trace;
use conformance::verdict::{left_out, undescribed};
use elasticache_host::{Engine, inspect_environment};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::Args;
use crate::reporting::Ended;

/// Violations that are shown with their words; the others are counted.
const SHOWN: usize = 20;
/// Where a schedule was run twice, and the policy is said to be deterministic: the clause, and the words.
const ANOTHER_WAY: (&str, &str) = ("DESC-2", "the same schedule went another way when it was run again");
/// One schedule in so many is run twice.
const AGAIN: usize = 100;

/// Runs the schedules and prints what came of them.
///
/// # Errors
/// If they cannot be run.
pub(crate) fn explore(runtime: &tokio::runtime::Runtime, args: &Args, faults: Faults) -> Result<ExitCode> {
    let scenarios = corpus::all()?.into_iter().filter(|scenario| scenario.name.contains(&args.only));
    let scenarios: Vec<Arc<Scenario>> = scenarios.map(Arc::new).collect();
    let cache = tempfile::tempdir()?;
    let environment = crate::environment(args)?;
    let loaded = runtime.block_on(Subject::load(&environment, args.place(), cache.path()));
    let subject = match loaded.map_err(anyhow::Error::downcast::<Undescribed>) {
        Ok(subject) => subject,
        Err(Ok(Undescribed(error))) => {
            let line = undescribed(error);
            crate::show(&line);
            let seen = Seen { scenarios: certificate::scenarios(&[line]), ..Seen::default() };
            let ended = Ended { description: None, seen, failed: false };
            return runtime.block_on(crate::reporting::close(args, &environment, ended));
        }
        Err(Err(error)) => return Err(error),
    };
    if let Some(wanted) = &args.replay {
        return replay(&subject, &scenarios, wanted);
    }
    let deterministic = runtime.block_on(inspect_environment(&environment))?.deterministic;
    let tally = Tally::new(deterministic)?;
    conformance::explore::explore(&subject, &scenarios, faults, &|event| tally.note(&subject, event))?;
    let (mut seen, failed) = tally.close(&subject, args)?;
    seen.skipped.extend(without_schedules(&subject, faults));
    let left_out = left_out(&scenarios, &subject.description, args.place().backend());
    seen.scenarios.extend(certificate::scenarios(&left_out));
    let ended = Ended { description: Some(&subject.description), seen, failed };
    runtime.block_on(crate::reporting::close(args, &environment, ended))
}

/// That no seed gave a schedule, where that is so.
fn without_schedules(subject: &Subject, faults: Faults) -> Option<Skip> {
    let none = matches!(faults, Faults::Random { .. }) && persistent(&subject.description.engines).is_empty();
    none.then(|| Skip { what: "random schedules".to_owned(), why: format!("the policy claims {NO_ENGINE}") })
}

/// What is known of the schedules so far.
struct Tally {
    begun: Instant,
    /// Whether the same schedule has to be the same run.
    deterministic: bool,
    bar: ProgressBar,
    calls: AtomicUsize,
    traces: Mutex<Traces>,
    failed: Mutex<BTreeMap<String, (Schedule, Option<Violation>)>>,
    /// The clauses about some faults only that were tested, and those of them that were refuted.
    cases: Mutex<BTreeSet<(&'static str, bool)>>,
    matrix: Matrix,
}

/// What was done in all of them, whichever was done first.
#[derive(Default)]
struct Traces {
    count: usize,
    /// Of those, the ones in which a fault was met.
    met: usize,
    /// Of those, the ones in which a fault that was planned was not: they went as others did.
    in_vain: usize,
    sum: u128,
}

impl Traces {
    /// Returns how many there are now.
    fn add(&mut self, schedule: &Schedule, hash: &str, met: usize) -> usize {
        let name = schedule.to_string();
        let digest = Sha256::digest(format!("{name} {hash}"));
        let number = digest.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        self.sum = self.sum.wrapping_add(number);
        self.count += 1;
        self.met += usize::from(met > 0);
        self.in_vain += usize::from(schedule.order.is_none() && met < schedule.faults.len());
        self.count
    }
}

impl Tally {
    fn new(deterministic: bool) -> Result<Self> {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} left, {msg}")?;
        let bar = ProgressBar::new(0).with_style(style);
        let (traces, failed, cases) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (begun, calls, matrix) = (Instant::now(), AtomicUsize::new(0), Matrix::default());
        Ok(Self { begun, deterministic, bar, calls, traces, failed, cases, matrix })
    }

    fn note(&self, subject: &Subject, event: Event<'_>) {
        let (schedule, trial) = match event {
            Event::Pieces(count) => return self.bar.set_length(count as u64),
            Event::Piece => {
                let (schedules, violations) = (self.traces.lock().count, self.failed.lock().len());
                self.bar.set_message(format!("{schedules} schedules, {violations} violations"));
                return self.bar.inc(1);
            }
            Event::Done { schedule, trial } => (schedule, trial),
        };
        self.calls.fetch_add(trial.calls.len(), Ordering::Relaxed);
        self.matrix.note(schedule, trial);
        let mut tested = cases(schedule, trial);
        self.cases.lock().append(&mut tested);
        let hash = trace::hash(&trial.calls);
        let count = self.traces.lock().add(schedule, &hash, trial.met.len());
        // The same schedule is the same run, or nothing that is said of it could be replayed.
        let differs = self.deterministic
            && count.is_multiple_of(AGAIN)
            && attempt(subject, schedule).map_or(true, |again| trace::hash(&again.calls) != hash);
        if differs || trial.violation.is_some() {
            let mut failed = self.failed.lock();
            failed.insert(schedule.to_string(), (schedule.clone(), trial.violation.clone()));
        }
    }

    /// Prints what came of them, and returns it with whether something did not hold.
    fn close(self, subject: &Subject, args: &Args) -> Result<(Seen, bool)> {
        self.bar.finish_and_clear();
        let failed = self.failed.into_inner();
        let mut failures = Vec::new();
        for (at, (schedule, violation)) in failed.values().take(certificate::FAILURES).enumerate() {
            let (least, seen) = shrink(subject, schedule, attempt(subject, schedule)?)?;
            // What is not seen again was seen all the same.
            let violation = seen.violation.as_ref().or(violation.as_ref());
            let (clause, words) =
                violation.map_or(ANOTHER_WAY, |of| (of.invariant.clause(), of.seen.as_str()));
            let replay = replay_command(args, &least);
            if at < SHOWN {
                println!("FAIL  {clause}: {words}\n      replay: {replay}");
            }
            failures.push(certificate::failure(&least, &seen, args.place(), (clause, words), replay));
        }
        let traces = self.traces.into_inner();
        let minutes = self.begun.elapsed().as_secs_f64() / 60.0;
        let schedules = traces.count - traces.in_vain;
        let rate = schedules as f64 / minutes;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let calls = self.calls.into_inner();
        let twice =
            if self.deterministic { format!(", one in {AGAIN} of them twice") } else { String::new() };
        println!(
            "{schedules} schedules with {calls} calls in {:.1} s ({rate:.0} a minute, {:.0} by each of {cores} cores){twice}; {} violations",
            minutes * 60.0,
            rate / cores as f64,
            failed.len()
        );
        println!("trace hash: {:032x}", traces.sum);
        let figures = BTreeMap::from([
            ("schedules".to_owned(), schedules as u64),
            ("host calls".to_owned(), calls as u64),
            ("violations".to_owned(), failed.len() as u64),
        ]);
        let clause = |violation: &Violation| violation.invariant.clause();
        let cases = self.cases.into_inner();
        let refuted = cases.iter().filter(|(_, refuted)| *refuted).map(|(case, _)| *case);
        let violated = failed.values().map(|(_, seen)| seen.as_ref().map_or(ANOTHER_WAY.0, clause));
        let violated = violated.chain(refuted).collect();
        let tested = cases.iter().map(|(case, _)| *case).collect();
        let (matrix, met) = (self.matrix, traces.met as u64);
        let seen = Seen { matrix, failures, violated, met, tested, figures, ..Seen::default() };
        Ok((seen, !failed.is_empty()))
    }
}

/// What runs a schedule once more, as a shell takes it.
pub(crate) fn replay_command(args: &Args, schedule: &Schedule) -> String {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let options = [
        ("policy", path(&args.policy)),
        ("env", path(&args.env)),
        (
            "profile",
            args.profile.filter(|profile| *profile == Profile::Kube).map(|profile| profile.to_string()),
        ),
        ("storage-class", args.storage_class.clone()),
    ];
    let option = |(name, value): &(&str, Option<String>)| {
        value.as_ref().map(|value| format!(" --{name} {}", quoted(value)))
    };
    let options: String = options.iter().filter_map(option).collect();
    format!("cargo xtask conformance{options} --backend sim --replay {schedule}")
}

/// One word for a shell. What has a NUL in it never was one.
fn quoted(word: &str) -> Cow<'_, str> {
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}

fn replay(subject: &Subject, scenarios: &[Arc<Scenario>], wanted: &str) -> Result<ExitCode> {
    let parts: Vec<&str> = wanted.split('/').collect();
    let &[scenario, engine, faults] = parts.as_slice() else {
        bail!("{wanted:?} is not SCENARIO/ENGINE/CALL:FAULT,...");
    };
    let faults = faults.split(',').filter(|planned| !planned.is_empty()).map(str::parse);
    let faults = faults.collect::<Result<_>>()?;
    let schedule = if is_random(scenario) {
        named(subject, scenario, faults)?
    } else {
        let known = scenarios.iter().find(|known| known.name == scenario);
        let scenario = known.with_context(|| format!("there is no scenario {scenario:?} in tests/corpus"))?;
        Schedule { scenario: Arc::clone(scenario), engine: engine.parse::<Engine>()?, faults, order: None }
    };
    let trial = attempt(subject, &schedule)?;
    for (at, line) in trial.calls.iter().enumerate() {
        let begun = trial.begun.iter().zip(&schedule.scenario.steps).enumerate();
        for (number, (_, step)) in begun.filter(|(_, (begun, _))| **begun == at) {
            println!("step {}: {:?} {}", number + 1, step.r#do, step.cache);
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_replay_command_is_read_by_a_shell_as_it_was_given() {
        let given = ["conformance", "--policy", "my policies/it's $one.wasm", "--env", "plain.toml"];
        let args = Args::try_parse_from(given).unwrap();
        let scenario = Arc::new(corpus::all().unwrap().swap_remove(0));
        let name = scenario.name.clone();
        let schedule = Schedule { scenario, engine: Engine::Redis, faults: Vec::new(), order: None };
        let command = shlex::split(&replay_command(&args, &schedule)).unwrap();
        let replayed = format!("{name}/redis/");
        let options = [&given[1..], &["--backend", "sim", "--replay", &replayed]].concat();
        assert_eq!(command, [&["cargo", "xtask", "conformance"], &options[..]].concat());
    }
}
