//! Leases on Docker: tiny labelled volumes, each renewed by creating the next one and removing the last.
//!
//! Their age is told by the engine's own clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use crate::engine::{ContainerEngine, EngineError, Volume};
use crate::environment::DockerEnvironment;
use crate::ownership::{Kind, LEASE_OF, LEASE_SECONDS, Owner};

/// What a lease says that is none: of how many seconds it is.
const CLOCK: &str = "0";
const PREFIX: &str = "fakecloud-elasticache-lease-";

/// A lease of this owner's, from now on.
async fn write(engine: &dyn ContainerEngine, owner: &Owner, seconds: &str) -> Result<Volume, EngineError> {
    let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
    let mut labels = BTreeMap::from([
        (LEASE_OF.to_owned(), owner.instance.clone()),
        (LEASE_SECONDS.to_owned(), seconds.to_owned()),
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
    let clock = write(engine, owner, CLOCK).await?;
    if let Err(error) = engine.remove_volume(&clock.name).await {
        tracing::warn!(volume = clock.name, %error, "a volume that served to read the clock was left");
    }
    clock.created.ok_or_else(|| EngineError::Failed {
        object: clock.name,
        message: "the answer has no time of creation that can be read".to_owned(),
    })
}

/// The instances, other than this owner's own, whose last lease has ended.
pub(super) async fn dead(
    engine: &dyn ContainerEngine,
    owner: &Owner,
) -> Result<HashSet<String>, EngineError> {
    let leases = read(engine, owner).await?;
    let now = now(engine, owner).await?;
    Ok(leases
        .into_iter()
        .filter(|(instance, leases)| is_dead(owner, instance, leases, now))
        .map(|(instance, _)| instance)
        .collect())
}

fn is_dead(owner: &Owner, instance: &str, leases: &[Volume], now: SystemTime) -> bool {
    instance != owner.instance && leases.iter().all(|lease| has_ended(lease, now))
}

/// Whether it is one of this owner's by which the clock was read, and whose removal was cut off.
fn is_old_clock(owner: &Owner, instance: &str, lease: &Volume, now: SystemTime) -> bool {
    let says = lease.labels.get(LEASE_SECONDS).map(String::as_str);
    instance == owner.instance && says == Some(CLOCK) && has_ended(lease, now)
}

/// Removes the leases of dead instances that own nothing any more, and what was left of reading the clock.
pub(super) async fn tidy(
    engine: &dyn ContainerEngine,
    owner: &Owner,
    owning: &HashSet<String>,
) -> Result<(), EngineError> {
    let leases = read(engine, owner).await?;
    let now = now(engine, owner).await?;
    for (instance, leases) in leases {
        let is_gone = is_dead(owner, &instance, &leases, now) && !owning.contains(&instance);
        for lease in leases {
            if !is_gone && !is_old_clock(owner, &instance, &lease, now) {
                continue;
            }
            match engine.remove_volume(&lease.name).await {
                Ok(()) | Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The lease that an owner holds now.
pub(super) struct Held(Volume);

impl Held {
    /// Takes the lease.
    pub(super) async fn take(environment: &DockerEnvironment, seconds: u64) -> Result<Self, EngineError> {
        let DockerEnvironment { engine, owner, .. } = environment;
        let current = write(engine.as_ref(), owner, &seconds.to_string()).await?;
        // What an earlier life of this instance left behind is superseded.
        for lease in read(engine.as_ref(), owner).await?.remove(&owner.instance).unwrap_or_default() {
            if lease.name != current.name {
                forget(engine.as_ref(), &lease).await;
            }
        }
        Ok(Self(current))
    }

    /// Renews it. What it takes the place of is removed `within` that time, or left.
    pub(super) async fn renew(
        &mut self,
        environment: &DockerEnvironment,
        seconds: u64,
        within: Duration,
    ) -> Result<(), EngineError> {
        let engine = environment.engine.as_ref();
        let next = write(engine, &environment.owner, &seconds.to_string()).await?;
        let last = std::mem::replace(&mut self.0, next);
        if timeout(within, forget(engine, &last)).await.is_err() {
            tracing::warn!(volume = last.name, "an old lease was left");
        }
        Ok(())
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
