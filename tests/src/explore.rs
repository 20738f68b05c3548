//! Scenarios in a simulated world, with every fault at every call of the host.
//!
//! A scenario is run once without a fault, which gives the calls that the host makes. Then it is run again for each
//! fault at each of them: where a step was disturbed, it is done again, after a crash by a new host, until it is done;
//! all other steps must see what they see without a fault, but for data that nobody owes any more. In the end, whatever
//! happened, doing it again changes nothing, and nothing is left once the caches and their data are removed.
//!
//! Time is tokio's, which stands while anything can go on, and leaps when nothing can: a call that hangs costs nothing.

mod attempt;
mod cases;
mod explained;
mod matrix;
mod owed;
mod random;
mod shrink;
mod subject;

use std::fmt;
use std::sync::Arc;

use elasticache_host::Engine;

pub use self::attempt::attempt;
pub use self::cases::{CASES, cases};
pub use self::matrix::{Event, Faults, explore, on_all_cores};
pub(crate) use self::matrix::{one_more, without_fault};
pub use self::random::{NO_ENGINE, is_random, named, persistent, random};
pub use self::shrink::shrink;
pub use self::subject::{Subject, Undescribed};

use crate::corpus::{Action, Scenario};
use crate::faults::{Line, Planned};

/// One run of a scenario: with these faults it always goes the same way.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What is done.
    pub scenario: Arc<Scenario>,
    /// With which engine.
    pub engine: Engine,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// The seed by which operations at once are interleaved; in the order in which they come without one.
    pub order: Option<u64>,
}

/// As `--replay` takes it.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(Planned::to_string).collect();
        write!(f, "{}/{}/{}", self.scenario.name, self.engine, faults.join(","))
    }
}

/// What came of a schedule.
#[derive(Debug)]
pub struct Trial {
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Every call of the host.
    pub calls: Vec<Line>,
    /// The faults that calls have met.
    pub met: Vec<Planned>,
    /// How many calls there were before each step.
    pub begun: Vec<usize>,
}

/// What must hold whatever goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// An operation that was disturbed ends with an error that says so, and what was not disturbed goes on.
    Errors,
    /// Done again, it succeeds.
    Converges,
    /// Every acknowledged write is there where that is promised, and nothing else is.
    Data,
    /// An endpoint that was returned answers.
    Endpoint,
    /// Nothing is there that nobody asked for.
    NothingLeaks,
    /// What is somebody else's stays as it is.
    NothingForeign,
    /// Doing it once more changes nothing.
    NothingChanges,
    /// It comes to an end.
    Ends,
    /// Where it fails to bring a cache up, it leaves no container and takes no volume.
    LeavesIt,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 9] = [
        Invariant::Errors,
        Invariant::Converges,
        Invariant::Data,
        Invariant::Endpoint,
        Invariant::NothingLeaks,
        Invariant::NothingForeign,
        Invariant::NothingChanges,
        Invariant::Ends,
        Invariant::LeavesIt,
    ];

    /// The clause of the specification.
    pub fn clause(self) -> &'static str {
        match self {
            Invariant::Errors => "FAIL-1",
            Invariant::Converges => "FAIL-2",
            Invariant::Data => "FAIL-3",
            Invariant::Endpoint => "FAIL-4",
            Invariant::NothingLeaks => "FAIL-5",
            Invariant::NothingForeign => "FAIL-6",
            Invariant::NothingChanges => "FAIL-7",
            Invariant::Ends => "FAIL-8",
            Invariant::LeavesIt => "FAIL-9",
        }
    }

    /// What a step that did not see what it must is about.
    fn of(action: Action) -> Self {
        match action {
            Action::Write | Action::ExpectData | Action::ExpectDataOf | Action::ExpectEmpty => {
                Invariant::Data
            }
            Action::Count | Action::ExpectNoFile => Invariant::NothingLeaks,
            Action::ExpectLookAlikes => Invariant::NothingForeign,
            _ => Invariant::Converges,
        }
    }
}

/// What did not hold, and how that was seen.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// How.
    pub seen: String,
    /// The step that did not see what it must; none where that was seen when all were done.
    pub at: Option<usize>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.clause(), self.seen)
    }
}
