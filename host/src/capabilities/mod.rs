//! Where a policy's calls arrive: counted, bounded in time, and checked against what the operation may touch,
//! in one place for every engine. Only then are they handed on.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use wasmtime::component::ResourceTable;

use crate::engine::cluster::{ObjectId, Pod};
use crate::engine::{Container, EngineError};
use crate::environment::{DockerEnvironment, Environment, KubeEnvironment, PortReservation};
use crate::error::Fault;
use crate::grants::{Capability, Denial};
use crate::lease::{self, Hold};
use crate::ownership::Provenance;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::policy::limits::{Limits, StoreLimit};
use crate::policy::{Guards, LogBudget, Terms, Wasi};
use crate::types::CacheKey;

mod claims;
mod containers;
mod docker;
mod files;
mod kube;
mod pods;
mod probes;
mod values;
mod volumes;

/// A container that the operation may see.
#[derive(Debug)]
pub struct ContainerHandle {
    pub(crate) observed: Container,
    pub(crate) provenance: Provenance,
}

/// A volume that the operation may see.
#[derive(Debug, Clone)]
pub struct VolumeHandle {
    pub(crate) name: String,
    /// Who created it; `None` for one of an earlier runtime.
    pub(crate) operation: Option<String>,
}

/// A pod that the operation may see.
#[derive(Debug)]
pub struct PodHandle {
    pub(crate) observed: Pod,
    pub(crate) provenance: Provenance,
}

/// A claim that the operation may see.
#[derive(Debug, Clone)]
pub struct ClaimHandle {
    pub(crate) id: ObjectId,
    /// Who created it.
    pub(crate) operation: String,
    /// Bytes; none until it is bound.
    pub(crate) capacity: Option<u64>,
}

/// What an import returns: outside, whether the guest may go on; inside, what came of it.
type Outcome<T> = wasmtime::Result<Result<T, wit::Error>>;

/// Longest name of an object.
const NAME_BYTES: usize = 255;

/// What an operation is, which decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationKind {
    Describe,
    Ensure,
    Reboot,
    Snapshot,
    Stop,
    RemoveData,
    Exec,
    Find,
    Recover,
    Reap,
}

impl OperationKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OperationKind::Describe => "describe",
            OperationKind::Ensure => "ensure",
            OperationKind::Reboot => "reboot",
            OperationKind::Snapshot => "snapshot",
            OperationKind::Stop => "stop",
            OperationKind::RemoveData => "remove-data",
            OperationKind::Exec => "exec",
            OperationKind::Find => "find",
            OperationKind::Recover => "recover",
            OperationKind::Reap => "reap",
        }
    }
}

/// Whether a call is still answered once the operation's deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It leads somewhere: not any more.
    Work,
    /// It stops, removes or looks: yes, so that nothing is left behind.
    Cleanup,
    /// Not any more; but how long it takes does not count towards that deadline.
    Apart,
}

/// When an operation is to have come to its end, by the async runtime's clock, which a simulation may move. Shared with
/// whoever ends it.
#[derive(Debug, Clone)]
pub(crate) struct Deadline(Arc<Mutex<Instant>>);

impl Deadline {
    pub(crate) fn get(&self) -> Instant {
        *self.0.lock()
    }

    fn set(&self, to: Instant) {
        *self.0.lock() = to;
    }
}

/// Deadlines of single host calls.
pub(crate) mod within {
    use std::time::Duration;

    /// A question to the engine, or a small change.
    pub(crate) const CALL: Duration = Duration::from_secs(30);
    /// What the engine is still busy with for somebody who went away.
    pub(crate) const SETTLE: Duration = Duration::from_secs(10);
    /// A start sets up networks and runs programs.
    pub(crate) const START: Duration = Duration::from_secs(120);
    /// Moving a dataset, or a command that somebody runs: as long as the operation may last.
    pub(crate) const OPERATION: Duration = Duration::MAX;
}

/// The state of one operation: lives in its store and ends with it.
pub(crate) struct OperationState {
    /// None where only `describe` is to be called.
    pub(crate) environment: Option<Environment>,
    pub(crate) kind: OperationKind,
    /// The cache that it is about; none for those about all of them.
    pub(crate) key: Option<CacheKey>,
    pub(crate) id: String,
    /// Where snapshots are received.
    pub(crate) scratch: PathBuf,
    pub(crate) table: ResourceTable,
    /// What the environment gives to the policy.
    pub(crate) terms: Arc<Terms>,
    pub(crate) store: StoreLimit,
    pub(crate) wasi: Wasi,
    pub(crate) logs: LogBudget,
    pub(crate) created: Created,
    /// The turn that it needs for its changes, where another machine may be in charge of the cache too.
    pub(crate) hold: Option<Hold>,
    deadline: Deadline,
    calls: u64,
    /// Bytes that calls have handed over, and that programs have printed.
    handed: usize,
    clock: GuestClock,
    ports: Vec<PortReservation>,
}

