//! One operation: a fresh instance, one call, and an account of how it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::Policy as Instance;
use super::bindings::exports::fakecloud::elasticache::lifecycle as api;
use super::bindings::fakecloud::elasticache::types as wit;
use super::convert;
use super::{Policy, Terms};
use crate::capabilities::{Created, OperationKind, OperationState};
use crate::error::{Error, Fault};
use crate::snapshot::Snapshot;
use crate::types::{Cache, CacheExec, CacheKey, CacheSpec, Description};

/// In wasmtime's words for a call that hands over more than it may, and for a component of too many modules; the
/// errors' types are its own secret.
const TOO_MUCH_AT_ONCE: &str = "fuel allocated for hostcalls";
const TOO_MANY_INSTANCES: &str = "instance count too high";

/// For a policy to return after the last of its calls was given up.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a policy is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// With a snapshot to start from, and whether it may replace what is there.
    Ensure(CacheSpec, Option<(Snapshot, bool)>),
    Reboot(CacheKey),
    Snapshot(CacheKey),
    Stop(CacheKey),
    RemoveData(CacheKey),
    Exec(CacheKey, Vec<String>),
    Find(CacheKey),
    Recover,
    Reap,
}

impl Request {
    pub(crate) fn kind(&self) -> OperationKind {
        match self {
            Request::Ensure(..) => OperationKind::Ensure,
            Request::Reboot(_) => OperationKind::Reboot,
            Request::Snapshot(_) => OperationKind::Snapshot,
            Request::Stop(_) => OperationKind::Stop,
            Request::RemoveData(_) => OperationKind::RemoveData,
            Request::Exec(..) => OperationKind::Exec,
            Request::Find(_) => OperationKind::Find,
            Request::Recover => OperationKind::Recover,
            Request::Reap => OperationKind::Reap,
        }
    }

