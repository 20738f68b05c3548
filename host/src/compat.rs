//! The face of fakecloud's native runtime: the same names, the same argument types, so that a `pub use` can
//! replace that module. A thin layer over [`Runtime`](crate::Runtime).

use std::collections::HashMap;
use std::sync::Arc;

/// RDB files that pods fetch, by pod name. Only for backends whose pods fetch.
pub type PendingRdb = Arc<parking_lot::RwLock<HashMap<String, Vec<u8>>>>;

/// What runs in a cache's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheEngineKind {
    /// Redis OSS.
    Redis,
    /// Valkey.
    Valkey,
    /// Memcached.
    Memcached,
}

/// A cache that runs and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCacheContainer {
    /// The engine-side identity.
    pub container_id: String,
    /// The published port on the engine's host.
    pub host_port: u16,
    /// Where clients connect.
    pub endpoint_address: String,
    /// Where clients connect.
    pub endpoint_port: u16,
    /// What runs in it.
    pub engine: CacheEngineKind,
}

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No container engine answers.
    #[error("no container engine is reachable")]
    Unavailable,
    /// A cache did not get to running and answering.
    #[error("the cache's container failed to start: {0}")]
    ContainerStartFailed(String),
    /// Anything else, in full.
    #[error(transparent)]
    Operation(crate::Error),
}

/// Why a backend could not be begun with. The words are those of what was misconfigured.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BackendInitError(#[from] pub crate::Error);

impl From<crate::Error> for RuntimeError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Unavailable { .. } => RuntimeError::Unavailable,
            other => RuntimeError::Operation(other),
        }
    }
}

#[cfg(any(feature = "docker", feature = "kube"))]
pub use face::ElastiCacheRuntime;

#[cfg(any(feature = "docker", feature = "kube"))]
mod face {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    #[cfg(feature = "kube")]
    use super::BackendInitError;
    use super::{CacheEngineKind, PendingRdb, RunningCacheContainer, RuntimeError};
    #[cfg(feature = "kube")]
    use crate::InvalidInput;
    #[cfg(feature = "kube")]
    use crate::engine::kube::Pull;
    use crate::types::{Cache, CacheExec, CacheKey, CacheSpec, Engine, Restore};
    use crate::{Error, Runtime};

    /// How long the lease of an embedder lasts that does not renew it any more.
    const LEASE: Duration = Duration::from_secs(60);

    /// Caches on Docker, Podman or Kubernetes, behind fakecloud's own names.
    ///
    /// The instance is `FAKECLOUD_ELASTICACHE_INSTANCE`. Without it, a restart finds its caches again at once, also after
    /// a crash: on Docker and Podman the instance is one that an embedder had which is gone, so that two at once are two
    /// instances; data volumes belong to the data folder and are found again either way. On Kubernetes the data folder
    /// often goes with the embedder's own pod, so the instance is `fakecloud`, always: two embedders of one namespace
    /// have the same caches there, unless the variable tells them apart.
    #[derive(Debug, Clone)]
    pub struct ElastiCacheRuntime {
        runtime: Runtime,
        /// What pods may fetch, on Kubernetes.
        pending: Option<PendingRdb>,
        #[cfg(feature = "kube")]
        pull: Option<Pull>,
    }

    impl ElastiCacheRuntime {
        /// On the engine that `FAKECLOUD_ELASTICACHE_BACKEND` or `FAKECLOUD_CONTAINER_BACKEND` names, else
        /// whichever is found; `None` where none answers or the policy cannot be used (the reason is logged).
        /// [`Runtime::builder`] gives the reason instead.
        pub fn new() -> Option<Self> {
            match resident().build_blocking() {
                Ok(runtime) => Some(Self::from_runtime(runtime)),
                Err(error) => {
                    tracing::warn!(%error, "caches are not available");
                    None
                }
            }
        }

