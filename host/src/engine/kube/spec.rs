//! What pods and claims are to be, in Kubernetes' words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{pull, stage};
use crate::engine::cluster::{ClaimSpec, PodData, PodSpec};

/// The container that runs the server.
pub(super) const SERVER: &str = "cache";
/// The variable that tells a program inside a pod which one it is in.
pub(super) const UID: &str = "FAKECLOUD_POD_UID";

const DATA: &str = "data";
/// The volume with the token of a restore that is fetched.
pub(super) const RESTORE: &str = "restore";
const DATA_FOLDER: &str = "/data";

/// The pod to create; one that fetches what it starts from has the token for that in the Secret `restore`.
pub(super) fn pod(spec: &PodSpec, pull_secret: Option<&str>, restore: Option<&str>) -> k8s::Pod {
    let server = k8s::Container {
        args: Some(spec.args.clone()).filter(|args| !args.is_empty()),
        ports: Some(vec![k8s::ContainerPort {
            container_port: i32::from(spec.port),
            protocol: Some("TCP".to_owned()),
            ..k8s::ContainerPort::default()
        }]),
        ..container(SERVER, spec)
    };
    let stage = spec.staged.then(|| {
        let mut stage = container(stage::NAME, spec);
        stage.command = Some(stage::held_back());
        let mounts = stage.volume_mounts.get_or_insert_default();
        mounts.push(mount(stage::NAME, stage::FOLDER));
        if restore.is_some() {
            mounts.push(mount(RESTORE, pull::FOLDER));
        }
        vec![stage]
    });
    let data = match &spec.data {
        PodData::EmptyDir => empty_folder(DATA),
        PodData::Claim(claim) => k8s::Volume {
            name: DATA.to_owned(),
            persistent_volume_claim: Some(k8s::PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: None,
            }),
            ..k8s::Volume::default()
        },
    };
    let mut volumes = vec![data];
    if spec.staged {
        volumes.push(empty_folder(stage::NAME));
    }
    if let Some(secret) = restore {
        volumes.push(k8s::Volume {
            name: RESTORE.to_owned(),
            secret: Some(k8s::SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                // It goes once the file has come, and the pod stays.
                optional: Some(true),
                ..k8s::SecretVolumeSource::default()
            }),
            ..k8s::Volume::default()
        });
    }
    k8s::Pod {
        metadata: metadata(&spec.name, &spec.labels, &spec.annotations),
        spec: Some(k8s::PodSpec {
            containers: vec![server],
            init_containers: stage,
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(i64::from(spec.stop_grace)),
            // It asks nothing of the cluster, and whoever gets into it should not be able to.
            automount_service_account_token: Some(false),
            // Else it would have variables for each service of the namespace, and some servers read those.
            enable_service_links: Some(false),
            image_pull_secrets: pull_secret
                .map(|name| vec![k8s::LocalObjectReference { name: name.to_owned() }]),
            node_selector: Some(spec.node_selector.clone()).filter(|labels| !labels.is_empty()),
            tolerations: Some(tolerations(spec)).filter(|tolerations| !tolerations.is_empty()),
            volumes: Some(volumes),
            ..k8s::PodSpec::default()
        }),
        status: None,
    }
}

/// What both containers have in common.
fn container(name: &str, spec: &PodSpec) -> k8s::Container {
    k8s::Container {
        name: name.to_owned(),
        image: Some(spec.image.clone()),
        env: Some(vec![k8s::EnvVar {
            name: UID.to_owned(),
            value_from: Some(k8s::EnvVarSource {
                field_ref: Some(k8s::ObjectFieldSelector {
                    api_version: None,
                    field_path: "metadata.uid".to_owned(),
                }),
                ..k8s::EnvVarSource::default()
            }),
            value: None,
        }]),
        security_context: Some(k8s::SecurityContext {
            allow_privilege_escalation: Some(false),
            ..k8s::SecurityContext::default()
        }),
        volume_mounts: Some(vec![mount(DATA, DATA_FOLDER)]),
        ..k8s::Container::default()
    }
}

fn mount(volume: &str, folder: &str) -> k8s::VolumeMount {
    k8s::VolumeMount { name: volume.to_owned(), mount_path: folder.to_owned(), ..k8s::VolumeMount::default() }
}

fn empty_folder(name: &str) -> k8s::Volume {
    k8s::Volume {
        name: name.to_owned(),
        empty_dir: Some(k8s::EmptyDirVolumeSource::default()),
        ..k8s::Volume::default()
    }
}

fn tolerations(spec: &PodSpec) -> Vec<k8s::Toleration> {
    let native = |toleration: &crate::engine::cluster::Toleration| k8s::Toleration {
        key: toleration.key.clone(),
        operator: toleration.operator.clone(),
        value: toleration.value.clone(),
        effect: toleration.effect.clone(),
        toleration_seconds: toleration.toleration_seconds,
    };
    spec.tolerations.iter().map(native).collect()
}

/// The claim to create.
pub(super) fn claim(spec: &ClaimSpec) -> k8s::PersistentVolumeClaim {
    k8s::PersistentVolumeClaim {
        metadata: metadata(&spec.name, &spec.labels, &spec.annotations),
        spec: Some(k8s::PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(k8s::VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(spec.size.to_string()))])),
                limits: None,
            }),
            storage_class_name: Some(spec.storage_class.clone()),
            ..k8s::PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

pub(super) fn metadata(
    name: &str,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels.clone()),
        annotations: Some(annotations.clone()),
        ..ObjectMeta::default()
    }
}
