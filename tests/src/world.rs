//! Where scenarios run, and what other hands than the host's do there.

mod containers;
mod pods;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use elasticache_host::probes::Reply;
use elasticache_host::{Endpoint, RuntimeBuilder};
use serde::Deserialize;

use crate::faults::Tap;
use containers::Containers;
use pods::Pods;

/// The label and annotation by which every runtime's objects are found, whatever the policy.
const INSTANCE: &str = "fakecloud-instance";

/// A container engine or a cluster, with everything that scenarios need beside the host.
#[derive(Clone)]
pub struct World(Kind);

/// Which world is simulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// A Docker.
    #[default]
    Docker,
    /// A namespace of a cluster.
    Kube {
        /// Whether data lies on claims, or goes with its pod.
        claims: bool,
    },
}

#[derive(Clone)]
enum Kind {
    Containers(Containers),
    Pods(Pods),
}

/// A port in foreign hands, until it is dropped.
#[derive(Debug)]
pub struct Occupied {
    _listener: Option<std::net::TcpListener>,
}

impl Place {
    /// The word for it, as it is read.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Docker => "docker",
            Place::Kube { claims: false } => "kube",
            Place::Kube { claims: true } => "kube-claims",
        }
    }

    /// What a policy would call it.
    pub fn backend(self) -> &'static str {
        match self {
            Place::Docker => "docker",
            Place::Kube { .. } => "kube",
        }
    }
}

impl TryFrom<String> for Place {
    type Error = anyhow::Error;

    fn try_from(word: String) -> Result<Self> {
        match word.as_str() {
            "docker" => Ok(Place::Docker),
            "kube" => Ok(Place::Kube { claims: false }),
            "kube-claims" => Ok(Place::Kube { claims: true }),
            _ => bail!("{word:?} is no place; there are docker, kube, kube-claims"),
        }
    }
}

impl World {
    /// A simulated one, new and empty.
    pub fn sim(place: Place) -> Self {
        Self(match place {
            Place::Docker => Kind::Containers(Containers::sim()),
            Place::Kube { claims } => Kind::Pods(Pods::sim(claims)),
        })
    }

    /// The same, where the host's calls pass a tap, and what stands there does not belong to any scenario.
    ///
    /// # Errors
    /// If the bystanders cannot be made.
    pub fn sim_behind(place: Place, tap: &Tap) -> Result<Self> {
        Ok(Self(match place {
            Place::Docker => Kind::Containers(Containers::sim_behind(tap)?),
            Place::Kube { claims } => Kind::Pods(Pods::sim_behind(claims, tap)?),
        }))
    }

    /// The same, where the host's calls pass a tap.
    pub fn behind(&self, tap: &Tap) -> Self {
        Self(match &self.0 {
            Kind::Containers(containers) => Kind::Containers(containers.behind(tap)),
            Kind::Pods(pods) => Kind::Pods(pods.behind(tap)),
        })
    }

    /// Everything that is there, a line each that begins with its kind and name, for comparing what was with what is.
    ///
    /// # Errors
    /// If the engine does not say.
    pub async fn everything(&self) -> Result<Vec<String>> {
        match &self.0 {
            Kind::Containers(containers) => containers.everything().await,
            Kind::Pods(pods) => pods.everything().await,
        }
    }

    /// Moves the world's clock on, where it has one of its own.
    ///
    /// # Errors
    /// If it is the real one.
    pub fn advance(&self, by: Duration) -> Result<()> {
        match &self.0 {
            Kind::Containers(containers) => containers.advance(by),
            Kind::Pods(pods) => pods.advance(by),
        }
    }

    /// The Docker or Podman that this machine has.
    ///
    /// # Errors
    /// If none answers.
    pub async fn docker() -> Result<Self> {
        Ok(Self(Kind::Containers(Containers::docker().await?)))
    }

    /// A cluster, in a namespace of its own, which is deleted when the last clone is dropped. Data lies on claims of
    /// the storage class, or in pods without one.
    ///
    /// # Errors
    /// If the cluster cannot be used.
    pub async fn kube(kubeconfig: &Path, context: &str, storage_class: Option<&str>) -> Result<Self> {
        Ok(Self(Kind::Pods(Pods::new(kubeconfig, context, storage_class).await?)))
    }

    /// What a simulation of it is a simulation of.
    fn place(&self) -> Place {
        match &self.0 {
            Kind::Containers(_) => Place::Docker,
            Kind::Pods(pods) => Place::Kube { claims: pods.has_claims() },
        }
    }

