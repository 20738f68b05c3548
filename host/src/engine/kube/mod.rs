//! Kubernetes, through its API server.
//!
//! # Guarantees
//! - What has no effect if it is done twice is asked again for up to 30 seconds while the API server is busy or the
//!   connection breaks. A create, and the start of a program, are asked again only where it is certain that nothing
//!   was done: refused as too many requests, or nobody there to connect to.
//! - Waiting is watching. A watch that breaks off goes on where it was; one that is too old starts anew.
//! - Programs and files go to the pod of that uid, or nowhere: what runs first inside asks which pod it is in.
//!
//! # Caveats
//! - No deadline of its own once a cluster is found, other than those 30 seconds.
//! - An image needs `sh` and, for files, `cat`, `chmod`, `head`, `mkdir`, `mkfifo`, `mv`, `rm` and `stat`, as busybox and
//!   coreutils have them; and to fetch its file itself `nc`, as busybox has it and images that build on Debian have not.
//! - Whoever can list the namespace's objects can read their labels and annotations.

mod again;
mod connect;
mod errors;
mod files;
mod observed;
mod options;
mod probes;
mod programs;
mod pull;
mod records;
mod spec;
mod stage;
#[cfg(test)]
mod tests;
mod watching;

use std::fmt;
use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as k8s;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use self::again::{again, once};
use self::errors::{create_error, engine_error, found, gone};
use self::programs::Program;
use super::cluster::{Claim, ClaimSpec, Cluster, Lease, ObjectId, Pod, PodGoal, PodSpec};
use super::{Content, EngineError, ExecOutput, FileInfo, NewFile};
use crate::probes::Probes;
use crate::probes::tcp::TcpProbes;
use crate::scheduling::syntax;
use crate::types::Endpoint;

pub use self::options::{KubeOptions, Reach, RestoreBy};
pub use self::pull::Pull;

/// What is sent to the API server, as a Role has to allow it: API group, resource, verbs.
///
/// Programs and forwarded ports are begun with a GET, which is the verb `get`; newer API servers want `create` for it,
/// too. `/version` is open to all users unless somebody closed it.
pub const PERMISSIONS: &[(&str, &str, &[&str])] = &[
    ("", "pods", &["get", "list", "watch", "create", "delete"]),
    ("", "pods/exec", &["get", "create"]),
    ("", "pods/portforward", &["get", "create"]),
    ("", "pods/log", &["get"]),
    ("", "persistentvolumeclaims", &["get", "list", "watch", "create", "delete"]),
    ("", "secrets", &["get", "create"]),
    ("coordination.k8s.io", "leases", &["get", "list", "create", "patch", "delete"]),
];

/// What it takes beside [`PERMISSIONS`] where pods fetch what they start from: their tokens, in Secrets of names that are
/// not known before, are deleted.
pub const PULL_PERMISSIONS: &[(&str, &str, &[&str])] = &[("", "secrets", &["delete"])];

/// Objects of one page of a list that may be long.
const PAGE: u32 = 500;
/// From a server's being let go until the kubelet has told.
const RELEASE_SHOWS: Duration = Duration::from_secs(10);

/// One namespace of one cluster.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    options: KubeOptions,
    reach: Reach,
    pull: Option<Pull>,
}

impl fmt::Debug for Kube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kube")
            .field("options", &self.options)
            .field("reach", &self.reach)
            .finish_non_exhaustive()
    }
}

impl Kube {
    /// The cluster that the options name, once it is known that it answers and that the namespace can be used.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if it does not answer within 10 seconds, [`EngineError::Failed`] in its own words
    /// and with what to do if it refuses, or if the options name none.
    pub async fn connect(options: KubeOptions) -> Result<Self, EngineError> {
        syntax::dns_label(options.namespace())
            .map_err(|reason| EngineError::Failed { object: "the namespace".to_owned(), message: reason })?;
        let (client, reach) = connect::connect(&options).await?;
        Ok(Self { client, options, reach, pull: None })
    }