    pub(crate) fn key(&self) -> Option<&CacheKey> {
        match self {
            Request::Ensure(spec, _) => Some(&spec.key),
            Request::Reboot(key)
            | Request::Snapshot(key)
            | Request::Stop(key)
            | Request::RemoveData(key)
            | Request::Exec(key, _)
            | Request::Find(key) => Some(key),
            Request::Recover | Request::Reap => None,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Response {
    Cache(Cache),
    Maybe(Option<Cache>),
    Caches(Vec<Cache>),
    Snapshot(Snapshot),
    Flag(bool),
    Exec(CacheExec),
    Names(Vec<String>),
}

/// How an operation ended, and what it had made that may have to be removed.
pub(crate) struct Ended {
    pub(crate) outcome: Result<Response, Error>,
    pub(crate) created: Created,
}

impl Policy {
    /// What the policy says of itself. Needs no engine.
    pub(crate) async fn describe(&self, terms: Arc<Terms>) -> Result<Description, Error> {
        let state = OperationState::new(None, terms, OperationKind::Describe, None, Duration::from_secs(10));
        let mut store = self.store(state);
        let _ticking = self.ticker.tick();
        let outcome = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
            instance.fakecloud_elasticache_lifecycle().call_describe(&mut store).await
        }
        .await;
        match outcome {
            Ok(description) => Ok(convert::description(description)),
            Err(error) => Err(self.fault(&error, &store)),
        }
    }

    /// Runs one operation to its end: at the latest when its deadline and the time to clean up after it have
    /// passed.
    pub(crate) async fn run(&self, request: Request, state: OperationState) -> Ended {
        let Ok(_turn) = self.turns.acquire().await else {
            // Nothing closes the semaphore; if something did, this is what it would mean.
            let outcome = Err(Error::Unavailable { message: "the runtime is shutting down".to_owned() });
            return Ended { outcome, created: Created::default() };
        };
        let (deadline, begun, guards) = (state.deadline(), Instant::now(), state.guards());
        let over = state.limits().cleanup + LAST_WORDS;
        let mut store = self.store(state);
        let ticking = guards.are_on().then(|| self.ticker.tick());
        // The deadline moves while an image is fetched, so it is looked at again whenever it seems to have passed.
        let too_late = async {
            while Instant::now() < deadline.get() + over {
                sleep_until(deadline.get() + over).await;
            }
        };
        let finished = if guards.are_on() {
            tokio::select! {
                finished = self.call(&mut store, request) => Some(finished),
                () = too_late => None,
            }
        } else {
            Some(self.call(&mut store, request).await)
        };
        drop(ticking);
        let outcome = match finished {
            Some(Ok(Ok(response))) => Ok(response),
            Some(Ok(Err(error))) => Err(convert::error(error)),
            Some(Err(fault)) => Err(self.fault(&fault, &store)),
            None => Err(self.broken(Fault::Deadline(begun.elapsed()))),
        };
        tracing::debug!(host_calls = store.data().calls(), ok = outcome.is_ok(), "operation ended");
        Ended { outcome, created: std::mem::take(&mut store.data_mut().created) }
    }

    fn store(&self, mut state: OperationState) -> Store<OperationState> {
        state.enter_guest();
        let (bytes, guards) = (state.limits().bytes_per_call, state.guards());
        let mut store = Store::new(self.pre.engine(), state);
        if !guards.are_on() {
            return store;
        }
        store.limiter(|state| &mut state.store);
        store.set_hostcall_fuel(bytes);
        // An epoch ends often and asks; only computing counts, not waiting for the host.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            if context.data().out_of_time() {
                return Err(Fault::GuestTime(context.data().limits().guest_time).into());
            }
            match context.data().guards().take_turns() {
                true => Ok(UpdateDeadline::Yield(1)),
                false => Ok(UpdateDeadline::Continue(1)),
            }
        });
        store
    }

    async fn call(
        &self,
        store: &mut Store<OperationState>,
        request: Request,
    ) -> wasmtime::Result<Result<Response, wit::Error>> {
        let operation = wit::Operation {
            id: store.data().id.clone(),
            instance: store
                .data()
                .environment
                .as_ref()
                .map(|e| e.owner().instance.clone())
                .unwrap_or_default(),
        };
        let instance: Instance = self.pre.instantiate_async(&mut *store).await?;
        let lifecycle = instance.fakecloud_elasticache_lifecycle();
        Ok(match request {
            Request::Ensure(spec, restore) => {
                let restore = match restore {
                    Some((snapshot, replace)) => {
                        Some(api::Restore { snapshot: store.data_mut().table.push(snapshot)?, replace })
                    }
                    None => None,
                };
                let asked = convert::spec_to_wit(&spec);
                match lifecycle.call_ensure(&mut *store, &operation, &asked, restore).await? {
                    Ok(cache) => convert::cache(cache, Some(&spec.key)).map(Response::Cache),
                    Err(error) => Err(error),
                }
            }
            Request::Reboot(key) => {
                match lifecycle.call_reboot(&mut *store, &operation, &convert::key_to_wit(&key)).await? {
                    Ok(cache) => convert::cache(cache, Some(&key)).map(Response::Cache),
                    Err(error) => Err(error),
                }
            }
            Request::Snapshot(key) => {
                match lifecycle.call_snapshot(&mut *store, &operation, &convert::key_to_wit(&key)).await? {
                    Ok(snapshot) => Ok(Response::Snapshot(store.data_mut().table.delete(snapshot)?)),
                    Err(error) => Err(error),
                }
            }
            Request::Stop(key) => lifecycle
                .call_stop(&mut *store, &operation, &convert::key_to_wit(&key))
                .await?
                .map(Response::Flag),
            Request::RemoveData(key) => lifecycle
                .call_remove_data(&mut *store, &operation, &convert::key_to_wit(&key))
                .await?
                .map(Response::Flag),
            Request::Exec(key, args) => {
                let key = convert::key_to_wit(&key);
                match lifecycle.call_exec(&mut *store, &operation, &key, &args).await? {
                    Ok(result) => {
                        let output: Resource<_> = result.output;
                        let output = store.data_mut().table.delete(output)?;
                        Ok(Response::Exec(CacheExec {
                            success: result.success,
                            stdout: output.stdout,
                            stderr: output.stderr,
                        }))
                    }
                    Err(error) => Err(error),
                }
            }
            Request::Find(key) => {
                match lifecycle.call_find(&mut *store, &operation, &convert::key_to_wit(&key)).await? {
                    Ok(found) => {
                        let found = found.map(|cache| convert::cache(cache, Some(&key)));
                        found.transpose().map(Response::Maybe)
                    }
                    Err(error) => Err(error),
                }
            }
            Request::Recover => match lifecycle.call_recover(&mut *store, &operation).await? {
                Ok(all) => {
                    let caches = all.into_iter().map(|cache| convert::cache(cache, None));
                    caches.collect::<Result<_, _>>().map(Response::Caches)
                }
                Err(error) => Err(error),
            },
            Request::Reap => lifecycle.call_reap(&mut *store, &operation).await?.map(Response::Names),
        })
    }

    fn fault(&self, error: &wasmtime::Error, store: &Store<OperationState>) -> Error {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return self.broken(fault.clone());
        }
        if let Some(refused) = &store.data().store.refused {
            return self.broken(refused.clone());
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return self.broken(Fault::Handles(store.data().limits().handles));
        }
        let says = |words: &str| error.chain().any(|cause| cause.to_string().contains(words));
        if says(TOO_MANY_INSTANCES) {
            return self.broken(Fault::Instances(store.data().limits().instances));
        }
        if says(TOO_MUCH_AT_ONCE) {
            let limit = store.data().limits().bytes_per_call;
            return self.broken(Fault::Oversized { what: "one call".to_owned(), limit });
        }
        match error.downcast_ref::<Trap>() {
            Some(trap) => self.broken(Fault::Trap(trap.to_string())),
            None => self.broken(Fault::Trap(format!("{error:#}"))),
        }
    }

    fn broken(&self, fault: Fault) -> Error {
        Error::Fault { policy: self.path.display().to_string(), fault }
    }
}
