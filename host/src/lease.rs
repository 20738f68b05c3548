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

fn ends(lease: &Volume) -> SystemTime {
    let seconds =
        lease.labels.get(LEASE_SECONDS).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX >> 32);
    // The engine gives whole seconds, rounded down.
    lease.created + Duration::from_secs(seconds + 1)
}

/// The engine's clock, read off a volume that is made for it.
async fn now(engine: &dyn ContainerEngine, owner: &Owner) -> Result<SystemTime, EngineError> {
    let clock = write(engine, owner, 0).await?;
    if let Err(error) = engine.remove_volume(&clock.name).await {
        tracing::warn!(volume = clock.name, %error, "a volume that served to read the clock was left");
    }
    Ok(clock.created)
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
            *instance != owner.instance && leases.iter().all(|lease| ends(lease) < now)
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
