//! The embedder's view: one call for each thing that can be done to a cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::builder::{Driver, RuntimeBuilder};
use crate::capabilities::{OperationKind, OperationState};
use crate::engine::EngineError;
use crate::environment::Environment;
use crate::error::{Error, InvalidInput};
use crate::instance::HeldInstance;
use crate::lease::{self, Hold, LeaseKeeper, Turn};
use crate::leftovers;
use crate::locks::{KeyLock, KeyLocks};
use crate::manifest::{Manifest, PolicySource};
use crate::policy::{Active, CompiledCache, Guards, Request, Response};
use crate::snapshot::{Snapshot, folder_of};
use crate::types::{Cache, CacheExec, CacheKey, CacheSpec, Description, SnapshotInfo};

/// Engines that `stop_all` ends at once.
const STOPS_AT_ONCE: usize = 16;
/// For taking a lease, or for removing old ones.
const LEASE_WITHIN: Duration = Duration::from_secs(30);

/// Caches on one engine, kept by one policy. Cheap to clone; all clones are the same runtime.
///
/// # Guarantees
/// - Operations that change one cache run one after the other, also across processes that share the data
///   folder, and on Kubernetes across machines; different caches run in parallel.
/// - An operation that was begun runs to its end, also if the future that waits for it is dropped.
/// - Nothing is remembered between operations: what is returned was observed.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) environment: Environment,
    /// Which policy new operations run on. Those in flight hold on to theirs.
    pub(crate) active: parking_lot::RwLock<Arc<Active>>,
    /// What the active policy was made of.
    pub(crate) manifest: parking_lot::Mutex<Manifest>,
    pub(crate) compiled: CompiledCache,
    pub(crate) locks: KeyLocks,
    /// How long a lease lasts; `None` without one.
    pub(crate) lease_length: Option<Duration>,
    pub(crate) lease: tokio::sync::OnceCell<LeaseKeeper>,
    pub(crate) _held_instance: Option<HeldInstance>,
    /// What the client of the cluster lives in, where that is not the embedder's own.
    pub(crate) _driver: Option<Driver>,
    /// Held for reading by every operation that changes a cache, for writing by `stop_all`: a start in flight is
    /// waited for.
    pub(crate) gate: RwLock<()>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("engine", &self.engine_name())
            .field("instance", &self.shared.environment.owner().instance)
            .field("policy", &self.active().policy.path)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts describing a runtime.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// `docker`, `podman`, `memory`; `kubernetes` where caches are pods.
    pub fn engine_name(&self) -> &str {
        match &self.shared.environment {
            Environment::Docker(docker) => docker.engine.name(),
            Environment::Kube(_) => "kubernetes",
        }
    }

    /// How clients reach the engine's host. Empty on Kubernetes, where each cache has an address of its own.
    pub fn endpoint_host(&self) -> &str {
        match &self.shared.environment {
            Environment::Docker(docker) => &docker.endpoint_host,
            Environment::Kube(_) => "",
        }
    }

    /// Who owns what this runtime makes.
    pub fn instance(&self) -> &str {
        &self.shared.environment.owner().instance
    }

    /// What the policy says of itself.
    ///
    /// # Errors
    /// [`Error::Fault`] if the policy broke off.
    pub async fn describe(&self) -> Result<Description, Error> {
        self.active().describe().await
    }

    /// Goes on with another policy, under the grants, limits and settings that there are. Operations in flight end
    /// on the old one, new ones begin on the new one, and no cache is touched. Returns what the new one says of
    /// itself.
    ///
    /// # Errors
    /// [`Error::Policy`] if the file is none, does not have the content that is pinned, or speaks another version of
    /// the contract; [`Error::Fault`] if it breaks off as soon as it is asked what it is. The old one then stays.
    pub async fn swap_policy(&self, policy: PolicySource) -> Result<Description, Error> {
        let manifest = Manifest { policy, ..self.shared.manifest.lock().clone() };
        self.swap_environment(manifest).await
    }

    /// Goes on in another environment: its policy, grants, limits and settings, all at once. Otherwise as
    /// [`Runtime::swap_policy`].
    ///
    /// # Errors
    /// As there, and [`Error::Invalid`] if it is an environment for another backend.
    pub async fn swap_environment(&self, manifest: Manifest) -> Result<Description, Error> {
        let runs_on = self.shared.manifest.lock().backend;
        if manifest.backend != runs_on {
            let (wanted, runs_on) = (manifest.backend.as_str(), runs_on.as_str());
            let reason =
                format!("is {wanted}, and these caches run on {runs_on}; begin a runtime of its own");
            return Err(InvalidInput::new("backend", reason).into());
        }
        let (compiled, loading) = (self.shared.compiled.clone(), manifest.clone());
        // Compiling a policy takes a core for a while.
        let loaded = tokio::task::spawn_blocking(move || Active::load(loading, &compiled, Guards::On)).await;
        let active = joined(loaded)??;
        let description = active.describe().await?;
        let mut slot = self.shared.active.write();
        *self.shared.manifest.lock() = manifest;
        *slot = Arc::new(active);
        Ok(description)
    }

    /// The policy for an operation that begins now: to be asked for once, so that all of it runs on the same one.
    pub(crate) fn active(&self) -> Arc<Active> {
        Arc::clone(&self.shared.active.read())
    }

    /// Brings a cache to running and answering. One that is there is adopted.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the input cannot be used (nothing was changed), [`Error::Conflict`] if the cache
    /// is there with another engine, or with data where a snapshot was to be restored without replacing it.
    /// After an error there is no container that was not there before.
    pub async fn ensure(&self, mut spec: CacheSpec) -> Result<Cache, Error> {
        let restore = match spec.restore.take() {
            Some(restore) => {
                let replace = restore.replace;
                // Checked before anything is created. Reading gigabytes is no work for an async worker.
                let opened = tokio::task::spawn_blocking(move || Snapshot::open(&restore.path)).await;
                Some((joined(opened)??, replace))
            }
            None => None,
        };
        match self.operate(Request::Ensure(spec, restore)).await? {
            Response::Cache(cache) => Ok(cache),
            other => Err(unexpected(&other)),
        }
    }

    /// Restarts a cache's engine. The endpoint is the one observed after the engine answered.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such cache, [`Error::Engine`] if its data could not be made safe
    /// first (it then runs on, unchanged).
    pub async fn reboot(&self, key: &CacheKey) -> Result<Cache, Error> {
        match self.operate(Request::Reboot(key.clone())).await? {
            Response::Cache(cache) => Ok(cache),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes a consistent RDB of a running redis or valkey to a file: to a temporary one beside it first,
    /// checked, synced, then renamed.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written, [`Error::Engine`] if the engine could not save,
    /// [`Error::Corrupt`] if what came out failed its check. After an error there is no new file, and one
    /// that was there is unchanged.
    pub async fn snapshot(&self, key: &CacheKey, path: &Path) -> Result<SnapshotInfo, Error> {
        let folder = folder_of(path);
        let unusable = |source| Error::File { path: path.to_owned(), source };
        if path.is_dir() {
            return Err(unusable(std::io::ErrorKind::IsADirectory.into()));
        }
        if !folder.metadata().map_err(unusable)?.is_dir() {
            return Err(unusable(std::io::ErrorKind::NotADirectory.into()));
        }
        let (this, key, path) = (self.clone(), key.clone(), path.to_owned());
        // To its end means: until the file has its name.
        self.detached(async move {
            match this.run(&this.active(), Request::Snapshot(key), Some(folder)).await? {
                Response::Snapshot(snapshot) => {
                    joined(tokio::task::spawn_blocking(move || snapshot.publish(&path)).await)?
                }
                other => Err(unexpected(&other)),
            }
        })
        .await
    }

    /// Stops a cache cleanly and removes its container; the data stays. False if there was none.
    ///
    /// # Errors
    /// [`Error::Engine`] if its data could not be made safe first (it then runs on, unchanged).
    pub async fn stop(&self, key: &CacheKey) -> Result<bool, Error> {
        self.flag(Request::Stop(key.clone())).await
    }

    /// Deletes the data of a cache that was stopped. False if there was none.
    ///
    /// # Errors
    /// [`Error::Conflict`] while the cache exists.
    pub async fn remove_data(&self, key: &CacheKey) -> Result<bool, Error> {
        self.flag(Request::RemoveData(key.clone())).await
    }

    async fn flag(&self, request: Request) -> Result<bool, Error> {
        match self.operate(request).await? {
            Response::Flag(flag) => Ok(flag),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs `redis-cli` or `valkey-cli` with these arguments in the cache.
    ///
    /// # Errors
    /// [`Error::Invalid`] if an argument holds a NUL or a line break, or if there is none.
    pub async fn exec(&self, key: &CacheKey, args: &[String]) -> Result<CacheExec, Error> {
        check_exec_arguments(args)?;
        match self.operate(Request::Exec(key.clone(), args.to_vec())).await? {
            Response::Exec(exec) => Ok(exec),
            other => Err(unexpected(&other)),
        }
    }

    /// The cache as it is now.
    ///
    /// # Errors
    /// As the engine's; a cache that does not exist is `None`.
    pub async fn find(&self, key: &CacheKey) -> Result<Option<Cache>, Error> {
        match self.operate(Request::Find(key.clone())).await? {
            Response::Maybe(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// Every cache of this instance as it is now, ordered by scope and id.
    ///
    /// # Errors
    /// As the engine's.
    pub async fn list(&self) -> Result<Vec<Cache>, Error> {
        match self.operate(Request::Recover).await? {
            Response::Caches(caches) => Ok(caches),
            other => Err(unexpected(&other)),
        }
    }

    /// Removes what dead owners of the same data folder left behind, containers only; returns their names.
    /// An owner is dead once the lease that it held has ended. On Kubernetes, where something is there to be removed, this
    /// first waits in vain for the owner to renew it, for 22 s at most.
    ///
    /// # Errors
    /// As the engine's. What could not be removed is left for the next time.
    pub async fn reap(&self) -> Result<Vec<String>, Error> {
        let Response::Names(names) = self.operate(Request::Reap).await? else {
            return Err(Error::Other { message: "the policy answered something else than was asked".into() });
        };
        match tokio::time::timeout(LEASE_WITHIN, self.tidy_leases()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leases of dead owners were left"),
            Err(_) => tracing::warn!("leases of dead owners were left: the engine does not answer"),
        }
        Ok(names)
    }

    async fn tidy_leases(&self) -> Result<(), EngineError> {
        let environment = &self.shared.environment;
        let owning = leftovers::owning(environment).await?;
        lease::tidy(environment, &owning).await
    }

    /// Stops every cache of this instance cleanly, as at shutdown; data stays. Operations in flight are
    /// waited for first, and none begins meanwhile; one that is asked for meanwhile begins afterwards, so
    /// ask for none at shutdown.
    ///
    /// # Errors
    /// The first that occurred, after every cache was tried.
    pub async fn stop_all(&self) -> Result<(), Error> {
        let this = self.clone();
        joined(tokio::spawn(async move { this.stop_all_now().await }).await)?
    }

    async fn stop_all_now(&self) -> Result<(), Error> {
        let _closed = self.shared.gate.write().await;
        let active = self.active();
        let Response::Caches(caches) = self.run(&active, Request::Recover, None).await? else {
            return Err(Error::Other { message: "the policy answered something else than was asked".into() });
        };
        let mut stops = JoinSet::new();
        let mut outcome = Ok(());
        let mut settle = |finished: Result<Result<Response, Error>, tokio::task::JoinError>| {
            if let Err(error) = joined(finished).and_then(|result| result) {
                tracing::warn!(%error, "a cache was not stopped");
                if outcome.is_ok() {
                    outcome = Err(error);
                }
            }
        };
        for cache in caches {
            if stops.len() >= STOPS_AT_ONCE
                && let Some(finished) = stops.join_next().await
            {
                settle(finished);
            }
            let (this, active) = (self.clone(), Arc::clone(&active));
            stops.spawn(async move { this.run(&active, Request::Stop(cache.key), None).await });
        }
        while let Some(finished) = stops.join_next().await {
            settle(finished);
        }
        outcome
    }

    /// Runs one operation in a task of its own, so that it comes to its end whatever happens to its caller.
    async fn operate(&self, request: Request) -> Result<Response, Error> {
        let this = self.clone();
        // A command may block for as long as its user likes, and looking must work meanwhile: neither is waited
        // for at shutdown, nor waits for it.
        if !changes(request.kind()) {
            return joined(tokio::spawn(async move { this.run(&this.active(), request, None).await }).await)?;
        }
        self.detached(async move { this.run(&this.active(), request, None).await }).await
    }

    /// Does some work in a task of its own, while the gate is open.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let _open = shared.gate.read().await;
            work.await
        });
        joined(task.await)?
    }

    async fn run(
        &self,
        active: &Active,
        request: Request,
        scratch: Option<PathBuf>,
    ) -> Result<Response, Error> {
        let shared = &self.shared;
        let wall_time = active.terms.limits.wall_time;
        self.hold_lease(wall_time).await?;
        let mut lock = match request.key() {
            Some(key) if changes(request.kind()) => {
                let busy =
                    || Error::Timeout { what: format!("{key}: another operation on it is still under way") };
                let locked = tokio::time::timeout(wall_time, shared.locks.lock(key)).await;
                let lock = locked.map_err(|_| busy())?;
                Some(lock.map_err(|error| Error::Other { message: format!("{key}: its lock: {error}") })?)
            }
            _ => None,
        };
        let Some(lock) = &mut lock else { return self.run_policy(active, request, scratch, None).await };
        let turn = self.take_turn(&request, wall_time).await?;
        let hold = turn.as_ref().map(Turn::hold);
        let outcome = self.run_locked(active, request, scratch, lock, hold).await;
        if let Some(turn) = turn {
            turn.give_back().await;
        }
        outcome
    }

    /// As `run`, when nothing else changes the cache.
    async fn run_locked(
        &self,
        active: &Active,
        request: Request,
        scratch: Option<PathBuf>,
        lock: &mut KeyLock,
        hold: Option<Hold>,
    ) -> Result<Response, Error> {
        if let (Request::Ensure(spec, _), true) = (&request, lock.was_cut_off()) {
            // An engine that was told to end still answers for a while, and would be adopted. Restarted,
            // it has the end behind it. What comes of that the operation itself will see.
            let request = Request::Reboot(spec.key.clone());
            let mended = self.run_policy(active, request, None, hold.clone()).await;
            tracing::debug!(cache = %spec.key, ?mended, "mended what a killed process left");
            lock.ended();
        }
        let ends =
            matches!(request, Request::Reboot(_) | Request::Stop(_) | Request::Ensure(_, Some((_, true))));
        if ends {
            lock.ending();
        }
        let outcome = self.run_policy(active, request, scratch, hold).await;
        // Without an answer the engine may still be at it.
        if ends && !matches!(outcome, Err(Error::Timeout { .. } | Error::Unavailable { .. })) {
            lock.ended();
        }
        outcome
    }

    /// Waits for other machines, which know nothing of this one's locks, where an operation may end a pod.
    async fn take_turn(&self, request: &Request, within: Duration) -> Result<Option<Turn>, Error> {
        let shared = &self.shared;
        let (Environment::Kube(kube), Some(key)) = (&shared.environment, request.key()) else {
            return Ok(None);
        };
        if request.kind() == OperationKind::Snapshot {
            return Ok(None);
        }
        let folder = shared.locks.folder_id();
        let folder = folder.map_err(|error| Error::Other { message: format!("{key}: its lock: {error}") })?;
        let take = Turn::take(Arc::clone(&kube.cluster), &kube.owner, &folder, key);
        match tokio::time::timeout(within, take).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            Ok(Err(error @ EngineError::Unavailable { .. })) => {
                Err(Error::Unavailable { message: format!("{key}: its turn: {error}") })
            }
            Ok(Err(error)) => Err(Error::Engine { message: format!("{key}: its turn: {error}") }),
            Err(_) => Err(Error::Timeout {
                what: format!("{key}: an operation of another machine on it is still under way"),
            }),
        }
    }

    /// As `run`, under whatever lock it takes.
    async fn run_policy(
        &self,
        active: &Active,
        request: Request,
        scratch: Option<PathBuf>,
        hold: Option<Hold>,
    ) -> Result<Response, Error> {
        let mut state = OperationState::new(
            Some(self.shared.environment.clone()),
            Arc::clone(&active.terms),
            request.kind(),
            request.key().cloned(),
            active.terms.limits.wall_time,
        );
        if let Some(scratch) = scratch {
            state.scratch = scratch;
        }
        state.hold.clone_from(&hold);
        let span_key = request.key().map(ToString::to_string).unwrap_or_default();
        tracing::debug!(
            operation = state.id,
            kind = request.kind().as_str(),
            cache = span_key,
            "operation begins"
        );
        let operation = state.id.clone();
        let ended = active.policy.run(request, state).await;
        if ended.outcome.is_err() {
            if is_held(hold).await {
                leftovers::remove(&self.shared.environment, &operation, ended.created).await;
            } else {
                // Another machine may have found it by now, and use it.
                tracing::warn!(operation, "what a failed operation made was left: its turn is over");
            }
        }
        ended.outcome
    }

    /// Takes the lease before the first operation: from then on there is something to vouch for.
    async fn hold_lease(&self, within: Duration) -> Result<(), Error> {
        let shared = &self.shared;
        let Some(length) = shared.lease_length else { return Ok(()) };
        let take = shared.lease.get_or_try_init(|| LeaseKeeper::start(shared.environment.clone(), length));
        match tokio::time::timeout(within.min(LEASE_WITHIN), take).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                Err(Error::Unavailable { message: format!("taking the owner's lease: {error}") })
            }
            Err(_) => {
                Err(Error::Timeout { what: "taking the owner's lease: the engine does not answer".into() })
            }
        }
    }
}

