//! Scenarios on Kubernetes, or on the simulated one.

mod namespace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use elasticache_host::engine::cluster::{Cluster, Pod, PodData, PodSpec};
use elasticache_host::probes::{Probes, Reply};
use elasticache_host::{Endpoint, Grants, RuntimeBuilder};
use parking_lot::Mutex;

use super::INSTANCE;
use crate::faults::{Tap, Tapped};
use crate::scopes;
use crate::sim::kube::{STORAGE_CLASS, SimKube};
use namespace::Namespace;

/// By which pods and claims of every runtime are found.
const MANAGED: (&str, &str) = ("fakecloud-managed-by", "fakecloud");
/// The annotation with the id of the cache.
const ID: &str = "fakecloud-elasticache";
/// The annotation with its scope.
const SCOPE: &str = "fakecloud-elasticache-scope";
/// Bytes of a claim.
const CLAIM: u64 = 1 << 30;

/// A namespace of a cluster with everything that scenarios need beside the host.
#[derive(Clone)]
pub(super) struct Pods {
    cluster: Arc<dyn Cluster>,
    probes: Arc<dyn Probes>,
    /// The same two as the host is given them.
    given: (Arc<dyn Cluster>, Arc<dyn Probes>),
    /// The class and the bytes of claims, if data lies on claims.
    storage: Option<(String, u64)>,
    hands: Hands,
    /// The caches whose pods ended with the container engine of their node, as scenarios name them.
    fallen: Arc<Mutex<BTreeSet<String>>>,
}

/// By which other hands than the host's get at what is there.
#[derive(Clone)]
enum Hands {
    Real(Arc<Namespace>),
    Sim(SimKube),
}

/// The cache of a pod that says this of itself, as scenarios name it.
fn cache_of(said: &BTreeMap<String, String>) -> Option<String> {
    Some(scopes::name(said.get(INSTANCE)?, said.get(SCOPE)?, said.get(ID)?))
}

impl Pods {
    pub(super) async fn new(kubeconfig: &Path, context: &str, storage_class: Option<&str>) -> Result<Self> {
        let (namespace, cluster) = Namespace::make(kubeconfig, context).await?;
        let probes = cluster.probes();
        let storage = storage_class.map(|class| (class.to_owned(), CLAIM));
        Ok(Self::of(Arc::new(cluster), probes, storage, Hands::Real(Arc::new(namespace))))
    }

    /// The simulated one, new and empty.
    pub(super) fn sim(claims: bool) -> Self {
        let sim = SimKube::new();
        let storage = claims.then(|| (STORAGE_CLASS.to_owned(), CLAIM));
        Self::of(Arc::new(sim.clone()), Arc::new(sim.clone()), storage, Hands::Sim(sim))
    }

    fn of(
        cluster: Arc<dyn Cluster>,
        probes: Arc<dyn Probes>,
        storage: Option<(String, u64)>,
        hands: Hands,
    ) -> Self {
        let given = (Arc::clone(&cluster), Arc::clone(&probes));
        Self { cluster, probes, given, storage, hands, fallen: Arc::default() }
    }

    /// The same, where the host's calls pass a tap; with what is somebody else's and looks like ours.
    pub(super) fn sim_behind(claims: bool, tap: &Tap) -> Result<Self> {
        let plain = Self::sim(claims);
        if let Hands::Sim(sim) = &plain.hands {
            sim.insert_foreign("bystander", &[MANAGED, (ID, "a"), (INSTANCE, "bystander")])?;
            let (node, fallen) = (sim.clone(), Arc::clone(&plain.fallen));
            tap.restarts_by(move || {
                let ended = node.node_restart();
                fallen.lock().extend(ended.iter().filter_map(cache_of));
            });
        }
        Ok(plain.behind(tap))
    }

    /// The same, where the host's calls pass a tap.
    pub(super) fn behind(&self, tap: &Tap) -> Self {
        let cluster = Arc::new(Tapped::new(Arc::clone(&self.cluster), tap.clone()));
        let probes = Arc::new(Tapped::new(Arc::clone(&self.probes), tap.clone()));
        Self { given: (cluster, probes), ..self.clone() }
    }

    /// A cache that is to be brought up again since its node was restarted.
    pub(super) fn fallen(&self) -> Option<String> {
        self.fallen.lock().first().cloned()
    }

    /// It was.
    pub(super) fn risen(&self, cache: &str) {
        self.fallen.lock().remove(cache);
    }

    pub(super) fn are_real(&self) -> bool {
        matches!(self.hands, Hands::Real(_))
    }

    pub(super) fn has_claims(&self) -> bool {
        self.storage.is_some()
    }

    pub(super) fn equip(&self, builder: RuntimeBuilder) -> Result<RuntimeBuilder> {
        let grants = Grants::standard_kube(self.cluster.namespace())?;
        let (cluster, probes) = &self.given;
        Ok(builder.cluster(Arc::clone(cluster), Arc::clone(probes), self.storage.clone()).grants(grants))
    }

    /// Every pod, claim and Lease, a line each that begins with its kind and name. Of Secrets there is one, which is to stay.
    pub(super) async fn everything(&self) -> Result<Vec<String>> {
        let Hands::Sim(sim) = &self.hands else { bail!("a cluster has more than can be listed") };
        let pods = self.cluster.list_pods(&[]).await?;
        let pods = pods
            .iter()
            .map(|pod| format!("pod {} {} {:?} {:?}", pod.id.name, pod.id.uid, pod.phase, pod.annotations));
        let claims = sim
            .claims()
            .into_iter()
            .map(|(id, annotations)| format!("claim {} {} {annotations:?}", id.name, id.uid));
        let leases = sim.leases().into_iter().map(|lease| format!("lease {lease:?}"));
        Ok(pods.chain(claims).chain(leases).collect())
    }

