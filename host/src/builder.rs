//! Putting a runtime together.

#[cfg(feature = "kube")]
mod cluster;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "kube")]
use self::cluster::{GivenCluster, MakePull, find_cluster, kube_parts};
use crate::backend::Backend;
use crate::engine::ContainerEngine;
use crate::engine::cluster::Cluster;
#[cfg(feature = "kube")]
use crate::engine::kube::KubeOptions;
use crate::environment::{DockerEnvironment, Environment, KubeEnvironment, Ports};
use crate::error::{Error, InvalidInput};
use crate::grants::Grants;
use crate::instance::HeldInstance;
use crate::locks::KeyLocks;
use crate::manifest::{Manifest, PolicySource};
use crate::ownership::{Owner, Secret, default_cache_dir, default_data_dir};
use crate::policy::{Active, CompiledCache, Guards, Limits, Terms};
use crate::probes::Probes;
use crate::progress::{SharedProgress, silent};
use crate::runtime::{Runtime, Shared};
use crate::scheduling::Scheduling;

/// Names the manifest of the environment.
const ENVIRONMENT: &str = "FAKECLOUD_ELASTICACHE_ENV";
/// Names the address at which ports are published.
const PUBLISH_ADDRESS: &str = "FAKECLOUD_ELASTICACHE_PUBLISH_ADDRESS";
/// The instance, unless told otherwise.
const INSTANCE: &str = "cachehost";
/// The instance of an embedder that names none, where its caches are pods: a name out of its data folder would be gone
/// with its own pod, and the caches with the name.
const POD_INSTANCE: &str = "fakecloud";
/// Longest name of an instance, in bytes.
const INSTANCE_BYTES: usize = 255;

/// Where caches are, with the way to ask what runs there.
enum Parts {
    Docker {
        engine: Arc<dyn ContainerEngine>,
        probes: Arc<dyn Probes>,
        endpoint_host: String,
    },
    #[cfg_attr(not(feature = "kube"), allow(dead_code, reason = "nothing finds a cluster then"))]
    Kube {
        cluster: Arc<dyn Cluster>,
        probes: Arc<dyn Probes>,
        /// By which owners of the namespace know each other's objects.
        secret: Secret,
        scheduling: Scheduling,
        storage: Option<(String, u64)>,
    },
}

/// Describes a [`Runtime`]. Everything has a default.
#[derive(Default)]
pub struct RuntimeBuilder {
    environment: Option<Manifest>,
    backend: Option<Backend>,
    parts: Option<Parts>,
    #[cfg(feature = "kube")]
    kube: Option<KubeOptions>,
    /// In the place of the one that the options name, with its probes and the storage of its claims.
    #[cfg(feature = "kube")]
    cluster: Option<GivenCluster>,
    /// Gives pods the files they start from, in an embedder that can: from its base URL.
    #[cfg(feature = "kube")]
    pull: Option<MakePull>,
    driver: Option<Driver>,
    policy: Option<PolicySource>,
    instance: Option<String>,
    held_instance: bool,
    data_dir: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    timeout: Option<Duration>,
    grants: Option<Grants>,
    limits: Option<Limits>,
    lease: Option<Duration>,
    publish_address: Option<IpAddr>,
    settings: Vec<(String, String)>,
    progress: Option<SharedProgress>,
    guards: Guards,
    /// What another runtime has loaded, in the place of loading it again.
    #[cfg(feature = "testing")]
    loaded: Option<Arc<Active>>,
}

