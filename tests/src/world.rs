//! Where scenarios run, and what other hands than the host's do there.

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

/// The label by which every runtime's objects are found, whatever the policy.
const INSTANCE: &str = "fakecloud-instance";

/// A container engine with everything that scenarios need beside the host.
#[derive(Clone)]
pub struct World {
    engine: Arc<dyn ContainerEngine>,
    probes: Arc<dyn Probes>,
    endpoint_host: String,
    memory: Option<MemoryEngine>,
}

/// A port in foreign hands, until it is dropped.
#[derive(Debug)]
pub struct Occupied {
    _listener: Option<TcpListener>,
}

impl World {
    /// The in-memory engine, new and empty.
    pub fn memory() -> Self {
        let memory = MemoryEngine::new();
        Self {
            engine: Arc::new(memory.clone()),
            probes: Arc::new(memory.clone()),
            endpoint_host: "127.0.0.1".to_owned(),
            memory: Some(memory),
        }
    }

    /// The Docker or Podman that this machine has.
    ///
    /// # Errors
    /// If none answers.
    pub async fn docker() -> Result<Self> {
        let docker = Docker::detect().await?;
        let endpoint_host = docker.endpoint_host();
        Ok(Self { engine: Arc::new(docker), probes: Arc::new(TcpProbes), endpoint_host, memory: None })
    }

    /// Hands its engine to a runtime.
    pub fn equip(&self, builder: RuntimeBuilder) -> RuntimeBuilder {
        builder.engine(Arc::clone(&self.engine), Arc::clone(&self.probes), &self.endpoint_host)
    }

    /// Sends a command as a client would.
    ///
    /// # Errors
    /// If there is no reply, or the server's reply is an error.
    pub async fn ask(&self, endpoint: &Endpoint, args: &[String]) -> Result<Reply> {
        match self.probes.command(endpoint, args, 1 << 20).await? {
            Reply::Error(words) => bail!("{} was answered with {words}", args.join(" ")),
            reply => Ok(reply),
        }
    }

    /// SIGKILL to the engine in a container, in a way that nothing restarts.
    ///
    /// # Errors
    /// If the container engine does not do it.
    pub async fn kill(&self, container: &Container) -> Result<()> {
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
    ///
    /// # Errors
    /// If somebody has it already.
    pub fn occupy(&self, port: u16) -> Result<Occupied> {
        match &self.memory {
            Some(memory) => {
                memory.occupy_port(port);
                Ok(Occupied { _listener: None })
            }
            None => Ok(Occupied { _listener: Some(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?) }),
        }
    }

    /// From now on the engine in a container cannot save.
    ///
    /// # Errors
    /// If that could not be arranged.
    pub async fn fail_saves(&self, container: &Container) -> Result<()> {
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
    ///
    /// # Errors
    /// If there is none.
    pub async fn container(&self, handle: &str) -> Result<Container> {
        self.engine
            .inspect_container(handle)
            .await?
            .with_context(|| format!("there is no container {handle}"))
    }

    /// Restarts a container as the engine's own tools do.
    ///
    /// # Errors
    /// If the engine does not do it.
    pub async fn restart(&self, handle: &str) -> Result<()> {
        Ok(self.engine.restart_container(handle, 30).await?)
    }

    /// Stops and removes a container as the engine's own tools do.
    ///
    /// # Errors
    /// If the engine does not do it.
    pub async fn remove(&self, handle: &str) -> Result<()> {
        self.engine.stop_container(handle, 30).await?;
        Ok(self.engine.remove_container(handle).await?)
    }

    /// A container with the labels of another one, under a name of its own.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn look_alike(&self, container: &Container) -> Result<String> {
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
    ///
    /// # Errors
    /// If the engine does not say.
    pub async fn is_untouched(&self, name: &str) -> Result<bool> {
        let found = self.engine.inspect_container(name).await?;
        Ok(found.is_some_and(|container| container.state == ContainerState::Created))
    }

    /// How many containers and volumes an instance has.
    ///
    /// # Errors
    /// If the engine does not say.
    pub async fn count(&self, instance: &str) -> Result<(usize, usize)> {
        let containers = self.engine.list_containers(&[(INSTANCE, instance)]).await?;
        let volumes = self.engine.list_volumes(&[(INSTANCE, instance)]).await?;
        let own = containers.iter().filter(|container| !container.name.ends_with("-look-alike"));
        Ok((own.count(), volumes.len()))
    }

    /// Removes all that a scenario's instance left.
    ///
    /// # Errors
    /// The first that occurred, after everything was tried.
    pub async fn clean(&self, instance: &str) -> Result<()> {
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
