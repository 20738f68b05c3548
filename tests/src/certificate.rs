//! From what was run to what is reported: scenarios, faults and clauses of one policy.

mod plain;

use std::collections::{BTreeMap, BTreeSet};

use elasticache_host::{Description, Engine, PolicyInfo};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

pub use self::plain::plain_failure;

use crate::corpus::Scenario;
use crate::explore::{CASES, Invariant, Schedule, Trial};
use crate::faults::{Fault, Line};
use crate::report::model;
use crate::spec::{self, Clause, Profile};
use crate::trace;
use crate::verdict::{self, Outcome};
use crate::world::Place;

/// Failures that are reported call by call; of the others there is what the matrix shows.
pub const FAILURES: usize = 100;

/// The contract's files: a verdict is about one version of them.
const WIT: [&str; 9] = [
    include_str!("../../wit/docker.wit"),
    include_str!("../../wit/exec.wit"),
    include_str!("../../wit/kube.wit"),
    include_str!("../../wit/lifecycle.wit"),
    include_str!("../../wit/logging.wit"),
    include_str!("../../wit/probes.wit"),
    include_str!("../../wit/snapshots.wit"),
    include_str!("../../wit/types.wit"),
    include_str!("../../wit/world.wit"),
];

/// The hash of what judges: the suite, its corpus and the host.
const SOURCES: &str = env!("SUITE_SOURCES");

/// What was asked for.
pub struct Asked {
    /// `sim`, `docker` or `kube`.
    pub backend: String,
    /// Which world that is, or is a simulation of.
    pub place: Place,
    /// The only profile that is judged, if it is one.
    pub profile: Option<Profile>,
    /// Which faults.
    pub faults: model::Faults,
    /// The seed of what is chance.
    pub seed: u64,
    /// How many schedules of seeds, if they are of seeds.
    pub schedules: Option<u64>,
    /// The part of their names by which scenarios were chosen, if they were.
    pub only: String,
    /// When it began, as RFC 3339 writes it.
    pub started: String,
}

/// Collects what the explorer reports, from all its threads.
#[derive(Default)]
pub struct Matrix {
    rows: Mutex<BTreeMap<(String, String), Row>>,
}

#[derive(Default)]
struct Row {
    /// None until it has been run without a fault.
    plain: Option<Plain>,
    /// Runs and violations, by the call and the fault's word.
    cells: BTreeMap<(usize, Fault), (u64, u64)>,
}

struct Plain {
    title: String,
    clauses: Vec<String>,
    calls: Vec<String>,
    violation: Option<String>,
}

impl Matrix {
    /// Notes a schedule that was run.
    pub fn note(&self, schedule: &Schedule, trial: &Trial) {
        let key = (schedule.scenario.name.clone(), schedule.engine.to_string());
        let violated = u64::from(trial.violation.is_some());
        let mut rows = self.rows.lock();
        if schedule.order.is_some() {
            // One of chance is a row of nobody's.
            return;
        }
        let row = rows.entry(key).or_default();
        if schedule.faults.is_empty() {
            row.plain = Some(Plain {
                title: schedule.scenario.title.clone(),
                clauses: schedule.scenario.clauses.clone(),
                calls: trial.calls.iter().map(|line| line.call.clone()).collect(),
                violation: trial.violation.as_ref().map(ToString::to_string),
            });
        }
        for met in &trial.met {
            let cell = row.cells.entry((met.call, met.fault)).or_default();
            cell.0 += 1;
            cell.1 += violated;
        }
    }

    /// The rows, and the scenarios as they went without a fault.
    fn close(self) -> (Vec<model::Row>, Vec<model::Scenario>) {
        let (mut rows, mut scenarios) = (Vec::new(), Vec::new());
        for ((scenario, engine), row) in self.rows.into_inner() {
            let Some(plain) = row.plain else { continue };
            let calls = plain.calls.into_iter().enumerate();
            let cells = row.cells.into_iter().map(|((call, fault), (runs, violations))| model::Cell {
                call,
                fault,
                runs,
                violations,
            });
            scenarios.push(model::Scenario {
                name: scenario.clone(),
                title: plain.title,
                engine: Some(engine.clone()),
                clauses: plain.clauses,
                outcome: if plain.violation.is_some() {
                    model::Status::Failed
                } else {
                    model::Status::Passed
                },
                message: plain.violation.unwrap_or_default(),
            });
            rows.push(model::Row {
                scenario,
                engine,
                calls: calls.map(|(index, name)| model::Call { index, name }).collect(),
                cells: cells.collect(),
            });
        }
        (rows, scenarios)
    }
}