impl std::fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeBuilder").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    /// The environment: a policy and what it is given. What the other methods say takes the place of its parts.
    /// Default: the manifest that `FAKECLOUD_ELASTICACHE_ENV` names, else [`Manifest::standard`].
    pub fn environment(mut self, manifest: Manifest) -> Self {
        self.environment = Some(manifest);
        self
    }

    /// What runs the containers. Default: the environment's if one is named, else what
    /// `FAKECLOUD_ELASTICACHE_BACKEND` or `FAKECLOUD_CONTAINER_BACKEND` says, else Docker.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
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
        self.parts = Some(Parts::Docker { engine, probes, endpoint_host: endpoint_host.into() });
        self
    }

    /// Which cluster, and what of it is used, in the place of the environment's `[kube]`. Of use with
    /// [`Backend::Kube`].
    #[cfg(feature = "kube")]
    pub fn kube(mut self, options: KubeOptions) -> Self {
        self.kube = Some(options);
        self
    }

    /// A cluster of the embedder's own, the way to ask what runs in its pods, and the storage class of claims with their
    /// size in bytes, if data is to lie on claims. Replaces [`RuntimeBuilder::backend`].
    #[cfg(feature = "kube")]
    pub fn cluster(
        mut self,
        cluster: Arc<dyn Cluster>,
        probes: Arc<dyn Probes>,
        storage: Option<(String, u64)>,
    ) -> Self {
        self.backend = Some(Backend::Kube);
        self.cluster = Some(GivenCluster { cluster, probes, storage });
        self
    }

    /// What lets pods fetch the files that they start from, where the options ask for that.
    #[cfg(feature = "kube")]
    pub(crate) fn pull(mut self, make: MakePull) -> Self {
        self.pull = Some(make);
        self
    }

    /// The policy component. Default: the environment's, else `FAKECLOUD_ELASTICACHE_POLICY`, else
    /// `policies/durable.wasm` beside the executable.
    pub fn policy_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.policy = Some(PolicySource::file(path));
        self
    }

    /// Who owns what this runtime makes: caches of one instance are found again by the next runtime of the
    /// same instance and data folder. Default: `cachehost`.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// The instance of an embedder that is gone, or a new one: see [`HeldInstance`]. On Kubernetes it is always the same
    /// one, which an embedder has again whose data folder is gone.
    #[cfg(any(feature = "docker", feature = "kube"))]
    pub(crate) fn held_instance(mut self) -> Self {
        self.held_instance = true;
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

    /// How long each operation may take. Default: [`Limits::wall_time`] of the environment.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What an operation of the policy may use. Default: the environment's.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// What the policy may do. Default: the environment's.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = Some(grants);
        self
    }

    /// Hold a lease of this length, at least 3 s, so that others may reap what this runtime leaves behind
    /// once it is dead. Default: none, and nothing is ever reaped unasked. For embedders that stay. It is renewed at a
    /// third of its length, and every 20 s at least.
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = Some(length);
        self
    }

    /// The address of the engine's host at which ports are published. Default:
    /// `FAKECLOUD_ELASTICACHE_PUBLISH_ADDRESS`, else the first that the environment grants, else 127.0.0.1. Caches
    /// have no password: whoever reaches this address reaches them. An environment that was named has to grant
    /// this address.
    pub fn publish_address(mut self, address: IpAddr) -> Self {
        self.publish_address = Some(address);
        self
    }

    /// A setting of the policy's, such as `image.redis`. An image has to be granted too.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Who is told about long work. Default: nobody.
    pub fn progress(mut self, progress: SharedProgress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Holds the policy to no limit, until another one is swapped in, so that the bench can tell what limits cost:
    /// nothing interrupts it, nothing it takes is counted, and nothing it waits for has a deadline. What is granted
    /// is still asked. Only for a policy that is trusted, and only in builds for tests.
    #[cfg(feature = "testing")]
    pub fn unlimited(mut self) -> Self {
        self.guards = Guards::Off;
        self
    }

    /// Leaves out what depends on how fast this machine is, and runs the policy in a way that suits many short
    /// operations on all cores: for simulations.
    #[cfg(feature = "testing")]
    pub fn simulated(mut self) -> Self {
        self.guards = Guards::Simulated;
        self
    }

    /// [`simulated`](Self::simulated), with the policy that another runtime has loaded, whatever file is named: where many
    /// runtimes are made.
    #[cfg(feature = "testing")]
    pub fn policy_of(mut self, runtime: &Runtime) -> Self {
        self.loaded = Some(runtime.active());
        self.simulated()
    }

    /// Finds the engine, loads the policy.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no engine answers (within a few seconds), [`Error::Policy`] if the policy
    /// cannot be used, [`Error::File`] if a folder cannot be, [`Error::Invalid`] for anything else.
    pub async fn build(mut self) -> Result<Runtime, Error> {
        self.settle_environment()?;
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => self.find_parts().await?,
        };
        #[cfg(feature = "testing")]
        if self.loaded.is_some() {
            // Nothing is left that takes long.
            return self.assemble(parts);
        }
        // Compiling a policy takes a core for a while.
        tokio::task::spawn_blocking(move || self.assemble(parts))
            .await
            .map_err(|error| Error::Other { message: format!("setting up ended early: {error}") })?
    }

    /// Settles on one environment, with what the other methods said in the place of its parts.
    fn settle_environment(&mut self) -> Result<(), Error> {
        let address = std::env::var(PUBLISH_ADDRESS).ok();
        let address =
            self.publish_address.map_or_else(|| publish_address(address.as_deref()), |a| Ok(Some(a)))?;
        let named = match self.environment.take() {
            Some(manifest) => Some(manifest),
            None => match std::env::var_os(ENVIRONMENT).filter(|path| !path.is_empty()) {
                Some(path) => Some(Manifest::read(path.as_ref())?),
                None => None,
            },
        };
        let is_named = named.is_some();
        let mut manifest = match (named, address) {
            (Some(manifest), _) => manifest,
            // Nobody but whoever runs this host has said anything yet, and that is what they say.
            (None, Some(address)) => {
                let mut manifest = Manifest::standard();
                manifest.grants.publish = vec![address];
                manifest
            }
            (None, None) => Manifest::standard(),
        };
        let backend = match self.backend {
            Some(backend) => backend,
            None if is_named => manifest.backend,
            None => Backend::of_variables()?,
        };
        manifest.backend = *self.backend.insert(backend);
        #[cfg(feature = "kube")]
        if backend == Backend::Kube {
            let options = self.kube.take().unwrap_or(manifest.kube);
            manifest.kube = options.filled(|name| std::env::var(name).ok())?;
            if let Some(given) = &self.cluster {
                manifest.kube.namespace = Some(given.cluster.namespace().to_owned());
                manifest.kube.storage_class = given.storage.as_ref().map(|(class, _)| class.clone());
            }
            // Nobody but whoever runs this host has said anything, and that is which namespace they mean.
            if !is_named {
                manifest.grants = Grants::standard_kube(manifest.kube.namespace())?;
            }
        }
        manifest.policy = self.policy.take().unwrap_or(manifest.policy);
        manifest.grants = self.grants.take().unwrap_or(manifest.grants);
        manifest.limits = self.limits.take().unwrap_or(manifest.limits);
        manifest.limits.wall_time = self.timeout.unwrap_or(manifest.limits.wall_time);
        manifest.config.0.extend(std::mem::take(&mut self.settings));
        let granted = manifest.grants.publish.first().copied();
        self.publish_address = Some(address.or(granted).unwrap_or(Ipv4Addr::LOCALHOST.into()));
        self.environment = Some(manifest);
        Ok(())
    }

    /// Finds what was settled on.
    async fn find_parts(&self) -> Result<Parts, Error> {
        match self.backend.unwrap_or_default() {
            #[cfg(feature = "kube")]
            Backend::Kube => {
                if let Some(Manifest { grants, kube, .. }) = &self.environment {
                    // Before anything is asked of it: owners share a Secret there.
                    grants.namespace(kube.namespace())?;
                }
                let given = match &self.cluster {
                    Some(given) => given.clone(),
                    None => {
                        let options = self.environment.as_ref().map(|e| e.kube.clone()).unwrap_or_default();
                        find_cluster(options, self.pull.as_ref()).await?
                    }
                };
                kube_parts(given).await
            }
            other => find_engine(other).await,
        }
    }

    /// As [`RuntimeBuilder::build`], with an environment that was settled and an engine that was found.
    fn assemble(self, parts: Parts) -> Result<Runtime, Error> {
        let folder =
            |given: Option<PathBuf>, default: fn() -> Result<PathBuf, String>, name: &str| match given {
                Some(folder) => Ok(folder),
                None => default().map_err(|reason| InvalidInput::new(name, reason)),
            };
        let data_dir = folder(self.data_dir, default_data_dir, "data folder")?;
        let in_data_dir = |source| Error::File { path: data_dir.clone(), source };
        let in_pods = matches!(parts, Parts::Kube { .. });
        let (given, held) = match (self.instance, self.held_instance) {
            (None, true) => unnamed(&data_dir, in_pods).map_err(in_data_dir)?,
            (given, _) => (given, None),
        };
        let instance = given.unwrap_or_else(|| INSTANCE.to_owned());
        if instance.is_empty() || instance.len() > INSTANCE_BYTES || instance.chars().any(char::is_control) {
            let reason = format!("must have 1 to {INSTANCE_BYTES} bytes and no control characters");
            return Err(InvalidInput::new("instance", reason).into());
        }
        if self.lease.is_some_and(|length| length < Duration::from_secs(3)) {
            return Err(InvalidInput::new("lease", "must last 3 s at least").into());
        }
        let cache_dir = folder(self.cache_dir, default_cache_dir, "cache folder")?;
        let folder_secret = Secret::of_folder(&data_dir).map_err(in_data_dir)?;
        let locks = KeyLocks::new(&data_dir).map_err(in_data_dir)?;
        let manifest = self.environment.unwrap_or_default();
        // What was compiled here is this machine's affair, whoever owns the caches.
        let compiled = CompiledCache::new(&cache_dir, folder_secret.clone());
        #[cfg(feature = "testing")]
        let loaded = self.loaded.map(|active| active.policy.clone());
        #[cfg(not(feature = "testing"))]
        let loaded = None;
        let active = match loaded {
            Some(policy) => Active { policy, terms: Arc::new(Terms::of(manifest.clone(), self.guards)) },
            None => Active::load(manifest.clone(), &compiled, self.guards)?,
        };
        let owner = |secret| Owner { secret, instance, leased: self.lease.is_some() };
        let progress = self.progress.unwrap_or_else(silent);
        let environment = match parts {
            Parts::Docker { engine, probes, endpoint_host } => {
                Environment::Docker(Arc::new(DockerEnvironment {
                    engine,
                    probes,
                    owner: owner(folder_secret),
                    publish_address: self.publish_address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
                    endpoint_host,
                    progress,
                    ports: Ports::outside_ephemeral(),
                }))
            }
            Parts::Kube { cluster, probes, secret, scheduling, storage } => {
                Environment::Kube(Arc::new(KubeEnvironment {
                    cluster,
                    probes,
                    owner: owner(secret),
                    progress,
                    scheduling,
                    storage,
                }))
            }
        };
        Ok(Runtime::new(Shared {
            environment,
            active: parking_lot::RwLock::new(Arc::new(active)),
            manifest: parking_lot::Mutex::new(manifest),
            compiled,
            locks,
            _held_instance: held,
            _driver: self.driver,
            lease_length: self.lease,
            lease: tokio::sync::OnceCell::new(),
            gate: tokio::sync::RwLock::new(()),
        }))
    }

    /// Finds the engine, loads the policy, from outside any async runtime or inside one.
    ///
    /// # Errors
    /// As [`RuntimeBuilder::build`].
    #[cfg(any(feature = "docker", feature = "kube"))]
    pub(crate) fn build_blocking(mut self) -> Result<Runtime, Error> {
        let ended = || Error::Other { message: "looking for the container engine ended early".to_owned() };
        self.settle_environment()?;
        if let Some(parts) = self.parts.take() {
            return self.assemble(parts);
        }
        // A thread and a runtime of its own: the caller's may not be blocked on. An engine found there holds no
        // connection to it; a cluster's client lives there, so it stays for as long as that does.
        let driver = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("elasticache-host")
            .enable_all()
            .build()
            .map_err(|error| Error::Other { message: format!("no async runtime: {error}") })?;
        let driver = Driver(Some(driver));
        let found = std::thread::spawn(move || {
            let parts = match &driver.0 {
                Some(driver) => driver.block_on(self.find_parts()),
                None => Err(ended()),
            };
            (self, driver, parts)
        });
        let (mut builder, driver, parts) = found.join().map_err(|_| ended())?;
        let parts = parts?;
        if let Parts::Kube { .. } = parts {
            builder.driver = Some(driver);
        }
        builder.assemble(parts)
    }
}