        /// As pods of the cluster around this process, or of the user's kubeconfig, in `FAKECLOUD_K8S_NAMESPACE`. Two
        /// embedders of one namespace take a `FAKECLOUD_ELASTICACHE_INSTANCE` each, or have the same caches.
        ///
        /// Files that caches start from are streamed through the API server. With `FAKECLOUD_K8S_RESTORE=pull` the pod
        /// fetches them instead, from `/_fakecloud/elasticache/_internal/rdb/{pod}` below `FAKECLOUD_K8S_SELF_URL`, or
        /// at `POD_IP` and `server_port` without it: the embedder serves [`ElastiCacheRuntime::pending_rdb`] there, to
        /// those whom [`ElastiCacheRuntime::admits_rdb`] admits. `internal_token` itself leaves this process never.
        ///
        /// # Errors
        /// What is misconfigured, or why the cluster or the policy cannot be used. Docker is never taken instead.
        #[cfg(feature = "kube")]
        pub fn new_k8s(server_port: u16, internal_token: String) -> Result<Self, BackendInitError> {
            let pending = PendingRdb::default();
            let pod_ip = std::env::var("POD_IP").ok().filter(|address| !address.is_empty());
            let (for_pods, token) = (pending.clone(), internal_token.clone());
            let base = move |url: Option<&str>| match (url, &pod_ip) {
                (Some(url), _) => Ok(url.to_owned()),
                (None, Some(address)) => Ok(format!("http://{address}:{server_port}")),
                (None, None) => {
                    let reason = "is not set, nor is POD_IP; pods need it to fetch what they start from";
                    Err(InvalidInput::new("FAKECLOUD_K8S_SELF_URL", reason))
                }
            };
            let make = move |url: Option<&str>| Ok(Pull::new(base(url)?, &token, for_pods.clone()));
            let runtime = resident()
                .backend(crate::Backend::Kube)
                .pull(Box::new(make))
                .build_blocking()
                .map_err(BackendInitError)?;
            // Good for checking tokens, whether pods fetch or not.
            let pull = Pull::new("", &internal_token, pending.clone());
            Ok(Self { runtime, pending: Some(pending), pull: Some(pull) })
        }

        /// Whether a request for a pod's RDB file may be answered: whether `bearer` is that very pod's token.
        #[cfg(feature = "kube")]
        pub fn admits_rdb(&self, pod: &str, bearer: &str) -> bool {
            self.pull.as_ref().is_some_and(|pull| pull.admits(pod, bearer))
        }

        /// On a runtime that was put together by hand.
        pub fn from_runtime(runtime: Runtime) -> Self {
            Self {
                runtime,
                pending: None,
                #[cfg(feature = "kube")]
                pull: None,
            }
        }

        /// All that it can do.
        pub fn runtime(&self) -> &Runtime {
            &self.runtime
        }

        /// `docker`, `podman` or `kubernetes`.
        pub fn cli_name(&self) -> &str {
            self.runtime.engine_name()
        }

        /// How clients reach the engine's host; empty on Kubernetes, where each pod has an address of its own.
        pub fn endpoint_host(&self) -> &str {
            self.runtime.endpoint_host()
        }

        /// What pods may fetch. `None` elsewhere: containers are given their RDB file, they fetch none.
        pub fn pending_rdb(&self) -> Option<PendingRdb> {
            self.pending.clone()
        }

        /// Brings a redis to running and answering, from an RDB file if one is given.
        ///
        /// # Errors
        /// As [`Runtime::ensure`].
        pub async fn ensure_redis(
            &self,
            resource_id: &str,
            rdb_path: Option<&str>,
            tags: &BTreeMap<String, String>,
        ) -> Result<RunningCacheContainer, RuntimeError> {
            self.ensure(Engine::Redis, resource_id, rdb_path, tags).await
        }

        /// Brings a valkey to running and answering, from an RDB file if one is given.
        ///
        /// # Errors
        /// As [`Runtime::ensure`].
        pub async fn ensure_valkey(
            &self,
            resource_id: &str,
            rdb_path: Option<&str>,
            tags: &BTreeMap<String, String>,
        ) -> Result<RunningCacheContainer, RuntimeError> {
            self.ensure(Engine::Valkey, resource_id, rdb_path, tags).await
        }

        /// Brings a memcached to running and answering.
        ///
        /// # Errors
        /// As [`Runtime::ensure`].
        pub async fn ensure_memcached(
            &self,
            resource_id: &str,
            tags: &BTreeMap<String, String>,
        ) -> Result<RunningCacheContainer, RuntimeError> {
            self.ensure(Engine::Memcached, resource_id, None, tags).await
        }

