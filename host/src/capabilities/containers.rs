//! What an operation may do with containers, and how: every look and every change goes through here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;

use super::files::{FILE_BYTES, Small};
use super::{
    ContainerHandle, OperationState, Outcome, Purpose, VolumeHandle, check_name, invalid, is_unanswered,
    to_wit, within,
};
use crate::engine::{
    Container, ContainerEngine, ContainerSpec, ContainerState, EngineError, Published, RestartPolicy,
};
use crate::environment::{DockerEnvironment, Environment};
use crate::lease;
use crate::ownership::{ID, INSTANCE, Kind, PORT, SCOPE, VOLUME};
use crate::policy::bindings::fakecloud::elasticache::docker as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::snapshot::Snapshot;
use crate::types::CacheKey;

/// Between two looks at what the engine is still busy with: it has no event for all of it.
const AGAIN: Duration = Duration::from_millis(10);

/// What a handle points at.
pub(super) struct Target {
    pub(super) id: String,
    pub(super) name: String,
    instance: String,
    key: CacheKey,
    operation: String,
    has_volume: bool,
}

impl OperationState {
    /// A container as a handle, if it is this instance's and made for this operation's cache.
    pub(super) fn own(
        &self,
        environment: &DockerEnvironment,
        observed: Container,
    ) -> Option<ContainerHandle> {
        let provenance = environment.owner.provenance(Kind::Container, &observed.name, &observed.labels)?;
        let ours = provenance.instance == environment.owner.instance
            && self.key.as_ref().is_none_or(|key| *key == provenance.key);
        ours.then_some(ContainerHandle { observed, provenance })
    }

    /// The container of a name, if it is one that the operation may see.
    pub(super) async fn look_for(&mut self, name: String) -> Result<Option<ContainerHandle>, wit::Error> {
        check_name(&name)?;
        let environment = self.docker()?;
        let look = async { settled(environment.engine.as_ref(), &name).await.map_err(to_wit) };
        let found =
            self.bounded("looking for container", &name, Purpose::Cleanup, within::CALL, look).await?;
        // Engines also take the beginning of an id for a name.
        let found = found.filter(|observed| observed.name == name);
        Ok(found.and_then(|observed| self.own(&environment, observed)))
    }

    /// All that the operation may see.
    pub(super) async fn own_containers(&mut self) -> Result<Vec<ContainerHandle>, wit::Error> {
        let environment = self.docker()?;
        let wanted = [(INSTANCE, environment.owner.instance.as_str())];
        let look = async { environment.engine.list_containers(&wanted).await.map_err(to_wit) };
        let all = self.bounded("listing", "containers", Purpose::Work, within::CALL, look).await?;
        Ok(all.into_iter().filter_map(|observed| self.own(&environment, observed)).collect())
    }

    pub(super) fn target(&self, handle: &Resource<ContainerHandle>) -> wasmtime::Result<Target> {
        let handle = self.table.get(handle)?;
        Ok(Target {
            id: handle.observed.id.clone(),
            name: handle.observed.name.clone(),
            instance: handle.provenance.instance.clone(),
            key: handle.provenance.key.clone(),
            operation: handle.provenance.operation.clone(),
            has_volume: handle.observed.labels.contains_key(VOLUME),
        })
    }

    pub(super) fn set_state(
        &mut self,
        handle: &Resource<ContainerHandle>,
        state: ContainerState,
    ) -> wasmtime::Result<()> {
        let observed = &mut self.table.get_mut(handle)?.observed;
        observed.state = state;
        // Known again only when it is looked at again.
        observed.published = None;
        Ok(())
    }

    /// Looks again at the object behind a handle; never at another that took its name.
    pub(super) async fn observe(&mut self, handle: &Resource<ContainerHandle>) -> Outcome<Container> {
        let target = self.target(handle)?;
        let Ok(environment) = self.docker() else {
            return Ok(Err(wit::Error::Unavailable("no container engine".to_owned())));
        };
        let engine = environment.engine.clone();
        let id = target.id.clone();
        let look = async move { engine.inspect_container(&id).await.map_err(to_wit) };
        let found = self.bounded("looking at", &target.name, Purpose::Cleanup, within::CALL, look).await;
        Ok(match found {
            Ok(Some(observed)) if observed.id == target.id => {
                self.table.get_mut(handle)?.observed = observed.clone();
                Ok(observed)
            }
            Ok(_) => Err(wit::Error::NotFound(format!("container {} is gone", target.name))),
            Err(error) => Err(error),
        })
    }

