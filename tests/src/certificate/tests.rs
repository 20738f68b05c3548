#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::*;
use crate::corpus;

fn policy() -> PolicyInfo {
    PolicyInfo {
        path: PathBuf::from("p.wasm"),
        size: 0,
        sha256: String::new(),
        wit_version: String::new(),
        initial_memory: None,
        deterministic: true,
        imports: Vec::new(),
        exports: Vec::new(),
        description: None,
    }
}

fn claims(promises: &[&'static str], engines: &[Engine]) -> Description {
    Description {
        name: "p".to_owned(),
        version: "1.0.0".to_owned(),
        summary: String::new(),
        engines: engines.to_vec(),
        backends: vec!["docker"],
        promises: promises.to_vec(),
    }
}

fn asked(faults: model::Faults) -> Asked {
    Asked {
        backend: "sim".to_owned(),
        place: Place::Docker,
        profile: None,
        faults,
        seed: 1,
        schedules: None,
        only: String::new(),
        started: String::new(),
    }
}

/// Every scenario that applies to a policy with these claims, each passed; but for those left out.
fn passed(description: &Description, left_out: impl Fn(&Scenario) -> bool) -> Vec<model::Scenario> {
    let mut passed = Vec::new();
    for scenario in corpus::all().unwrap().into_iter().filter(|scenario| !left_out(scenario)) {
        for engine in verdict::plan(&scenario, Some(description), "docker").unwrap_or_default() {
            passed.push(model::Scenario {
                name: scenario.name.clone(),
                title: String::new(),
                engine: Some(engine.to_string()),
                clauses: scenario.clauses.clone(),
                outcome: model::Status::Passed,
                message: String::new(),
            });
        }
    }
    passed
}

fn verdict_on(asked: &Asked, description: &Description, scenarios: Vec<model::Scenario>) -> model::Report {
    let tested = CASES.iter().map(|case| case.clause).collect();
    report(asked, &policy(), Some(description), Seen { scenarios, met: 1, tested, ..Seen::default() })
        .unwrap()
}

fn status(report: &model::Report, id: &str) -> model::Status {
    report.clauses.iter().find(|clause| clause.id == id).unwrap().status
}

const ENGINES: [Engine; 3] = [Engine::Redis, Engine::Valkey, Engine::Memcached];

#[test]
fn a_policy_of_whatever_promises_conforms_where_all_that_applies_passed() {
    let durable = Profile::Durable.promises();
    for promises in [&[][..], &["endpoint-survives-reboot"], &["data-survives-kill"], durable] {
        let description = claims(promises, &ENGINES);
        let seen = passed(&description, |_| false);
        let report = verdict_on(&asked(model::Faults::Single), &description, seen);
        assert_eq!((report.verdict, report.skipped), (model::Verdict::Conforms, Vec::new()), "{promises:?}");
    }
}

#[test]
fn what_is_claimed_and_not_tested_fails() {
    let description = claims(&["data-survives-kill"], &ENGINES);
    let untested = |scenario: &Scenario| scenario.promises.iter().any(|of| of == "data-survives-kill");
    let some = passed(&description, untested);
    let verdict_on = |asked: &Asked| {
        let seen = Seen { scenarios: some.clone(), met: 1, tested: ["UP-8"].into(), ..Seen::default() };
        report(asked, &policy(), Some(&description), seen).unwrap()
    };
    let report = verdict_on(&asked(model::Faults::Single));
    assert_eq!(report.verdict, model::Verdict::Fails);
    assert_eq!(status(&report, "DATA-4"), model::Status::Skipped);
    assert!(report.skipped.iter().any(|skip| skip.what == "data-survives-kill"), "{:?}", report.skipped);
    // Whoever chose to look at less was told nothing of the rest.
    let part = Asked { only: "up".to_owned(), ..asked(model::Faults::Single) };
    assert_eq!(verdict_on(&part).verdict, model::Verdict::Partial);
    // A profile that asks for less is not about it.
    let core = Asked { profile: Some(Profile::Core), ..asked(model::Faults::Single) };
    assert_eq!(verdict_on(&core).verdict, model::Verdict::Conforms);
}

#[test]
fn an_engine_that_is_claimed_and_with_which_nothing_was_run_fails() {
    let description = claims(&[], &ENGINES);
    let mut some = passed(&description, |_| false);
    some.retain(|scenario| scenario.engine.as_deref() != Some("valkey"));
    let report = verdict_on(&asked(model::Faults::Single), &description, some);
    assert_eq!(report.verdict, model::Verdict::Fails);
    assert_eq!(report.skipped[0].what, "valkey");
}

#[test]
fn a_promise_about_data_of_a_policy_that_runs_no_engine_with_data_fails() {
    let description = claims(&["data-survives-reboot"], &[Engine::Memcached]);
    let seen = passed(&description, |_| false);
    let report = verdict_on(&asked(model::Faults::Single), &description, seen);
    assert_eq!(report.verdict, model::Verdict::Fails);
    // What is about engines that it does not have it does not owe.
    assert_eq!(status(&report, "EXEC-1"), model::Status::NotClaimed);
}

#[test]
fn what_is_owed_and_was_not_tried_never_counts_as_a_pass() {
    let description = claims(&[], &ENGINES);
    let but_one = passed(&description, |scenario| scenario.clauses.iter().any(|id| id == "UP-4"));
    let report = verdict_on(&asked(model::Faults::Single), &description, but_one);
    assert_eq!(report.verdict, model::Verdict::Partial);
    assert_eq!(status(&report, "UP-4"), model::Status::Skipped);
}

#[test]
fn what_is_about_faults_is_asked_for_by_faults_and_passes_only_where_one_was_met() {
    let description = claims(&[], &ENGINES);
    let all = passed(&description, |_| false);
    let without = verdict_on(&asked(model::Faults::None), &description, all.clone());
    assert_eq!(status(&without, "FAIL-1"), model::Status::NotAsked);
    assert_eq!(without.verdict, model::Verdict::Conforms);
    let seen = Seen { scenarios: all, ..Seen::default() };
    let none_met = report(&asked(model::Faults::Single), &policy(), Some(&description), seen).unwrap();
    assert_eq!(status(&none_met, "FAIL-1"), model::Status::Skipped);
    assert_eq!(status(&none_met, "UP-8"), model::Status::Skipped);
    assert_eq!(none_met.verdict, model::Verdict::Partial);
}

#[test]
fn a_clause_that_only_tests_name_fails_where_a_run_refutes_it_and_is_not_asked_for_elsewhere() {
    let description = claims(&[], &ENGINES);
    let scenarios = passed(&description, |_| false);
    let seen = Seen { scenarios, violated: ["DESC-2"].into(), met: 1, ..Seen::default() };
    let refuted = report(&asked(model::Faults::Random), &policy(), Some(&description), seen).unwrap();
    assert_eq!(status(&refuted, "DESC-2"), model::Status::Failed);
    assert_eq!(refuted.verdict, model::Verdict::Fails);
    let held = verdict_on(&asked(model::Faults::Random), &description, passed(&description, |_| false));
    assert_eq!((status(&held, "DESC-2"), held.verdict), (model::Status::NotAsked, model::Verdict::Conforms));
    // Nothing is missing, whoever tests it.
    assert_eq!(held.clauses.len(), spec::all().unwrap().len());
}

#[test]
fn what_was_left_out_from_the_beginning_is_shown_and_keeps_the_verdict_from_conforming() {
    let description = claims(&[], &ENGINES);
    let scenarios = passed(&description, |_| false);
    let left_out = model::Skip { what: "random schedules".to_owned(), why: "no engine".to_owned() };
    let seen = Seen { scenarios, met: 1, skipped: vec![left_out.clone()], ..Seen::default() };
    let report = report(&asked(model::Faults::Random), &policy(), Some(&description), seen).unwrap();
    assert_eq!((report.verdict, report.skipped), (model::Verdict::Partial, vec![left_out]));
}

#[test]
fn a_report_says_which_world_it_was_and_how_many_schedules_there_were_to_be() {
    let description = claims(&[], &ENGINES);
    let claims = Place::Kube { claims: true };
    let asked = Asked { place: claims, schedules: Some(7), ..asked(model::Faults::Random) };
    let report = verdict_on(&asked, &description, Vec::new());
    assert_eq!((report.world.as_str(), report.schedules), ("kube-claims", Some(7)));
    // As whoever reads it finds the same world again.
    assert_eq!(Place::try_from(report.world).unwrap(), claims);
}
