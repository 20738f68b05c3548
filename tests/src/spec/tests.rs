//! Every clause has a test, and every test names its clauses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::corpus;
use crate::explore::{CASES, Invariant};

/// What begins the list of clauses in the head of a test file. It ends with a full stop.
const LIST: &str = "//! Clauses: ";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The clauses that the head of a file names.
pub(crate) fn named(text: &str) -> Vec<String> {
    let mut head = text.lines().take_while(|line| line.starts_with("//!"));
    let Some(first) = head.by_ref().find_map(|line| line.strip_prefix(LIST)) else { return Vec::new() };
    let mut list = first.to_owned();
    while !list.ends_with('.') {
        let line = head.next().expect("a list of clauses ends with a full stop");
        list.push_str(line.trim_start_matches("//!"));
    }
    list.trim_end_matches('.').split(',').map(|id| id.trim().to_owned()).collect()
}

/// What names a clause, by the clause's id: scenarios, files of tests, and the explorer.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = |id: &str, test: &str| tests.entry(id.to_owned()).or_default().push(test.to_owned());
    for scenario in corpus::all().unwrap() {
        scenario.clauses.iter().for_each(|id| name(id, &scenario.name));
    }
    Invariant::ALL.iter().for_each(|invariant| name(invariant.clause(), "the fault explorer"));
    CASES.iter().for_each(|case| name(case.clause, "the fault explorer"));
    for folder in ["tests", "../host/src"] {
        for path in sources(&here().join(folder)) {
            let shown = path.strip_prefix(here()).unwrap().display().to_string();
            named(&fs::read_to_string(&path).unwrap()).iter().for_each(|id| name(id, &shown));
        }
    }
    tests
}

#[test]
fn ids_are_unique_and_every_sentence_says_what_must_be() {
    let mut ids = BTreeSet::new();
    for Clause { id, text, .. } in all().unwrap() {
        assert!(ids.insert(id), "{id} is there twice");
        assert!(text.contains("MUST") && text.ends_with('.'), "{id} is no sentence that must hold: {text}");
    }
    assert!(ids.len() > 60, "{}", ids.len());
}

#[test]
fn every_clause_has_a_test() {
    let tests = tests();
    let all = all().unwrap();
    let without: Vec<_> = all.iter().map(|clause| clause.id).filter(|id| !tests.contains_key(*id)).collect();
    assert!(without.is_empty(), "no test names {without:?}");
}

#[test]
fn every_clause_that_a_test_names_exists() {
    for (id, tests) in tests() {
        assert!(find(&id).is_ok(), "there is no clause {id}, which {} names", tests.join(", "));
    }
}

#[test]
fn every_file_of_tests_names_its_clauses() {
    for entry in fs::read_dir(here().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!named(&text).is_empty(), "{} has no line that begins with {LIST:?}", path.display());
        }
    }
}

#[test]
fn no_clause_is_named_twice_in_one_place() {
    for (id, tests) in tests() {
        let places: BTreeSet<_> = tests.iter().collect();
        assert_eq!(places.len(), tests.len(), "{id} in {tests:?}");
    }
}

/// A scenario that runs against policies which do not promise it would count as a test of it, and be none.
#[test]
fn a_scenario_demands_the_promises_of_its_clauses_and_runs_where_they_are_owed() {
    for scenario in corpus::all().unwrap() {
        for clause in scenario.clauses.iter().map(|id| find(id).unwrap()) {
            let name = format!("{} names {}", scenario.name, clause.id);
            for promise in clause.promises() {
                assert!(
                    scenario.promises.iter().any(|p| p == promise),
                    "{name} and not the promise {promise}"
                );
            }
            if let Profile::Docker | Profile::Kube = clause.profile {
                assert_eq!(scenario.backend.as_deref(), Some(clause.profile.as_str()), "{name}");
            }
        }
    }
}

