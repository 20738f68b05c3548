//! What an operation may do with volumes. The one way to lose a dataset leads through here.

use super::{
    OperationKind, OperationState, Purpose, VolumeHandle, check_name, denied, is_unanswered, to_wit, within,
};
use crate::engine::{EngineError, Volume};
use crate::environment::DockerEnvironment;
use crate::ownership::{Kind, OPERATION};
use crate::policy::bindings::fakecloud::elasticache::types as wit;

/// What earlier runtimes put before the id in a volume's name.
const LEGACY_VOLUME: &str = "fakecloud-elasticache-data-";

impl OperationState {
    /// A volume as a handle, if it was made for this operation's cache, now or by an earlier runtime.
    fn own_volume(&self, environment: &DockerEnvironment, volume: &Volume) -> Option<VolumeHandle> {
        let key = self.key.as_ref()?;
        let name = volume.name.clone();
        match environment.owner.provenance(Kind::Volume, &name, &volume.labels) {
            Some(provenance) => (provenance.key == *key)
                .then_some(VolumeHandle { name, operation: Some(provenance.operation) }),
            None => {
                let legacy = key.scope().is_empty() && name.strip_prefix(LEGACY_VOLUME) == Some(key.id());
                // Labels of ours without a mark that holds are somebody's look-alike, or another data
                // folder's: an earlier runtime set none.
                let unmarked = !volume.labels.contains_key(OPERATION);
                (legacy && unmarked).then_some(VolumeHandle { name, operation: None })
            }
        }
    }

    pub(super) async fn look_for_volume(&mut self, name: String) -> Result<Option<VolumeHandle>, wit::Error> {
        check_name(&name)?;
        let environment = self.docker()?;
        self.terms.grants.volume(&name)?;
        let work = async { environment.engine.inspect_volume(&name).await.map_err(to_wit) };
        let found = self.bounded("looking for volume", &name, Purpose::Cleanup, within::CALL, work).await?;
        Ok(found.and_then(|volume| self.own_volume(&environment, &volume)))
    }

    pub(super) async fn make_volume(&mut self, name: String) -> Result<VolumeHandle, wit::Error> {
        check_name(&name)?;
        let environment = self.docker()?;
        self.terms.grants.volume(&name)?;
        let key = self.may_create("volume", &name)?;
        let labels = environment.owner.labels(Kind::Volume, &name, &key, &self.id, []);
        let engine = environment.engine.clone();
        let (work_name, work_labels) = (name.clone(), labels.clone());
        let work = async move { engine.create_volume(&work_name, &work_labels).await.map_err(to_wit) };
        self.created.volumes.push(name.clone());
        let made = self.bounded("creating volume", &name, Purpose::Work, within::CALL, work).await;
        let made = match made {
            // The engine returns one that was there before as if it had just been made.
            Ok(volume) if volume.labels != labels => {
                Err(wit::Error::Conflict(format!("volume {name} exists already and is not this operation's")))
            }
            other => other,
        };
        if made.as_ref().is_err_and(|error| !is_unanswered(error)) {
            self.created.volumes.pop();
        }
        made?;
        Ok(VolumeHandle { name, operation: Some(self.id.clone()) })
    }

    pub(super) async fn remove_volume(&mut self, name: String, new: bool) -> Result<(), wit::Error> {
        if self.kind != OperationKind::RemoveData && !new {
            let what = format!("removing volume {name} during {}", self.kind.as_str());
            return Err(denied(what, "the operation remove-data (`down --delete-data`)"));
        }
        // Looked at again: volumes have no identity but their name, and somebody may have made another.
        if self.look_for_volume(name.clone()).await?.is_none() {
            self.created.volumes.retain(|volume| *volume != name);
            return Ok(());
        }
        let engine = self.docker()?.engine.clone();
        let gone = name.clone();
        let work = async move {
            match engine.remove_volume(&gone).await {
                Err(EngineError::NotFound { .. }) => Ok(()),
                other => other.map_err(to_wit),
            }
        };
        self.bounded("removing volume", &name, Purpose::Cleanup, within::CALL, work).await?;
        self.created.volumes.retain(|volume| *volume != name);
        Ok(())
    }
}
