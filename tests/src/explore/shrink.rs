//! From a schedule that fails to a small one that fails alike.

use std::sync::Arc;

use anyhow::Result;

use super::random::{Name, random};
use super::{Schedule, Subject, Trial, Violation, attempt};
use crate::faults::Planned;

/// The same with no fault that it does not need to fail, and where its steps are chance with no such step; with what came
/// of that. One in which nothing failed comes back as it is: there is nothing to be like.
///
/// # Errors
/// The first that kept a schedule from being run.
pub fn shrink(subject: &Subject, schedule: &Schedule, trial: Trial) -> Result<(Schedule, Trial)> {
    if trial.violation.is_none() {
        return Ok((schedule.clone(), trial));
    }
    let (mut least, mut seen) = (Schedule { faults: trial.met.clone(), ..schedule.clone() }, trial);
    let mut at = 0;
    while at < least.faults.len() {
        let mut fewer = least.clone();
        fewer.faults.remove(at);
        let trial = attempt(subject, &fewer)?;
        if alike(seen.violation.as_ref(), trial.violation.as_ref()) {
            (least, seen) = (fewer, trial);
        } else {
            at += 1;
        }
    }
    // The last first: what comes early makes what comes late possible.
    let mut at = least.scenario.steps.len();
    while at > 0 {
        at -= 1;
        if let Some(fewer) = without_step(subject, &least, &seen, at) {
            let trial = attempt(subject, &fewer)?;
            // What the faults did is not shown by steps that fail without them.
            let plain = Schedule { faults: Vec::new(), ..fewer.clone() };
            let by_faults = fewer.faults.is_empty() || attempt(subject, &plain)?.violation.is_none();
            if by_faults && alike(seen.violation.as_ref(), trial.violation.as_ref()) {
                (least, seen) = (fewer, trial);
            }
        }
    }
    Ok((least, seen))
}

/// The schedule of the same seed without one of its steps, and the faults at the calls that they were at; none if a fault
/// was at one of that step's.
fn without_step(subject: &Subject, schedule: &Schedule, trial: &Trial, at: usize) -> Option<Schedule> {
    let Name { seed, mut left_out } = schedule.scenario.name.parse().ok()?;
    // Which of the steps that the seed has it is.
    let of_seed = (0..).filter(|step| !left_out.contains(step)).nth(at)?;
    left_out.push(of_seed);
    let shorter = random(subject, seed, &left_out)?;
    let from = trial.begun.get(at).copied().unwrap_or(usize::MAX);
    let to = trial.begun.get(at + 1).copied().unwrap_or(usize::MAX);
    let mut faults = Vec::new();
    for Planned { call, fault } in &schedule.faults {
        match *call {
            call if call < from => faults.push(Planned { call, fault: *fault }),
            call if call >= to => faults.push(Planned { call: call - (to - from), fault: *fault }),
            _ => return None,
        }
    }
    Some(Schedule { scenario: Arc::clone(&shorter.scenario), faults, ..schedule.clone() })
}

/// Whether the same was seen, whichever step it now is: a step that asks for what a step made that was left out fails
/// otherwise.
fn alike(one: Option<&Violation>, other: Option<&Violation>) -> bool {
    let told = |violation: &Violation| {
        let seen = violation.seen.split_once('(').map_or(violation.seen.as_str(), |(_, rest)| rest);
        (violation.invariant, seen.to_owned())
    };
    one.map(told) == other.map(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::Invariant;

    fn seen(invariant: Invariant, seen: &str) -> Violation {
        Violation { invariant, seen: seen.to_owned(), at: None }
    }

    #[test]
    fn the_same_at_another_step_is_alike_and_nothing_else_is() {
        let one = seen(Invariant::Data, "step 7 (ExpectData \"a\"): key-1 is Nil");
        assert!(alike(Some(&one), Some(&seen(Invariant::Data, "step 3 (ExpectData \"a\"): key-1 is Nil"))));
        let others = [
            seen(Invariant::Data, "step 7 (ExpectData \"a\"): nothing was written"),
            seen(Invariant::Converges, "step 7 (ExpectData \"a\"): key-1 is Nil"),
        ];
        assert!(others.iter().all(|other| !alike(Some(&one), Some(other))));
        assert!(!alike(Some(&one), None));
    }
}
