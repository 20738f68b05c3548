//! Mutants of policies, each in a simulated world: scenarios first, and single faults where these do without.

use std::sync::Arc;

use anyhow::Result;
use elasticache_host::Engine;

use super::{Kill, Mutant};
use crate::corpus::Scenario;
use crate::explore::{Schedule, Subject, Violation, attempt, one_more, without_fault};
use crate::verdict::plan;

/// The first scenario, or the first fault, that shows the policy to be broken.
///
/// # Errors
/// If a schedule cannot be run.
pub fn judge(subject: &Subject, scenarios: &[Arc<Scenario>], mutant: &Mutant) -> Result<Option<Kill>> {
    let named = |name: &Option<String>| -> Vec<Arc<Scenario>> {
        scenarios.iter().filter(|scenario| name.as_ref() == Some(&scenario.name)).cloned().collect()
    };
    // Where it is said what will show it there is no need to look elsewhere first.
    for (plain, faults) in
        [(named(&mutant.scenario), named(&mutant.faults)), (scenarios.to_vec(), scenarios.to_vec())]
    {
        if let Some(kill) = plainly(subject, &plain)? {
            return Ok(Some(kill));
        }
        if let Some(kill) = with_a_fault(subject, &faults)? {
            return Ok(Some(kill));
        }
    }
    Ok(None)
}

/// The first single fault that shows it.
fn with_a_fault(subject: &Subject, scenarios: &[Arc<Scenario>]) -> Result<Option<Kill>> {
    for scenario in scenarios {
        let Some(&engine) = engines(subject, scenario).first() else { continue };
        let schedule = without_fault(scenario, engine);
        let plain = attempt(subject, &schedule)?;
        for schedule in one_more(subject, &schedule, &plain) {
            if let Some(violation) = attempt(subject, &schedule)?.violation {
                return Ok(Some(kill(&schedule, &violation)));
            }
        }
    }
    Ok(None)
}

/// The first scenario that shows it without any fault: by a step of its own, or else by what must hold after any.
///
/// # Errors
/// If a schedule cannot be run.
pub fn plainly(subject: &Subject, scenarios: &[Arc<Scenario>]) -> Result<Option<Kill>> {
    let mut after = None;
    // What goes for one engine mostly goes for another, so that all scenarios come first.
    for engine in [Engine::Redis, Engine::Memcached, Engine::Valkey] {
        for scenario in scenarios.iter().filter(|scenario| engines(subject, scenario).contains(&engine)) {
            let schedule = without_fault(scenario, engine);
            match attempt(subject, &schedule)?.violation {
                Some(Violation { at: Some(at), .. }) => {
                    let clauses = scenario.refuted_at(at).to_vec();
                    return Ok(Some(Kill { clauses, test: schedule.to_string() }));
                }
                Some(violation) => drop(after.get_or_insert_with(|| kill(&schedule, &violation))),
                None => {}
            }
        }
    }
    Ok(after)
}

fn engines(subject: &Subject, scenario: &Scenario) -> Vec<Engine> {
    plan(scenario, Some(&subject.description), "docker").unwrap_or_default()
}

fn kill(schedule: &Schedule, violation: &Violation) -> Kill {
    Kill { clauses: vec![violation.invariant.clause().to_owned()], test: schedule.to_string() }
}
