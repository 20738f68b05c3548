//! Using what the environment does not grant: nothing is opened, and the denial names the grant that would allow it.

use elasticache_host::{Grants, Manifest, PolicySource};

use super::{DEADLINE, failing, grant, limits, still_works, survived};
use crate::sim_support::{World, hostile, redis};

#[tokio::test]
pub async fn image_not_granted() {
    assert_eq!(grant(survived("image_not_granted").await), "grants.images = [\"evil/redis:7\"]");
}

#[tokio::test]
pub async fn pull_not_granted() {
    assert_eq!(grant(survived("pull_not_granted").await), "grants.images = [\"evil/redis:7\"]");
}

#[tokio::test]
pub async fn label_not_granted() {
    assert_eq!(grant(survived("label_not_granted").await), "grants.labels = [\"com.example.team\"]");
}

#[tokio::test]
pub async fn exec_not_granted() {
    assert_eq!(grant(survived("exec_not_granted").await), "grants.exec = [\"sh\"]");
}

#[tokio::test]
pub async fn kube_not_granted() {
    assert_eq!(grant(survived("kube_not_granted").await), "grants.capabilities = [\"kube\"]");
}

/// What a policy is denied without something that the standard environment grants. As soon as it is granted, the
/// same runtime works.
async fn denied_without(guest: &str, grants: Grants) -> String {
    let world = World::new().await;
    let builder = world.builder().policy_file(hostile(guest)).grants(grants);
    let runtime = builder.limits(limits()).timeout(DEADLINE).build().await.unwrap();
    world.sim.clear_calls();
    let denied = grant(failing(runtime.ensure(redis("bad"))).await);
    world.assert_untouched(&world.observe().await, "after a refusal");
    let mut manifest = Manifest::standard();
    manifest.policy = PolicySource::file(hostile(guest));
    runtime.swap_environment(manifest).await.unwrap();
    still_works(&world, &runtime).await;
    denied
}

#[tokio::test]
pub async fn volume_not_granted() {
    let grants = Grants { volumes: false, ..Grants::standard() };
    assert_eq!(denied_without("volume_not_granted", grants).await, "grants.volumes = true");
}

#[tokio::test]
pub async fn publish_not_granted() {
    let grants = Grants { publish: Vec::new(), ..Grants::standard() };
    assert_eq!(denied_without("publish_not_granted", grants).await, "grants.publish = [\"127.0.0.1\"]");
}

#[tokio::test]
pub async fn docker_not_granted() {
    let grants = Grants { capabilities: [].into(), ..Grants::standard() };
    assert_eq!(denied_without("docker_not_granted", grants).await, "grants.capabilities = [\"docker\"]");
}
