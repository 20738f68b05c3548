//! What judges policies, held against ones of which it is known what is to be said.
//!
//! Clauses: CERT-2, DESC-1, DESC-2.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;

use conformance::certificate::{self, Asked, Seen, plain_failure};
use conformance::corpus::{self, Action, Step};
use conformance::explore::{Invariant, Subject, attempt, named, random, shrink};
use conformance::report::model;
use conformance::verdict::{Outcome, judge};
use conformance::world::{Place, World};
use elasticache_host::{Engine, Manifest, PolicySource, inspect_environment};

mod sim_support;

use sim_support::{durable, policy};

fn environment(policy: PathBuf) -> Manifest {
    let mut environment = Manifest::standard();
    environment.policy = PolicySource::file(policy);
    environment
}

/// In a folder that may go once it is loaded.
fn load(policy: PathBuf) -> Subject {
    let cache = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Subject::load(&environment(policy), Place::Docker, cache.path())).unwrap()
}

fn subject() -> Subject {
    load(durable())
}

#[test]
fn a_schedule_in_which_nothing_failed_is_left_whole() {
    let subject = subject();
    let schedule = random(&subject, 17, &[]).unwrap();
    let trial = attempt(&subject, &schedule).unwrap();
    assert!(trial.violation.is_none(), "{:?}", trial.violation);
    let (least, _) = shrink(&subject, &schedule, trial).unwrap();
    assert_eq!(least.to_string(), schedule.to_string());
}

/// Up, write, stop, up, and the look that finds nothing.
const TO_LOSE_DATA: usize = 5;

#[test]
fn a_schedule_that_fails_is_shrunk_to_what_it_takes_and_found_again_by_its_name() {
    let mut subject = load(policy("ephemeral"));
    // It keeps nothing through a stop.
    subject.description.promises = vec!["data-survives-stop"];
    let mut failed = (1..100).filter_map(|seed| {
        let schedule = random(&subject, seed, &[]).unwrap();
        let trial = attempt(&subject, &schedule).unwrap();
        let lost = trial.violation.as_ref().is_some_and(|seen| seen.invariant == Invariant::Data);
        (lost && schedule.scenario.steps.len() > 2 * TO_LOSE_DATA).then_some((schedule, trial))
    });
    let (schedule, trial) = failed.next().unwrap();
    let (least, seen) = shrink(&subject, &schedule, trial).unwrap();
    assert_eq!(seen.violation.as_ref().unwrap().invariant, Invariant::Data);
    assert!(least.faults.is_empty(), "{least}");
    assert!(least.scenario.steps.len() <= TO_LOSE_DATA, "{:?}", least.scenario.steps);
    let again = named(&subject, &least.scenario.name, Vec::new()).unwrap();
    let again = attempt(&subject, &again).unwrap().violation.unwrap();
    assert_eq!(again.to_string(), seen.violation.unwrap().to_string());
}

#[tokio::test]
async fn a_policy_that_does_not_describe_itself_fails_by_what_it_said_instead() {
    let mut environment = environment(durable());
    // No policy begins with less.
    environment.limits.memory = 1;
    let world = || World::sim(Place::Docker);
    let judged = judge(corpus::all().unwrap(), world, &environment, 1, |_| {}).await.unwrap();
    assert!(judged.description.is_none());
    let (first, others) = judged.lines.split_first().unwrap();
    let Outcome::Failed(error) = &first.outcome else { panic!("{:?}", first.outcome) };
    assert!(format!("{error:#}").contains("memory"), "{error:#}");
    assert!(others.iter().all(|line| matches!(line.outcome, Outcome::Skipped(_))));
    let asked = Asked {
        backend: "sim".to_owned(),
        place: Place::Docker,
        profile: None,
        faults: model::Faults::None,
        seed: 1,
        schedules: None,
        only: String::new(),
        started: String::new(),
    };
    let policy = inspect_environment(&environment).await.unwrap();
    let seen = Seen { scenarios: certificate::scenarios(&judged.lines), ..Seen::default() };
    let report = certificate::report(&asked, &policy, None, seen).unwrap();
    assert_eq!(report.verdict, model::Verdict::Fails);
    let failed = report.clauses.iter().filter(|clause| clause.status == model::Status::Failed);
    assert_eq!(failed.map(|clause| clause.id.as_str()).collect::<Vec<_>>(), ["DESC-1"]);
}

#[test]
fn a_scenario_that_fails_without_a_fault_is_shown_with_its_calls_and_the_clauses_of_its_step() {
    let mut scenario = corpus::all().unwrap().swap_remove(0);
    scenario.clauses = vec!["STOP-1".to_owned(), "UP-1".to_owned()];
    let step = Step { clauses: vec!["UP-1".to_owned()], ..Step::up("a") };
    scenario.steps = vec![
        step.clone(),
        Step { r#do: Action::Stop, ..step.clone() },
        // It has just been stopped.
        Step { adopted: Some(true), ..step },
    ];
    let shown = |scenario: &corpus::Scenario| {
        let error = anyhow::anyhow!("as it failed before");
        let replay = |schedule: &conformance::explore::Schedule| schedule.to_string();
        plain_failure(&subject(), &Arc::new(scenario.clone()), Engine::Redis, &error, replay).unwrap()
    };
    let failure = shown(&scenario);
    assert_eq!((failure.clause.as_str(), failure.schedule.len()), ("UP-1", 0));
    assert!(failure.message.starts_with("step 3 "), "{}", failure.message);
    assert_eq!(failure.replay, format!("{}/redis/", scenario.name));
    assert!(failure.calls.iter().any(|line| line.call.contains("stop")), "{:?}", failure.calls);
    // One that does not fail again failed all the same.
    scenario.steps.pop();
    let failure = shown(&scenario);
    assert_eq!((failure.clause.as_str(), failure.message.as_str()), ("STOP-1, UP-1", "as it failed before"));
}
