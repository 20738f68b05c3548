//! The report as files: whole, bound to nothing but what it reports, and read by whoever reads such files.
//!
//! Clauses: CERT-1.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod report_support;

use std::collections::BTreeMap;
use std::path::Path;

use conformance::report::{self, FILES, Report, model};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use report_support::sample;

fn written(report: &Report) -> BTreeMap<&'static str, String> {
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), report).unwrap();
    files(folder.path())
}

fn files(folder: &Path) -> BTreeMap<&'static str, String> {
    let text = |name| std::fs::read_to_string(folder.join(name)).unwrap();
    FILES.iter().map(|name| (*name, text(name))).collect()
}

#[test]
fn two_writes_differ_in_nothing_but_the_time() {
    for report in [sample::failing(), sample::conforming()] {
        let later = Report { started: "2031-12-31T23:59:59Z".to_owned(), ..report.clone() };
        let (first, second) = (written(&report), written(&later));
        for name in FILES {
            assert!(first[name].contains(&report.started), "{name} says when");
            assert_ne!(first[name], second[name], "{name} says when");
            assert_eq!(first[name], second[name].replace(&later.started, &report.started), "{name}");
        }
    }
}

#[test]
fn another_report_takes_the_place_of_the_one_before_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("made/for/it");
    report::write(&below, &sample::failing()).unwrap();
    report::write(&below, &sample::conforming()).unwrap();
    assert_eq!(files(&below), written(&sample::conforming()));
    let mut names: Vec<_> =
        std::fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut wanted = FILES;
    wanted.sort();
    assert_eq!(names, wanted);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // In the place of the page there is something that no file can replace.
    std::fs::create_dir(folder.path().join("index.html")).unwrap();
    let error = report::write(folder.path(), &sample::failing()).unwrap_err();
    assert!(format!("{error:#}").contains("index.html"), "{error:#}");
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, FILES.len(), "no half of a file is left");
}

#[test]
fn the_json_is_the_report() {
    for report in [sample::failing(), sample::conforming()] {
        let text = &written(&report)["report.json"];
        assert_eq!(serde_json::from_str::<Report>(text).unwrap(), report);
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let verdict = if report.failures.is_empty() { "conforms" } else { "fails" };
        assert_eq!(json["verdict"], verdict);
        assert_eq!(json["clauses"][5]["status"], "not-claimed");
        assert_eq!(json["matrix"][0]["cells"][11]["fault"], "crash-after");
    }
}

/// A suite or a case: its element, and what is in it.
#[derive(Debug, Default)]
struct Element {
    attributes: BTreeMap<String, String>,
    inside: Vec<(String, Element)>,
    text: String,
}

impl Element {
    fn of(start: &BytesStart) -> Self {
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute.unwrap();
            (attribute.key.0.to_owned(), unescape(&attribute.value).unwrap().into_owned())
        });
        Self { attributes: attributes.collect(), ..Self::default() }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.inside.iter().filter(move |(of, _)| of == name).map(|(_, element)| element)
    }

    fn suite(&self, name: &str) -> &Element {
        self.all("testsuite").find(|suite| suite.attributes["name"] == name).unwrap()
    }

    fn case(&self, name: &str) -> &Element {
        self.all("testcase").find(|case| case.attributes["name"].starts_with(name)).unwrap()
    }

    /// How many cases there are, and how many of them have such an element.
    fn count(&self, name: &str) -> (usize, usize) {
        (
            self.all("testcase").count(),
            self.all("testcase").filter(|case| case.all(name).count() == 1).count(),
        )
    }
}

/// The elements of an XML document, read to its end.
fn parsed(text: &str) -> Element {
    let mut reader = Reader::from_str(text);
    let mut open = vec![(String::new(), Element::default())];
    let name = |start: &BytesStart| start.name().0.to_owned();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => open.push((name(&start), Element::of(&start))),
            Event::Empty(start) => {
                let element = (name(&start), Element::of(&start));
                open.last_mut().unwrap().1.inside.push(element);
            }
            Event::End(_) => {
                let element = open.pop().unwrap();
                open.last_mut().unwrap().1.inside.push(element);
            }
            Event::Text(text) => open.last_mut().unwrap().1.text += &text,
            Event::GeneralRef(entity) => {
                open.last_mut().unwrap().1.text += &unescape(&format!("&{};", &*entity)).unwrap();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open.len(), 1, "everything that is begun is ended");
    open.pop().unwrap().1.inside.pop().unwrap().1
}