/// A schedule in which something did not hold: the clause, what was seen, and the command that runs it again.
pub fn failure(
    schedule: &Schedule,
    trial: &Trial,
    place: Place,
    (clause, message): (&str, &str),
    replay: String,
) -> model::Failure {
    model::Failure {
        clause: clause.to_owned(),
        scenario: schedule.scenario.name.clone(),
        engine: schedule.engine.to_string(),
        schedule: schedule.faults.clone(),
        seed: schedule.order,
        message: message.to_owned(),
        replay,
        calls: lines(&trial.calls, place),
    }
}

/// The calls of a run. What was named by chance is numbered: another run of the same has the same report.
fn lines(calls: &[Line], place: Place) -> Vec<model::Line> {
    let mut known = Vec::new();
    calls.iter().map(|call| line(call, trace::numbered(&call.object, &mut known), place)).collect()
}

fn line(line: &Line, object: String, place: Place) -> model::Line {
    let target = match (line.call.as_str(), place) {
        ("check" | "command", _) => model::Target::Cache,
        (_, Place::Kube { .. }) => model::Target::Cluster,
        (_, Place::Docker) => model::Target::Engine,
    };
    model::Line {
        host: line.host,
        target,
        call: line.call.clone(),
        object,
        result: line.result.clone(),
        fault: line.fault,
    }
}

/// Lines of scenarios that were run without faults, in the words of the report.
pub fn scenarios(lines: &[verdict::Line]) -> Vec<model::Scenario> {
    let scenario = |line: &verdict::Line| {
        let (outcome, message) = match &line.outcome {
            Outcome::Passed { .. } => (model::Status::Passed, String::new()),
            Outcome::Failed(error) => (model::Status::Failed, format!("{error:#}")),
            Outcome::Skipped(why) => (model::Status::Skipped, (*why).to_owned()),
            Outcome::NotClaimed(what) => (model::Status::NotClaimed, format!("{what} is not claimed")),
        };
        model::Scenario {
            name: line.name.clone(),
            title: line.title.clone(),
            engine: line.engine.map(|engine: Engine| engine.to_string()),
            clauses: line.clauses.clone(),
            outcome,
            message,
        }
    };
    lines.iter().map(scenario).collect()
}

/// What was seen, all of it.
#[derive(Default)]
pub struct Seen {
    /// Without faults.
    pub scenarios: Vec<model::Scenario>,
    /// With them.
    pub matrix: Matrix,
    /// What did not hold, as far as it is shown.
    pub failures: Vec<model::Failure>,
    /// The clauses of all that did not hold.
    pub violated: BTreeSet<&'static str>,
    /// In how many schedules a call met a fault.
    pub met: u64,
    /// The clauses about some faults only that were tested.
    pub tested: BTreeSet<&'static str>,
    /// What was left out from the beginning.
    pub skipped: Vec<model::Skip>,
    /// Counts.
    pub figures: BTreeMap<String, u64>,
}

