//! Pods and claims as the API server shows them, in native types.

use std::time::Duration;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::spec::SERVER;
use super::stage;
use crate::engine::cluster::{Claim, ObjectId, Pod, PodPhase};

/// For what a container waits if its image cannot be had. At `ErrImagePull` the kubelet would try again, with
/// longer and longer pauses; an image's name is far more often wrong than its registry is down for a moment.
const NO_IMAGE: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
];
/// For what else it waits if it will not start by itself.
const STUCK: [&str; 5] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreStartHookError",
];
/// How long no node may take a pod until that is said: the scheduler hears of what was just made or deleted a little
/// later than the API server.
const UNSCHEDULABLE: Duration = Duration::from_secs(1);
/// The same while a volume for its claim is being made.
const UNBOUND: Duration = Duration::from_secs(30);

/// What is to be expected of a pod that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It comes along, or it runs.
    Open,
    /// No node takes it. If that lasts for so long, it is hopeless.
    Doubtful(String, Duration),
    /// It will not run by itself.
    Hopeless(String),
}

pub(super) fn id(metadata: &ObjectMeta) -> ObjectId {
    ObjectId {
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

pub(super) fn pod(pod: k8s::Pod) -> Pod {
    let outlook = outlook(&pod);
    let status = pod.status.as_ref();
    let server = pod.spec.as_ref().and_then(|spec| spec.containers.iter().find(|one| one.name == SERVER));
    let message = match outlook {
        Outlook::Open => None,
        Outlook::Doubtful(message, _) | Outlook::Hopeless(message) => Some(message),
    };
    Pod {
        image: server.and_then(|server| server.image.clone()).unwrap_or_default(),
        phase: phase(status),
        staging: is_held_back(&pod),
        address: status.and_then(|status| status.pod_ip.clone()).filter(|address| !address.is_empty()),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        id: id(&pod.metadata),
        labels: pod.metadata.labels.unwrap_or_default(),
        annotations: pod.metadata.annotations.unwrap_or_default(),
        message,
    }
}

fn phase(status: Option<&k8s::PodStatus>) -> PodPhase {
    match status.and_then(|status| status.phase.as_deref()) {
        None | Some("" | "Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some(_) => PodPhase::Unknown,
    }
}

/// Whether its server is held back, or will be as soon as it is on a node.
fn is_held_back(pod: &k8s::Pod) -> bool {
    let stages = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    stages.is_some_and(|stages| stages.iter().any(|one| one.name == stage::NAME)) && !is_released(pod)
}

/// Whether its server has ended, or will never begin.
pub(super) fn has_ended(pod: &k8s::Pod) -> bool {
    server_has_ended(pod) || matches!(phase(pod.status.as_ref()), PodPhase::Succeeded | PodPhase::Failed)
}

/// Whether its server ran, and ended.
pub(super) fn server_has_ended(pod: &k8s::Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    state_of(containers, SERVER).is_some_and(|state| state.terminated.is_some())
}

/// Whether files can be moved while its server is held back.
pub(super) fn is_staging(pod: &k8s::Pod) -> bool {
    stage_state(pod).is_some_and(|state| state.running.is_some())
}

/// Whether its server was let go.
pub(super) fn is_released(pod: &k8s::Pod) -> bool {
    stage_state(pod).and_then(|state| state.terminated.as_ref()).is_some_and(|end| end.exit_code == 0)
}

/// Whether its server's container runs.
pub(super) fn is_running(pod: &k8s::Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    state_of(containers, SERVER).is_some_and(|state| state.running.is_some())
}

fn stage_state(pod: &k8s::Pod) -> Option<&k8s::ContainerState> {
    state_of(pod.status.as_ref()?.init_container_statuses.as_ref(), stage::NAME)
}

fn state_of<'a>(
    statuses: Option<&'a Vec<k8s::ContainerStatus>>,
    name: &str,
) -> Option<&'a k8s::ContainerState> {
    statuses?.iter().find(|status| status.name == name)?.state.as_ref()
}

pub(super) fn outlook(pod: &k8s::Pod) -> Outlook {
    let Some(status) = &pod.status else { return Outlook::Open };
    let containers = || {
        let stages = status.init_container_statuses.iter().flatten();
        stages.chain(status.container_statuses.iter().flatten())
    };
    let ended = containers().find_map(|container| {
        let end = container.state.as_ref()?.terminated.as_ref()?;
        // A stage that ended well is one that was released.
        (container.name != stage::NAME || end.exit_code != 0).then(|| how_it_ended(&container.name, end))
    });
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let words = joined(status.reason.as_deref(), status.message.as_deref());
        let ended = [words, ended].into_iter().flatten().collect::<Vec<_>>().join("; ");
        return Outlook::Hopeless(if ended.is_empty() { "it ended".to_owned() } else { ended });
    }
    if let Some(ended) = ended {
        return Outlook::Hopeless(ended);
    }
    let stuck = containers().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let (reason, message) = (waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default());
        if NO_IMAGE.contains(&reason) {
            return Some(no_image(reason, image_of(pod, &container.name), message));
        }
        STUCK.contains(&reason).then(|| joined(Some(reason), Some(message)))?
    });
    if let Some(stuck) = stuck {
        return Outlook::Hopeless(stuck);
    }
    let unschedulable = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    match unschedulable.and_then(|one| joined(one.reason.as_deref(), one.message.as_deref())) {
        Some(message) if message.to_ascii_lowercase().contains("persistentvolumeclaim") => {
            Outlook::Doubtful(message, UNBOUND)
        }
        Some(message) => Outlook::Doubtful(message, UNSCHEDULABLE),
        None => Outlook::Open,
    }
}