    /// `docker` or `kube`: what a policy would call this.
    pub fn backend(&self) -> &'static str {
        self.place().backend()
    }

    /// What stands for it in a simulation, new and empty; `None` if it is one.
    pub fn simulated(&self) -> Option<Self> {
        self.is_real().then(|| Self::sim(self.place()))
    }

    /// A cache whose engine ended with its node, and that nothing but an operation brings up again; while there is one.
    pub fn fallen(&self) -> Option<String> {
        match &self.0 {
            Kind::Containers(_) => None,
            Kind::Pods(pods) => pods.fallen(),
        }
    }

    /// It was brought up again.
    pub fn risen(&self, cache: &str) {
        if let Kind::Pods(pods) = &self.0 {
            pods.risen(cache);
        }
    }

    /// Whether its engines are real ones, which run scripts.
    pub fn is_real(&self) -> bool {
        match &self.0 {
            Kind::Containers(containers) => containers.are_real(),
            Kind::Pods(pods) => pods.are_real(),
        }
    }

    /// Makes a runtime run here.
    ///
    /// # Errors
    /// If what it needs cannot be said.
    pub fn equip(&self, builder: RuntimeBuilder) -> Result<RuntimeBuilder> {
        match &self.0 {
            Kind::Containers(containers) => Ok(containers.equip(builder)),
            Kind::Pods(pods) => pods.equip(builder),
        }
    }

    /// Sends a command as a client would.
    ///
    /// # Errors
    /// If there is no reply, or the server's reply is an error.
    pub async fn ask(&self, endpoint: &Endpoint, args: &[String]) -> Result<Reply> {
        let reply = match &self.0 {
            Kind::Containers(containers) => containers.command(endpoint, args).await?,
            Kind::Pods(pods) => pods.command(endpoint, args).await?,
        };
        match reply {
            Reply::Error(words) => bail!("{} was answered with {words}", args.join(" ")),
            reply => Ok(reply),
        }
    }

    /// Ends the engine of a cache at once, in a way that nothing restarts and that saves nothing.
    ///
    /// # Errors
    /// If that could not be done.
    pub async fn kill(&self, handle: &str) -> Result<()> {
        match &self.0 {
            Kind::Containers(containers) => containers.kill(handle).await,
            Kind::Pods(pods) => pods.kill(handle).await,
        }
    }

    /// A foreign program takes a port of the engine's host.
    ///
    /// # Errors
    /// If somebody has it already, or where there is no such port.
    pub fn occupy(&self, port: u16) -> Result<Occupied> {
        match &self.0 {
            Kind::Containers(containers) => containers.occupy(port),
            Kind::Pods(_) => bail!("pods publish no port of a host"),
        }
    }

    /// From now on the engine of a cache cannot save.
    ///
    /// # Errors
    /// If that could not be arranged.
    pub async fn fail_saves(&self, handle: &str) -> Result<()> {
        match &self.0 {
            Kind::Containers(containers) => containers.fail_saves(handle).await,
            Kind::Pods(pods) => pods.fail_saves(handle).await,
        }
    }

    /// Restarts a container as the engine's own tools do.
    ///
    /// # Errors
    /// If the engine does not do it, or where nothing can be restarted.
    pub async fn restart(&self, handle: &str) -> Result<()> {
        match &self.0 {
            Kind::Containers(containers) => containers.restart(handle).await,
            Kind::Pods(_) => bail!("pods are never started again"),
        }
    }

    /// Ends and removes a container or pod as the engine's own tools do.
    ///
    /// # Errors
    /// If the engine does not do it.
    pub async fn remove(&self, handle: &str) -> Result<()> {
        match &self.0 {
            Kind::Containers(containers) => containers.remove(handle).await,
            Kind::Pods(pods) => pods.remove(handle).await,
        }
    }

    /// An object with all that another one says of itself, under a name of its own, which comes back by its id.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn look_alike(&self, handle: &str) -> Result<String> {
        match &self.0 {
            Kind::Containers(containers) => containers.look_alike(handle).await,
            Kind::Pods(pods) => pods.look_alike(handle).await,
        }
    }

    /// Ends and removes a container or pod as the engine's own tools do, and puts somebody else's under its name, which
    /// comes back by its id.
    ///
    /// # Errors
    /// If the engine does not do it.
    pub async fn usurp(&self, handle: &str) -> Result<String> {
        match &self.0 {
            Kind::Containers(containers) => containers.usurp(handle).await,
            Kind::Pods(pods) => pods.usurp(handle).await,
        }
    }

    /// Whether such an object is there as it was made.
    ///
    /// # Errors
    /// If the engine does not say.
    pub async fn is_untouched(&self, id: &str) -> Result<bool> {
        match &self.0 {
            Kind::Containers(containers) => containers.is_untouched(id).await,
            Kind::Pods(pods) => pods.is_untouched(id).await,
        }
    }

    /// How many containers and volumes, or pods and claims, an instance has.
    ///
    /// # Errors
    /// If the engine does not say.
    pub async fn count(&self, instance: &str) -> Result<(usize, usize)> {
        match &self.0 {
            Kind::Containers(containers) => containers.count(instance).await,
            Kind::Pods(pods) => pods.count(instance).await,
        }
    }

    /// Removes all that a scenario's instance left.
    ///
    /// # Errors
    /// The first that occurred, after everything was tried.
    pub async fn clean(&self, instance: &str) -> Result<()> {
        match &self.0 {
            Kind::Containers(containers) => containers.clean(instance).await,
            Kind::Pods(pods) => pods.clean(instance).await,
        }
    }
}