    /// That nobody else runs an engine on the data of this cache: two on one folder destroy it.
    pub(super) async fn sole_user(&mut self, own_id: Option<&str>) -> Result<(), wit::Error> {
        let environment = self.docker()?;
        let Some(key) = self.key.clone() else { return Ok(()) };
        let engine = environment.engine.clone();
        let id = key.id().to_owned();
        let look = async move { engine.list_containers(&[(ID, &id)]).await.map_err(to_wit) };
        let users =
            self.bounded("looking for users of", &key.to_string(), Purpose::Work, within::CALL, look).await?;
        let in_use = users.iter().find(|user| {
            let alive = !matches!(
                user.state,
                ContainerState::Created | ContainerState::Exited | ContainerState::Dead
            );
            // Earlier runtimes knew no scope.
            let scope = user.labels.get(SCOPE).map_or("", String::as_str);
            alive && scope == key.scope() && Some(user.id.as_str()) != own_id
        });
        match in_use {
            Some(user) => Err(wit::Error::Conflict(format!(
                "{key} runs already, as container {} of instance {}; stop it there first",
                user.name,
                user.labels.get(INSTANCE).map_or("(unknown)", String::as_str)
            ))),
            None => Ok(()),
        }
    }

    /// One call on one container, after the checks that every change goes through.
    pub(super) async fn change<T, F>(
        &mut self,
        target: &Target,
        what: &str,
        purpose: Purpose,
        limit: Duration,
        act: impl FnOnce(Arc<dyn ContainerEngine>, String) -> F,
    ) -> Result<T, wit::Error>
    where
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        self.may_change(&format!("container {}", target.name), &target.instance).await?;
        let environment = self.docker()?;
        let work = act(environment.engine.clone(), target.id.clone());
        self.bounded(what, &target.name, purpose, limit, async { work.await.map_err(to_wit) }).await
    }

    pub(super) async fn start_target(&mut self, target: &Target) -> Result<(), wit::Error> {
        // Checked at its creation already, under the same lock on the key; without data there is nothing to share.
        if target.has_volume && target.operation != self.id && self.key.as_ref() == Some(&target.key) {
            self.sole_user(Some(&target.id)).await?;
        }
        self.change(target, "starting", Purpose::Work, within::START, |engine, id| async move {
            engine.start_container(&id).await
        })
        .await
    }

    /// Reads a small file out of a container.
    pub(super) async fn read_small(&mut self, target: &Target, path: String) -> Result<Vec<u8>, wit::Error> {
        let small = Small::new(FILE_BYTES);
        let (sink, asked) = (small.sink(), path.clone());
        let read = self
            .change(
                target,
                "reading a file out of",
                Purpose::Cleanup,
                within::CALL,
                |engine, id| async move { engine.get_file(&id, &asked, sink).await },
            )
            .await;
        small.taken(&path, read)
    }

    /// Reads a file out of a container into a checked snapshot.
    pub(super) async fn receive(&mut self, target: &Target, path: String) -> Result<Snapshot, wit::Error> {
        let (receiving, sink) = self.incoming(self.docker()?.progress.clone())?;
        let what = format!("{path} of container {}", target.name);
        self.change(
            target,
            "reading a file out of",
            Purpose::Work,
            within::OPERATION,
            |engine, id| async move { engine.get_file(&id, &path, sink).await },
        )
        .await?;
        self.received(&what, receiving)
    }

    pub(super) async fn create_container(
        &mut self,
        spec: api::ContainerSpec,
        mounts: Vec<(VolumeHandle, String)>,
    ) -> Result<ContainerHandle, wit::Error> {
        check_name(&spec.name)?;
        let environment = self.docker()?;
        let key = self.may_create("container", &spec.name)?;
        let grants = &self.terms.grants;
        grants.image(&spec.image)?;
        for (label, _) in &spec.labels {
            grants.label(label)?;
        }
        if spec.publish.is_some() {
            grants.publish(environment.publish_address)?;
        }
        for (volume, _) in &mounts {
            grants.volume(&volume.name)?;
        }
        if let Some(path) = spec.tmpfs.iter().find(|path| !path.starts_with('/') || path.contains([':', ',']))
        {
            return Err(invalid("tmpfs", format!("{path:?} is no absolute path")));
        }
        let publish = match spec.publish {
            Some(publish) if publish.host_port == 0 => {
                return Err(invalid("host-port", "is 0; ask reserve-port for one"));
            }
            Some(p) => Some((
                environment.publish_address,
                Published { container_port: p.container_port, host_port: p.host_port },
            )),
            None => None,
        };
        if mounts.iter().any(|(volume, _)| volume.operation.as_ref() != Some(&self.id)) {
            self.sole_user(None).await?;
        }
        let volume = mounts.first().map(|(volume, _)| (VOLUME.to_owned(), volume.name.clone()));
        let port = publish.map(|(_, publish)| (PORT.to_owned(), publish.host_port.to_string()));
        let given = spec.labels.into_iter().chain(volume).chain(port);
        let labels = environment.owner.labels(Kind::Container, &spec.name, &key, &self.id, given);
        let native = ContainerSpec {
            name: spec.name,
            image: spec.image,
            command: spec.command,
            labels,
            publish,
            mounts: mounts.into_iter().map(|(volume, path)| (volume.name, path)).collect(),
            tmpfs: spec.tmpfs,
            restart: match spec.restart {
                api::RestartPolicy::Never => RestartPolicy::Never,
                api::RestartPolicy::UnlessStopped => RestartPolicy::UnlessStopped,
            },
            stop_grace: spec.stop_grace,
        };
        let engine = environment.engine.clone();
        let work = async { create_visibly(engine.as_ref(), &native).await.map_err(to_wit) };
        // Noted before it is known to be there: the reply may be lost.
        self.created.containers.push(native.name.clone());
        let made = self.bounded("creating container", &native.name, Purpose::Work, within::CALL, work).await;
        if made.as_ref().is_err_and(|error| !is_unanswered(error)) {
            self.created.containers.pop();
        }
        let id = made?;
        let observed = Container {
            id,
            name: native.name,
            image: native.image,
            state: ContainerState::Created,
            labels: native.labels,
            published: None,
            exit_code: None,
        };
        self.own(&environment, observed)
            .ok_or_else(|| wit::Error::Other("a container just created does not carry its mark".to_owned()))
    }

    pub(super) async fn stale_containers(&mut self) -> Result<Vec<ContainerHandle>, wit::Error> {
        self.may_reap("containers")?;
        let environment = self.docker()?;
        let work = async {
            let whose = Environment::Docker(Arc::clone(&environment));
            let dead = lease::dead(&whose).await.map_err(to_wit)?;
            let all = environment.engine.list_containers(&[(INSTANCE, "")]).await.map_err(to_wit)?;
            Ok((dead, all))
        };
        let (dead, all) = self.bounded("listing", "dead owners", Purpose::Work, within::CALL, work).await?;
        Ok(all
            .into_iter()
            .filter_map(|observed| {
                let provenance =
                    environment.owner.provenance(Kind::Container, &observed.name, &observed.labels)?;
                (provenance.leased && dead.contains(&provenance.instance))
                    .then_some(ContainerHandle { observed, provenance })
            })
            .collect())
    }
}

/// Looks for a container; one that is just being removed is waited for, since what a killed process asked
/// for goes on in the engine.
async fn settled(engine: &dyn ContainerEngine, name: &str) -> Result<Option<Container>, EngineError> {
    let begun = Instant::now();
    loop {
        match engine.inspect_container(name).await? {
            Some(seen) if seen.state == ContainerState::Removing && begun.elapsed() < within::SETTLE => {
                tokio::time::sleep(AGAIN).await;
            }
            seen => return Ok(seen),
        }
    }
}

/// Creates a container. Where its name is taken and nobody is seen to have it, an earlier create or removal
/// is still under way in the engine: that one's end is waited for, so that a conflict is always with
/// somebody who can be looked at.
async fn create_visibly(engine: &dyn ContainerEngine, spec: &ContainerSpec) -> Result<String, EngineError> {
    let begun = Instant::now();
    loop {
        match engine.create_container(spec).await {
            Err(EngineError::Conflict { .. })
                if begun.elapsed() < within::SETTLE && settled(engine, &spec.name).await?.is_none() =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}
