//! What operations that failed, and owners that died, left behind.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::capabilities::Created;
use crate::engine::EngineError;
use crate::environment::{DockerEnvironment, Environment, KubeEnvironment};
use crate::ownership::{INSTANCE, Kind, Owner, selectors};

/// Seconds for what a broken operation left to end by itself.
const GRACE: u32 = 2;
/// For removing each thing that a broken operation left.
const WITHIN: Duration = Duration::from_secs(30);

/// The instances that own containers or pods under our secret.
pub(crate) async fn owning(environment: &Environment) -> Result<HashSet<String>, EngineError> {
    let of = |kind, name: &str, said: &BTreeMap<String, String>| {
        environment.owner().provenance(kind, name, said).map(|made| made.instance)
    };
    match environment {
        Environment::Docker(docker) => {
            let all = docker.engine.list_containers(&[(INSTANCE, "")]).await?;
            Ok(all.iter().filter_map(|c| of(Kind::Container, &c.name, &c.labels)).collect())
        }
        Environment::Kube(kube) => {
            let labels = selectors(None);
            let wanted: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let all = kube.cluster.list_pods(&wanted).await?;
            Ok(all.iter().filter_map(|pod| of(Kind::Pod, &pod.id.name, &pod.annotations)).collect())
        }
    }
}

/// Removes what a failed operation made and did not remove itself: what has a name that it asked for, and carries
/// its mark.
pub(crate) async fn remove(environment: &Environment, operation: &str, created: Created) {
    match environment {
        Environment::Docker(docker) => {
            for name in created.containers {
                removed(&name, container(docker, operation, &name)).await;
            }
            for name in created.volumes {
                removed(&name, volume(docker, operation, &name)).await;
            }
        }
        Environment::Kube(kube) => {
            for name in created.pods {
                removed(&name, pod(kube, operation, &name)).await;
            }
            for name in created.claims {
                removed(&name, claim(kube, operation, &name)).await;
            }
        }
    }
}

fn is_its(owner: &Owner, operation: &str, kind: Kind, name: &str, said: &BTreeMap<String, String>) -> bool {
    owner.provenance(kind, name, said).is_some_and(|made| made.operation == operation)
}

async fn container(docker: &DockerEnvironment, operation: &str, name: &str) -> Result<(), EngineError> {
    let DockerEnvironment { engine, owner, .. } = docker;
    match engine.inspect_container(name).await? {
        Some(there) if is_its(owner, operation, Kind::Container, &there.name, &there.labels) => {
            engine.stop_container(&there.id, GRACE).await?;
            engine.remove_container(&there.id).await
        }
        _ => Ok(()),
    }
}

async fn volume(docker: &DockerEnvironment, operation: &str, name: &str) -> Result<(), EngineError> {
    let DockerEnvironment { engine, owner, .. } = docker;
    match engine.inspect_volume(name).await? {
        Some(there) if is_its(owner, operation, Kind::Volume, &there.name, &there.labels) => {
            engine.remove_volume(name).await
        }
        _ => Ok(()),
    }
}

async fn pod(kube: &KubeEnvironment, operation: &str, name: &str) -> Result<(), EngineError> {
    let KubeEnvironment { cluster, owner, .. } = kube;
    match cluster.find_pod(name).await? {
        Some(there) if is_its(owner, operation, Kind::Pod, name, &there.annotations) => {
            cluster.delete_pod(&there.id, GRACE).await
        }
        _ => Ok(()),
    }
}

async fn claim(kube: &KubeEnvironment, operation: &str, name: &str) -> Result<(), EngineError> {
    let KubeEnvironment { cluster, owner, .. } = kube;
    match cluster.find_claim(name).await? {
        Some(there) if is_its(owner, operation, Kind::Claim, name, &there.annotations) => {
            cluster.delete_claim(&there.id).await
        }
        _ => Ok(()),
    }
}

async fn removed(object: &str, removal: impl Future<Output = Result<(), EngineError>>) {
    match tokio::time::timeout(WITHIN, removal).await {
        Ok(Ok(()) | Err(EngineError::NotFound { .. })) => {}
        Ok(Err(error)) => tracing::warn!(object, %error, "what a failed operation made was left"),
        Err(_) => tracing::warn!(object, "what a failed operation made was left: nothing answers"),
    }
}
