//! The `kube` capability in native types: pods, claims and leases of one namespace.
//!
//! As with [`ContainerEngine`](super::ContainerEngine), a supplier does what it is told to the object it is told;
//! who may ask for what is decided before.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{EngineError, ExecOutput, FileInfo, NewFile};
use crate::types::Endpoint;

/// How far a pod has come, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Accepted by the cluster; not all of it runs yet.
    Pending,
    /// On a node, its server started.
    Running,
    /// Its server ended with exit code 0.
    Succeeded,
    /// Its server ended otherwise, or the cluster ended it.
    Failed,
    /// Its node is not heard from.
    Unknown,
}

/// One object for good: a name is used again, a uid never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectId {
    /// Unique in the namespace, at one time.
    pub name: String,
    /// Unique, for ever.
    pub uid: String,
}

/// A pod as observed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Which one.
    pub id: ObjectId,
    /// Of its server's container.
    pub image: String,
    /// All of them.
    pub labels: BTreeMap<String, String>,
    /// All of them.
    pub annotations: BTreeMap<String, String>,
    /// How far it has come.
    pub phase: PodPhase,
    /// Deletion was asked for and has not ended.
    pub terminating: bool,
    /// Its server is held back until [`Cluster::release_pod`].
    pub staging: bool,
    /// None until it has one.
    pub address: Option<String>,
    /// The kubelet's or the scheduler's own words on why it does not run.
    pub message: Option<String>,
}

/// What a taint of a node must be for the pod to bear it, in Kubernetes' words and spelling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; none means every key, with the operator `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` or `Exists`; none means `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value, with `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; none means each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// For how long a `NoExecute` taint is borne; none means for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// Where a pod's data lies; always at `/data` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodData {
    /// Gone with the pod.
    EmptyDir,
    /// On the claim of that name.
    Claim(String),
}

/// What a new pod is to be: one container named `cache`, never started again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Unique in the namespace.
    pub name: String,
    /// As the cluster's nodes fetch it.
    pub image: String,
    /// In place of the image's command.
    pub args: Vec<String>,
    /// Selectors find it by these.
    pub labels: BTreeMap<String, String>,
    /// Whatever else it says about itself.
    pub annotations: BTreeMap<String, String>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that its node may have.
    pub tolerations: Vec<Toleration>,
    /// That its server listens on, over TCP.
    pub port: u16,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_grace: u32,
    /// Hold its server back until [`Cluster::release_pod`].
    pub staged: bool,
    /// Where its data lies.
    pub data: PodData,
}

/// What a pod is waited for to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodGoal {
    /// Its files can be moved, its server held back.
    Staging,
    /// Its server's container runs.
    Running,
    /// Its server has ended. That it will not run is no error then.
    Ended,
}

/// A persistent volume claim as observed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which one.
    pub id: ObjectId,
    /// All of them.
    pub annotations: BTreeMap<String, String>,
    /// Bytes; none until it is bound.
    pub capacity: Option<u64>,
    /// Deletion was asked for and has not ended.
    pub terminating: bool,
}

/// What a new claim is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSpec {
    /// Unique in the namespace.
    pub name: String,
    /// Selectors find it by these.
    pub labels: BTreeMap<String, String>,
    /// Whatever else it says about itself.
    pub annotations: BTreeMap<String, String>,
    /// Which kind of storage.
    pub storage_class: String,
    /// Bytes.
    pub size: u64,
}

/// A Lease (coordination.k8s.io) as observed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Unique in the namespace.
    pub name: String,
    /// All of them.
    pub labels: BTreeMap<String, String>,
    /// All of them.
    pub annotations: BTreeMap<String, String>,
    /// Who holds it, in its holder's words.
    pub holder: String,
    /// For how many seconds after it was renewed it holds.
    pub seconds: u32,
    /// When its holder renewed it last, by the API server's clock.
    pub renewed: SystemTime,
}