    pub(super) fn advance(&self, by: Duration) -> Result<()> {
        match &self.hands {
            Hands::Sim(sim) => sim.advance(by),
            Hands::Real(_) => bail!("a real cluster's clock cannot be moved"),
        }
        Ok(())
    }

    pub(super) async fn command(&self, endpoint: &Endpoint, args: &[String]) -> Result<Reply> {
        // A pod's address leads to it from the nodes; the probes that come with the cluster find it from anywhere.
        let all = self.cluster.list_pods(&[MANAGED]).await?;
        let pod =
            all.iter().find(|pod| pod.address.as_deref() == Some(&endpoint.address) && !pod.terminating);
        let pod = pod.with_context(|| format!("no pod has the address {}", endpoint.address))?;
        let at = self.cluster.probed_at(pod, endpoint.port).context("the pod cannot be reached")?;
        Ok(self.probes.command(&at, args, 1 << 20).await?)
    }

    async fn pod(&self, name: &str) -> Result<Pod> {
        self.cluster.find_pod(name).await?.with_context(|| format!("there is no pod {name}"))
    }

    /// SIGKILL to the engine in a pod, which nothing starts again.
    pub(super) async fn kill(&self, handle: &str) -> Result<()> {
        let pod = self.pod(handle).await?;
        match &self.hands {
            Hands::Real(_) => namespace::kill(self.cluster.as_ref(), &pod).await,
            Hands::Sim(sim) => Ok(sim.kill(&pod.id.name)?),
        }
    }

    pub(super) async fn fail_saves(&self, handle: &str) -> Result<()> {
        let pod = self.pod(handle).await?;
        if let Hands::Sim(sim) = &self.hands {
            return Ok(sim.fail_saves(&pod.id.name)?);
        }
        // A save ends by renaming a file to this name, which a folder there prevents.
        let script = "rm -f /data/dump.rdb; mkdir -p /data/dump.rdb/x";
        let done = self.cluster.exec(&pod.id, &["sh", "-c", script].map(str::to_owned), 4096).await?;
        if done.exit_code != 0 {
            bail!("{script:?} in {}: {}", pod.id.name, String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    pub(super) async fn remove(&self, handle: &str) -> Result<()> {
        let pod = self.pod(handle).await?;
        Ok(self.cluster.delete_pod(&pod.id, 30).await?)
    }

    pub(super) async fn look_alike(&self, handle: &str) -> Result<String> {
        let pod = self.pod(handle).await?;
        let name = format!("{}-look-alike", &handle[..handle.len().min(50)]);
        self.create(name, pod.image, pod.labels, pod.annotations).await
    }

    /// A pod of nobody's under the name of another one, which is removed. What it says of itself is for [`Self::clean`].
    pub(super) async fn usurp(&self, handle: &str) -> Result<String> {
        let mut pod = self.pod(handle).await?;
        self.remove(handle).await?;
        pod.labels.retain(|label, _| label == MANAGED.0);
        pod.annotations.retain(|annotation, _| annotation == INSTANCE);
        self.create(pod.id.name, pod.image, pod.labels, pod.annotations).await
    }

    async fn create(
        &self,
        name: String,
        image: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    ) -> Result<String> {
        let spec = PodSpec {
            name,
            image,
            args: Vec::new(),
            labels,
            annotations,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            port: 6379,
            stop_grace: 1,
            staged: false,
            data: PodData::EmptyDir,
        };
        Ok(self.cluster.create_pod(&spec).await?.id.uid)
    }

    /// Whether it is there, and nobody has it ended.
    pub(super) async fn is_untouched(&self, uid: &str) -> Result<bool> {
        let pods = self.cluster.list_pods(&[MANAGED]).await?;
        Ok(pods.iter().any(|pod| pod.id.uid == uid && !pod.terminating))
    }

    /// Pods of an instance, look-alikes included.
    async fn pods_of(&self, instance: &str) -> Result<Vec<Pod>> {
        let mut pods = self.cluster.list_pods(&[MANAGED]).await?;
        pods.retain(|pod| pod.annotations.get(INSTANCE).is_some_and(|of| of == instance));
        Ok(pods)
    }

    async fn claims_of(&self, instance: &str) -> Result<Vec<String>> {
        let all = match &self.hands {
            Hands::Real(namespace) => namespace.claims(&[MANAGED]).await?,
            Hands::Sim(sim) => sim.claims().into_iter().map(|(id, said)| (id.name, said)).collect(),
        };
        let own = all.into_iter().filter(|(_, said)| said.get(INSTANCE).is_some_and(|of| of == instance));
        Ok(own.map(|(name, _)| name).collect())
    }

    pub(super) async fn count(&self, instance: &str) -> Result<(usize, usize)> {
        let pods = self.pods_of(instance).await?;
        let own = pods
            .iter()
            .filter(|pod| pod.annotations.contains_key(ID) && !pod.id.name.ends_with("-look-alike"));
        Ok((own.count(), self.claims_of(instance).await?.len()))
    }

    pub(super) async fn clean(&self, instance: &str) -> Result<()> {
        let mut outcome = Ok(());
        for pod in self.pods_of(instance).await? {
            outcome = outcome.and(self.cluster.delete_pod(&pod.id, 0).await.map_err(anyhow::Error::from));
        }
        for claim in self.claims_of(instance).await? {
            outcome = outcome.and(match self.cluster.find_claim(&claim).await? {
                Some(claim) => self.cluster.delete_claim(&claim.id).await.map_err(anyhow::Error::from),
                None => Ok(()),
            });
        }
        outcome
    }
}