/// The instance of an embedder that names none, and what keeps it from others.
fn unnamed(data_dir: &Path, in_pods: bool) -> io::Result<(Option<String>, Option<HeldInstance>)> {
    if in_pods {
        return Ok((Some(POD_INSTANCE.to_owned()), None));
    }
    let held = HeldInstance::take(data_dir)?;
    Ok((Some(held.name.clone()), Some(held)))
}

/// The async runtime that a client lives in which was made outside of any.
pub(crate) struct Driver(Option<tokio::runtime::Runtime>);

impl Drop for Driver {
    fn drop(&mut self) {
        // It may be dropped inside an async runtime, where one must not wait for another's end.
        if let Some(driver) = self.0.take() {
            driver.shutdown_background();
        }
    }
}

#[cfg(feature = "docker")]
async fn find_engine(backend: Backend) -> Result<Parts, Error> {
    use crate::engine::docker::Docker;
    use crate::probes::tcp::TcpProbes;

    let found = match backend {
        Backend::Docker => Docker::detect().await,
        Backend::Podman => Docker::detect_podman().await,
        Backend::Kube => return Err(not_supplied(backend)),
    };
    let docker = found.map_err(|error| Error::Unavailable { message: error.to_string() })?;
    let endpoint_host = docker.endpoint_host();
    Ok(Parts::Docker { engine: Arc::new(docker), probes: Arc::new(TcpProbes), endpoint_host })
}

