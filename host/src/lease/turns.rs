//! One operation at a time on a cache, across machines: a Lease object for each, while it is being changed.
//!
//! Locks of a data folder keep apart what shares that folder. Of pods another machine may be in charge, too, and a
//! hand-over that two of them are at may lose both copies of the data. A claim is every instance's, and two that use it
//! at once destroy what is on it. So whoever changes a cache on Kubernetes holds its Lease meanwhile, one for all
//! instances. One whose holder died ends by itself; under the same data folder nobody waits for that, since
//! the folder's lock says that the holder is no more. What nobody waits for any more is removed by the next `reap`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::objects::has_ended;
use crate::engine::EngineError;
use crate::engine::cluster::{Cluster, Lease};
use crate::ownership::{Kind, Owner, hex, selectors};
use crate::types::CacheKey;

/// Before a part of a hash of which cache it is.
const PREFIX: &str = "fakecloud-ec-turn-";
/// Bytes of the hash in a name.
const HASH_BYTES: usize = 16;
/// Seconds after which the Lease of a holder that died has ended.
const SECONDS: u32 = 15;
/// How often a holder renews it.
const RENEWED: Duration = Duration::from_secs(5);
/// Between two attempts while another machine holds it. A watch would take one more verb of the Role.
const RETRY: Duration = Duration::from_millis(250);
/// For giving it back. What cannot be given back ends by itself.
const GIVEN_BACK: Duration = Duration::from_secs(5);

/// While it lives, no other machine changes the cache.
pub(crate) struct Turn {
    cluster: Arc<dyn Cluster>,
    name: String,
    /// Dropped, it ends the renewals.
    over: oneshot::Sender<()>,
    /// When it was renewed last.
    renewals: JoinHandle<SystemTime>,
}

fn name(key: &CacheKey) -> String {
    let mut hasher = Sha256::new();
    for part in [key.scope(), key.id()] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    format!("{PREFIX}{}", hex(&hasher.finalize()[..HASH_BYTES]))
}

impl Turn {
    /// Waits until the cache may be changed. The wait has no end of its own: bound it.
    ///
    /// `folder` names the data folder whose lock on that cache the caller holds, and becomes the holder of the Lease.
    pub(crate) async fn take(
        cluster: Arc<dyn Cluster>,
        owner: &Owner,
        folder: &str,
        key: &CacheKey,
    ) -> Result<Self, EngineError> {
        let name = name(key);
        let mut annotations = BTreeMap::new();
        owner.secret.mark(Kind::Lease, &name, &mut annotations);
        let mut lease = Lease {
            name,
            labels: selectors(None),
            annotations,
            holder: folder.to_owned(),
            seconds: SECONDS,
            renewed: cluster.now().await?,
        };
        let mut ended = None;
        loop {
            let mut taken = cluster.take_lease(&lease, ended.as_ref()).await;
            if matches!(taken, Err(EngineError::Unavailable { .. })) {
                // It may be ours by now, which another attempt finds out; not to know would leave it there.
                taken = cluster.take_lease(&lease, ended.as_ref()).await;
            }
            let there = match taken {
                Ok(None) => break,
                Ok(there) => there,
                // It came and went.
                Err(EngineError::Conflict { .. }) => None,
                Err(error) => return Err(error),
            };
            lease.renewed = cluster.now().await?;
            let is_over = |there: &Lease| there.holder == folder || has_ended(there, lease.renewed);
            ended = there.filter(is_over);
            if ended.is_none() {
                sleep(RETRY).await;
            }
        }
        let (over, is_over) = oneshot::channel();
        let name = lease.name.clone();
        let renewals = tokio::spawn(keep(Arc::clone(&cluster), lease, is_over));
        Ok(Self { cluster, name, over, renewals })
    }

    /// Lets others have it.
    pub(crate) async fn give_back(self) {
        drop(self.over);
        let Ok(renewed) = self.renewals.await else { return };
        let delete = async {
            match self.cluster.delete_lease(&self.name, renewed).await {
                // It may be gone by now, and may be not.
                Err(EngineError::Unavailable { .. }) => self.cluster.delete_lease(&self.name, renewed).await,
                deleted => deleted,
            }
        };
        match timeout(GIVEN_BACK, delete).await {
            Ok(Ok(()) | Err(EngineError::NotFound { .. })) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the Lease of an operation is left to end"),
            Err(_) => tracing::warn!("the Lease of an operation is left to end: no answer"),
        }
    }
}

/// Renews it until it is over; returns when that was done last.
async fn keep(cluster: Arc<dyn Cluster>, mut lease: Lease, mut over: oneshot::Receiver<()>) -> SystemTime {
    let mut ticks = tokio::time::interval(RENEWED);
    ticks.tick().await;
    loop {
        // Where both are due, none is renewed that is about to be given back.
        tokio::select! {
            biased;
            _ = &mut over => return lease.renewed,
            _ = ticks.tick() => {}
        }
        let renewal = async {
            let renewed = Lease { renewed: cluster.now().await?, ..lease.clone() };
            let there = cluster.take_lease(&renewed, Some(&lease)).await?;
            Ok::<_, EngineError>(there.unwrap_or(renewed))
        };
        match timeout(RENEWED, renewal).await {
            // As it was renewed, now or by an attempt whose answer was lost.
            Ok(Ok(there)) if there.holder == lease.holder => lease = there,
            Ok(Ok(there)) => {
                tracing::warn!(holder = there.holder, "another machine has taken the turn of an operation");
                return lease.renewed;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the Lease of an operation could not be renewed"),
            Err(_) => tracing::warn!("the Lease of an operation could not be renewed: no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_cache_has_a_lease_of_its_own() {
        let key = |scope, id| CacheKey::new(scope, id).unwrap();
        let names = [name(&key("", "a")), name(&key("a", "b")), name(&key("", "ab"))];
        for (at, one) in names.iter().enumerate() {
            assert!(!names[..at].contains(one));
        }
    }
}