/// Names of what the operation asked for and has not removed again: the host removes it if the operation
/// fails. Where the reply was lost it may not be there, or somebody else's may be.
#[derive(Debug, Default)]
pub(crate) struct Created {
    pub(crate) containers: Vec<String>,
    pub(crate) volumes: Vec<String>,
    pub(crate) pods: Vec<String>,
    pub(crate) claims: Vec<String>,
}

/// How long the guest has been computing, by the machine's clock: host calls do not count.
#[derive(Debug)]
struct GuestClock {
    used: Duration,
    since: Option<std::time::Instant>,
}

impl OperationState {
    pub(crate) fn new(
        environment: Option<Environment>,
        terms: Arc<Terms>,
        kind: OperationKind,
        key: Option<CacheKey>,
        timeout: Duration,
    ) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let logs = LogBudget::new(terms.limits.log_bytes);
        let mut table = ResourceTable::new();
        table.set_max_capacity(terms.limits.handles);
        Self {
            environment,
            kind,
            key,
            scratch: std::env::temp_dir(),
            table,
            store: StoreLimit::new(&terms.limits),
            wasi: Wasi::new(&id, logs.clone()),
            id,
            logs,
            terms,
            created: Created::default(),
            hold: None,
            deadline: Deadline(Arc::new(Mutex::new(Instant::now() + timeout))),
            calls: 0,
            handed: 0,
            clock: GuestClock { used: Duration::ZERO, since: None },
            ports: Vec::new(),
        }
    }

    /// The guest's turn begins.
    pub(crate) fn enter_guest(&mut self) {
        self.clock.since = Some(std::time::Instant::now());
    }

    /// Whether the guest has used up its time; asked at every epoch.
    pub(crate) fn out_of_time(&self) -> bool {
        let running = self.clock.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.clock.used + running > self.terms.limits.guest_time
    }

    /// When it is to have come to its end.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    /// Until it is to have come to its end.
    fn time_left(&self) -> Duration {
        self.deadline.get().saturating_duration_since(Instant::now())
    }

    /// Calls of the host so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// What it may use.
    pub(crate) fn limits(&self) -> &Limits {
        &self.terms.limits
    }

    /// Whether it is held to that.
    pub(crate) fn guards(&self) -> Guards {
        self.terms.guards
    }

    /// Counts a call. Every import comes through here first.
    fn count(&mut self) -> wasmtime::Result<()> {
        self.calls += 1;
        let most = self.terms.limits.host_calls;
        if self.calls > most && self.guards().are_on() { Err(Fault::HostCalls(most).into()) } else { Ok(()) }
    }

    /// Counts a call and the bytes that it hands over.
    fn count_with(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.count()?;
        self.take(bytes)
    }

    /// Takes bytes from what all calls together may have.
    fn take(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.handed = self.handed.saturating_add(bytes);
        let limit = self.terms.limits.bytes_total;
        if self.handed > limit && self.guards().are_on() {
            return Err(Fault::Oversized { what: "all calls".to_owned(), limit }.into());
        }
        Ok(())
    }

    /// Bytes that are left for all further calls.
    fn left(&self) -> usize {
        self.terms.limits.bytes_total.saturating_sub(self.handed)
    }

    /// Does one call's work, at the latest by its own deadline and by the operation's.
    ///
    /// Past the operation's deadline the policy is told `timeout`, and gets the time left for cleaning up.
    /// Dropping the work stops the waiting only: what the engine began goes on, as `timeout` says.
    async fn bounded<T>(
        &mut self,
        what: &str,
        object: &str,
        purpose: Purpose,
        limit: Duration,
        work: impl Future<Output = Result<T, wit::Error>> + Send,
    ) -> Result<T, wit::Error> {
        let deadline = self.deadline.get();
        let end = match purpose {
            Purpose::Work | Purpose::Apart => deadline,
            Purpose::Cleanup => deadline + self.terms.limits.cleanup,
        };
        let mut left = end.saturating_duration_since(Instant::now()).min(limit);
        if left.is_zero() {
            return Err(wit::Error::Timeout(format!("{what} {object}: the operation's time is used up")));
        }
        if purpose == Purpose::Apart {
            left = limit;
            self.deadline.set(deadline + limit);
        }
        if let Some(since) = self.clock.since.take() {
            self.clock.used += since.elapsed();
        }
        let started = Instant::now();
        let outcome = if self.guards().are_on() {
            tokio::time::timeout(left, work).await.unwrap_or_else(|_| {
                Err(wit::Error::Timeout(format!("{what} {object}: nothing came back within {left:.1?}")))
            })
        } else {
            work.await
        };
        if purpose == Purpose::Apart {
            self.deadline.set(deadline + started.elapsed());
        }
        self.clock.since = Some(std::time::Instant::now());
        tracing::debug!(
            operation = self.id,
            call = what,
            object,
            ms = started.elapsed().as_secs_f64() * 1e3,
            error = outcome.as_ref().err().map(tracing::field::debug),
            "host call"
        );
        outcome
    }

    /// The cache for which something is to be made, if this operation makes caches.
    fn may_create(&self, what: &str, name: &str) -> Result<CacheKey, wit::Error> {
        match (&self.key, self.kind) {
            (Some(key), OperationKind::Ensure | OperationKind::Reboot) => Ok(key.clone()),
            _ => Err(denied(
                format!("creating {what} {name} during {}", self.kind.as_str()),
                "the operations ensure and reboot",
            )),
        }
    }

    /// What operations share, if the policy may use Docker and caches are containers here.
    fn docker(&self) -> Result<Arc<DockerEnvironment>, wit::Error> {
        self.terms.grants.capability(Capability::Docker)?;
        match &self.environment {
            Some(Environment::Docker(docker)) => Ok(Arc::clone(docker)),
            Some(Environment::Kube(_)) => Err(unavailable("caches are pods here; use the interface kube")),
            None => Err(unavailable("there is no container engine in this call")),
        }
    }

    /// What operations share, if the policy may use Kubernetes in this namespace and caches are pods here.
    fn kube(&self) -> Result<Arc<KubeEnvironment>, wit::Error> {
        self.terms.grants.capability(Capability::Kube)?;
        match &self.environment {
            Some(Environment::Kube(kube)) => {
                self.terms.grants.namespace(kube.cluster.namespace())?;
                Ok(Arc::clone(kube))
            }
            Some(Environment::Docker(_)) => {
                Err(unavailable("caches are containers here; use the interface docker"))
            }
            None => Err(unavailable("there is no cluster in this call")),
        }
    }

    /// Before an object changes: everything may change its own; others only the reaper, and only while their owner
    /// is dead.
    async fn may_change(&mut self, object: &str, instance: &str) -> Result<(), wit::Error> {
        let Some(environment) = self.environment.clone() else {
            return Err(unavailable("there is nothing to change in this call"));
        };
        if instance == environment.owner().instance {
            return self.has_turn(object).await;
        }
        let owner = instance.to_owned();
        let look = async move { lease::is_dead(&environment, &owner).await.map_err(to_wit) };
        match self.bounded("looking at the lease of", instance, Purpose::Cleanup, within::CALL, look).await {
            Ok(true) if self.kind == OperationKind::Reap => Ok(()),
            Ok(_) => {
                Err(denied(format!("changing {object}, whose owner {instance} is alive"), "being its owner"))
            }
            Err(error) => Err(error),
        }
    }

    /// That the cache is still this operation's to change. Where that is not known, since its turn cannot be renewed, it is
    /// waited for: with the API server back, the turn is renewed or lost.
    async fn has_turn(&mut self, object: &str) -> Result<(), wit::Error> {
        let Some(hold) = self.hold.clone() else { return Ok(()) };
        let held = match hold.is_held() {
            Some(held) => held,
            None => {
                let known = async { Ok(hold.known().await) };
                self.bounded("renewing the turn for", object, Purpose::Cleanup, within::CALL, known).await?
            }
        };
        if held {
            return Ok(());
        }
        Err(wit::Error::Conflict(format!(
            "{object} is left as it is: this operation could not renew its turn and lost it, so that another machine \
             may be at the cache; look at the cache before you try again"
        )))
    }

    /// That dead owners may be looked for.
    fn may_reap(&self, what: &str) -> Result<(), wit::Error> {
        match self.kind {
            OperationKind::Reap => Ok(()),
            kind => Err(denied(
                format!("looking for dead owners' {what} during {}", kind.as_str()),
                "the operation reap",
            )),
        }
    }
}

