//! `junit.xml`: the same for whatever reads test results.
//!
//! Three suites: `clauses`, `scenarios`, and `faults`, where a case is a scenario with one engine under all of its
//! faults; and a fourth, `mutants`, if there were any. The properties of each say what was asked for. No case has a duration: a report has one time only.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::Report;
use super::model::{Failure, Faults, Scenario, Status};

/// A case, and how it ended.
struct Case<'a> {
    /// What it is grouped by: a profile, an engine, a file.
    class: &'a str,
    name: String,
    end: End,
}

enum End {
    Passed,
    /// In a line, and in full.
    Failed(String, String),
    /// Why.
    Skipped(String),
}

/// The text of the file.
pub(super) fn text(report: &Report) -> Result<String> {
    let mut suites =
        vec![("clauses", clauses(report)), ("scenarios", scenarios(report)), ("faults", faults(report))];
    suites.extend(mutants(report).map(|cases| ("mutants", cases)));
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all: Vec<&Case> = suites.iter().flat_map(|(_, cases)| cases).collect();
    let name = format!("{} {}", report.policy.name, report.policy.version);
    let counted = counts(all.into_iter());
    let element = writer.create_element("testsuites").with_attribute(("name", printable(&name).as_str()));
    let element =
        counted.iter().fold(element, |element, (key, count)| element.with_attribute((*key, &**count)));
    element.write_inner_content(|writer| {
        suites.iter().try_for_each(|(name, cases)| suite(writer, name, report, cases))
    })?;
    let text = String::from_utf8(writer.into_inner()).context("the XML is no text")?;
    Ok(text + "\n")
}

fn suite(writer: &mut Writer<Vec<u8>>, name: &str, report: &Report, cases: &[Case]) -> std::io::Result<()> {
    let element = writer.create_element("testsuite").with_attribute(("name", name));
    let element = element.with_attribute(("timestamp", printable(&report.started).as_str()));
    let counted = counts(cases.iter());
    let element =
        counted.iter().fold(element, |element, (key, count)| element.with_attribute((*key, &**count)));
    element.write_inner_content(|writer| {
        writer.create_element("properties").write_inner_content(|writer| {
            properties(report).iter().try_for_each(|(name, value)| {
                let property = writer.create_element("property").with_attribute(("name", *name));
                property.with_attribute(("value", printable(value).as_str())).write_empty()?;
                Ok(())
            })
        })?;
        cases.iter().try_for_each(|case| write(writer, case))
    })?;
    Ok(())
}

/// What was asked for.
fn properties(report: &Report) -> Vec<(&'static str, String)> {
    let mut properties = vec![
        ("backend", report.backend.clone()),
        ("world", report.world.clone()),
        ("faults", report.faults.as_str().to_owned()),
        ("seed", report.seed.to_string()),
    ];
    properties.extend(report.profile.clone().map(|profile| ("profile", profile)));
    properties.extend(report.schedules.map(|schedules| ("schedules", schedules.to_string())));
    properties
}

fn counts<'a>(cases: impl Iterator<Item = &'a Case<'a>> + Clone) -> [(&'static str, String); 4] {
    let failed = cases.clone().filter(|case| matches!(case.end, End::Failed(..))).count();
    let skipped = cases.clone().filter(|case| matches!(case.end, End::Skipped(_))).count();
    [
        ("tests", cases.count().to_string()),
        ("failures", failed.to_string()),
        ("errors", "0".to_owned()),
        ("skipped", skipped.to_string()),
    ]
}

fn write(writer: &mut Writer<Vec<u8>>, case: &Case) -> std::io::Result<()> {
    let (class, name) = (printable(case.class), printable(&case.name));
    let element = writer.create_element("testcase").with_attribute(("classname", class.as_str()));
    let element = element.with_attribute(("name", name.as_str()));
    match &case.end {
        End::Passed => element.write_empty()?,
        End::Failed(line, all) => element.write_inner_content(|writer| {
            let failure =
                writer.create_element("failure").with_attribute(("message", printable(line).as_str()));
            failure.write_text_content(BytesText::new(&printable(all)))?;
            Ok(())
        })?,
        End::Skipped(why) => element.write_inner_content(|writer| {
            let skipped =
                writer.create_element("skipped").with_attribute(("message", printable(why).as_str()));
            skipped.write_empty()?;
            Ok(())
        })?,
    };
    Ok(())
}

