//! Leases on Kubernetes: its own Lease objects, one for each instance, dated by the API server's clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::engine::EngineError;
use crate::engine::cluster::{Cluster, Lease};
use crate::environment::KubeEnvironment;
use crate::ownership::{INSTANCE, Kind, LEASE_OF, LEASE_SECONDS, Owner, hex, label_value, selectors};

/// Before a part of the instance's hash.
const PREFIX: &str = "fakecloud-ec-lease-";
/// Bytes of the hash in a name.
const HASH_BYTES: usize = 16;

fn name(instance: &str) -> String {
    format!("{PREFIX}{}", hex(&Sha256::digest(instance.as_bytes())[..HASH_BYTES]))
}

/// Leases under our secret: of instances, and of operations.
async fn read(cluster: &dyn Cluster, owner: &Owner) -> Result<Vec<Lease>, EngineError> {
    let all = selectors(None);
    let wanted: Vec<(&str, &str)> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut found = cluster.list_leases(&wanted).await?;
    found.retain(|lease| owner.secret.verify(Kind::Lease, &lease.name, &lease.annotations));
    Ok(found)
}

pub(super) fn has_ended(lease: &Lease, now: SystemTime) -> bool {
    // The API server gives its time in whole seconds, rounded down, here as there.
    let end = lease.renewed.checked_add(Duration::from_secs(u64::from(lease.seconds) + 1));
    end.is_some_and(|end| end < now)
}

/// The instances, other than this owner's own, whose Lease has ended, and how long it was.
pub(super) async fn ended(
    cluster: &dyn Cluster,
    owner: &Owner,
) -> Result<HashMap<String, Duration>, EngineError> {
    let leases = read(cluster, owner).await?;
    let now = cluster.now().await?;
    let of = |lease: &Lease| {
        let length = Duration::from_secs(lease.seconds.into());
        Some((lease.annotations.get(LEASE_OF)?.clone(), length))
    };
    let ended = leases.iter().filter(|lease| has_ended(lease, now)).filter_map(of);
    Ok(ended.filter(|(instance, _)| *instance != owner.instance).collect())
}

/// Removes the Leases of dead instances that own nothing any more, and those of operations whose hosts died.
pub(super) async fn tidy(
    cluster: &dyn Cluster,
    owner: &Owner,
    owning: &HashSet<String>,
) -> Result<(), EngineError> {
    let leases = read(cluster, owner).await?;
    let now = cluster.now().await?;
    let is_idle = |lease: &Lease| match lease.annotations.get(LEASE_OF) {
        Some(instance) => *instance != owner.instance && !owning.contains(instance),
        None => true,
    };
    for lease in leases.iter().filter(|lease| has_ended(lease, now) && is_idle(lease)) {
        match cluster.delete_lease(&lease.name, lease.renewed).await {
            Ok(()) | Err(EngineError::NotFound { .. }) => {}
            // Renewed meanwhile: its owner is back.
            Err(EngineError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the Lease of this owner, or renews it.
pub(super) async fn renew(environment: &KubeEnvironment, seconds: u64) -> Result<(), EngineError> {
    let KubeEnvironment { cluster, owner, .. } = environment;
    let name = name(&owner.instance);
    let mut annotations = BTreeMap::from([
        (LEASE_OF.to_owned(), owner.instance.clone()),
        (LEASE_SECONDS.to_owned(), seconds.to_string()),
    ]);
    owner.secret.mark(Kind::Lease, &name, &mut annotations);
    let mut labels = selectors(None);
    labels.insert(INSTANCE.to_owned(), label_value(&owner.instance));
    let lease = Lease {
        name,
        labels,
        annotations,
        holder: owner.instance.clone(),
        seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        renewed: cluster.now().await?,
    };
    cluster.write_lease(&lease).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_after_its_length_and_the_second_that_the_server_rounds_off() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let lease = Lease {
            name: name("a"),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            holder: "a".into(),
            seconds: 10,
            renewed: at(100),
        };
        assert!(!has_ended(&lease, at(111)));
        assert!(has_ended(&lease, at(112)));
        assert_ne!(name("a"), name("b"));
    }
}