        async fn ensure(
            &self,
            engine: Engine,
            id: &str,
            rdb: Option<&str>,
            tags: &BTreeMap<String, String>,
        ) -> Result<RunningCacheContainer, RuntimeError> {
            let mut spec = CacheSpec::new(key(id)?, engine);
            spec.tags = tags.clone();
            spec.restore = rdb.map(|path| Restore { path: path.into(), replace: false });
            match self.runtime.ensure(spec).await {
                Ok(cache) => running(cache),
                Err(
                    error @ (Error::NotFound { .. }
                    | Error::Engine { .. }
                    | Error::Timeout { .. }
                    | Error::Fault { .. }
                    | Error::Other { .. }),
                ) => Err(RuntimeError::ContainerStartFailed(error.to_string())),
                Err(other) => Err(other.into()),
            }
        }

        /// Stops a cache cleanly and removes its container; the data stays. A failure is logged.
        pub async fn stop_container(&self, resource_id: &str) {
            let stopped = async { self.runtime.stop(&key(resource_id)?).await };
            if let Err(error) = stopped.await {
                tracing::warn!(resource_id, %error, "the cache was not stopped");
            }
        }

        /// Deletes a stopped cache's data, so that a later one of that id starts clean. A failure is logged.
        pub async fn remove_data_volume(&self, resource_id: &str) {
            let removed = async { self.runtime.remove_data(&key(resource_id)?).await };
            if let Err(error) = removed.await {
                tracing::warn!(resource_id, %error, "the cache's data was not deleted");
            }
        }

        /// Restarts a cache's engine, as RebootCacheCluster does. On Docker its endpoint stays; on Kubernetes another pod
        /// takes over, at another address, which the next `ensure_redis`, `ensure_valkey` or `ensure_memcached` returns.
        ///
        /// # Errors
        /// As [`Runtime::reboot`].
        pub async fn restart_container(
            &self,
            resource_id: &str,
            _tags: &BTreeMap<String, String>,
        ) -> Result<(), RuntimeError> {
            self.runtime.reboot(&key(resource_id)?).await?;
            Ok(())
        }

        /// Runs `redis-cli` in a cache.
        ///
        /// # Errors
        /// As [`Runtime::exec`].
        pub async fn exec_redis(
            &self,
            resource_id: &str,
            redis_args: &[String],
        ) -> Result<CacheExec, RuntimeError> {
            Ok(self.runtime.exec(&key(resource_id)?, redis_args).await?)
        }

        /// Writes a consistent RDB of a running cache to a file.
        ///
        /// # Errors
        /// As [`Runtime::snapshot`].
        pub async fn dump_rdb(&self, resource_id: &str, dest_path: &str) -> Result<(), RuntimeError> {
            self.runtime.snapshot(&key(resource_id)?, Path::new(dest_path)).await?;
            Ok(())
        }

        /// Stops every cache of this instance cleanly, as at shutdown. A failure is logged.
        pub async fn stop_all(&self) {
            if let Err(error) = self.runtime.stop_all().await {
                tracing::warn!(%error, "not every cache was stopped");
            }
        }

        /// Removes what dead owners left behind. A failure is logged. It takes its time where there is something, as
        /// [`Runtime::reap`] says: let a start that nobody should wait for do it beside everything else.
        pub async fn reap_stale(&self) {
            match self.runtime.reap().await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::info!(?removed, "removed what dead owners left behind"),
                Err(error) => tracing::warn!(%error, "dead owners' caches were not reaped"),
            }
        }
    }

    /// An embedder that stays, and that finds its caches again.
    fn resident() -> crate::RuntimeBuilder {
        let builder = Runtime::builder().lease(LEASE);
        match std::env::var("FAKECLOUD_ELASTICACHE_INSTANCE").ok().filter(|name| !name.is_empty()) {
            Some(instance) => builder.instance(instance),
            None => builder.held_instance(),
        }
    }

    fn key(id: &str) -> Result<CacheKey, Error> {
        Ok(CacheKey::new("", id)?)
    }

    fn running(cache: Cache) -> Result<RunningCacheContainer, RuntimeError> {
        let endpoint = cache
            .endpoint
            .ok_or_else(|| RuntimeError::ContainerStartFailed(format!("{} publishes no port", cache.key)))?;
        Ok(RunningCacheContainer {
            container_id: cache.handle,
            host_port: endpoint.port,
            endpoint_address: endpoint.address,
            endpoint_port: endpoint.port,
            engine: match cache.engine {
                Engine::Redis => CacheEngineKind::Redis,
                Engine::Valkey => CacheEngineKind::Valkey,
                Engine::Memcached => CacheEngineKind::Memcached,
            },
        })
    }
}
