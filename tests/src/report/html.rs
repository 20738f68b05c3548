//! `index.html`: one page that needs nothing beside it, and asks for nothing.
//!
//! What is text stands in the page as it is written, by the template `page.html`, which escapes all that it is given.
//! `page.js` filters the clauses and draws the fault matrix and the diagrams, of the data that stands in the page as
//! JSON. The page's policy allows that script and `page.css` by their digests, and nothing else.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Report;
use super::model::{Clause, Failure, Row, Status};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the script draws.
#[derive(Serialize)]
struct Data<'a> {
    matrix: &'a [Row],
    failures: &'a [Failure],
}

/// The clauses of a profile.
#[derive(Serialize)]
struct Chapter<'a> {
    profile: &'a str,
    clauses: Vec<&'a Clause>,
}

/// How many clauses went which way.
#[derive(Serialize)]
struct Count {
    status: &'static str,
    count: usize,
}

/// The text of the page.
pub(super) fn text(report: &Report) -> Result<String> {
    let mut environment = Environment::new();
    // A name that the template has wrong is an error, and not nothing.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("page.html", PAGE).context("the page's template")?;
    let data = Data { matrix: &report.matrix, failures: &report.failures };
    let values = context! {
        report => Value::from(Serde(report)),
        chapters => Value::from(Serde(chapters(&report.clauses))),
        counts => Value::from(Serde(counts(&report.clauses))),
        survivors => report.mutants.as_ref().map(|all| all.iter().filter(|mutant| mutant.survived()).count()),
        style => STYLE,
        style_digest => digest(STYLE),
        script => SCRIPT,
        script_digest => digest(SCRIPT),
        data => in_script(&data)?,
    };
    environment.get_template("page.html")?.render(values).context("the page cannot be rendered")
}

/// By profile, in the order in which profiles come up.
fn chapters(clauses: &[Clause]) -> Vec<Chapter<'_>> {
    let mut chapters: Vec<Chapter> = Vec::new();
    for clause in clauses {
        match chapters.iter_mut().find(|chapter| chapter.profile == clause.profile) {
            Some(chapter) => chapter.clauses.push(clause),
            None => chapters.push(Chapter { profile: &clause.profile, clauses: vec![clause] }),
        }
    }
    chapters
}

fn counts(clauses: &[Clause]) -> Vec<Count> {
    let all = [Status::Passed, Status::Failed, Status::Skipped, Status::NotClaimed, Status::NotAsked];
    let count = |status| clauses.iter().filter(|clause| clause.status == status).count();
    all.into_iter().map(|status| Count { status: status.as_str(), count: count(status) }).collect()
}

/// JSON that no `</script>` or `<!--` in it can end: outside of strings JSON has no such character.
fn in_script(data: &Data) -> Result<String> {
    let text = serde_json::to_string(data).context("the report is no JSON")?;
    Ok(text.replace('<', "\\u003c"))
}

/// As a content security policy names an inline element.
fn digest(text: &str) -> String {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    format!("'sha256-{hash}'")
}
