//! What an operation may do with persistent volume claims. On Kubernetes, the one way to lose a dataset leads
//! through here.

use super::{
    ClaimHandle, OperationKind, OperationState, Purpose, denied, invalid, is_unanswered, to_wit, within,
};
use crate::engine::EngineError;
use crate::engine::cluster::{Claim, ClaimSpec};
use crate::environment::KubeEnvironment;
use crate::ownership::{ID, Kind, label_value, selectors};
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::scheduling::syntax::dns_subdomain;

impl OperationState {
    /// A claim as a handle, if it was made for this operation's cache.
    fn own_claim(&self, environment: &KubeEnvironment, claim: Claim) -> Option<ClaimHandle> {
        let provenance = environment.owner.provenance(Kind::Claim, &claim.id.name, &claim.annotations)?;
        (self.key.as_ref() == Some(&provenance.key)).then_some(ClaimHandle {
            id: claim.id,
            operation: provenance.operation,
            capacity: claim.capacity,
        })
    }

    pub(super) async fn look_for_claim(&mut self, name: String) -> Result<Option<ClaimHandle>, wit::Error> {
        dns_subdomain(&name).map_err(|reason| invalid("name", reason))?;
        let environment = self.kube()?;
        self.terms.grants.volume(&name)?;
        let look = async { environment.cluster.find_claim(&name).await.map_err(to_wit) };
        let found = self.bounded("looking for claim", &name, Purpose::Cleanup, within::CALL, look).await?;
        match found {
            // Its data goes as soon as no pod uses it: nothing may be written to it any more.
            Some(claim) if claim.terminating => {
                Err(wit::Error::Conflict(format!("claim {name} is being deleted; try again in a moment")))
            }
            found => Ok(found.and_then(|claim| self.own_claim(&environment, claim))),
        }
    }

    pub(super) async fn make_claim(&mut self, name: String) -> Result<ClaimHandle, wit::Error> {
        dns_subdomain(&name).map_err(|reason| invalid("name", reason))?;
        let environment = self.kube()?;
        self.terms.grants.volume(&name)?;
        let key = self.may_create("claim", &name)?;
        self.has_turn(&format!("claim {name}")).await?;
        let Some((storage_class, size)) = environment.storage.clone() else {
            return Err(invalid("storage-class", "is not configured here; data lies on an empty-dir"));
        };
        let mut labels = selectors(None);
        labels.insert(ID.to_owned(), label_value(key.id()));
        let annotations = environment.owner.labels(Kind::Claim, &name, &key, &self.id, []);
        let spec = ClaimSpec { name: name.clone(), labels, annotations, storage_class, size };
        let work = async { environment.cluster.create_claim(&spec).await.map_err(to_wit) };
        // Noted before it is known to be there: the reply may be lost.
        self.created.claims.push(name.clone());
        let made = self.bounded("creating claim", &name, Purpose::Work, within::CALL, work).await;
        if made.as_ref().is_err_and(|error| !is_unanswered(error)) {
            self.created.claims.pop();
        }
        let claim = made?;
        self.own_claim(&environment, claim)
            .ok_or_else(|| wit::Error::Other("a claim just created does not carry its mark".to_owned()))
    }

    pub(super) async fn delete_claim(&mut self, claim: ClaimHandle) -> Result<(), wit::Error> {
        let name = claim.id.name.clone();
        if self.kind != OperationKind::RemoveData && claim.operation != self.id {
            let what = format!("deleting claim {name} during {}", self.kind.as_str());
            return Err(denied(what, "the operation remove-data (`down --delete-data`)"));
        }
        self.has_turn(&format!("claim {name}")).await?;
        let environment = self.kube()?;
        let work = async {
            match environment.cluster.delete_claim(&claim.id).await {
                Err(EngineError::NotFound { .. }) => Ok(()),
                other => other.map_err(to_wit),
            }
        };
        self.bounded("deleting claim", &name, Purpose::Cleanup, within::START, work).await?;
        self.created.claims.retain(|made| *made != name);
        Ok(())
    }
}