/// The image that a container of the pod is to have.
fn image_of<'a>(pod: &'a k8s::Pod, container: &str) -> &'a str {
    let spec = pod.spec.as_ref();
    let stages = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let all = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default().iter().chain(stages);
    all.filter(|one| one.name == container).find_map(|one| one.image.as_deref()).unwrap_or_default()
}

/// The kubelet does not name the image itself in all that it says of one.
fn no_image(reason: &str, image: &str, message: &str) -> String {
    let named = if message.contains(image) { None } else { Some(image) };
    [Some(reason), named, Some(message)]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

fn how_it_ended(container: &str, end: &k8s::ContainerStateTerminated) -> String {
    let mut text = format!("{container} ended with exit code {}", end.exit_code);
    if let Some(words) = joined(end.reason.as_deref(), end.message.as_deref().map(str::trim)) {
        text = format!("{text} ({words})");
    }
    text
}

/// `reason: message`, or whichever there is.
fn joined(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = [reason, message].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

pub(super) fn claim(claim: k8s::PersistentVolumeClaim) -> Claim {
    let status = claim.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    let capacity = status.and_then(|status| status.capacity.as_ref()?.get("storage"));
    Claim {
        id: id(&claim.metadata),
        capacity: capacity.filter(|_| bound).and_then(|quantity| quantity_in_bytes(&quantity.0)),
        terminating: claim.metadata.deletion_timestamp.is_some(),
        annotations: claim.metadata.annotations.unwrap_or_default(),
    }
}

/// Of a quantity in Kubernetes' spelling: `1Gi`, `1500M`, `1e9`, `1073741824`, `100m`.
fn quantity_in_bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    UNITS.into_iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        // Saturates: beyond 2^53 the last digits do not matter to anybody.
        (number.is_finite() && number >= 0.0).then_some((number * factor).ceil() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::quantity_in_bytes;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("1073741824", Some(1 << 30)),
            ("1Gi", Some(1 << 30)),
            ("1.5Ki", Some(1536)),
            ("100M", Some(100_000_000)),
            ("1e3", Some(1000)),
            ("1500m", Some(2)),
            ("0", Some(0)),
            ("", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(quantity_in_bytes(text), bytes, "{text}");
        }
    }
}
