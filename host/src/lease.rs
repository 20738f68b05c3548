//! Who is alive, for owners that share an engine but neither process ids nor clocks.
//!
//! An owner that stays resident keeps a lease: a tiny labelled volume on the engine itself, renewed by
//! creating the next one and removing the last. Its age is told by the engine's own clock. An owner is dead
//! once a lease of its lies there and has ended; one without any lease is never taken for dead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::engine::{ContainerEngine, EngineError, Volume};
use crate::environment::Environment;
use crate::ownership::{Kind, LEASE_OF, LEASE_SECONDS, Owner};

const PREFIX: &str = "fakecloud-elasticache-lease-";

/// A lease of this owner's, from now on.
async fn write(engine: &dyn ContainerEngine, owner: &Owner, seconds: u64) -> Result<Volume, EngineError> {
    let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
    let mut labels = BTreeMap::from([
        (LEASE_OF.to_owned(), owner.instance.clone()),
        (LEASE_SECONDS.to_owned(), seconds.to_string()),
    ]);
    owner.secret.mark(Kind::Lease, &name, &mut labels);
    engine.create_volume(&name, &labels).await
}

/// Leases under our secret, by instance.
async fn read(
    engine: &dyn ContainerEngine,
    owner: &Owner,
) -> Result<HashMap<String, Vec<Volume>>, EngineError> {
    let mut leases: HashMap<String, Vec<Volume>> = HashMap::new();
    for volume in engine.list_volumes(&[(LEASE_OF, "")]).await? {
        let of = volume.labels.get(LEASE_OF).cloned();
        if let Some(of) = of
            && owner.secret.verify(Kind::Lease, &volume.name, &volume.labels)
        {
            leases.entry(of).or_default().push(volume);
        }
    }
    Ok(leases)
}

/// Whether a lease has ended. One of unknown age has not: it is being removed at this moment, and the one that
/// takes its place may have been made after the list was begun.
fn has_ended(lease: &Volume, now: SystemTime) -> bool {
    let seconds: Option<u64> = lease.labels.get(LEASE_SECONDS).and_then(|text| text.parse().ok());
    // The engine gives whole seconds, rounded down.
    let end = lease
        .created
        .zip(seconds)
        .and_then(|(created, seconds)| created.checked_add(Duration::from_secs(seconds.saturating_add(1))));
    end.is_some_and(|end| end < now)
}

/// The engine's clock, read off a volume that is made for it.
async fn now(engine: &dyn ContainerEngine, owner: &Owner) -> Result<SystemTime, EngineError> {
    let clock = write(engine, owner, 0).await?;
    if let Err(error) = engine.remove_volume(&clock.name).await {
        tracing::warn!(volume = clock.name, %error, "a volume that served to read the clock was left");
    }
    clock.created.ok_or_else(|| EngineError::Failed {
        object: clock.name,
        message: "the answer has no time of creation that can be read".to_owned(),
    })
}

/// The instances, other than this owner's own, whose last lease has ended.
pub(crate) async fn dead(
    engine: &dyn ContainerEngine,
    owner: &Owner,
) -> Result<HashSet<String>, EngineError> {
    let leases = read(engine, owner).await?;
    let now = now(engine, owner).await?;
    Ok(leases
        .into_iter()
        .filter(|(instance, leases)| {
            *instance != owner.instance && leases.iter().all(|lease| has_ended(lease, now))
        })
        .map(|(instance, _)| instance)
        .collect())
}

/// Whether one instance is dead now.
pub(crate) async fn is_dead(
    engine: &dyn ContainerEngine,
    owner: &Owner,
    instance: &str,
) -> Result<bool, EngineError> {
    Ok(dead(engine, owner).await?.contains(instance))
}

/// Removes the leases of dead instances that own nothing any more.
pub(crate) async fn tidy(
    engine: &dyn ContainerEngine,
    owner: &Owner,
    owning: &HashSet<String>,
) -> Result<(), EngineError> {
    let dead = dead(engine, owner).await?;
    for (instance, leases) in read(engine, owner).await? {
        if dead.contains(&instance) && !owning.contains(&instance) {
            for lease in leases {
                match engine.remove_volume(&lease.name).await {
                    Ok(()) | Err(EngineError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

/// Keeps an owner's lease alive until it is dropped; then the lease runs out by itself.
#[derive(Debug)]
pub(crate) struct LeaseKeeper(AbortHandle);

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LeaseKeeper {
    /// Takes the lease, and renews it from then on, at a third of its length.
    pub(crate) async fn start(environment: Arc<Environment>, length: Duration) -> Result<Self, EngineError> {
        let seconds = length.as_secs().max(1);
        let engine = Arc::clone(&environment.engine);
        let mut current = write(engine.as_ref(), &environment.owner, seconds).await?;
        // What an earlier life of this instance left behind is superseded.
        for lease in read(engine.as_ref(), &environment.owner)
            .await?
            .remove(&environment.owner.instance)
            .unwrap_or_default()
        {
            if lease.name != current.name {
                forget(engine.as_ref(), &lease).await;
            }
        }
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(length / 3);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                // Without a bound, one call that is never answered would be the last.
                let renewal = timeout(length / 4, write(engine.as_ref(), &environment.owner, seconds));
                match renewal.await {
                    Ok(Ok(next)) => {
                        if timeout(length / 4, forget(engine.as_ref(), &current)).await.is_err() {
                            tracing::warn!(volume = current.name, "an old lease was left");
                        }
                        current = next;
                    }
                    // Two more attempts come before the present one ends.
                    Ok(Err(error)) => tracing::warn!(%error, "the owner's lease could not be renewed"),
                    Err(_) => tracing::warn!("the owner's lease could not be renewed: no answer"),
                }
            }
        });
        Ok(Self(task.abort_handle()))
    }
}

async fn forget(engine: &dyn ContainerEngine, lease: &Volume) {
    match engine.remove_volume(&lease.name).await {
        Ok(()) | Err(EngineError::NotFound { .. }) => {}
        Err(error) => tracing::warn!(volume = lease.name, %error, "an old lease was left"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lease(created: Option<u64>, seconds: &str) -> Volume {
        Volume {
            name: "lease".into(),
            labels: BTreeMap::from([(LEASE_SECONDS.into(), seconds.into())]),
            created: created.map(at),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_ends_after_its_length_and_the_second_that_the_engine_rounds_off() {
        assert!(!has_ended(&lease(Some(100), "10"), at(111)));
        assert!(has_ended(&lease(Some(100), "10"), at(112)));
    }

    #[test]
    fn a_lease_that_says_less_than_it_should_has_not_ended() {
        // Being removed while it was listed: its successor is not in that list.
        assert!(!has_ended(&lease(None, "10"), at(u64::from(u32::MAX))));
        assert!(!has_ended(&lease(Some(100), "soon"), at(u64::from(u32::MAX))));
        assert!(!has_ended(&lease(Some(100), &u64::MAX.to_string()), at(u64::from(u32::MAX))));
    }
}
