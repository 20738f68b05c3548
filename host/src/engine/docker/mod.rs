//! Docker and Podman, through the Docker API.
//!
//! # Guarantees
//! - One call of the API per operation, except where the API has no single one: `exec` takes three,
//!   `pull_image` looks at the end whether the image is there, and a file that `stat_file` does not find
//!   costs a look whether the container is.
//! - No deadline of its own once an engine is found.
//!
//! # Caveats
//! - Docker locks a container while a file is moved into or out of it: an inspect or exec of it waits for
//!   that long. A list does not.
//! - A mount of a volume that does not exist makes the daemon create one, without labels.

mod archive;
mod convert;
mod detect;
mod errors;
mod fetch;
mod pull;
mod run;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{IpAddr, TcpListener};

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
    RestartContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt as _;

use self::detect::{Address, Found, Kind};
use self::errors::{engine_error, is_port_taken, port_in, segment};
use super::{Container, ContainerEngine, ContainerSpec, EngineError, ExecOutput, FileInfo, NewFile, Volume};
use crate::progress::SharedProgress;

/// Ten years: bollard insists on a deadline for each call, and deadlines are the caller's.
const NO_TIMEOUT: u64 = 10 * 365 * 24 * 3600;

/// One engine that speaks the Docker API.
#[derive(Debug)]
pub struct Docker {
    api: bollard::Docker,
    kind: Kind,
    address: Address,
    /// Whether the calling process runs in a container.
    contained: bool,
}

impl Docker {
    /// The engine that the environment names (`FAKECLOUD_CONTAINER_CLI`, `DOCKER_HOST`,
    /// `CONTAINER_HOST`), or else the first that answers at Docker's socket or one of Podman's.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`], with all that was tried. Where the environment names an engine, no
    /// other is tried. Each candidate gets two seconds.
    pub async fn detect() -> Result<Docker, EngineError> {
        Docker::detect_with(|name| std::env::var(name).ok()).await
    }

    /// As [`Docker::detect`], and nothing but Podman will do.
    ///
    /// # Errors
    /// The same, also if `FAKECLOUD_CONTAINER_CLI` names another one.
    pub async fn detect_podman() -> Result<Docker, EngineError> {
        Docker::detect_with(|name| match (name, std::env::var(name).ok().filter(|value| !value.is_empty())) {
            ("FAKECLOUD_CONTAINER_CLI", None) => Some("podman".to_owned()),
            (_, value) => value,
        })
        .await
        .and_then(|docker| match docker.kind {
            Kind::Podman => Ok(docker),
            Kind::Docker => Err(EngineError::Unavailable {
                object: "any container".to_owned(),
                message: "Podman is asked for, and FAKECLOUD_CONTAINER_CLI names Docker; unset one"
                    .to_owned(),
            }),
        })
    }

    /// As [`Docker::detect`], with another environment than the process's own.
    ///
    /// # Errors
    /// The same.
    pub async fn detect_with(
        env: impl Fn(&str) -> Option<String> + Send + Sync,
    ) -> Result<Docker, EngineError> {
        let Found { address, kind, version } = detect::find(&env).await?;
        let connected = match &address {
            Address::Unix(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), NO_TIMEOUT, &version)
            }
            Address::Tcp(host, port) => {
                bollard::Docker::connect_with_http(&format!("{host}:{port}"), NO_TIMEOUT, &version)
            }
        };
        let api = connected.map_err(|error| engine_error(&address.to_string(), error))?;
        let prefix = format!("/v{version}/");
        // Bollard forgets the version when it puts the path together, so that each daemon would answer
        // as its newest version does.
        let api = api.with_request_modifier(move |mut request| {
            let uri = request.uri().to_string();
            let path =
                request.uri().path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
            if !path.starts_with(&prefix)
                && let Some(front) = uri.strip_suffix(&path)
                && let Ok(pinned) = format!("{front}{prefix}{}", path.trim_start_matches('/')).parse()
            {
                *request.uri_mut() = pinned;
            }
            request
        });
        let contained = env("FAKECLOUD_IN_CONTAINER").is_some_and(|value| value.trim() == "1");
        Ok(Docker { api, kind, address, contained })
    }

    /// The name under which this process reaches ports that containers publish.
    pub fn endpoint_host(&self) -> String {
        match (self.address.remote_host(), self.contained, self.kind) {
            (Some(host), _, _) => host.to_owned(),
            (None, false, _) => "127.0.0.1".to_owned(),
            (None, true, Kind::Docker) => "host.docker.internal".to_owned(),
            (None, true, Kind::Podman) => "host.containers.internal".to_owned(),
        }
    }

    /// What a start or restart that failed means.
    async fn not_started(&self, id: &str, error: Error) -> EngineError {
        let error = engine_error(id, error);
        let message = match &error {
            EngineError::Failed { message, .. } | EngineError::Conflict { message, .. } => message,
            _ => return error,
        };
        if !is_port_taken(message) {
            return error;
        }
        let port = match port_in(message) {
            Some(port) => Some(port),
            None => {
                let answer = self.api.inspect_container(id, None::<InspectContainerOptions>).await;
                answer.ok().and_then(convert::wanted_port)
            }
        };
        match port {
            Some(port) => EngineError::PortTaken { port, object: id.to_owned() },
            None => error,
        }
    }
}