#[test]
fn every_promise_of_the_contract_is_held_to_a_clause_by_a_scenario() {
    let contract = fs::read_to_string(here().join("../wit/types.wit")).unwrap();
    let promises = contract.split_once("enum promise {").unwrap().1.split_once('}').unwrap().0;
    let promises: Vec<&str> =
        promises.lines().map(str::trim).filter_map(|line| line.strip_suffix(',')).collect();
    assert_eq!(promises, PROMISES);
    let scenarios = corpus::all().unwrap();
    let mut clauses = scenarios.iter().flat_map(|scenario| &scenario.clauses).map(|id| find(id).unwrap());
    let held: BTreeSet<&str> = clauses.by_ref().flat_map(|clause| clause.promises()).collect();
    assert_eq!(held, promises.into_iter().collect(), "promises that scenarios hold policies to");
}

/// A promise that nothing could refute would make every policy fail that makes it and none of those beside it.
#[test]
fn each_promise_is_held_to_a_clause_also_of_a_policy_that_makes_no_other() {
    for promise in PROMISES {
        let alone = |scenario: &corpus::Scenario| {
            scenario.promises == [promise]
                && scenario.clauses.iter().any(|id| find(id).unwrap().promises() == [promise])
        };
        assert!(corpus::all().unwrap().iter().any(alone), "{promise}");
    }
}

/// What every policy owes, engines apart.
#[test]
fn what_scenarios_hold_every_policy_to_they_hold_those_to_that_promise_nothing() {
    let scenarios = corpus::all().unwrap();
    for clause in all().unwrap().iter().filter(|clause| clause.promises().is_empty()) {
        let mut naming = scenarios.iter().filter(|s| s.clauses.iter().any(|id| id == clause.id)).peekable();
        let tested = naming.peek().is_none() || naming.any(|scenario| scenario.promises.is_empty());
        assert!(tested, "{} is held to those only that promise more", clause.id);
    }
}

#[test]
fn a_clause_is_listed_under_the_first_profile_that_has_its_promises() {
    for clause in all().unwrap() {
        let promises = clause.promises();
        let fits = |profile: &Profile| promises.iter().all(|promise| profile.promises().contains(promise));
        if !matches!(clause.profile, Profile::Docker | Profile::Kube) {
            let first = Profile::ALL.into_iter().find(fits).unwrap_or(Profile::Core);
            assert_eq!(first, clause.profile, "{}", clause.id);
        }
    }
}

#[test]
fn profiles_promise_what_the_specification_says() {
    for profile in Profile::ALL {
        let promises = match profile.promises() {
            [] => "none".to_owned(),
            promises => promises.join(", "),
        };
        assert!(TEXT.contains(&format!("\n| {profile} | {promises} |\n")), "{profile}: {promises}");
        assert_eq!(profile.as_str().parse::<Profile>().unwrap(), profile);
    }
    assert!("Core".parse::<Profile>().is_err());
}

#[test]
fn what_a_policy_owes_follows_from_its_promises() {
    let owes = |profile: Profile, id: &str| profile.owes(&find(id).unwrap());
    // Of a reboot that keeps data; of a stop that does; of the port; of anybody.
    assert_eq!(
        [Profile::Durable, Profile::Ephemeral, Profile::Aws].map(|p| owes(p, "DATA-1")),
        [true, true, false]
    );
    assert_eq!([Profile::Durable, Profile::Ephemeral].map(|p| owes(p, "DATA-2")), [true, false]);
    assert_eq!([Profile::Docker, Profile::Durable].map(|p| owes(p, "DOCK-1")), [true, false]);
    assert!(Profile::ALL.into_iter().all(|profile| owes(profile, "OWN-1") && !owes(profile, "BOOT-2")));
}

#[test]
fn a_row_that_cannot_be_read_is_an_error() {
    let wrong = |line, words: &str| {
        let error = row(line, Some("BOOT")).unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    };
    wrong("| BOOT-1 | core |", "2 cells");
    wrong("| STOP-1 | core | It MUST. |", "BOOT- and a number");
    wrong("| BOOT-01 | core | It MUST. |", "BOOT- and a number");
    wrong("| BOOT-1 | cor | It MUST. |", "no profile");
    assert!(row("| BOOT-1 | core | It MUST. |", None).is_err());
}

#[test]
fn a_list_of_clauses_may_go_on_in_the_next_line() {
    assert_eq!(named("//! What.\n//!\n//! Clauses: A-1,\n//! B-2.\n\nfn f() {}\n"), ["A-1", "B-2"]);
    assert!(named("//! What.\n\n// Clauses: A-1.\n").is_empty());
}
