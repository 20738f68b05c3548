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
pub const CASES: [Case; 7] = [
    Case { clause: "UP-8", invariant: Invariant::Converges, fault: kills_host, step: brings_up },
    Case { clause: "DATA-10", invariant: Invariant::Data, fault: kills_host, step: any },
    Case { clause: "REST-10", invariant: Invariant::Data, fault: kills_host, step: restores },
    Case { clause: "KUBE-5", invariant: Invariant::Data, fault: kills_host, step: reboots },
    Case { clause: "KUBE-6", invariant: Invariant::Data, fault: kills_host, step: reboots },
    Case { clause: "KUBE-7", invariant: Invariant::Data, fault: kills_host, step: restores },
    Case { clause: "KUBE-9", invariant: Invariant::Data, fault: restarts_engine, step: any },
];

fn kills_host(fault: Fault) -> bool {
    matches!(fault, Fault::CrashBefore | Fault::CrashAfter)
}

fn restarts_engine(fault: Fault) -> bool {
    fault == Fault::EngineRestart
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

/// Whether it would show that data was lost.
fn looks_for_data(step: &Step) -> bool {
    matches!(step.r#do, Action::ExpectData | Action::ExpectDataOf)
}

/// The clauses of those that a run was a test of, and whether it refuted them.
pub fn cases(schedule: &Schedule, trial: &Trial) -> BTreeSet<(&'static str, bool)> {
    let invariant = trial.violation.as_ref().map(|violation| violation.invariant);
    let mut tested = BTreeSet::new();
    for met in &trial.met {
        let begun = trial.begun.partition_point(|begun| *begun <= met.call);
        let rest = begun.checked_sub(1).and_then(|at| schedule.scenario.steps.get(at..)).unwrap_or_default();
        let Some(step) = rest.first() else { continue };
        let of = CASES.iter().filter(|case| {
            let shows = case.invariant != Invariant::Data || rest.iter().any(looks_for_data);
            (case.fault)(met.fault) && (case.step)(step) && shows
        });
        tested.extend(of.map(|case| (case.clause, invariant == Some(case.invariant))));
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
        scenario.steps =
            vec![step(Action::Up), step(Action::Reboot), step(Action::ExpectData), step(Action::Up)];
        let schedule = crate::explore::without_fault(&Arc::new(scenario), Engine::Redis);
        let seen = |call, fault, invariant: Option<Invariant>| {
            let violation = invariant.map(|invariant| Violation { invariant, seen: String::new(), at: None });
            let met = vec![Planned { call, fault }];
            let trial = Trial { violation, calls: Vec::new(), met, begun: vec![0, 3, 5, 5] };
            Vec::from_iter(cases(&schedule, &trial))
        };
        assert_eq!(seen(2, Fault::CrashAfter, None), [("DATA-10", false), ("UP-8", false)]);
        let reboot = seen(3, Fault::CrashBefore, Some(Invariant::Data));
        assert_eq!(reboot, [("DATA-10", true), ("KUBE-5", true), ("KUBE-6", true)]);
        assert_eq!(seen(3, Fault::EngineRestart, Some(Invariant::Converges)), [("KUBE-9", false)]);
        assert_eq!(seen(3, Fault::FailAfter, Some(Invariant::Data)), []);
        // Nothing looks for data after it.
        assert_eq!(seen(5, Fault::CrashBefore, None), [("UP-8", false)]);
    }
}
