//! Scenarios on Docker, or in memory.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use elasticache_host::engine::docker::Docker;
use elasticache_host::engine::memory::MemoryEngine;
use elasticache_host::engine::{Container, ContainerEngine, ContainerSpec, ContainerState, RestartPolicy};
use elasticache_host::probes::tcp::TcpProbes;
use elasticache_host::probes::{Probes, Reply};
use elasticache_host::{Endpoint, RuntimeBuilder};

use super::{INSTANCE, Occupied};

/// A container engine with everything that scenarios need beside the host.
#[derive(Clone)]
pub(super) struct Containers {
    engine: Arc<dyn ContainerEngine>,
    probes: Arc<dyn Probes>,
    endpoint_host: String,
    memory: Option<MemoryEngine>,
}

impl Containers {
    /// The in-memory engine, new and empty.
    pub(super) fn memory() -> Self {
        let memory = MemoryEngine::new();
        Self {
            engine: Arc::new(memory.clone()),
            probes: Arc::new(memory.clone()),
            endpoint_host: "127.0.0.1".to_owned(),
            memory: Some(memory),
        }
    }

    /// The Docker or Podman that this machine has.
    pub(super) async fn docker() -> Result<Self> {
        let docker = Docker::detect().await?;
        let endpoint_host = docker.endpoint_host();
        Ok(Self { engine: Arc::new(docker), probes: Arc::new(TcpProbes), endpoint_host, memory: None })
    }

    /// Hands its engine to a runtime.
    pub(super) fn equip(&self, builder: RuntimeBuilder) -> RuntimeBuilder {
        builder.engine(Arc::clone(&self.engine), Arc::clone(&self.probes), &self.endpoint_host)
    }

    pub(super) async fn command(&self, endpoint: &Endpoint, args: &[String]) -> Result<Reply> {
        Ok(self.probes.command(endpoint, args, 1 << 20).await?)
    }

    /// SIGKILL to the engine in a container, in a way that nothing restarts.
    pub(super) async fn kill(&self, handle: &str) -> Result<()> {
        let container = self.container(handle).await?;
        match &self.memory {
            Some(memory) => memory.kill(&container.name)?,
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
        match &self.memory {
            Some(memory) => {
                memory.occupy_port(port);
                Ok(Occupied { _listener: None })
            }
            None => Ok(Occupied { _listener: Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?) }),
        }
    }

    /// From now on the engine in a container cannot save.
    pub(super) async fn fail_saves(&self, handle: &str) -> Result<()> {
        let container = self.container(handle).await?;
        match &self.memory {
            Some(memory) => memory.set_save_error(Some("ERR a full disk".to_owned())),
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

    /// A container by its handle.
    pub(super) fn are_real(&self) -> bool {
        self.memory.is_none()
    }

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

    /// A container with the labels of another one, under a name of its own.
    pub(super) async fn look_alike(&self, handle: &str) -> Result<String> {
        let container = self.container(handle).await?;
        let spec = ContainerSpec {
            name: format!("{}-look-alike", container.name),
            image: container.image.clone(),
            command: Vec::new(),
            labels: container.labels.clone(),
            publish: None,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            restart: RestartPolicy::Never,
            stop_grace: 1,
        };
        self.engine.create_container(&spec).await?;
        Ok(spec.name)
    }

    /// Whether a container of that name is there, never started.
    pub(super) async fn is_untouched(&self, name: &str) -> Result<bool> {
        let found = self.engine.inspect_container(name).await?;
        Ok(found.is_some_and(|container| container.state == ContainerState::Created))
    }

    /// How many containers and volumes an instance has.
    pub(super) async fn count(&self, instance: &str) -> Result<(usize, usize)> {
        let containers = self.engine.list_containers(&[(INSTANCE, instance)]).await?;
        let volumes = self.engine.list_volumes(&[(INSTANCE, instance)]).await?;
        let own = containers.iter().filter(|container| !container.name.ends_with("-look-alike"));
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
