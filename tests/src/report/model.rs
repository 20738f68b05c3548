//! What is reported. The names are those of `report.json`.
//!
//! Lists are shown in the order in which they are given. Whoever fills them in has to give the same order for the same
//! inputs, whatever the machine's cores did first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::faults::{Fault, Planned};

/// A run of the suite against one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was judged.
    pub policy: Policy,
    /// SHA-256, in hex, of the contract's files.
    pub wit_sha256: String,
    /// SHA-256, in hex, of what judged: the sources of the suite, its corpus and the host, and the specification.
    pub suite_sha256: String,
    /// Where the scenarios ran: `sim`, `docker` or `kube`.
    pub backend: String,
    /// Which world that is, or is a simulation of: `docker`, `kube`, or `kube-claims` where data lies on claims.
    pub world: String,
    /// The profile that alone was judged; all that the policy claims without one.
    pub profile: Option<String>,
    /// What went wrong on purpose.
    pub faults: Faults,
    /// The seed of whatever was chance.
    pub seed: u64,
    /// How many schedules were to follow from seeds, that one's and those after it; none where none were.
    pub schedules: Option<u64>,
    /// When the run began, in UTC as RFC 3339 writes it, such as `2026-05-04T03:02:01Z`. No other part of a report
    /// depends on the time.
    pub started: String,
    /// What all of it comes to.
    pub verdict: Verdict,
    /// The specification's clauses, each with how it went.
    pub clauses: Vec<Clause>,
    /// The corpus's scenarios, each with each engine.
    pub scenarios: Vec<Scenario>,
    /// What was tried at which call; empty where no faults were.
    pub matrix: Vec<Row>,
    /// The runs in which something did not hold.
    pub failures: Vec<Failure>,
    /// Counts, by what is counted: `schedules`, `host calls`.
    pub figures: BTreeMap<String, u64>,
    /// What was left out. Anything here keeps the verdict from being `conforms`.
    pub skipped: Vec<Skip>,
    /// The breakages that the suite was held against, if it was.
    pub mutants: Option<Vec<Mutant>>,
}

/// A policy, by what it is and by what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The component's file name, without its folder.
    pub file: String,
    /// SHA-256, in hex, of the component.
    pub sha256: String,
    /// The name that it describes itself by.
    pub name: String,
    /// The version that it describes itself by.
    pub version: String,
    /// What it promises.
    pub promises: Vec<String>,
}

/// Which faults there are in each schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Faults {
    /// None.
    None,
    /// One, each at each call.
    Single,
    /// Two, every pair.
    Pairs,
    /// Some, by the seed.
    Random,
}

/// What all of it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything that applies was tried and held.
    Conforms,
    /// Something was not tried.
    Partial,
    /// Something did not hold, or is claimed and nothing could show it.
    Fails,
}

/// How a clause or a scenario went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was tried and held.
    Passed,
    /// It did not hold.
    Failed,
    /// It was not tried, and so nothing is known.
    Skipped,
    /// It is about what the policy does not claim.
    NotClaimed,
    /// The run was not to show it: it is about faults, and there were to be none, or for the suite's own tests.
    NotAsked,
}

/// A clause of the specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clause {
    /// Its id, such as `SNAP-4`.
    pub id: String,
    /// The profile that it belongs to.
    pub profile: String,
    /// Its sentence.
    pub text: String,
    /// How it went.
    pub status: Status,
    /// The names of what tests it.
    pub tests: Vec<String>,
}

/// A scenario with one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its file's name.
    pub name: String,
    /// Its sentence.
    pub title: String,
    /// The engine, if it came to that.
    pub engine: Option<String>,
    /// The ids of the clauses that it tests.
    pub clauses: Vec<String>,
    /// How it went.
    pub outcome: Status,
    /// What was seen instead, why it was skipped, or what is not claimed; empty if it passed.
    pub message: String,
}

/// A scenario with one engine in the fault matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// The engine.
    pub engine: String,
    /// The calls that the host makes where nothing goes wrong.
    pub calls: Vec<Call>,
    /// What became of the faults at them. A fault that cannot befall a call has no cell there.
    pub cells: Vec<Cell>,
}

/// A call of the host, as a column of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its number in the run, from 0 on.
    pub index: usize,
    /// The method.
    pub name: String,
}

/// One fault at one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The call's number.
    pub call: usize,
    /// What befell it.
    pub fault: Fault,
    /// In how many schedules the call met it.
    pub runs: u64,
    /// In how many of them something did not hold.
    pub violations: u64,
}

/// A run in which something did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The id of the clause that was violated; of a scenario that failed without a fault, the ids of those of which one
    /// at least was, with commas.
    pub clause: String,
    /// The scenario's name.
    pub scenario: String,
    /// The engine.
    pub engine: String,
    /// What went wrong on purpose, in its order.
    pub schedule: Vec<Planned>,
    /// The seed, where the schedule follows from one.
    pub seed: Option<u64>,
    /// What was seen instead of what must be.
    pub message: String,
    /// The command that runs the same once more.
    pub replay: String,
    /// All calls that hosts made, in their order.
    pub calls: Vec<Line>,
}

/// A call, as it was seen to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which process of the run made it: the first is 0, each that takes its place has the next number.
    pub host: u32,
    /// Who was called.
    pub target: Target,
    /// The method.
    pub call: String,
    /// About what.
    pub object: String,
    /// What came back, in a few words; empty if nothing did.
    pub result: String,
    /// What befell it.
    pub fault: Option<Fault>,
}

/// Whom a host calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The container engine.
    Engine,
    /// Kubernetes.
    Cluster,
    /// The server in a cache, in its own protocol.
    Cache,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A breakage that the suite has to notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutant {
    /// Its id.
    pub id: String,
    /// The file that is broken, below the workspace.
    pub file: String,
    /// What is broken.
    pub what: String,
    /// The ids of the clauses of which one at least was seen not to hold; none if the breakage went unnoticed.
    pub killed_by: Vec<String>,
    /// The test that saw it; none if the mutant survived.
    pub test: Option<String>,
}

impl Status {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
            Status::NotClaimed => "not-claimed",
            Status::NotAsked => "not-asked",
        }
    }
}

impl Faults {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Faults::None => "none",
            Faults::Single => "single",
            Faults::Pairs => "pairs",
            Faults::Random => "random",
        }
    }
}

impl Mutant {
    /// Whether nothing noticed it.
    pub fn survived(&self) -> bool {
        self.killed_by.is_empty()
    }
}
