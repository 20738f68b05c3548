//! Runs container-lifecycle policies for emulated ElastiCache.
//!
//! A policy is a WebAssembly component that decides; this host acts, on Docker or Podman. An embedder
//! takes [`ElastiCacheRuntime`] in place of fakecloud's native runtime, or [`Runtime`] for all there is:
//!
//! ```no_run
//! use elasticache_host::{CacheKey, CacheSpec, Engine, Runtime};
//!
//! # async fn example() -> Result<(), elasticache_host::Error> {
//! let runtime = Runtime::builder().instance("my-emulator").build().await?;
//! let key = CacheKey::new("", "my-cache")?;
//! let cache = runtime.ensure(CacheSpec::new(key.clone(), Engine::Redis)).await?;
//! println!("{:?} answers at {:?}", cache.key, cache.endpoint);
//! runtime.reboot(&key).await?;
//! runtime.stop(&key).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Cargo features: `docker` (default) supplies Docker and Podman, `kube` Kubernetes, `memory` an in-memory engine
//! for tests and the bench, `cli` the `cachehost` command.

mod backend;
mod builder;
mod capabilities;
mod compat;
pub mod engine;
mod environment;
mod error;
mod grants;
mod instance;
mod lease;
mod leftovers;
mod locks;
mod manifest;
mod ownership;
pub mod policy;
pub mod probes;
pub mod progress;
pub mod rdb;
mod runtime;
mod scheduling;
mod snapshot;
mod types;

pub use backend::Backend;
pub use builder::RuntimeBuilder;
#[cfg(any(feature = "docker", feature = "kube"))]
pub use compat::ElastiCacheRuntime;
pub use compat::{BackendInitError, CacheEngineKind, PendingRdb, RunningCacheContainer, RuntimeError};
pub use error::{Error, Fault, InvalidInput};
pub use grants::{Access, Capability, Grants, Namespace, Pattern};
pub use manifest::{Manifest, ManifestError, PolicySource, Settings, Sha256Hex};
pub use policy::{Limits, PolicyError, PolicyInfo, inspect_environment, inspect_policy};
pub use progress::{Progress, ProgressSink, SharedProgress, silent};
pub use runtime::{Runtime, check_exec_arguments};
pub use scheduling::Scheduling;
pub use types::*;
