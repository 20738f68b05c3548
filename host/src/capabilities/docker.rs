//! The `docker` interface: converts and hands on. What may be done is decided in `containers` and `volumes`.

use wasmtime::component::Resource;

use super::files::Outgoing;
use super::{ContainerHandle, OperationState, Outcome, Purpose, VolumeHandle, to_wit, within};
use crate::engine::{ContainerState, EngineError, ExecOutput};
use crate::grants::Grants;
use crate::policy::bindings::fakecloud::elasticache::docker as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::snapshot::Snapshot;

/// What a command may print, per stream.
pub(super) const OUTPUT_BYTES: usize = 16 << 20;

fn info_of(handle: &ContainerHandle, grants: &Grants) -> api::ContainerInfo {
    let observed = &handle.observed;
    api::ContainerInfo {
        id: observed.id.clone(),
        name: observed.name.clone(),
        image: observed.image.clone(),
        key: wit::CacheKey {
            scope: handle.provenance.key.scope().to_owned(),
            id: handle.provenance.key.id().to_owned(),
        },
        state: match observed.state {
            ContainerState::Created => api::ContainerState::Created,
            ContainerState::Running => api::ContainerState::Running,
            ContainerState::Paused => api::ContainerState::Paused,
            ContainerState::Restarting => api::ContainerState::Restarting,
            ContainerState::Exited => api::ContainerState::Exited,
            ContainerState::Removing => api::ContainerState::Removing,
            ContainerState::Dead => api::ContainerState::Dead,
        },
        operation: handle.provenance.operation.clone(),
        labels: observed
            .labels
            .iter()
            .filter(|(key, _)| grants.has_label(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        published: observed
            .published
            .map(|p| api::Publish { container_port: p.container_port, host_port: p.host_port }),
        exit_code: observed.exit_code,
    }
}

/// Bytes that a spec hands over.
fn size_of_spec(spec: &api::ContainerSpec) -> usize {
    let labels = spec.labels.iter().map(|(name, value)| name.len() + value.len());
    let words = spec.command.iter().chain(&spec.tmpfs).map(String::len);
    spec.name.len() + spec.image.len() + labels.chain(words).sum::<usize>()
}

/// The engine's own kill timer, and some time for it to act.
fn stop_deadline(grace: u32) -> std::time::Duration {
    std::time::Duration::from_secs(u64::from(grace)) + within::CALL
}

impl api::HostContainer for OperationState {
    async fn info(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<api::ContainerInfo> {
        self.count()?;
        Ok(info_of(self.table.get(&handle)?, &self.terms.grants))
    }

    async fn refresh(&mut self, handle: Resource<ContainerHandle>) -> Outcome<api::ContainerInfo> {
        self.count()?;
        Ok(match self.observe(&handle).await? {
            Ok(_) => Ok(info_of(self.table.get(&handle)?, &self.terms.grants)),
            Err(error) => Err(error),
        })
    }

    async fn start(&mut self, handle: Resource<ContainerHandle>) -> Outcome<()> {
        self.count()?;
        let target = self.target(&handle)?;
        let outcome = self.start_target(&target).await;
        if outcome.is_ok() {
            self.set_state(&handle, ContainerState::Running)?;
        }
        Ok(outcome)
    }

    async fn stop(&mut self, handle: Resource<ContainerHandle>, grace: u32) -> Outcome<()> {
        self.count()?;
        let target = self.target(&handle)?;
        let outcome = self
            .change(
                &target,
                "stopping",
                Purpose::Cleanup,
                stop_deadline(grace),
                move |engine, id| async move { engine.stop_container(&id, grace).await },
            )
            .await;
        if outcome.is_ok() {
            self.set_state(&handle, ContainerState::Exited)?;
        }
        Ok(outcome)
    }

    async fn restart(&mut self, handle: Resource<ContainerHandle>, grace: u32) -> Outcome<()> {
        self.count()?;
        let target = self.target(&handle)?;
        let limit = stop_deadline(grace) + within::START;
        let outcome = self
            .change(&target, "restarting", Purpose::Work, limit, move |engine, id| async move {
                engine.restart_container(&id, grace).await
            })
            .await;
        if outcome.is_ok() {
            self.set_state(&handle, ContainerState::Running)?;
        }
        Ok(outcome)
    }

    async fn remove(&mut self, handle: Resource<ContainerHandle>) -> Outcome<()> {
        self.count()?;
        let target = self.target(&handle)?;
        let outcome = self
            .change(&target, "removing", Purpose::Cleanup, within::CALL, |engine, id| async move {
                match engine.remove_container(&id).await {
                    Ok(()) => Ok(true),
                    Err(EngineError::NotFound { .. }) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await;
        // One that was gone already may have been followed by another of its name, which is still to be accounted
        // for.
        if let Ok(true) = outcome {
            self.created.containers.retain(|name| *name != target.name);
        }
        if outcome.is_ok() {
            self.set_state(&handle, ContainerState::Removing)?;
        }
        Ok(outcome.map(drop))
    }

    async fn exec(
        &mut self,
        handle: Resource<ContainerHandle>,
        argv: Vec<String>,
    ) -> Outcome<Resource<ExecOutput>> {
        self.count_with(argv.iter().map(String::len).sum())?;
        let target = self.target(&handle)?;
        if let Err(denial) = self.terms.grants.program(&argv) {
            return Ok(Err(denial.into()));
        }
        // Both streams are kept until the policy drops them or ends.
        let most = OUTPUT_BYTES.min(self.left() / 2);
        let outcome = self
            .change(
                &target,
                "running a command in",
                Purpose::Work,
                within::OPERATION,
                |engine, id| async move { engine.exec(&id, &argv, most).await },
            )
            .await;
        if let Ok(output) = &outcome {
            self.take(output.stdout.len() + output.stderr.len())?;
        }
        self.hand_out(outcome)
    }

    async fn put(
        &mut self,
        handle: Resource<ContainerHandle>,
        folder: String,
        files: Vec<api::File>,
    ) -> Outcome<()> {
        let Outgoing { files, purpose, moved } = match self.outgoing(&folder, files)? {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok(Err(error)),
        };
        let target = self.target(&handle)?;
        Ok(self
            .change(&target, "writing files into", purpose, within::OPERATION, |engine, id| async move {
                engine.put_files(&id, &folder, files, moved).await
            })
            .await)
    }

    async fn get(&mut self, handle: Resource<ContainerHandle>, path: String) -> Outcome<Resource<Snapshot>> {
        self.count_with(path.len())?;
        let target = self.target(&handle)?;
        let outcome = self.receive(&target, path).await;
        self.hand_out(outcome)
    }

    async fn read(&mut self, handle: Resource<ContainerHandle>, path: String) -> Outcome<Vec<u8>> {
        self.count_with(path.len())?;
        let target = self.target(&handle)?;
        Ok(self.read_small(&target, path).await)
    }

    async fn stat(
        &mut self,
        handle: Resource<ContainerHandle>,
        path: String,
    ) -> Outcome<Option<api::FileInfo>> {
        self.count_with(path.len())?;
        let target = self.target(&handle)?;
        let found = self
            .change(&target, "looking into", Purpose::Work, within::CALL, |engine, id| async move {
                engine.stat_file(&id, &path).await
            })
            .await;
        Ok(found.map(|found| found.map(|f| api::FileInfo { size: f.size, directory: f.directory })))
    }

    async fn drop(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl api::HostVolume for OperationState {
    async fn info(&mut self, handle: Resource<VolumeHandle>) -> wasmtime::Result<api::VolumeInfo> {
        self.count()?;
        let volume = self.table.get(&handle)?;
        Ok(api::VolumeInfo { name: volume.name.clone(), operation: volume.operation.clone() })
    }

    async fn remove(&mut self, handle: Resource<VolumeHandle>) -> Outcome<()> {
        self.count()?;
        let volume = self.table.get(&handle)?;
        let (name, new) = (volume.name.clone(), volume.operation.as_ref() == Some(&self.id));
        Ok(self.remove_volume(name, new).await)
    }

    async fn drop(&mut self, handle: Resource<VolumeHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl api::Host for OperationState {
    async fn find(&mut self, name: String) -> Outcome<Option<Resource<ContainerHandle>>> {
        self.count_with(name.len())?;
        let found = self.look_for(name).await;
        self.hand_out_maybe(found)
    }

    async fn create(
        &mut self,
        spec: api::ContainerSpec,
        mounts: Vec<(Resource<VolumeHandle>, String)>,
    ) -> Outcome<Resource<ContainerHandle>> {
        self.count_with(size_of_spec(&spec) + mounts.iter().map(|(_, path)| path.len()).sum::<usize>())?;
        let mut volumes = Vec::with_capacity(mounts.len());
        for (volume, path) in mounts {
            volumes.push((self.table.get(&volume)?.clone(), path));
        }
        let made = self.create_container(spec, volumes).await;
        self.hand_out(made)
    }

    async fn containers(&mut self) -> Outcome<Vec<Resource<ContainerHandle>>> {
        self.count()?;
        let found = self.own_containers().await;
        self.hand_out_all(found)
    }

    async fn stale(&mut self) -> Outcome<Vec<Resource<ContainerHandle>>> {
        self.count()?;
        let found = self.stale_containers().await;
        self.hand_out_all(found)
    }

    async fn find_volume(&mut self, name: String) -> Outcome<Option<Resource<VolumeHandle>>> {
        self.count_with(name.len())?;
        let found = self.look_for_volume(name).await;
        self.hand_out_maybe(found)
    }

    async fn create_volume(&mut self, name: String) -> Outcome<Resource<VolumeHandle>> {
        self.count_with(name.len())?;
        let made = self.make_volume(name).await;
        self.hand_out(made)
    }

    async fn pull(&mut self, image: String) -> Outcome<()> {
        self.count_with(image.len())?;
        Ok(self.pull_image(image).await)
    }

    async fn reserve_port(&mut self, hint: u32) -> Outcome<u16> {
        self.count()?;
        Ok(self.next_port(hint).await)
    }
}

impl OperationState {
    /// What was found or made, as a handle for the guest.
    pub(super) fn hand_out<T: Send + 'static>(
        &mut self,
        made: Result<T, wit::Error>,
    ) -> Outcome<Resource<T>> {
        Ok(match made {
            Ok(value) => Ok(self.table.push(value)?),
            Err(error) => Err(error),
        })
    }

    pub(super) fn hand_out_maybe<T: Send + 'static>(
        &mut self,
        found: Result<Option<T>, wit::Error>,
    ) -> Outcome<Option<Resource<T>>> {
        Ok(match found {
            Ok(Some(value)) => Ok(Some(self.table.push(value)?)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        })
    }

    pub(super) fn hand_out_all<T: Send + 'static>(
        &mut self,
        found: Result<Vec<T>, wit::Error>,
    ) -> Outcome<Vec<Resource<T>>> {
        Ok(match found {
            Ok(values) => {
                let handles: Result<Vec<_>, _> =
                    values.into_iter().map(|value| self.table.push(value)).collect();
                Ok(handles?)
            }
            Err(error) => Err(error),
        })
    }

    async fn pull_image(&mut self, image: String) -> Result<(), wit::Error> {
        let environment = self.docker()?;
        self.terms.grants.image(&image)?;
        let work = async {
            environment.engine.pull_image(&image, environment.progress.clone()).await.map_err(to_wit)
        };
        let limit = self.limits().pull;
        self.bounded("pulling image", &image, Purpose::Apart, limit, work).await
    }

    async fn next_port(&mut self, hint: u32) -> Result<u16, wit::Error> {
        let environment = self.docker()?;
        let search = async { Ok(environment.reserve_port(hint).await) };
        let found = self.bounded("looking for", "a free port", Purpose::Work, within::CALL, search).await?;
        let reservation = found.ok_or_else(|| {
            wit::Error::Unavailable("every port that may be published is in use".to_owned())
        })?;
        let port = reservation.port;
        self.ports.push(reservation);
        Ok(port)
    }
}