/// The report, and with it the verdict. `description` is what the policy says of itself where it was run.
///
/// # Errors
/// If the specification cannot be read.
pub fn report(
    asked: &Asked,
    policy: &PolicyInfo,
    description: Option<&Description>,
    seen: Seen,
) -> anyhow::Result<model::Report> {
    let Seen { mut scenarios, matrix, mut failures, violated, met, tested, mut skipped, figures } = seen;
    let (matrix, explored) = matrix.close();
    scenarios.extend(explored);
    failures.sort_by(|a, b| (&a.clause, &a.replay).cmp(&(&b.clause, &b.replay)));
    failures.truncate(FAILURES);
    let tried =
        Tried { asked, description, scenarios: &scenarios, violated: &violated, met, tested: &tested };
    let judged = tried.clauses()?;
    let untested = tried.untested(&judged);
    let skip = |what: &str, why: &str| model::Skip { what: what.to_owned(), why: why.to_owned() };
    skipped
        .extend(untested.iter().map(|claim| skip(claim, "it is claimed, and nothing that was run tests it")));
    let is_skipped = |judged: &&Judged| judged.status == model::Status::Skipped;
    skipped.extend(
        judged
            .iter()
            .filter(is_skipped)
            .map(|judged| skip(judged.clause.id, "nothing that was run asks for it")),
    );
    if !asked.only.is_empty() {
        let why = format!("only those with {:?} in their names were run", asked.only);
        skipped.push(skip("scenarios", &why));
    }
    let failed = judged.iter().any(|judged| judged.status == model::Status::Failed)
        || scenarios.iter().any(|scenario| scenario.outcome == model::Status::Failed)
        || !failures.is_empty()
        // What is claimed is to be shown; unless somebody chose to look at a part only, there was every chance.
        || !untested.is_empty() && asked.only.is_empty();
    let verdict = match (failed, skipped.is_empty()) {
        (true, _) => model::Verdict::Fails,
        (false, false) => model::Verdict::Partial,
        (false, true) => model::Verdict::Conforms,
    };
    let said = |said: fn(&Description) -> &str| description.map(said).unwrap_or_default().to_owned();
    Ok(model::Report {
        policy: model::Policy {
            file: policy.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            sha256: policy.sha256.clone(),
            name: said(|of| &of.name),
            version: said(|of| &of.version),
            promises: promises(description).iter().map(|promise| (*promise).to_owned()).collect(),
        },
        wit_sha256: hash(WIT),
        suite_sha256: hash([SOURCES, spec::TEXT, env!("CARGO_PKG_VERSION")]),
        backend: asked.backend.clone(),
        world: asked.place.as_str().to_owned(),
        profile: asked.profile.map(|profile| profile.to_string()),
        faults: asked.faults,
        seed: asked.seed,
        schedules: asked.schedules,
        started: asked.started.clone(),
        verdict,
        clauses: judged.into_iter().map(Judged::reported).collect(),
        scenarios,
        matrix,
        failures,
        figures,
        skipped,
        mutants: None,
    })
}

fn promises(description: Option<&Description>) -> &[&'static str] {
    description.map_or(&[][..], |of| &of.promises)
}

/// What was asked for, and what came of it.
struct Tried<'a> {
    asked: &'a Asked,
    description: Option<&'a Description>,
    scenarios: &'a [model::Scenario],
    violated: &'a BTreeSet<&'static str>,
    met: u64,
    tested: &'a BTreeSet<&'static str>,
}

/// A clause, with how it went.
struct Judged {
    clause: Clause,
    status: model::Status,
    tests: Vec<String>,
}

impl Judged {
    fn was_tried(&self) -> bool {
        was_tried(self.status)
    }

    fn reported(self) -> model::Clause {
        let Clause { id, profile, text } = self.clause;
        let (id, profile, text) = (id.to_owned(), profile.to_string(), text.to_owned());
        model::Clause { id, profile, text, status: self.status, tests: self.tests }
    }
}

fn was_tried(status: model::Status) -> bool {
    matches!(status, model::Status::Passed | model::Status::Failed)
}

