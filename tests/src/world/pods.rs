//! Scenarios on Kubernetes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use elasticache_host::engine::cluster::{Cluster, Pod, PodData, PodGoal, PodSpec};
use elasticache_host::engine::kube::{Kube, KubeOptions};
use elasticache_host::probes::{Probes, Reply};
use elasticache_host::{Backend, Endpoint, Grants, RuntimeBuilder};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::INSTANCE;

/// For an engine to end that was killed.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// By which pods and claims of every runtime are found.
const MANAGED: (&str, &str) = ("fakecloud-managed-by", "fakecloud");

/// A namespace of a cluster with everything that scenarios need beside the host.
pub(super) struct Pods {
    cluster: Kube,
    probes: Arc<dyn Probes>,
    claims: Api<PersistentVolumeClaim>,
    options: KubeOptions,
    config: Config,
}

impl Pods {
    pub(super) async fn new(kubeconfig: &Path, context: &str, storage_class: Option<&str>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace =
            format!("conformance-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let chosen = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &chosen).await?;
        let client = Client::try_from(config.clone())?;
        let mut object = Namespace::default();
        object.metadata.name = Some(namespace.clone());
        Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .context("making a namespace")?;
        let mut options = KubeOptions::default();
        options.kubeconfig = Some(kubeconfig.to_owned());
        options.context = Some(context.to_owned());
        options.namespace = Some(namespace.clone());
        options.storage_class = storage_class.map(str::to_owned);
        let cluster = Kube::connect(options.clone()).await?;
        let probes = cluster.probes();
        Ok(Self { cluster, probes, claims: Api::namespaced(client, &namespace), options, config })
    }

    pub(super) fn equip(&self, builder: RuntimeBuilder) -> Result<RuntimeBuilder> {
        let grants = Grants::standard_kube(self.options.namespace())?;
        Ok(builder.backend(Backend::Kube).kube(self.options.clone()).grants(grants))
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

    async fn shell(&self, pod: &Pod, script: &str) -> Result<()> {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let done = self.cluster.exec(&pod.id, &argv, 4096).await?;
        if done.exit_code != 0 {
            bail!("{script:?} in {}: {}", pod.id.name, String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// No signal from inside kills the first process of a container, so it is killed from its node: a process of this
    /// machine, as where the cluster is xtask's, kind, k3d or minikube on Docker.
    pub(super) async fn kill(&self, handle: &str) -> Result<()> {
        let pod = self.pod(handle).await?;
        let process = first_process(&pod.id.uid).with_context(|| {
            format!("no process here is that of pod {handle}: it takes root, and a node here")
        })?;
        let done = Command::new("kill").args(["-KILL", &process]).status().context("running kill")?;
        if !done.success() {
            bail!("kill -KILL {process}: {done}");
        }
        let ended = self.cluster.wait_for_pod(&pod.id, PodGoal::Ended);
        tokio::time::timeout(ENDS_WITHIN, ended).await.context("the engine did not end")??;
        Ok(())
    }

    pub(super) async fn fail_saves(&self, handle: &str) -> Result<()> {
        // A save ends by renaming a file to this name, which a folder there prevents.
        let pod = self.pod(handle).await?;
        self.shell(&pod, "rm -f /data/dump.rdb; mkdir -p /data/dump.rdb/x").await
    }

    pub(super) async fn remove(&self, handle: &str) -> Result<()> {
        let pod = self.pod(handle).await?;
        Ok(self.cluster.delete_pod(&pod.id, 30).await?)
    }

    pub(super) async fn look_alike(&self, handle: &str) -> Result<String> {
        let pod = self.pod(handle).await?;
        let spec = PodSpec {
            name: format!("{}-look-alike", &handle[..handle.len().min(50)]),
            image: pod.image,
            args: Vec::new(),
            labels: pod.labels,
            annotations: pod.annotations,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            port: 6379,
            stop_grace: 1,
            staged: false,
            data: PodData::EmptyDir,
        };
        Ok(self.cluster.create_pod(&spec).await?.id.name)
    }

    pub(super) async fn is_untouched(&self, look_alike: &str) -> Result<bool> {
        Ok(self.cluster.find_pod(look_alike).await?.is_some_and(|pod| !pod.terminating))
    }

    /// Pods of an instance, look-alikes included.
    async fn pods_of(&self, instance: &str) -> Result<Vec<Pod>> {
        let mut pods = self.cluster.list_pods(&[MANAGED]).await?;
        pods.retain(|pod| pod.annotations.get(INSTANCE).is_some_and(|of| of == instance));
        Ok(pods)
    }

    async fn claims_of(&self, instance: &str) -> Result<Vec<String>> {
        let wanted = ListParams::default().labels(&format!("{}={}", MANAGED.0, MANAGED.1));
        let of = |claim: &PersistentVolumeClaim| claim.metadata.annotations.as_ref()?.get(INSTANCE).cloned();
        let all = self.claims.list(&wanted).await?;
        let own = all.into_iter().filter(|claim| of(claim).as_deref() == Some(instance));
        Ok(own.filter_map(|claim| claim.metadata.name).collect())
    }

    pub(super) async fn count(&self, instance: &str) -> Result<(usize, usize)> {
        let pods = self.pods_of(instance).await?;
        let own = pods.iter().filter(|pod| !pod.id.name.ends_with("-look-alike"));
        Ok((own.count(), self.claims_of(instance).await?.len()))
    }

    pub(super) async fn clean(&self, instance: &str) -> Result<()> {
        let mut outcome = Ok(());
        for pod in self.pods_of(instance).await? {
            outcome = outcome.and(self.cluster.delete_pod(&pod.id, 0).await.map_err(anyhow::Error::from));
        }
        for claim in self.claims_of(instance).await? {
            let deleted = self.claims.delete(&claim, &DeleteParams::default()).await;
            outcome = outcome.and(deleted.map(drop).map_err(anyhow::Error::from));
        }
        outcome
    }
}

/// The process of this machine that is the first one in a pod's server container: the pod's cgroup has its uid in its
/// name, which systemd writes with underscores.
fn first_process(uid: &str) -> Option<String> {
    let other = uid.replace('-', "_");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).ok();
        let groups = read("cgroup")?;
        let is_its = groups.contains(uid) || groups.contains(&other);
        let first = read("status")?.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
        // The container that holds the pod's network has a first process, too.
        let holds = read("comm")?.trim() == "pause";
        (is_its && first && !holds).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

impl Drop for Pods {
    fn drop(&mut self) {
        let (config, namespace) = (self.config.clone(), self.options.namespace().to_owned());
        // A runtime of its own: the caller's may be on its way out.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let namespaces: Api<Namespace> = Api::all(Client::try_from(config)?);
                namespaces.delete(&namespace, &DeleteParams::default()).await.map(drop)?;
                anyhow::Ok(())
            })
        });
        if !matches!(cleaning.join(), Ok(Ok(()))) {
            tracing::warn!("a namespace of the tests was left");
        }
    }
}