    /// The same, with pods that fetch the files they start from. Without this they are streamed into them.
    pub fn pulling(self, pull: Pull) -> Self {
        Self { pull: Some(pull), ..self }
    }

    /// As they were given.
    pub fn options(&self) -> &KubeOptions {
        &self.options
    }

    /// How probes get to a pod.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Probes that reach the servers at [`Cluster::probed_at`].
    pub fn probes(&self) -> Arc<dyn Probes> {
        match self.reach {
            Reach::Direct => Arc::new(TcpProbes::new()),
            Reach::Forward => Arc::new(probes::ForwardProbes { pods: self.api() }),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.options.namespace())
    }

    /// An object by name; `None` if there is none.
    async fn find<K>(&self, name: &str) -> Result<Option<K>, EngineError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = self.api();
        let name = segment(name)?;
        found(again(|| api.get(name)).await.map_err(|error| engine_error(name, error)))
    }

    /// That very pod.
    async fn this_pod(&self, id: &ObjectId) -> Result<k8s::Pod, EngineError> {
        let pod: Option<k8s::Pod> = self.find(&id.name).await?;
        pod.filter(|pod| pod.metadata.uid.as_ref() == Some(&id.uid)).ok_or_else(|| gone(&id.name))
    }

    /// Deletes the object of that uid; returns it as the API server last told of it, if it did.
    async fn delete<K>(&self, id: &ObjectId, grace: Option<u32>) -> Result<Option<K>, EngineError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = self.api();
        let name = segment(&id.name)?;
        let params = DeleteParams {
            grace_period_seconds: grace,
            preconditions: Some(Preconditions { uid: Some(id.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let mut tries = 0;
        let answer = again(|| {
            tries += 1;
            api.delete(name, &params)
        })
        .await;
        match answer.map_err(|error| engine_error(name, error)) {
            Ok(answer) => Ok(answer.left()),
            // The attempt before this one had an answer that was lost.
            Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) if tries > 1 => Ok(None),
            // The name is another object's by now.
            Err(EngineError::Conflict { .. }) => Err(gone(name)),
            Err(error) => Err(error),
        }
    }

    /// Whether the pod is there and was created with that Secret; if nobody says so, it may be.
    async fn may_fetch_with(&self, pod: &str, secret: &str) -> bool {
        match self.find::<k8s::Pod>(pod).await {
            Ok(pod) => pod.is_some_and(|pod| pull::secret_of(&pod) == Some(secret)),
            Err(_) => true,
        }
    }

    /// The name of a pod that uses a claim and has not ended.
    async fn user_of(&self, claim: &str) -> Result<Option<String>, EngineError> {
        let pods: Api<k8s::Pod> = self.api();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = again(|| pods.list(&params)).await;
            let page = page.map_err(|error| engine_error("the list of pods", error))?;
            let user = page.items.into_iter().find(|pod| uses(pod, claim));
            if let Some(user) = user {
                return Ok(user.metadata.name);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(None),
            }
        }
    }
}

/// The container of a pod in which files can be moved.
fn running_container(id: &ObjectId, pod: k8s::Pod) -> Result<&'static str, EngineError> {
    if observed::is_staging(&pod) {
        return Ok(stage::NAME);
    }
    if observed::is_running(&pod) {
        return Ok(spec::SERVER);
    }
    let message = observed::pod(pod).message.unwrap_or_else(|| "it does not run".to_owned());
    Err(EngineError::Conflict { object: id.name.clone(), message })
}

fn uses(pod: &k8s::Pod, claim: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    !matches!(phase, Some("Succeeded" | "Failed"))
        && volumes.iter().any(|volume| {
            volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim)
        })
}

/// Names go into the path of a URL: one with a slash or dots would ask about another object.
fn segment(name: &str) -> Result<&str, EngineError> {
    match syntax::dns_subdomain(name) {
        Ok(()) => Ok(name),
        Err(message) => Err(EngineError::Failed { object: name.escape_default().to_string(), message }),
    }
}

fn selector(labels: &[(&str, &str)]) -> String {
    let one = |&(name, value): &(&str, &str)| match value {
        "" => name.to_owned(),
        value => format!("{name}={value}"),
    };
    labels.iter().map(one).collect::<Vec<_>>().join(",")
}

