//! Clauses that say of some faults, at some operations, what an invariant says of all of them.

use std::collections::BTreeSet;

use super::{Invariant, Schedule, Trial};
use crate::corpus::{Action, Step};
use crate::faults::Fault;

/// One of them.
pub struct Case {
    /// The clause.
    pub clause: &'static str,
    /// What it says.
    invariant: Invariant,
    /// After which faults.
    fault: fn(Fault) -> bool,
    /// At a call of which operations.
    step: fn(&Step) -> bool,
}

/// All of them.
pub const CASES: [Case; 4] = [
    Case { clause: "UP-8", invariant: Invariant::Converges, fault: kills_host, step: brings_up },
    Case { clause: "DATA-10", invariant: Invariant::Data, fault: kills_host, step: any },
    Case { clause: "REST-10", invariant: Invariant::Data, fault: kills_host, step: restores },
    Case { clause: "KUBE-6", invariant: Invariant::Data, fault: kills_host, step: reboots },
];

fn kills_host(fault: Fault) -> bool {
    matches!(fault, Fault::CrashBefore | Fault::CrashAfter)
}

fn any(_: &Step) -> bool {
    true
}

fn brings_up(step: &Step) -> bool {
    step.r#do == Action::Up
}

fn restores(step: &Step) -> bool {
    brings_up(step) && !step.file.is_empty()
}

fn reboots(step: &Step) -> bool {
    step.r#do == Action::Reboot
}

/// The clauses of those that a run was a test of, and whether it refuted them. It is one if it came to its end, or to
/// what the clause is about; of data only if some was written before the step, and was looked for in that cache after
/// it.
pub fn cases(schedule: &Schedule, trial: &Trial) -> BTreeSet<(&'static str, bool)> {
    let mut tested = BTreeSet::new();
    // What a restart took with it may not have been looked for.
    let restarted = trial.met.iter().any(|met| met.fault == Fault::EngineRestart);
    for met in &trial.met {
        let Some(at) = trial.begun.partition_point(|begun| *begun <= met.call).checked_sub(1) else {
            continue;
        };
        let (done, rest) = schedule.scenario.steps.split_at(at.min(schedule.scenario.steps.len()));
        let Some(step) = rest.first() else { continue };
        let looks = |then: &Step| {
            matches!(then.r#do, Action::ExpectData | Action::ExpectDataOf) && then.cache == step.cache
        };
        let asks_for_data =
            !restarted && done.iter().any(|done| done.r#do == Action::Write) && rest.iter().any(looks);
        for case in CASES.iter().filter(|case| (case.fault)(met.fault) && (case.step)(step)) {
            let refuted = trial.violation.as_ref().map(|violation| {
                violation.invariant == case.invariant
                    && (case.invariant == Invariant::Data || violation.at == Some(at))
            });
            let asks = case.invariant != Invariant::Data || asks_for_data;
            match refuted {
                Some(true) => tested.insert((case.clause, true)),
                None if asks => tested.insert((case.clause, false)),
                Some(false) | None => false,
            };
        }
    }
    tested
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use elasticache_host::Engine;

    use super::*;
    use crate::corpus;
    use crate::explore::Violation;
    use crate::faults::Planned;

    #[test]
    fn a_fault_tests_what_is_said_of_it_and_of_the_step_in_which_it_was() {
        let mut scenario = corpus::all().unwrap().swap_remove(0);
        let step = |action| Step { r#do: action, ..Step::up("a") };
        let steps = [Action::Up, Action::Write, Action::Reboot, Action::ExpectData, Action::Up];
        scenario.steps = steps.map(step).into();
        let schedule = crate::explore::without_fault(&Arc::new(scenario), Engine::Redis);
        let seen = |call, fault, violation: Option<(Invariant, usize)>| {
            let violation =
                violation.map(|(invariant, at)| Violation { invariant, seen: String::new(), at: Some(at) });
            let met = vec![Planned { call, fault }];
            // The steps that are not operations make no call.
            let trial = Trial { violation, calls: Vec::new(), met, begun: vec![0, 3, 3, 5, 5] };
            Vec::from_iter(cases(&schedule, &trial))
        };
        // Nothing was written yet.
        assert_eq!(seen(2, Fault::CrashAfter, None), [("UP-8", false)]);
        assert_eq!(seen(3, Fault::CrashBefore, None), [("DATA-10", false), ("KUBE-6", false)]);
        let lost = seen(3, Fault::CrashBefore, Some((Invariant::Data, 3)));
        assert_eq!(lost, [("DATA-10", true), ("KUBE-6", true)]);
        // It broke off before anybody looked.
        assert_eq!(seen(3, Fault::CrashBefore, Some((Invariant::Converges, 2))), []);
        assert_eq!(seen(3, Fault::FailAfter, None), []);
        // Nothing looks for data after it, and what failed is another step.
        assert_eq!(seen(5, Fault::CrashBefore, None), [("UP-8", false)]);
        assert_eq!(seen(5, Fault::CrashBefore, Some((Invariant::Converges, 2))), []);
        assert_eq!(seen(5, Fault::CrashBefore, Some((Invariant::Converges, 4))), [("UP-8", true)]);
    }
}
