//! All schedules of a kind, on all cores.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use elasticache_host::Engine;
use parking_lot::Mutex;

use super::{Schedule, Subject, Trial, attempt, random};
use crate::corpus::Scenario;
use crate::faults::{Fault, Planned};
use crate::verdict::plan;

/// Which faults there are in each schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// None.
    None,
    /// One.
    Single,
    /// Two, one after the other.
    Pairs,
    /// Some, at steps that are chance as well.
    Random {
        /// By which the schedules follow; each has the next number as its own.
        seed: u64,
        /// How many schedules.
        count: u64,
    },
}

/// How far it has come.
pub enum Event<'a> {
    /// So many pieces of work, of a schedule or more, are to be done.
    Pieces(usize),
    /// One of them is done.
    Piece,
    /// A schedule was run.
    Done {
        /// Which one.
        schedule: &'a Schedule,
        /// What came of it.
        trial: &'a Trial,
    },
}

/// Runs all schedules of a kind, in no order that matters, and reports each.
///
/// # Errors
/// The first that kept a schedule from being run.
pub fn explore(
    subject: &Subject,
    scenarios: &[Arc<Scenario>],
    faults: Faults,
    report: &(dyn Fn(Event<'_>) + Sync),
) -> Result<()> {
    let run = |schedule: &Schedule| -> Result<Trial> {
        let trial = attempt(subject, schedule)?;
        report(Event::Done { schedule, trial: &trial });
        Ok(trial)
    };
    let mut plain = Vec::new();
    for scenario in scenarios {
        let engines = plan(scenario, Some(&subject.description), subject.place.backend()).unwrap_or_default();
        plain.extend(engines.into_iter().map(|engine| without_fault(scenario, engine)));
    }
    let singles = Mutex::new(Vec::new());
    on_all_cores(&plain, |schedule| {
        let trial = run(schedule)?;
        if matches!(faults, Faults::Single | Faults::Pairs) && trial.violation.is_none() {
            singles.lock().extend(one_more(schedule, &trial));
        }
        Ok(())
    })?;
    if let Faults::Random { seed, count } = faults {
        let seeds: Vec<u64> = (seed..seed.saturating_add(count)).collect();
        report(Event::Pieces(seeds.len()));
        return on_all_cores(&seeds, |seed| {
            if let Some(schedule) = random(subject, *seed, &[]) {
                run(&schedule)?;
            }
            report(Event::Piece);
            Ok(())
        });
    }
    let mut singles = singles.into_inner();
    // The order of cores is chance; that of schedules is not.
    singles.sort_by(|a, b| {
        (&a.scenario.name, a.engine.as_str(), &a.faults).cmp(&(
            &b.scenario.name,
            b.engine.as_str(),
            &b.faults,
        ))
    });
    report(Event::Pieces(singles.len()));
    on_all_cores(&singles, |schedule| {
        let trial = run(schedule)?;
        if faults == Faults::Pairs && trial.violation.is_none() {
            for pair in one_more(schedule, &trial) {
                run(&pair)?;
            }
        }
        report(Event::Piece);
        Ok(())
    })
}

/// A scenario in which nothing goes wrong.
pub(crate) fn without_fault(scenario: &Arc<Scenario>, engine: Engine) -> Schedule {
    Schedule { scenario: Arc::clone(scenario), engine, faults: Vec::new(), order: None }
}

/// The schedules with one fault more than this one, after those that it has.
pub(crate) fn one_more(schedule: &Schedule, trial: &Trial) -> Vec<Schedule> {
    if trial.met.len() < schedule.faults.len() {
        // What it says of the last fault did not come about, so it is another schedule.
        return Vec::new();
    }
    let first = schedule.faults.last().map_or(0, |last| last.call + 1);
    let mut more = Vec::new();
    for (call, line) in trial.calls.iter().enumerate().skip(first) {
        for fault in Fault::ALL.into_iter().filter(|fault| line.may_meet(*fault)) {
            if fault == Fault::EngineRestart && !schedule.scenario.restarts {
                continue;
            }
            let mut faults = schedule.faults.clone();
            faults.push(Planned { call, fault });
            more.push(Schedule { faults, ..schedule.clone() });
        }
    }
    more
}

/// Does each piece of work once, on as many threads as there are cores; ends early with the first error.
///
/// # Errors
/// That one.
pub fn on_all_cores<T: Sync>(work: &[T], each: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(piece) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = each(piece) {
                        next.store(work.len(), Ordering::Relaxed);
                        failed.lock().get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}