#[async_trait]
impl Cluster for Kube {
    fn namespace(&self) -> &str {
        self.options.namespace()
    }

    fn probed_at(&self, pod: &Pod, port: u16) -> Option<Endpoint> {
        let address = pod.address.as_ref()?;
        let address = match self.reach {
            Reach::Direct => address.clone(),
            Reach::Forward => pod.id.name.clone(),
        };
        Some(Endpoint { address, port })
    }

    async fn list_pods(&self, labels: &[(&str, &str)]) -> Result<Vec<Pod>, EngineError> {
        let pods: Api<k8s::Pod> = self.api();
        let params = ListParams::default().labels(&selector(labels));
        let listed = again(|| pods.list(&params)).await;
        let listed = listed.map_err(|error| engine_error("the list of pods", error))?;
        Ok(listed.items.into_iter().map(observed::pod).collect())
    }

    async fn find_pod(&self, name: &str) -> Result<Option<Pod>, EngineError> {
        Ok(self.find(name).await?.map(observed::pod))
    }

    async fn create_pod(&self, spec: &PodSpec) -> Result<Pod, EngineError> {
        let pods: Api<k8s::Pod> = self.api();
        let secret = match self.pull.as_ref().filter(|_| spec.staged) {
            Some(pull) => Some(pull.prepare(&self.api(), spec).await?),
            None => None,
        };
        let pod = spec::pod(spec, self.options.pull_secret.as_deref(), secret.as_deref());
        let params = PostParams::default();
        let made = once(|| pods.create(&params, &pod)).await;
        if let (Some(secret), Err(error)) = (&secret, &made) {
            let refused = matches!(error, kube::Error::Api(status) if status.code < 500);
            if refused || !self.may_fetch_with(&spec.name, secret).await {
                pull::forget(&self.api(), secret).await;
            }
        }
        made.map(observed::pod).map_err(|error| create_error(&spec.name, error))
    }

    async fn wait_for_pod(&self, id: &ObjectId, goal: PodGoal) -> Result<Pod, EngineError> {
        segment(&id.name)?;
        watching::until(&self.api(), id, goal).await.map(observed::pod)
    }

    /// A grace of 0 is taken for 1: with 0 the API server forgets the pod at once, while it may still run and write.
    async fn delete_pod(&self, id: &ObjectId, grace: u32) -> Result<(), EngineError> {
        let deleted: Option<k8s::Pod> = self.delete(id, Some(grace.max(1))).await?;
        if let Some(secret) = deleted.as_ref().and_then(pull::secret_of) {
            pull::forget(&self.api(), secret).await;
        }
        watching::until_gone::<k8s::Pod>(&self.api(), id).await
    }

