//! One operation at a time on a cache, across machines: a Lease object for each, while it is being changed.
//!
//! Locks of a data folder keep apart what shares that folder. Of pods another machine may be in charge, too, and a
//! hand-over that two of them are at may lose both copies of the data. A claim is every instance's, and two that use it
//! at once destroy what is on it. So whoever changes a cache on Kubernetes holds its Lease meanwhile, one for all
//! instances. One whose holder died ends by itself; under the same data folder nobody waits for that, since
//! the folder's lock says that the holder is no more. What nobody waits for any more is removed by the next `reap`.
//!
//! A holder may be kept from renewing its Lease, by an API server that is away, and lose it while its operation goes on.
//! So before each change it is asked whether the turn is still [held](Hold), by a clock of the holder's own that runs out
//! before the Lease does; and whoever finds that one has ended gives its holder the time to renew it first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::CALLS;
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
/// The same, by the holder's own clock.
const HOLDS: Duration = Duration::from_secs(SECONDS as u64);
/// How often a holder renews it.
const RENEWED: Duration = Duration::from_secs(5);
/// In what time a holder that lives renews one that has ended, where nothing keeps it from that.
const COMES_BACK: Duration = RENEWED.saturating_add(CALLS);
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
    /// When it was renewed last; none once it is another one's.
    renewals: JoinHandle<Option<SystemTime>>,
    hold: Hold,
}

/// What is known of a turn.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// Nobody else can have it before then.
    HeldUntil(Instant),
    /// It is another machine's, or was.
    Lost,
}

/// Whether a turn is still its holder's.
#[derive(Clone)]
pub(crate) struct Hold(watch::Receiver<Known>);

impl Hold {
    /// None while it could not be renewed in time: another machine may have it by now, or may not.
    pub(crate) fn is_held(&self) -> Option<bool> {
        match *self.0.borrow() {
            Known::HeldUntil(end) => (Instant::now() < end).then_some(true),
            Known::Lost => Some(false),
        }
    }

    /// Waits until that is known. The wait has no end of its own: bound it.
    pub(crate) async fn known(mut self) -> bool {
        loop {
            if let Some(held) = self.is_held() {
                return held;
            }
            if self.0.changed().await.is_err() {
                // Nobody renews it any more.
                return false;
            }
        }
    }
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
            renewed: SystemTime::UNIX_EPOCH,
        };
        let mut ended = None;
        let end = loop {
            let end = Instant::now() + HOLDS;
            lease.renewed = cluster.now().await?;
            let mut taken = cluster.take_lease(&lease, ended.as_ref()).await;
            if matches!(taken, Err(EngineError::Unavailable { .. })) {
                // It may be ours by now, which another attempt finds out; not to know would leave it there.
                taken = cluster.take_lease(&lease, ended.as_ref()).await;
            }
            let there = match taken {
                Ok(None) => break end,
                Ok(there) => there,
                // It went, or came and went.
                Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => None,
                Err(error) => return Err(error),
            };
            ended = match there {
                Some(there) if there.holder == folder => Some(there),
                Some(there) if has_ended(&there, lease.renewed) => {
                    sleep(COMES_BACK).await;
                    // Renewed meanwhile, it stays.
                    Some(there)
                }
                _ => {
                    sleep(RETRY).await;
                    None
                }
            };
        };
        let (over, is_over) = oneshot::channel();
        let (known, hold) = watch::channel(Known::HeldUntil(end));
        let name = lease.name.clone();
        let renewals = tokio::spawn(keep(Arc::clone(&cluster), lease, is_over, known));
        Ok(Self { cluster, name, over, renewals, hold: Hold(hold) })
    }

    /// For each change that it is needed for.
    pub(crate) fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Lets others have it.
    pub(crate) async fn give_back(self) {
        drop(self.over);
        let Ok(Some(renewed)) = self.renewals.await else { return };
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

/// Renews it until it is over; returns when that was done last, or none if it was lost.
async fn keep(
    cluster: Arc<dyn Cluster>,
    mut lease: Lease,
    mut over: oneshot::Receiver<()>,
    known: watch::Sender<Known>,
) -> Option<SystemTime> {
    let mut ticks = tokio::time::interval(RENEWED);
    ticks.tick().await;
    loop {
        // Where both are due, none is renewed that is about to be given back.
        tokio::select! {
            biased;
            _ = &mut over => return Some(lease.renewed),
            _ = ticks.tick() => {}
        }
        let end = Instant::now() + HOLDS;
        let renewal = async {
            let renewed = Lease { renewed: cluster.now().await?, ..lease.clone() };
            let there = cluster.take_lease(&renewed, Some(&lease)).await?;
            Ok::<_, EngineError>((renewed, there))
        };
        match timeout(RENEWED, renewal).await {
            Ok(Ok((renewed, None))) => {
                lease = renewed;
                known.send_replace(Known::HeldUntil(end));
            }
            // By an attempt whose answer was lost: some time ago, so the next one says until when.
            Ok(Ok((_, Some(there)))) if there.holder == lease.holder => lease = there,
            Ok(Ok((_, Some(there)))) => {
                tracing::warn!(holder = there.holder, "another machine has taken the turn of an operation");
                known.send_replace(Known::Lost);
                return None;
            }
            // Another machine may have had it since, and have given it back.
            Ok(Err(error @ (EngineError::NotFound { .. } | EngineError::Conflict { .. }))) => {
                tracing::warn!(%error, "the Lease of an operation is not there any more");
                known.send_replace(Known::Lost);
                return None;
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

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_was_not_renewed_in_time_is_neither_held_nor_lost() {
        let held = || Known::HeldUntil(Instant::now() + HOLDS);
        let (known, hold) = watch::channel(held());
        let hold = Hold(hold);
        assert_eq!(hold.is_held(), Some(true));
        tokio::time::advance(HOLDS).await;
        assert_eq!(hold.is_held(), None);
        let waiting = tokio::spawn(hold.clone().known());
        known.send_replace(held());
        assert!(waiting.await.unwrap());
        tokio::time::advance(HOLDS).await;
        let waiting = tokio::spawn(hold.clone().known());
        known.send_replace(Known::Lost);
        assert!(!waiting.await.unwrap());
        assert_eq!(hold.is_held(), Some(false));
    }

    #[test]
    fn each_cache_has_a_lease_of_its_own() {
        let key = |scope, id| CacheKey::new(scope, id).unwrap();
        let names = [name(&key("", "a")), name(&key("a", "b")), name(&key("", "ab"))];
        for (at, one) in names.iter().enumerate() {
            assert!(!names[..at].contains(one));
        }
    }
}
