//! What goes wrong between a host and its world: every call of the host passes a [`Tap`], which notes it, and makes
//! some of them fail, hang, happen twice, answer with what was true before, or be the last that the host makes.
//!
//! Which ones is said beforehand, by the number of the call: the world is deterministic, so the same plan gives the
//! same run.

mod cluster;
mod engine;
mod planned;
mod probes;
mod summary;

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use elasticache_host::engine::EngineError;
use elasticache_host::probes::ProbeError;
use fastrand::Rng;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub use self::planned::{Fault, Nature, Planned};
pub use self::summary::Summary;

/// One call, as it was seen to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which process of the run made it: the first is 0, each crash or new host begins another one.
    pub host: u32,
    /// The method of the trait.
    pub call: String,
    /// About what.
    pub object: String,
    /// What came back, in a few words; empty if nothing did.
    pub result: String,
    /// What befell it.
    pub fault: Option<Fault>,
    #[serde(skip, default = "look")]
    pub(crate) nature: Nature,
    /// Whether the same question was answered otherwise before: else nothing is stale about it.
    #[serde(skip)]
    pub(crate) may_be_stale: bool,
}

impl Line {
    /// Whether a fault can befall the call, and is not the same there as another one or none.
    pub(crate) fn may_meet(&self, fault: Fault) -> bool {
        fault.befalls(self.nature) && (fault != Fault::Stale || self.may_be_stale)
    }
}

fn look() -> Nature {
    Nature::Look
}

/// What a trait's method is called with.
pub(crate) struct Call {
    name: &'static str,
    object: String,
    /// What else it was asked, where the same question is one with the same of this. A pod that took another one's name
    /// is another question.
    rest: String,
    nature: Nature,
}

impl Call {
    fn new(nature: Nature, name: &'static str, object: &str, rest: impl fmt::Display) -> Self {
        Self { name, object: object.to_owned(), rest: rest.to_string(), nature }
    }
}

/// The work of a call, not begun yet.
type Work<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// An error that can be said of a call whose reply is lost.
pub(crate) trait Lost: fmt::Display + Send {
    fn lost(object: &str) -> Self;
    /// In one word.
    fn word(&self) -> &'static str;
}

const HUNG_UP: &str = "the connection broke";

impl Lost for EngineError {
    fn lost(object: &str) -> Self {
        EngineError::Unavailable { object: object.to_owned(), message: HUNG_UP.to_owned() }
    }

    fn word(&self) -> &'static str {
        match self {
            EngineError::NotFound { .. } => "not found",
            EngineError::Conflict { .. } => "conflict",
            EngineError::PortTaken { .. } => "port taken",
            EngineError::Unavailable { .. } => "unavailable",
            EngineError::Failed { .. } => "failed",
            EngineError::Io { .. } => "io",
            _ => "error",
        }
    }
}

impl Lost for ProbeError {
    fn lost(object: &str) -> Self {
        ProbeError { endpoint: object.to_owned(), message: HUNG_UP.to_owned(), refused: false }
    }

    fn word(&self) -> &'static str {
        "no answer"
    }
}

/// Clones are the same tap.
#[derive(Clone, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    crash: Notify,
}

#[derive(Default)]
struct State {
    plan: Vec<Planned>,
    met: Vec<Planned>,
    lines: Vec<Line>,
    host: u32,
    crashed: bool,
    /// The names of what was seen under an id.
    names: HashMap<String, String>,
    /// Earlier answers to questions.
    answers: HashMap<String, Box<dyn Any + Send>>,
    /// Restarts the engine.
    restart: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Where operations at once are interleaved by a seed.
    order: Option<Order>,
}

/// Each call waits for a moment of its own, so that which one comes next is a matter of the seed alone.
struct Order {
    random: Rng,
    taken: BTreeSet<Instant>,
}

impl Order {
    fn moment(&mut self) -> Instant {
        let now = Instant::now();
        self.taken.retain(|taken| *taken > now);
        let mut at = now + Duration::from_millis(self.random.u64(1..=64));
        // Two that wake at once would run in an order that nothing decides.
        while !self.taken.insert(at) {
            at += Duration::from_millis(1);
        }
        at
    }
}

impl Tap {
    /// One that follows a plan.
    pub fn new(plan: Vec<Planned>) -> Self {
        let tap = Self::default();
        tap.0.state.lock().plan = plan;
        tap
    }

    /// From now on nothing goes wrong any more.
    pub fn disarm(&self) {
        self.0.state.lock().plan.clear();
    }

    /// From now on calls that are made at once take turns in an order that follows from the seed.
    pub fn interleave(&self, seed: u64) {
        self.0.state.lock().order = Some(Order { random: Rng::with_seed(seed), taken: BTreeSet::new() });
    }

    /// How the engine is restarted.
    pub fn restarts_by(&self, restart: impl Fn() + Send + Sync + 'static) {
        self.0.state.lock().restart = Some(Arc::new(restart));
    }

