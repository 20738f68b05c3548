//! Putting a runtime together.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::ContainerEngine;
use crate::environment::{Environment, Ports};
use crate::error::{Error, InvalidInput};
use crate::locks::KeyLocks;
use crate::ownership::{Owner, Secret, default_cache_dir, default_data_dir};
use crate::policy::{CompiledCache, Limits, Policy, default_file};
use crate::probes::Probes;
use crate::probes::tcp::TcpProbes;
use crate::progress::{SharedProgress, silent};
use crate::runtime::{Runtime, Shared};

/// How long an operation may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The instance, unless told otherwise.
const INSTANCE: &str = "cachehost";
/// Longest name of an instance, in bytes.
const INSTANCE_BYTES: usize = 255;

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// Docker or Podman, whichever is found first.
    #[default]
    Docker,
}

impl Backend {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Docker => "docker",
        }
    }
}

impl FromStr for Backend {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        match text {
            "docker" | "podman" => Ok(Backend::Docker),
            other => Err(InvalidInput::new("backend", format!("{other:?} is not supplied here; use docker"))),
        }
    }
}

/// An engine with its own way of being asked and reached.
struct Parts {
    engine: Arc<dyn ContainerEngine>,
    probes: Arc<dyn Probes>,
    endpoint_host: String,
}

/// Describes a [`Runtime`]. Everything has a default.
#[derive(Default)]
pub struct RuntimeBuilder {
    backend: Backend,
    parts: Option<Parts>,
    policy: Option<PathBuf>,
    instance: Option<String>,
    data_dir: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    timeout: Option<Duration>,
    limits: Limits,
    lease: Option<Duration>,
    publish_address: Option<IpAddr>,
    settings: Vec<(String, String)>,
    progress: Option<SharedProgress>,
}

impl std::fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeBuilder").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    /// What runs the containers. Default: Docker or Podman.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// An engine of the embedder's own, the way to ask what runs in it, and the host at which its
    /// published ports are reached. Replaces [`RuntimeBuilder::backend`].
    pub fn engine(
        mut self,
        engine: Arc<dyn ContainerEngine>,
        probes: Arc<dyn Probes>,
        endpoint_host: impl Into<String>,
    ) -> Self {
        self.parts = Some(Parts { engine, probes, endpoint_host: endpoint_host.into() });
        self
    }

    /// The policy component. Default: `FAKECLOUD_ELASTICACHE_POLICY`, else `policies/durable.wasm` beside
    /// the executable.
    pub fn policy_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.policy = Some(path.into());
        self
    }

    /// Who owns what this runtime makes: caches of one instance are found again by the next runtime of the
    /// same instance and data folder. Default: `cachehost`.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Where the owner's secret and locks are kept. Default: `FAKECLOUD_ELASTICACHE_DATA_DIR`, else
    /// `fakecloud-elasticache` in the user's data folder.
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Where compiled policies are kept. Default: `FAKECLOUD_ELASTICACHE_CACHE_DIR`, else
    /// `fakecloud-elasticache` in the user's cache folder.
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(folder.into());
        self
    }

    /// How long each operation may take. Default: 600 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What an operation of the policy may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Hold a lease of this length, at least 3 s, so that others may reap what this runtime leaves behind
    /// once it is dead. Default: none, and nothing is ever reaped unasked. For embedders that stay.
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = Some(length);
        self
    }

    /// The address of the engine's host at which ports are published. Default:
    /// `FAKECLOUD_ELASTICACHE_PUBLISH_ADDRESS`, else 127.0.0.1. Caches have no password: whoever reaches
    /// this address reaches them.
    pub fn publish_address(mut self, address: IpAddr) -> Self {
        self.publish_address = Some(address);
        self
    }

    /// A setting of the policy's, such as `image.redis`.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Who is told about long work. Default: nobody.
    pub fn progress(mut self, progress: SharedProgress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Finds the engine, loads the policy.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no engine answers (within a few seconds), [`Error::Policy`] if the policy
    /// cannot be used, [`Error::File`] if a folder cannot be, [`Error::Invalid`] for anything else.
    pub async fn build(mut self) -> Result<Runtime, Error> {
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => find_engine(self.backend).await?,
        };
        // Compiling a policy takes a core for a while.
        tokio::task::spawn_blocking(move || self.assemble(parts))
            .await
            .map_err(|error| Error::Other { message: format!("setting up ended early: {error}") })?
    }

    /// As [`RuntimeBuilder::build`], with an engine that was found already.
    fn assemble(self, parts: Parts) -> Result<Runtime, Error> {
        let instance = self.instance.unwrap_or_else(|| INSTANCE.to_owned());
        if instance.is_empty() || instance.len() > INSTANCE_BYTES || instance.chars().any(char::is_control) {
            let reason = format!("must have 1 to {INSTANCE_BYTES} bytes and no control characters");
            return Err(InvalidInput::new("instance", reason).into());
        }
        if self.lease.is_some_and(|length| length < Duration::from_secs(3)) {
            return Err(InvalidInput::new("lease", "must last 3 s at least").into());
        }
        let publish_address = match self.publish_address {
            Some(address) => address,
            None => publish_address(std::env::var("FAKECLOUD_ELASTICACHE_PUBLISH_ADDRESS").ok().as_deref())?,
        };
        let folder =
            |given: Option<PathBuf>, default: fn() -> Result<PathBuf, String>, name: &str| match given {
                Some(folder) => Ok(folder),
                None => default().map_err(|reason| InvalidInput::new(name, reason)),
            };
        let data_dir = folder(self.data_dir, default_data_dir, "data folder")?;
        let cache_dir = folder(self.cache_dir, default_cache_dir, "cache folder")?;
        let in_data_dir = |source| Error::File { path: data_dir.clone(), source };
        let secret = Secret::of_folder(&data_dir).map_err(in_data_dir)?;
        let locks = KeyLocks::new(&data_dir).map_err(in_data_dir)?;
        let path = match self.policy {
            Some(path) => path,
            None => default_file()?,
        };
        let policy = Policy::load(&path, &CompiledCache::new(&cache_dir, secret.clone()))?;
        let environment = Environment {
            engine: parts.engine,
            probes: parts.probes,
            owner: Owner { secret, instance, leased: self.lease.is_some() },
            publish_address,
            endpoint_host: parts.endpoint_host,
            progress: self.progress.unwrap_or_else(silent),
            settings: self.settings,
            ports: Ports::outside_ephemeral(),
        };
        Ok(Runtime::new(Shared {
            environment: Arc::new(environment),
            policy,
            locks,
            limits: self.limits,
            timeout: self.timeout.unwrap_or(TIMEOUT),
            lease_length: self.lease,
            lease: tokio::sync::OnceCell::new(),
            gate: tokio::sync::RwLock::new(()),
        }))
    }

    /// Finds the engine, loads the policy, from outside any async runtime or inside one.
    ///
    /// # Errors
    /// As [`RuntimeBuilder::build`].
    #[cfg(feature = "docker")]
    pub(crate) fn build_blocking(mut self) -> Result<Runtime, Error> {
        let ended = || Error::Other { message: "looking for the container engine ended early".to_owned() };
        if self.parts.is_none() {
            // A thread and a runtime of its own: the caller's may not be blocked on. The engine found
            // there holds no connection to it.
            let backend = self.backend;
            let found = std::thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| Error::Other { message: format!("no async runtime: {error}") })?
                    .block_on(find_engine(backend))
            });
            self.parts = Some(found.join().map_err(|_| ended())??);
        }
        let parts = self.parts.take().ok_or_else(ended)?;
        self.assemble(parts)
    }
}