impl Tried<'_> {
    /// Every clause, with what of a run tests it. What nothing of a run does is for this repository's own tests.
    fn clauses(&self) -> anyhow::Result<Vec<Judged>> {
        let corpus = crate::corpus::all()?;
        let explored: BTreeSet<&str> = Invariant::ALL.iter().map(|invariant| invariant.clause()).collect();
        let mut clauses = Vec::new();
        for clause in spec::all()? {
            let names = |scenario: &&Scenario| scenario.clauses.iter().any(|id| id == clause.id);
            let scenarios: Vec<&Scenario> = corpus.iter().filter(names).collect();
            let mut tests: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
            let is_explored = explored.contains(clause.id);
            let is_case = CASES.iter().any(|case| case.clause == clause.id);
            if is_explored {
                tests.push("every fault".to_owned());
            }
            if is_case {
                tests.push("crashes of the host".to_owned());
            }
            if tests.is_empty() {
                tests.push("this repository's own tests".to_owned());
            }
            let status = if !self.owes(&clause) {
                model::Status::NotClaimed
            } else if self.refutes(clause.id) {
                model::Status::Failed
            } else if is_explored {
                self.of_faults(self.met > 0)
            } else if is_case {
                self.of_case(clause.id)
            } else if scenarios.is_empty() {
                // Of these a run can show that they do not hold, and never that they do.
                model::Status::NotAsked
            } else {
                self.of_scenarios(&clause, &scenarios)
            };
            clauses.push(Judged { clause, status, tests });
        }
        Ok(clauses)
    }

    /// Whether something that was run shows that a clause does not hold.
    fn refutes(&self, id: &str) -> bool {
        let names = |scenario: &&model::Scenario| scenario.clauses.iter().any(|of| of == id);
        self.violated.contains(id)
            || self.scenarios.iter().filter(names).any(|of| of.outcome == model::Status::Failed)
    }

    /// Whether the policy owes it here.
    fn owes(&self, clause: &Clause) -> bool {
        let Asked { place, profile, .. } = self.asked;
        let here = match clause.profile {
            Profile::Docker => *place == Place::Docker,
            Profile::Kube => matches!(place, Place::Kube { .. }),
            Profile::Core | Profile::Durable | Profile::Ephemeral | Profile::Aws => true,
        };
        let chosen = profile.is_none_or(|profile| profile.owes(clause));
        here && chosen && clause.promises().iter().all(|promise| promises(self.description).contains(promise))
    }

    fn of_faults(&self, met: bool) -> model::Status {
        match (self.asked.faults, met) {
            (model::Faults::None, _) => model::Status::NotAsked,
            (_, false) => model::Status::Skipped,
            (_, true) => model::Status::Passed,
        }
    }

    /// Of the faults of a clause about some only. Whether chance brings one about is chance.
    fn of_case(&self, id: &str) -> model::Status {
        match self.of_faults(self.tested.contains(id)) {
            model::Status::Skipped if self.asked.faults == model::Faults::Random => model::Status::NotAsked,
            status => status,
        }
    }

    fn of_scenarios(&self, clause: &Clause, naming: &[&Scenario]) -> model::Status {
        let names = |scenario: &&model::Scenario| scenario.clauses.iter().any(|id| id == clause.id);
        let outcomes: Vec<model::Status> =
            self.scenarios.iter().filter(names).map(|scenario| scenario.outcome).collect();
        // What is about engines that the policy does not have is nothing that it owes.
        let no_engine = self.description.is_some_and(|description| {
            naming.iter().all(|scenario| verdict::engines(scenario, description).is_empty())
        });
        if outcomes.contains(&model::Status::Passed) {
            model::Status::Passed
        } else if no_engine {
            model::Status::NotClaimed
        } else {
            model::Status::Skipped
        }
    }

    /// What the policy claims, of what was asked about, and nothing that was run could refute: promises, and engines.
    fn untested(&self, judged: &[Judged]) -> Vec<String> {
        let Some(description) = self.description else { return Vec::new() };
        let asked = |promise: &&&str| self.asked.profile.is_none_or(|p| p.promises().contains(*promise));
        let holds_it_to = |promise: &str| {
            let about = |judged: &&Judged| judged.clause.promises().contains(&promise);
            judged.iter().filter(about).any(Judged::was_tried)
        };
        let promises = description.promises.iter().filter(asked).filter(|promise| !holds_it_to(promise));
        let runs = |engine: &&Engine| {
            let with = |scenario: &&model::Scenario| scenario.engine.as_deref() == Some(engine.as_str());
            self.scenarios.iter().filter(with).any(|scenario| was_tried(scenario.outcome))
        };
        let engines = description.engines.iter().filter(|engine| !runs(engine));
        promises
            .map(|promise| (*promise).to_owned())
            .chain(engines.map(|engine| engine.to_string()))
            .collect()
    }
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    crate::trace::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests;