#[cfg(not(feature = "docker"))]
async fn find_engine(backend: Backend) -> Result<Parts, Error> {
    Err(not_supplied(backend))
}

fn not_supplied(backend: Backend) -> Error {
    let message = format!("this build supplies no {}; turn on the feature of that name", backend.as_str());
    Error::Unavailable { message }
}

/// The address that a setting names, if it names one.
fn publish_address(setting: Option<&str>) -> Result<Option<IpAddr>, InvalidInput> {
    match setting {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            let reason = format!("is {text:?}, which is no IP address; write it like 127.0.0.1");
            InvalidInput::new(PUBLISH_ADDRESS, reason)
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ports_are_published_on_loopback_unless_told_otherwise() {
        let mut builder = RuntimeBuilder::default().environment(Manifest::default());
        builder.settle_environment().unwrap();
        assert!(builder.publish_address.unwrap().is_loopback());
        assert_eq!(publish_address(None).unwrap(), None);
        assert_eq!(publish_address(Some("0.0.0.0")).unwrap(), Some(IpAddr::from([0, 0, 0, 0])));
        assert!(publish_address(Some("everywhere")).unwrap_err().to_string().contains("everywhere"));
    }

    #[test]
    fn an_embedder_in_a_pod_has_its_instance_again_without_its_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let name = |data: &str, in_pods| unnamed(&folder.path().join(data), in_pods).unwrap().0.unwrap();
        assert_eq!(name("a", true), name("b", true));
        // On Docker the folder is beside the engine, and another one is another embedder's.
        assert_ne!(name("a", false), name("b", false));
        assert_eq!(name("a", false), name("a", false));
    }
}