    async fn release_pod(&self, id: &ObjectId) -> Result<(), EngineError> {
        let pod = self.this_pod(id).await?;
        if observed::is_released(&pod) {
            return Ok(());
        }
        let pods = self.api();
        let argv = stage::release();
        let program = Program { pods: &pods, pod: id, container: stage::NAME, object: &id.name, argv: &argv };
        let ran = programs::run(&program, true, programs::WORDS).await;
        let error = match ran {
            Ok(output) if output.exit_code == 0 => return Ok(()),
            Ok(output) => {
                let message = format!(
                    "its server could not be let go: exit code {}: {}",
                    output.exit_code,
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                EngineError::Failed { object: id.name.clone(), message }
            }
            Err(error @ EngineError::NotFound { .. }) => return Err(error),
            Err(error) => error,
        };
        // The stage ends with it, so the connection may break off before an answer comes.
        if watching::until_released(&pods, id, RELEASE_SHOWS).await { Ok(()) } else { Err(error) }
    }

    async fn pod_log(&self, id: &ObjectId, lines: u32) -> Result<String, EngineError> {
        self.this_pod(id).await?;
        programs::log_tail(&self.api(), id, lines).await
    }

    async fn exec(
        &self,
        id: &ObjectId,
        argv: &[String],
        max_output: usize,
    ) -> Result<ExecOutput, EngineError> {
        segment(&id.name)?;
        programs::exec(&self.api(), id, argv, max_output).await
    }

    async fn put_files(
        &self,
        id: &ObjectId,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        files::check_paths(id, folder, &files)?;
        let pod = self.this_pod(id).await?;
        let secret = pull::secret_of(&pod).map(str::to_owned);
        let container = running_container(id, pod)?;
        let (Some(pull), Some(secret), stage::NAME) = (&self.pull, secret, container) else {
            return files::put(&self.api(), id, container, folder, files, moved).await;
        };
        let fetched = async move {
            for file in files {
                match &file.content {
                    Content::File(_, length) => {
                        let length = *length;
                        pull.fetch(&self.api(), id, folder, file).await?;
                        moved(length);
                    }
                    Content::Bytes(_) => {
                        // Too few bytes to be told of.
                        files::put(&self.api(), id, container, folder, vec![file], Box::new(|_| {})).await?;
                    }
                }
            }
            Ok(())
        };
        let fetched = fetched.await;
        // After any other error it may be asked for again, or is deleted.
        if matches!(fetched, Ok(()) | Err(EngineError::NotFound { .. })) {
            pull::forget(&self.api(), &secret).await;
        }
        fetched
    }

    async fn get_file(
        &self,
        id: &ObjectId,
        path: &str,
        sink: Box<dyn Write + Send>,
    ) -> Result<u64, EngineError> {
        let container = running_container(id, self.this_pod(id).await?)?;
        files::get(&self.api(), id, container, path, sink).await
    }

    async fn stat_file(&self, id: &ObjectId, path: &str) -> Result<Option<FileInfo>, EngineError> {
        let container = running_container(id, self.this_pod(id).await?)?;
        files::stat(&self.api(), id, container, path).await
    }

    async fn find_claim(&self, name: &str) -> Result<Option<Claim>, EngineError> {
        Ok(self.find(name).await?.map(observed::claim))
    }

    async fn create_claim(&self, spec: &ClaimSpec) -> Result<Claim, EngineError> {
        let claims: Api<k8s::PersistentVolumeClaim> = self.api();
        let claim = spec::claim(spec);
        let params = PostParams::default();
        let made = once(|| claims.create(&params, &claim)).await;
        made.map(observed::claim).map_err(|error| create_error(&spec.name, error))
    }

    /// A pod that takes the claim between the look and the deletion keeps it there until the pod is gone.
    async fn delete_claim(&self, id: &ObjectId) -> Result<(), EngineError> {
        if let Some(pod) = self.user_of(&id.name).await? {
            let message = format!("the pod {pod} uses it");
            return Err(EngineError::Conflict { object: id.name.clone(), message });
        }
        self.delete::<k8s::PersistentVolumeClaim>(id, None).await?;
        watching::until_gone::<k8s::PersistentVolumeClaim>(&self.api(), id).await
    }

    async fn list_leases(&self, labels: &[(&str, &str)]) -> Result<Vec<Lease>, EngineError> {
        records::list(&self.api(), &selector(labels)).await
    }

    async fn write_lease(&self, lease: &Lease) -> Result<(), EngineError> {
        segment(&lease.name)?;
        records::write(&self.api::<coordination::Lease>(), lease).await
    }

    async fn take_lease(&self, lease: &Lease, instead: Option<&Lease>) -> Result<Option<Lease>, EngineError> {
        segment(&lease.name)?;
        records::take(&self.api(), lease, instead).await
    }

    async fn delete_lease(&self, name: &str, renewed: SystemTime) -> Result<(), EngineError> {
        records::delete(&self.api(), segment(name)?, renewed).await
    }

    async fn shared_secret(&self, name: &str, key: &str, make: &[u8]) -> Result<Vec<u8>, EngineError> {
        records::shared_secret(&self.api(), segment(name)?, key, make).await
    }

    async fn now(&self) -> Result<SystemTime, EngineError> {
        records::now(&self.client).await
    }
}