fn label_filter(labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    let filter = |&(name, value): &(&str, &str)| match value {
        "" => name.to_owned(),
        value => format!("{name}={value}"),
    };
    let wanted = labels.iter().map(filter).collect();
    HashMap::from([("label".to_owned(), wanted)])
}

/// The API counts seconds in an `i32`, where a negative number means for ever.
fn seconds(grace: u32) -> i32 {
    i32::try_from(grace).unwrap_or(i32::MAX)
}

/// `None` for an object that does not exist.
fn found<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl ContainerEngine for Docker {
    fn name(&self) -> &str {
        self.kind.name()
    }

    async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>, EngineError> {
        let filters = label_filter(labels);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let answer = self.api.list_containers(Some(options)).await;
        let listed = answer.map_err(|error| engine_error("the list of containers", error))?;
        listed.into_iter().map(convert::summarized).collect()
    }

    async fn inspect_container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let answer = self.api.inspect_container(segment(name)?, None::<InspectContainerOptions>).await;
        found(answer.map_err(|error| engine_error(name, error)))?.map(convert::inspected).transpose()
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::new().name(&spec.name).build();
        let answer = self.api.create_container(Some(options), convert::create_body(spec)).await;
        answer.map(|created| created.id).map_err(|error| engine_error(&spec.name, error))
    }

    async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        match self.api.start_container(segment(id)?, None::<StartContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.not_started(id, error).await),
        }
    }

    async fn stop_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        let options = StopContainerOptionsBuilder::new().t(seconds(grace)).build();
        let answer = self.api.stop_container(segment(id)?, Some(options)).await;
        answer.map_err(|error| engine_error(id, error))
    }

    async fn restart_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        let options = RestartContainerOptionsBuilder::new().t(seconds(grace)).build();
        match self.api.restart_container(segment(id)?, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.not_started(id, error).await),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        // `v` takes volumes without a name only: an image that declares one gets such a volume wherever
        // none of ours is mounted, and nobody else would ever remove it.
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        let answer = self.api.remove_container(segment(id)?, Some(options)).await;
        answer.map_err(|error| engine_error(id, error))
    }

    async fn wait_exit(&self, id: &str) -> Result<i32, EngineError> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut answer = std::pin::pin!(self.api.wait_container(segment(id)?, Some(options)));
        let code = match answer.next().await {
            Some(Ok(end)) => end.status_code,
            // Bollard takes each code but 0 for an error. Words beside it are the daemon's own trouble.
            Some(Err(Error::DockerContainerWaitError { error, code })) if error.is_empty() => code,
            Some(Err(error)) => return Err(engine_error(id, error)),
            None => {
                let message = "it hung up before the container ended".to_owned();
                return Err(EngineError::Unavailable { object: id.to_owned(), message });
            }
        };
        i32::try_from(code).map_err(|_| EngineError::Failed {
            object: id.to_owned(),
            message: format!("{code} is not an exit code"),
        })
    }

    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError> {
        run::log_tail(&self.api, id, lines).await
    }

    async fn exec(&self, id: &str, argv: &[String], max_output: usize) -> Result<ExecOutput, EngineError> {
        run::exec(&self.api, id, argv, max_output).await
    }

    async fn put_files(
        &self,
        id: &str,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        archive::put(&self.api, id, folder, files, moved).await
    }

    async fn get_file(&self, id: &str, path: &str, sink: Box<dyn Write + Send>) -> Result<u64, EngineError> {
        fetch::get(&self.api, id, path, sink).await
    }

    async fn stat_file(&self, id: &str, path: &str) -> Result<Option<FileInfo>, EngineError> {
        fetch::stat(&self.api, id, path).await
    }

    async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>, EngineError> {
        let filters = label_filter(labels);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let answer = self.api.list_volumes(Some(options)).await;
        let listed = answer.map_err(|error| engine_error("the list of volumes", error))?;
        Ok(listed.volumes.unwrap_or_default().into_iter().map(convert::volume).collect())
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        let answer = self.api.inspect_volume(segment(name)?).await;
        Ok(found(answer.map_err(|error| engine_error(name, error)))?.map(convert::volume))
    }

    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, EngineError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels.clone().into_iter().collect()),
            ..VolumeCreateRequest::default()
        };
        let answer = self.api.create_volume(request).await;
        Ok(convert::volume(answer.map_err(|error| engine_error(name, error))?))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let answer = self.api.remove_volume(segment(name)?, None::<RemoveVolumeOptions>).await;
        answer.map_err(|error| engine_error(name, error))
    }

    async fn pull_image(&self, image: &str, progress: SharedProgress) -> Result<(), EngineError> {
        pull::pull(&self.api, image, progress).await
    }

    async fn port_is_free(&self, address: IpAddr, port: u16) -> bool {
        // From a container, or for a daemon elsewhere, what is free here says nothing about there.
        if self.contained || !matches!(self.address, Address::Unix(_)) {
            return true;
        }
        TcpListener::bind((address, port)).is_ok()
    }
}