/// An engine's error in the contract's words.
fn to_wit(error: EngineError) -> wit::Error {
    let text = error.to_string();
    match error {
        EngineError::NotFound { .. } => wit::Error::NotFound(text),
        EngineError::Conflict { .. } => wit::Error::Conflict(text),
        EngineError::PortTaken { port, .. } => wit::Error::PortTaken(port),
        EngineError::Unavailable { .. } => wit::Error::Unavailable(text),
        EngineError::Failed { .. } => wit::Error::EngineError(text),
        EngineError::Io { .. } => wit::Error::Other(text),
    }
}

/// Whether what was asked may have happened, or may happen yet: there was no answer.
fn is_unanswered(error: &wit::Error) -> bool {
    matches!(error, wit::Error::Timeout(_) | wit::Error::Unavailable(_))
}

fn unavailable(why: &str) -> wit::Error {
    wit::Error::Unavailable(why.to_owned())
}

fn denied(what: impl Into<String>, grant: &str) -> wit::Error {
    wit::Error::Denied(wit::Denial { what: what.into(), grant: grant.to_owned() })
}

impl From<Denial> for wit::Error {
    fn from(Denial { what, grant }: Denial) -> Self {
        wit::Error::Denied(wit::Denial { what, grant })
    }
}

fn invalid(field: &str, reason: impl Into<String>) -> wit::Error {
    wit::Error::Invalid(wit::InvalidInput { field: field.to_owned(), reason: reason.into() })
}

impl wit::Host for OperationState {}

fn check_name(name: &str) -> Result<(), wit::Error> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && name.len() > 1 && name.len() <= NAME_BYTES {
        return Ok(());
    }
    Err(invalid(
        "name",
        format!("{:?} is no name for a container or volume", &name.chars().take(80).collect::<String>()),
    ))
}