/// Whether what an operation made is still its own to remove.
async fn is_held(hold: Option<Hold>) -> bool {
    match hold {
        Some(hold) => tokio::time::timeout(LEASE_WITHIN, hold.known()).await.unwrap_or(false),
        None => true,
    }
}

/// Whether it must not meet another operation on the same cache.
fn changes(kind: OperationKind) -> bool {
    match kind {
        OperationKind::Ensure
        | OperationKind::Reboot
        | OperationKind::Snapshot
        | OperationKind::Stop
        | OperationKind::RemoveData => true,
        OperationKind::Describe
        | OperationKind::Exec
        | OperationKind::Find
        | OperationKind::Recover
        | OperationKind::Reap => false,
    }
}

/// Whether a client program can be given these arguments. [`Runtime::exec`] checks it too; this needs no engine.
///
/// # Errors
/// [`InvalidInput`] if an argument holds a NUL or a line break, or if there is none.
pub fn check_exec_arguments(args: &[String]) -> Result<(), InvalidInput> {
    if args.is_empty() {
        return Err(InvalidInput::new("arguments", "are missing; give a command, such as PING"));
    }
    for (at, arg) in args.iter().enumerate() {
        if arg.contains(['\0', '\n', '\r']) {
            let reason = "contains a NUL or a line break, which the client cannot take; remove it";
            return Err(InvalidInput::new(format!("argument {}", at + 1), reason));
        }
    }
    Ok(())
}

fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Result<T, Error> {
    outcome.map_err(|error| Error::Other { message: format!("the operation's task ended early: {error}") })
}

fn unexpected(response: &Response) -> Error {
    Error::Other { message: format!("the policy answered something else than was asked: {response:?}") }
}
