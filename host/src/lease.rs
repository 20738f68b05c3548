//! Who is alive, for owners that share an engine or a namespace, but neither process ids nor clocks.
//!
//! An owner that stays resident keeps a lease where its caches are: [`volumes`] on Docker, [`objects`] on
//! Kubernetes. An owner is dead once a lease of its lies there and has ended; one without any lease is never taken
//! for dead.

mod objects;
mod turns;
mod volumes;

use std::collections::HashSet;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

pub(crate) use self::turns::Turn;

use crate::engine::EngineError;
use crate::environment::Environment;

/// The instances, other than this owner's own, whose last lease has ended.
pub(crate) async fn dead(environment: &Environment) -> Result<HashSet<String>, EngineError> {
    match environment {
        Environment::Docker(docker) => volumes::dead(docker.engine.as_ref(), &docker.owner).await,
        Environment::Kube(kube) => objects::dead(kube.cluster.as_ref(), &kube.owner).await,
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
    /// Takes the lease, and renews it from then on, at a third of its length.
    pub(crate) async fn start(environment: Environment, length: Duration) -> Result<Self, EngineError> {
        let seconds = length.as_secs().max(1);
        // Without a bound, one call that is never answered would be the last.
        let within = length / 4;
        let mut held = match &environment {
            Environment::Docker(docker) => Some(volumes::Held::take(docker, seconds).await?),
            Environment::Kube(kube) => objects::renew(kube, seconds).await.map(|()| None)?,
        };
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(length / 3);
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
                match timeout(within * 2, renewal).await {
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
