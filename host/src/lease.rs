//! Who is alive, for owners that share an engine or a namespace, but neither process ids nor clocks.
//!
//! An owner that stays resident keeps a lease where its caches are: [`volumes`] on Docker, [`objects`] on
//! Kubernetes. An owner is dead once a lease of its lies there and has ended; one without any lease is never taken
//! for dead. On Kubernetes it must also have had the time to renew it, since while the API server is away all of them
//! end: see [`renewed_within`].

mod objects;
mod turns;
mod volumes;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

pub(crate) use self::turns::{Hold, Turn};

use crate::engine::EngineError;
use crate::environment::{Environment, KubeEnvironment};

/// An owner renews a long lease so often, too: so nobody waits longer to know that it does not.
const SELDOM: Duration = Duration::from_secs(20);
/// For the calls of one renewal.
const CALLS: Duration = Duration::from_secs(2);

/// How often an owner renews a lease of that length. Should one renewal fail, another comes before the lease ends.
fn renewed_every(length: Duration) -> Duration {
    (length / 3).min(SELDOM)
}

/// In what time an owner that lives renews a lease of that length that has ended, where nothing keeps it from that.
pub(crate) fn renewed_within(length: Duration) -> Duration {
    renewed_every(length) + CALLS
}

/// How long the Leases were of instances, other than this owner's own, whose Lease has ended. Those may live.
pub(crate) async fn ended(kube: &KubeEnvironment) -> Result<HashMap<String, Duration>, EngineError> {
    objects::ended(kube.cluster.as_ref(), &kube.owner).await
}

/// The instances, other than this owner's own, whose last lease has ended.
pub(crate) async fn dead(environment: &Environment) -> Result<HashSet<String>, EngineError> {
    match environment {
        Environment::Docker(docker) => volumes::dead(docker.engine.as_ref(), &docker.owner).await,
        Environment::Kube(kube) => Ok(ended(kube).await?.into_keys().collect()),
    }
}

/// Whether one instance is dead now.
pub(crate) async fn is_dead(environment: &Environment, instance: &str) -> Result<bool, EngineError> {
    Ok(dead(environment).await?.contains(instance))
}

/// Removes the leases of dead instances that own nothing any more, and what is left of operations.
pub(crate) async fn tidy(environment: &Environment, owning: &HashSet<String>) -> Result<(), EngineError> {
    match environment {
        Environment::Docker(docker) => volumes::tidy(docker.engine.as_ref(), &docker.owner, owning).await,
        Environment::Kube(kube) => objects::tidy(kube.cluster.as_ref(), &kube.owner, owning).await,
    }
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
    /// Takes the lease, and renews it from then on.
    pub(crate) async fn start(environment: Environment, length: Duration) -> Result<Self, EngineError> {
        let seconds = length.as_secs().max(1);
        // Without a bound, one call that is never answered would be the last.
        let within = length / 4;
        let attempt = match &environment {
            Environment::Docker(_) => within * 2,
            // One that hangs must not put off the next one: others count on it.
            Environment::Kube(_) => renewed_every(length).max(CALLS),
        };
        let mut held = match &environment {
            Environment::Docker(docker) => Some(volumes::Held::take(docker, seconds).await?),
            Environment::Kube(kube) => objects::renew(kube, seconds).await.map(|()| None)?,
        };
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(renewed_every(length));
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let renewal = async {
                    match (&environment, &mut held) {
                        (Environment::Docker(docker), Some(held)) => {
                            held.renew(docker, seconds, within).await
                        }
                        (Environment::Docker(_), None) => Ok(()),
                        (Environment::Kube(kube), _) => objects::renew(kube, seconds).await,
                    }
                };
                match timeout(attempt, renewal).await {
                    Ok(Ok(())) => {}
                    // Another attempt comes before the present one ends.
                    Ok(Err(error)) => tracing::warn!(%error, "the owner's lease could not be renewed"),
                    Err(_) => tracing::warn!("the owner's lease could not be renewed: no answer"),
                }
            }
        });
        Ok(Self(task.abort_handle()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_renewed_while_that_is_waited_for_has_not_ended_at_the_end_of_the_wait() {
        for seconds in [3, 4, 60, 3_600] {
            let length = Duration::from_secs(seconds);
            assert!(renewed_every(length) * 3 <= length, "{length:?}");
            assert!(renewed_within(length) <= length, "{length:?}");
        }
    }
}