    /// All calls so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.state.lock().lines.clone()
    }

    /// How many calls there were so far.
    pub fn count(&self) -> usize {
        self.0.state.lock().lines.len()
    }

    /// The faults that calls have met so far.
    pub fn met(&self) -> Vec<Planned> {
        self.0.state.lock().met.clone()
    }

    /// Returns once the host is to die.
    pub async fn crashed(&self) {
        while !self.0.state.lock().crashed {
            self.0.crash.notified().await;
        }
    }

    /// Another process takes the place of the one that died or was ended.
    pub fn new_host(&self) {
        let mut state = self.0.state.lock();
        state.host += 1;
        state.crashed = false;
        if let Some(order) = &mut state.order {
            order.taken.clear();
        }
    }

    /// Notes a call, and says what is to become of it.
    fn begin(&self, call: &Call) -> (usize, Option<Fault>, bool) {
        let mut state = self.0.state.lock();
        let index = state.lines.len();
        let planned = state.plan.iter().find(|planned| planned.call == index).copied();
        let planned = planned.filter(|planned| planned.fault.befalls(call.nature));
        let host = state.host;
        let object = state.names.get(&call.object).unwrap_or(&call.object).clone();
        state.lines.push(Line {
            host,
            call: call.name.to_owned(),
            object,
            result: String::new(),
            fault: None,
            nature: call.nature,
            may_be_stale: false,
        });
        (index, planned.map(|planned| planned.fault), state.crashed)
    }

    /// From now on what is called by its id is noted by its name.
    fn named(&self, id: &str, name: &str) {
        self.0.state.lock().names.insert(id.to_owned(), name.to_owned());
    }

    fn meets(&self, index: usize, fault: Fault) {
        let mut state = self.0.state.lock();
        state.met.push(Planned { call: index, fault });
        if let Some(line) = state.lines.get_mut(index) {
            line.fault = Some(fault);
        }
    }

    async fn turn(&self) {
        let at = self.0.state.lock().order.as_mut().map(Order::moment);
        if let Some(at) = at {
            sleep_until(at).await;
        }
    }

    async fn crash(&self) {
        self.0.state.lock().crashed = true;
        self.0.crash.notify_one();
        pending().await
    }

    fn restart(&self) {
        let restart = self.0.state.lock().restart.clone();
        if let Some(restart) = restart {
            restart();
        }
    }

    /// Does the work of a call, or what is to become of it. `again` is the same work, if it can be done twice.
    pub(crate) async fn pass<'a, T, E>(
        &self,
        call: Call,
        work: Work<'a, T, E>,
        again: Option<Work<'a, T, E>>,
    ) -> Result<T, E>
    where
        T: Summary + Clone + PartialEq + Send + 'static,
        E: Lost,
    {
        self.turn().await;
        let (index, fault, dead) = self.begin(&call);
        if dead {
            pending::<()>().await;
        }
        if let Some(fault) = fault.filter(|fault| *fault != Fault::Stale) {
            self.meets(index, fault);
        }
        match fault {
            Some(Fault::FailBefore) => return self.ended(index, Err(E::lost(&call.object))),
            Some(Fault::HangBefore) => pending().await,
            Some(Fault::CrashBefore) => self.crash().await,
            Some(Fault::EngineRestart) => {
                self.restart();
                return self.ended(index, Err(E::lost(&call.object)));
            }
            _ => {}
        }
        let outcome = work.await;
        match fault {
            Some(Fault::FailAfter) => self.ended(index, Err(E::lost(&call.object))),
            Some(Fault::HangAfter) => pending().await,
            Some(Fault::CrashAfter) => {
                self.crash().await;
                outcome
            }
            Some(Fault::Duplicate) => {
                if let Some(again) = again {
                    // Whoever sent it gets one answer only, the first.
                    drop(again.await);
                }
                self.ended(index, outcome)
            }
            fault => {
                let outcome = match call.nature {
                    Nature::Look => self.answer(index, &call, outcome, fault == Some(Fault::Stale)),
                    _ => outcome,
                };
                self.ended(index, outcome)
            }
        }
    }

    /// Remembers an answer, and gives the one before if it is to be stale.
    fn answer<T, E>(&self, index: usize, call: &Call, outcome: Result<T, E>, stale: bool) -> Result<T, E>
    where
        T: Clone + PartialEq + Send + 'static,
    {
        let Ok(fresh) = outcome else { return outcome };
        let question = format!("{} {} {}", call.name, call.object, call.rest);
        let mut answers = std::mem::take(&mut self.0.state.lock().answers);
        let before = answers.get(&question).and_then(|answer| answer.downcast_ref::<T>()).cloned();
        let older = before.filter(|before| *before != fresh);
        answers.insert(question, Box::new(fresh.clone()));
        let mut state = self.0.state.lock();
        state.answers = answers;
        if let Some(line) = state.lines.get_mut(index) {
            line.may_be_stale = older.is_some();
        }
        drop(state);
        match older.filter(|_| stale) {
            Some(older) => {
                self.meets(index, Fault::Stale);
                Ok(older)
            }
            None => Ok(fresh),
        }
    }

    fn ended<T: Summary, E: Lost>(&self, index: usize, outcome: Result<T, E>) -> Result<T, E> {
        let result = match &outcome {
            Ok(value) => value.summary(),
            Err(error) => error.word().to_owned(),
        };
        if let Some(line) = self.0.state.lock().lines.get_mut(index) {
            line.result = result;
        }
        outcome
    }
}

/// A supplier whose calls pass a tap.
#[derive(Clone)]
pub struct Tapped<S: ?Sized> {
    tap: Tap,
    inner: Arc<S>,
}

impl<S: ?Sized> Tapped<S> {
    /// Puts a tap before a supplier.
    pub fn new(inner: Arc<S>, tap: Tap) -> Self {
        Self { tap, inner }
    }
}
