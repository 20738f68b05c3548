//! Mutants of policies, each in a simulated world: scenarios first, and single faults where these do without.

use std::sync::Arc;

use anyhow::{Result, bail};
use elasticache_host::Engine;

use super::{Kill, Mutant};
use crate::corpus::Scenario;
use crate::explore::{Schedule, Subject, Violation, attempt, one_more, without_fault};
use crate::verdict::plan;

/// The first scenario, or the first fault, that shows a policy to be broken. `sound` is the same without the breakage:
/// what shows that to be broken as well shows nothing.
///
/// # Errors
/// If a schedule cannot be run, or fails though nothing is broken; if something else shows it than its entry says.
pub fn judge(
    subject: &Subject,
    sound: &Subject,
    scenarios: &[Arc<Scenario>],
    mutant: &Mutant,
) -> Result<Option<Kill>> {
    let named = |name: &Option<String>| -> Vec<Arc<Scenario>> {
        scenarios.iter().filter(|scenario| name.as_ref() == Some(&scenario.name)).cloned().collect()
    };
    let hints = mutant.scenario.is_some() || mutant.faults.is_some();
    // Where it is said what will show it there is no need to look elsewhere first.
    for (plain, faults, as_said) in [
        (named(&mutant.scenario), named(&mutant.faults), true),
        (scenarios.to_vec(), scenarios.to_vec(), !hints),
    ] {
        let mut noticed = plainly(subject, &plain)?;
        if noticed.is_none() {
            noticed = with_a_fault(subject, &faults)?;
        }
        let Some(Noticed { schedule, kill }) = noticed else { continue };
        // What is broken may be what it promises: the scenario is then none of the sound one's.
        let owes = engines(sound, &schedule.scenario).contains(&schedule.engine);
        if owes && let Some(violation) = attempt(sound, &schedule)?.violation {
            bail!("{schedule} fails though nothing is broken: {violation}");
        }
        if !as_said {
            bail!(
                "{}: {schedule} notices it, and what its entry names does not: change the entry",
                mutant.id
            );
        }
        return Ok(Some(kill));
    }
    Ok(None)
}

/// A mutant that was noticed.
pub struct Noticed {
    /// In which run.
    pub schedule: Schedule,
    /// In the words of the report.
    pub kill: Kill,
}

/// The first single fault that shows it.
///
/// # Errors
/// If a schedule cannot be run.
pub fn with_a_fault(subject: &Subject, scenarios: &[Arc<Scenario>]) -> Result<Option<Noticed>> {
    for scenario in scenarios {
        let Some(&engine) = engines(subject, scenario).first() else { continue };
        let schedule = without_fault(scenario, engine);
        let plain = attempt(subject, &schedule)?;
        for schedule in one_more(&schedule, &plain) {
            if let Some(violation) = attempt(subject, &schedule)?.violation {
                return Ok(Some(noticed(schedule, &violation)));
            }
        }
    }
    Ok(None)
}

/// The first scenario that shows it without any fault: by a step of its own, or else by what must hold after any.
///
/// # Errors
/// If a schedule cannot be run.
pub fn plainly(subject: &Subject, scenarios: &[Arc<Scenario>]) -> Result<Option<Noticed>> {
    let mut after = None;
    // What goes for one engine mostly goes for another, so that all scenarios come first.
    for engine in [Engine::Redis, Engine::Memcached, Engine::Valkey] {
        for scenario in scenarios.iter().filter(|scenario| engines(subject, scenario).contains(&engine)) {
            let schedule = without_fault(scenario, engine);
            match attempt(subject, &schedule)?.violation {
                Some(Violation { at: Some(at), .. }) => {
                    let clauses = scenario.refuted_at(at).to_vec();
                    let kill = Kill { clauses, test: schedule.to_string() };
                    return Ok(Some(Noticed { schedule, kill }));
                }
                Some(violation) => drop(after.get_or_insert_with(|| noticed(schedule, &violation))),
                None => {}
            }
        }
    }
    Ok(after)
}

fn engines(subject: &Subject, scenario: &Scenario) -> Vec<Engine> {
    plan(scenario, Some(&subject.description), subject.place.backend()).unwrap_or_default()
}

fn noticed(schedule: Schedule, violation: &Violation) -> Noticed {
    let clauses = vec![violation.invariant.clause().to_owned()];
    Noticed { kill: Kill { clauses, test: schedule.to_string() }, schedule }
}
