//! A scenario that failed without a fault, once more with every call of the host.

use std::sync::Arc;

use anyhow::Result;
use elasticache_host::Engine;

use super::failure;
use crate::corpus::Scenario;
use crate::explore::{Schedule, Subject, Violation, attempt, without_fault};
use crate::report::model;

/// The failure that the report shows of it: with the clauses of the step that failed again, or with all that it has and
/// `error`, by which it failed before, where none did. The command that replays it is that of the schedule.
///
/// # Errors
/// If it cannot be run.
pub fn plain_failure(
    subject: &Subject,
    scenario: &Arc<Scenario>,
    engine: Engine,
    error: &anyhow::Error,
    replay: impl Fn(&Schedule) -> String,
) -> Result<model::Failure> {
    let schedule = without_fault(scenario, engine);
    let trial = attempt(subject, &schedule)?;
    let (clauses, seen) = match &trial.violation {
        Some(Violation { at: Some(at), seen, .. }) => (scenario.refuted_at(*at), seen.clone()),
        // What must hold in the end whatever goes wrong is for runs in which something does.
        Some(Violation { at: None, .. }) | None => (scenario.clauses.as_slice(), format!("{error:#}")),
    };
    Ok(failure(&schedule, &trial, subject.place, (&clauses.join(", "), &seen), replay(&schedule)))
}