fn clauses(report: &Report) -> Vec<Case<'_>> {
    let cases = report.clauses.iter().map(|clause| {
        let end = match clause.status {
            Status::Passed => End::Passed,
            Status::Failed => {
                End::Failed("it does not hold".to_owned(), format!("tests: {}", clause.tests.join(", ")))
            }
            Status::Skipped => End::Skipped("it was not tried".to_owned()),
            Status::NotClaimed => End::Skipped("it is not claimed".to_owned()),
            Status::NotAsked => End::Skipped("this run was not to show it".to_owned()),
        };
        Case { class: &clause.profile, name: format!("{} {}", clause.id, clause.text), end }
    });
    cases.collect()
}

fn scenarios(report: &Report) -> Vec<Case<'_>> {
    let cases = report.scenarios.iter().map(|scenario| {
        let message = scenario.message.clone();
        let end = match scenario.outcome {
            Status::Passed => End::Passed,
            Status::Failed => {
                let mut all = vec![scenario.clauses.join(", "), message.clone()];
                all.extend(plainly_failed(report, scenario).map(|failure| failure.replay.clone()));
                End::Failed(first_line(&message), all.join("\n"))
            }
            Status::Skipped | Status::NotAsked => End::Skipped(message),
            Status::NotClaimed => End::Skipped(format!("not claimed: {message}")),
        };
        Case { class: scenario.engine.as_deref().unwrap_or("-"), name: scenario.name.clone(), end }
    });
    cases.collect()
}

/// Its failure, where nothing went wrong on purpose.
fn plainly_failed<'a>(report: &'a Report, scenario: &'a Scenario) -> impl Iterator<Item = &'a Failure> {
    report.failures.iter().filter(|failure| {
        failure.schedule.is_empty()
            && failure.scenario == scenario.name
            && scenario.engine.as_ref() == Some(&failure.engine)
    })
}

/// Where there were faults. Readers of the format take one failure for a case, so all of a scenario's stand in one.
fn faults(report: &Report) -> Vec<Case<'_>> {
    let mut tried: BTreeMap<(&str, &str), Vec<&Failure>> = BTreeMap::new();
    for row in &report.matrix {
        tried.entry((&row.engine, &row.scenario)).or_default();
    }
    // Without any, what failed is among the scenarios.
    for failure in report.failures.iter().filter(|_| report.faults != Faults::None) {
        tried.entry((&failure.engine, &failure.scenario)).or_default().push(failure);
    }
    let cases = tried.into_iter().map(|((class, name), failures)| {
        let end = match failures.as_slice() {
            [] => End::Passed,
            [first, ..] => End::Failed(
                format!("{}: {} ({} in all)", first.clause, first_line(&first.message), failures.len()),
                failures.iter().map(|failure| in_full(failure)).collect::<Vec<_>>().join("\n\n"),
            ),
        };
        Case { class, name: name.to_owned(), end }
    });
    cases.collect()
}

fn in_full(failure: &Failure) -> String {
    format!("{}: {}\n{}", failure.clause, failure.message, failure.replay)
}

fn mutants(report: &Report) -> Option<Vec<Case<'_>>> {
    let cases = report.mutants.as_ref()?.iter().map(|mutant| {
        let end = if mutant.survived() {
            End::Failed("nothing noticed it".to_owned(), mutant.what.clone())
        } else {
            End::Passed
        };
        Case { class: &mutant.file, name: mutant.id.clone(), end }
    });
    Some(cases.collect())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// XML has no way to write some characters, such as those that colour a terminal.
fn printable(text: &str) -> String {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    };
    text.chars().map(|c| if allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}
