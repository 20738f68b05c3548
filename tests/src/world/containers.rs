//! Scenarios on Docker, or on the simulated one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::sim::docker::SimDocker;
use anyhow::{Context, Result, bail};
use elasticache_host::engine::docker::Docker;
use elasticache_host::engine::{Container, ContainerEngine, ContainerSpec, ContainerState, RestartPolicy};
use elasticache_host::probes::tcp::TcpProbes;
use elasticache_host::probes::{Probes, Reply};
use elasticache_host::{Endpoint, RuntimeBuilder};

use super::{INSTANCE, Occupied};
use crate::faults::{Tap, Tapped};

/// The image that is not there where faults are looked for: with this engine each first up has to fetch it.
const FETCHED: &str = "valkey/valkey:8-alpine";

/// The label with the id of the cache.
const ID: &str = "fakecloud-elasticache";

/// A container engine with everything that scenarios need beside the host.
#[derive(Clone)]
pub(super) struct Containers {
    engine: Arc<dyn ContainerEngine>,
    probes: Arc<dyn Probes>,
    /// The same two as the host is given them.
    given: (Arc<dyn ContainerEngine>, Arc<dyn Probes>),
    endpoint_host: String,
    sim: Option<SimDocker>,
}

impl Containers {
    /// The simulated one, new and empty.
    pub(super) fn sim() -> Self {
        let sim = SimDocker::new();
        let (engine, probes): (Arc<dyn ContainerEngine>, Arc<dyn Probes>) =
            (Arc::new(sim.clone()), Arc::new(sim.clone()));
        Self {
            given: (Arc::clone(&engine), Arc::clone(&probes)),
            engine,
            probes,
            endpoint_host: "127.0.0.1".to_owned(),
            sim: Some(sim),
        }
    }

    /// The same, where the host's calls pass a tap; with a container and a volume of somebody else's that look like ours.
    pub(super) fn sim_behind(tap: &Tap) -> Result<Self> {
        let plain = Self::sim();
        if let Some(sim) = &plain.sim {
            let labels = [(ID, "a"), (INSTANCE, "bystander")];
            sim.insert_foreign_container("bystander", &labels, false)?;
            sim.insert_foreign_volume("bystander-data", &labels, &[("dump.rdb", b"theirs")]);
            sim.remove_image(FETCHED);
            sim.set_pullable(FETCHED, true);
            let engine = sim.clone();
            tap.restarts_by(move || engine.daemon_restart());
        }
        Ok(plain.behind(tap))
    }

    /// The same, where the host's calls pass a tap.
    pub(super) fn behind(&self, tap: &Tap) -> Self {
        let engine = Arc::new(Tapped::new(Arc::clone(&self.engine), tap.clone()));
        let probes = Arc::new(Tapped::new(Arc::clone(&self.probes), tap.clone()));
        Self { given: (engine, probes), ..self.clone() }
    }

    /// Every container and volume, a line each that begins with its kind and name.
    pub(super) async fn everything(&self) -> Result<Vec<String>> {
        let containers = self.engine.list_containers(&[]).await?;
        let volumes = self.engine.list_volumes(&[]).await?;
        let containers =
            containers.iter().map(|c| format!("container {} {} {:?} {:?}", c.name, c.id, c.state, c.labels));
        let volumes = volumes.iter().map(|v| format!("volume {} {:?}", v.name, v.labels));
        Ok(containers.chain(volumes).collect())
    }

    pub(super) fn advance(&self, by: Duration) -> Result<()> {
        let sim = self.sim.as_ref().context("a real engine's clock cannot be moved")?;
        sim.advance(by);
        Ok(())
    }

    /// The Docker or Podman that this machine has.
    pub(super) async fn docker() -> Result<Self> {
        let docker = Docker::detect().await?;
        let endpoint_host = docker.endpoint_host();
        let (engine, probes): (Arc<dyn ContainerEngine>, Arc<dyn Probes>) =
            (Arc::new(docker), Arc::new(TcpProbes));
        let given = (Arc::clone(&engine), Arc::clone(&probes));
        Ok(Self { engine, probes, given, endpoint_host, sim: None })
    }

    /// Hands its engine to a runtime.
    pub(super) fn equip(&self, builder: RuntimeBuilder) -> RuntimeBuilder {
        let (engine, probes) = &self.given;
        builder.engine(Arc::clone(engine), Arc::clone(probes), &self.endpoint_host)
    }

    pub(super) async fn command(&self, endpoint: &Endpoint, args: &[String]) -> Result<Reply> {
        Ok(self.probes.command(endpoint, args, 1 << 20).await?)
    }

