//! What judges policies, held against ones of which it is known what is to be said.
//!
//! Clauses: DESC-2.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use conformance::explore::{Subject, attempt, random, shrink};
use conformance::world::Place;
use elasticache_host::{Manifest, PolicySource};

mod sim_support;

use sim_support::durable;

fn environment() -> Manifest {
    let mut environment = Manifest::standard();
    environment.policy = PolicySource::file(durable());
    environment
}

/// In a folder that may go once it is loaded.
fn subject() -> Subject {
    let cache = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Subject::load(&environment(), Place::Docker, cache.path())).unwrap()
}

#[test]
fn a_schedule_in_which_nothing_failed_is_left_whole() {
    let subject = subject();
    let schedule = random(&subject, 17, &[]);
    let trial = attempt(&subject, &schedule).unwrap();
    assert!(trial.violation.is_none(), "{:?}", trial.violation);
    let (least, _) = shrink(&subject, &schedule, trial).unwrap();
    assert_eq!(least.to_string(), schedule.to_string());
}