#[test]
fn junit_has_the_clauses_scenarios_faults_and_mutants_with_their_counts() {
    let suites = parsed(&written(&sample::failing())["junit.xml"]);
    let names: Vec<&str> = suites.all("testsuite").map(|suite| suite.attributes["name"].as_str()).collect();
    assert_eq!(names, ["clauses", "scenarios", "faults", "mutants"]);
    for suite in suites.all("testsuite") {
        let (tests, failures) = suite.count("failure");
        let (_, skipped) = suite.count("skipped");
        let said =
            ["tests", "failures", "skipped"].map(|key| suite.attributes[key].parse::<usize>().unwrap());
        assert_eq!(said, [tests, failures, skipped], "{:?}", suite.attributes);
    }
    assert_eq!(suites.suite("clauses").count("failure"), (7, 1));
    assert_eq!(suites.suite("clauses").count("skipped"), (7, 2));
    // The rows of the matrix, and a random schedule that is in none of them.
    assert_eq!(suites.suite("faults").count("failure"), (3, 2));
    assert_eq!(suites.suite("mutants").count("failure"), (3, 1));
    let properties = suites.suite("faults").all("properties").next().unwrap();
    let properties: Vec<_> = properties
        .all("property")
        .map(|property| ["name", "value"].map(|key| property.attributes[key].as_str()))
        .collect();
    for asked in [["world", "kube-claims"], ["faults", "random"], ["schedules", "4711"]] {
        assert!(properties.contains(&asked), "{properties:?}");
    }
    assert_eq!(suites.attributes["tests"], "16");
    assert_eq!(suites.attributes["failures"], "5");
    let faults = suites.suite("faults").case("a-stop-keeps-every-write");
    let failure = faults.all("failure").next().unwrap();
    assert!(failure.text.contains(&sample::failing().failures[0].replay), "{failure:?}");
    let survivor = suites.suite("mutants").case("the-survivor").all("failure").next().unwrap();
    assert!(survivor.text.contains(sample::HOSTILE), "text stays text: {survivor:?}");
}

#[test]
fn junit_of_what_conforms_has_no_failure_and_no_mutants() {
    let suites = parsed(&written(&sample::conforming())["junit.xml"]);
    assert_eq!(suites.attributes["failures"], "0");
    assert_eq!(suites.attributes["skipped"], "2");
    assert_eq!(suites.all("testsuite").count(), 3);
}

#[test]
fn what_xml_has_no_way_to_write_is_replaced() {
    let mut report = sample::failing();
    report.scenarios[2].message = "\u{1b}[31mred\u{1b}[0m\u{0}\nsecond line".to_owned();
    let suites = parsed(&written(&report)["junit.xml"]);
    let failure = suites.suite("scenarios").case("own-nine").all("failure").next().unwrap();
    assert_eq!(failure.attributes["message"], "\u{fffd}[31mred\u{fffd}[0m\u{fffd}");
    assert!(failure.text.ends_with("\u{fffd}\nsecond line"), "{failure:?}");
}

#[test]
fn junit_of_a_run_without_faults_has_the_replay_with_the_scenario_that_failed() {
    let mut report = sample::failing();
    report.faults = model::Faults::None;
    report.matrix.clear();
    report.failures.truncate(1);
    let failed = report.scenarios.iter().find(|scenario| scenario.name == "own-nine").unwrap();
    report.failures[0].scenario.clone_from(&failed.name);
    report.failures[0].engine = failed.engine.clone().unwrap();
    report.failures[0].schedule.clear();
    let suites = parsed(&written(&report)["junit.xml"]);
    assert_eq!(suites.suite("faults").count("failure"), (0, 0));
    let failure = suites.suite("scenarios").case("own-nine").all("failure").next().unwrap();
    assert!(failure.text.ends_with(&report.failures[0].replay), "{failure:?}");
}