    /// SIGKILL to the engine in a container, in a way that nothing restarts.
    pub(super) async fn kill(&self, handle: &str) -> Result<()> {
        let container = self.container(handle).await?;
        match &self.sim {
            Some(sim) => sim.kill(&container.name)?,
            None => {
                let done = Command::new("docker")
                    .args(["kill", "--signal", "KILL", &container.id])
                    .output()
                    .context("running the docker command")?;
                if !done.status.success() {
                    bail!("docker kill {}: {}", container.name, String::from_utf8_lossy(&done.stderr));
                }
            }
        }
        Ok(self.engine.wait_exit(&container.id).await.map(drop)?)
    }

    /// A foreign program takes a port of the engine's host.
    pub(super) fn occupy(&self, port: u16) -> Result<Occupied> {
        match &self.sim {
            Some(sim) => {
                sim.occupy_port(port);
                Ok(Occupied { _listener: None })
            }
            None => Ok(Occupied { _listener: Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?) }),
        }
    }

    /// From now on the engine in a container cannot save.
    pub(super) async fn fail_saves(&self, handle: &str) -> Result<()> {
        let container = self.container(handle).await?;
        match &self.sim {
            Some(sim) => sim.set_save_error(Some("ERR a full disk".to_owned())),
            None => {
                // A save ends by renaming a file to this name in the server's folder, which a folder there prevents.
                // Which folder that is, is the policy's affair; in the others it does no harm.
                for folder in ["/data", "/tmp", "/tmp/cache"] {
                    let script = format!(
                        "[ ! -d {folder} ] || {{ rm -f {folder}/dump.rdb; mkdir -p {folder}/dump.rdb/x; }}"
                    );
                    let argv = ["sh", "-c", &script].map(str::to_owned);
                    let made = self.engine.exec(&container.id, &argv, 4096).await?;
                    if made.exit_code != 0 {
                        bail!("mkdir in {}: {}", container.name, String::from_utf8_lossy(&made.stderr));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether they are a real engine's.
    pub(super) fn are_real(&self) -> bool {
        self.sim.is_none()
    }

    /// A container by its handle.
    async fn container(&self, handle: &str) -> Result<Container> {
        self.engine
            .inspect_container(handle)
            .await?
            .with_context(|| format!("there is no container {handle}"))
    }

    /// Restarts a container as the engine's own tools do.
    pub(super) async fn restart(&self, handle: &str) -> Result<()> {
        Ok(self.engine.restart_container(handle, 30).await?)
    }

    /// Stops and removes a container as the engine's own tools do.
    pub(super) async fn remove(&self, handle: &str) -> Result<()> {
        self.engine.stop_container(handle, 30).await?;
        Ok(self.engine.remove_container(handle).await?)
    }

    /// A container with the labels of another one, under a name of its own; its id.
    pub(super) async fn look_alike(&self, handle: &str) -> Result<String> {
        let container = self.container(handle).await?;
        self.create(format!("{}-look-alike", container.name), container.image, container.labels).await
    }

    /// A container of nobody's under the name of another one, which is removed. Its one label is for [`Self::clean`].
    pub(super) async fn usurp(&self, handle: &str) -> Result<String> {
        let Container { name, image, mut labels, .. } = self.container(handle).await?;
        self.remove(handle).await?;
        labels.retain(|label, _| label == INSTANCE);
        self.create(name, image, labels).await
    }

    /// One that is never started.
    async fn create(&self, name: String, image: String, labels: BTreeMap<String, String>) -> Result<String> {
        let spec = ContainerSpec {
            name,
            image,
            command: Vec::new(),
            labels,
            publish: None,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            restart: RestartPolicy::Never,
            stop_grace: 1,
        };
        Ok(self.engine.create_container(&spec).await?)
    }

    /// Whether it is there, never started.
    pub(super) async fn is_untouched(&self, id: &str) -> Result<bool> {
        let found = self.engine.inspect_container(id).await?;
        Ok(found.is_some_and(|container| container.state == ContainerState::Created))
    }

    /// How many containers and volumes an instance has.
    pub(super) async fn count(&self, instance: &str) -> Result<(usize, usize)> {
        let containers = self.engine.list_containers(&[(INSTANCE, instance)]).await?;
        let volumes = self.engine.list_volumes(&[(INSTANCE, instance)]).await?;
        let own = containers.iter().filter(|container| {
            container.labels.contains_key(ID) && !container.name.ends_with("-look-alike")
        });
        Ok((own.count(), volumes.len()))
    }

    /// Removes all that a scenario's instance left.
    pub(super) async fn clean(&self, instance: &str) -> Result<()> {
        let mut outcome = Ok(());
        for container in self.engine.list_containers(&[(INSTANCE, instance)]).await? {
            outcome = outcome.and(self.engine.stop_container(&container.id, 1).await);
            outcome = outcome.and(self.engine.remove_container(&container.id).await);
        }
        for volume in self.engine.list_volumes(&[(INSTANCE, instance)]).await? {
            outcome = outcome.and(self.engine.remove_volume(&volume.name).await);
        }
        Ok(outcome?)
    }
}