/// Pods, claims, leases and secrets of one namespace.
///
/// # Guarantees asked of a supplier
/// - What has no effect if it is done twice (looking, deleting by uid) is tried again while the API server says that
///   it is busy or the connection breaks; a create is tried again only where the server said that it did nothing.
/// - Waiting is watching; a watch that breaks off or is too old is taken again.
/// - A change is made to the object of that uid, never to another that took its name.
/// - Dropping a call's future stops the waiting, not what the cluster already began. Deadlines are the caller's.
/// - Memory stays bounded whatever the size of a file that is moved.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// The namespace of all these objects.
    fn namespace(&self) -> &str;

    /// Where the probes that come with this cluster reach the server in a pod; none while it has no address.
    fn probed_at(&self, pod: &Pod, port: u16) -> Option<Endpoint>;

    /// Every pod that has all of these labels; one list call. An empty value asks only that the label be there.
    async fn list_pods(&self, labels: &[(&str, &str)]) -> Result<Vec<Pod>, EngineError>;

    /// A pod by name; `None` if there is none.
    async fn find_pod(&self, name: &str) -> Result<Option<Pod>, EngineError>;

    /// Create a pod. [`EngineError::Conflict`] if the name is taken.
    async fn create_pod(&self, spec: &PodSpec) -> Result<Pod, EngineError>;

    /// Watch until the pod has come that far, and return it. [`EngineError::Failed`] with the cluster's own words as
    /// soon as it is clear that it will not, [`EngineError::NotFound`] if it is gone.
    async fn wait_for_pod(&self, id: &ObjectId, goal: PodGoal) -> Result<Pod, EngineError>;

    /// Delete a pod and watch until it is gone: SIGTERM, SIGKILL after `grace` seconds. One that is gone already is
    /// [`EngineError::NotFound`].
    async fn delete_pod(&self, id: &ObjectId, grace: u32) -> Result<(), EngineError>;

    /// Let the server of a staging pod start.
    async fn release_pod(&self, id: &ObjectId) -> Result<(), EngineError>;

    /// The last lines that its server wrote, at most 4 KiB.
    async fn pod_log(&self, id: &ObjectId, lines: u32) -> Result<String, EngineError>;

    /// As [`super::ContainerEngine::exec`], in the pod's server container.
    async fn exec(
        &self,
        id: &ObjectId,
        argv: &[String],
        max_output: usize,
    ) -> Result<ExecOutput, EngineError>;

    /// As [`super::ContainerEngine::put_files`], in whichever container of the pod runs. Each file appears under its
    /// name whole or not at all.
    async fn put_files(
        &self,
        id: &ObjectId,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError>;

    /// As [`super::ContainerEngine::get_file`], from whichever container of the pod runs.
    async fn get_file(
        &self,
        id: &ObjectId,
        path: &str,
        sink: Box<dyn Write + Send>,
    ) -> Result<u64, EngineError>;

    /// As [`super::ContainerEngine::stat_file`], in whichever container of the pod runs.
    async fn stat_file(&self, id: &ObjectId, path: &str) -> Result<Option<FileInfo>, EngineError>;

    /// A claim by name; `None` if there is none.
    async fn find_claim(&self, name: &str) -> Result<Option<Claim>, EngineError>;

    /// Create a claim. [`EngineError::Conflict`] if the name is taken.
    async fn create_claim(&self, spec: &ClaimSpec) -> Result<Claim, EngineError>;

    /// Delete a claim with all data, and watch until it is gone. [`EngineError::NotFound`] if it is gone already,
    /// [`EngineError::Conflict`] while a pod uses it.
    async fn delete_claim(&self, id: &ObjectId) -> Result<(), EngineError>;

    /// Every Lease that has all of these labels; one list call.
    async fn list_leases(&self, labels: &[(&str, &str)]) -> Result<Vec<Lease>, EngineError>;

    /// Write a Lease, new or in the place of what it said before.
    async fn write_lease(&self, lease: &Lease) -> Result<(), EngineError>;

    /// Take a Lease: make it, or take the place of one that says to be held and renewed as `instead` does. If there is
    /// another one it stays, and is returned. [`EngineError::NotFound`] if `instead` is gone, [`EngineError::Conflict`] if
    /// one came and went meanwhile.
    async fn take_lease(&self, lease: &Lease, instead: Option<&Lease>) -> Result<Option<Lease>, EngineError>;

    /// Delete a Lease, if it still says that it was renewed at the time given. [`EngineError::NotFound`] if it is gone
    /// already, [`EngineError::Conflict`] if it says another time by now: then its holder, or another one, is at it.
    async fn delete_lease(&self, name: &str, renewed: SystemTime) -> Result<(), EngineError>;

    /// The bytes under `key` in the Secret `name`, made with `make` if there is no such Secret: whoever asks gets the
    /// same ones.
    async fn shared_secret(&self, name: &str, key: &str, make: &[u8]) -> Result<Vec<u8>, EngineError>;

    /// The API server's clock, in whole seconds.
    async fn now(&self) -> Result<SystemTime, EngineError>;
}
