//! Finding the cluster that caches are to run in, and what is needed of it beside pods.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::engine::EngineError;
use crate::engine::cluster::Cluster;
use crate::engine::kube::{Kube, KubeOptions, Pull, RestoreBy};
use crate::error::{Error, InvalidInput};
use crate::ownership::{Secret, new_secret};
use crate::probes::Probes;
use crate::scheduling::Scheduling;

/// Where owners of one namespace keep the key under which they know their objects.
const OWNER_SECRET: &str = "fakecloud-elasticache-owner";
const OWNER_KEY: &str = "owner.key";
/// For an answer about it: as long as its supplier asks again.
const OWNER_WITHIN: Duration = Duration::from_secs(30);

/// A cluster that was not found but given.
#[derive(Clone)]
pub(super) struct GivenCluster {
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) probes: Arc<dyn Probes>,
    /// Class and bytes.
    pub(super) storage: Option<(String, u64)>,
}

/// Makes what lets pods fetch files, for the embedder's base URL if one was configured.
pub(crate) type MakePull = Box<dyn Fn(Option<&str>) -> Result<Pull, InvalidInput> + Send + Sync>;

/// Finds the cluster. What does not work there shows here, not at the first cache.
pub(super) async fn find_cluster(
    options: KubeOptions,
    pull: Option<&MakePull>,
) -> Result<GivenCluster, Error> {
    let storage = options.storage_class.clone().map(|class| (class, options.claim_size()));
    let pull = match (options.restore, pull) {
        (Some(RestoreBy::Pull), Some(make)) => {
            let pull = make(options.self_url.as_deref())?;
            pull.check().map_err(|reason| InvalidInput::new("FAKECLOUD_K8S_SELF_URL", reason))?;
            Some(pull)
        }
        (Some(RestoreBy::Pull), None) => {
            let reason = "is pull, which takes an embedder that serves the files; use stream";
            return Err(InvalidInput::new("kube.restore", reason).into());
        }
        (Some(RestoreBy::Stream) | None, _) => None,
    };
    let mut cluster = Kube::connect(options).await.map_err(of_cluster)?;
    if let Some(pull) = pull {
        cluster = cluster.pulling(pull);
    }
    let probes = cluster.probes();
    Ok(GivenCluster { cluster: Arc::new(cluster), probes, storage })
}

/// What an operation needs beside the cluster: the key by which owners know their objects, and where pods may run.
pub(super) async fn kube_parts(
    GivenCluster { cluster, probes, storage }: GivenCluster,
) -> Result<Parts, Error> {
    let scheduling = Scheduling::from_variables(|name| std::env::var(name).ok())?;
    let fresh = new_secret();
    let asked = tokio::time::timeout(OWNER_WITHIN, cluster.shared_secret(OWNER_SECRET, OWNER_KEY, &fresh));
    let bytes = asked.await.map_err(|_| Error::Timeout {
        what: format!("secret {OWNER_SECRET}: the cluster did not answer within {OWNER_WITHIN:?}"),
    })?;
    let bytes = bytes.map_err(of_cluster)?;
    let secret = Secret::of_bytes(&bytes).ok_or_else(|| Error::Engine {
        message: format!(
            "secret {OWNER_SECRET} holds no key of this runtime's under {OWNER_KEY}; restore it, or delete it if \
             no cache is to be found again"
        ),
    })?;
    Ok(Parts::Kube { cluster, probes, secret, scheduling, storage })
}

fn of_cluster(error: EngineError) -> Error {
    match error {
        EngineError::Unavailable { .. } => Error::Unavailable { message: error.to_string() },
        other => Error::Engine { message: other.to_string() },
    }
}