#[cfg(feature = "docker")]
async fn find_engine(backend: Backend) -> Result<Parts, Error> {
    match backend {
        Backend::Docker => {
            let docker = crate::engine::docker::Docker::detect()
                .await
                .map_err(|error| Error::Unavailable { message: error.to_string() })?;
            let endpoint_host = docker.endpoint_host();
            Ok(Parts { engine: Arc::new(docker), probes: Arc::new(TcpProbes), endpoint_host })
        }
    }
}

#[cfg(not(feature = "docker"))]
async fn find_engine(backend: Backend) -> Result<Parts, Error> {
    let message = format!("this build supplies no {}; turn on the feature of that name", backend.as_str());
    Err(Error::Unavailable { message })
}

/// Loopback, so that other machines cannot reach engines that ask for no password.
fn publish_address(setting: Option<&str>) -> Result<IpAddr, InvalidInput> {
    match setting {
        None | Some("") => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(text) => text.parse().map_err(|_| {
            let reason = format!("is {text:?}, which is no IP address; write it like 127.0.0.1");
            InvalidInput::new("FAKECLOUD_ELASTICACHE_PUBLISH_ADDRESS", reason)
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ports_are_published_on_loopback_unless_told_otherwise() {
        assert!(publish_address(None).unwrap().is_loopback());
        assert_eq!(publish_address(Some("0.0.0.0")).unwrap(), IpAddr::from([0, 0, 0, 0]));
        assert!(publish_address(Some("everywhere")).unwrap_err().to_string().contains("everywhere"));
    }

    #[test]
    fn a_backend_that_is_not_supplied_is_named() {
        assert_eq!("docker".parse::<Backend>().unwrap(), Backend::Docker);
        assert!("kube".parse::<Backend>().unwrap_err().to_string().contains("kube"));
    }
}
