//! A real cluster's namespace, made for a run, and what the host's own supplier cannot do there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use elasticache_host::engine::cluster::{Cluster, Pod, PodGoal};
use elasticache_host::engine::kube::{Kube, KubeOptions};
use k8s_openapi::api::core::v1 as k8s;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// For an engine to end that was killed.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Deleted when it is dropped.
pub(super) struct Namespace {
    name: String,
    config: Config,
    claims: Api<k8s::PersistentVolumeClaim>,
}

impl Namespace {
    /// A new one, and the host's supplier in it.
    pub(super) async fn make(kubeconfig: &Path, context: &str) -> Result<(Self, Kube)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("conformance-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let chosen = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &chosen).await?;
        let client = Client::try_from(config.clone())?;
        let mut object = k8s::Namespace::default();
        object.metadata.name = Some(name.clone());
        let made = Api::all(client.clone()).create(&PostParams::default(), &object).await;
        made.context("making a namespace")?;
        let claims = Api::namespaced(client, &name);
        let this = Self { name, config, claims };
        let mut options = KubeOptions::default();
        options.kubeconfig = Some(kubeconfig.to_owned());
        options.context = Some(context.to_owned());
        options.namespace = Some(this.name.clone());
        Ok((this, Kube::connect(options).await?))
    }

    /// Names and annotations of the claims with these labels.
    pub(super) async fn claims(
        &self,
        labels: &[(&str, &str)],
    ) -> Result<Vec<(String, BTreeMap<String, String>)>> {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let all = self.claims.list(&ListParams::default().labels(&labels.join(","))).await?;
        let one = |claim: k8s::PersistentVolumeClaim| {
            (claim.metadata.name.unwrap_or_default(), claim.metadata.annotations.unwrap_or_default())
        };
        Ok(all.into_iter().map(one).collect())
    }
}

/// No signal from inside kills the first process of a container, so it is killed from its node: a process of this
/// machine, as where the cluster is xtask's, kind, k3d or minikube on Docker.
pub(super) async fn kill(cluster: &dyn Cluster, pod: &Pod) -> Result<()> {
    let process = first_process(&pod.id.uid).with_context(|| {
        format!("no process here is that of pod {}: it takes root, and a node here", pod.id.name)
    })?;
    let done = Command::new("kill").args(["-KILL", &process]).status().context("running kill")?;
    if !done.success() {
        bail!("kill -KILL {process}: {done}");
    }
    let ended = cluster.wait_for_pod(&pod.id, PodGoal::Ended);
    tokio::time::timeout(ENDS_WITHIN, ended).await.context("the engine did not end")??;
    Ok(())
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

impl Drop for Namespace {
    fn drop(&mut self) {
        let (config, name) = (self.config.clone(), self.name.clone());
        // A runtime of its own: the caller's may be on its way out.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let namespaces: Api<k8s::Namespace> = Api::all(Client::try_from(config)?);
                namespaces.delete(&name, &DeleteParams::default()).await.map(drop)?;
                anyhow::Ok(())
            })
        });
        if !matches!(cleaning.join(), Ok(Ok(()))) {
            tracing::warn!("a namespace of the tests was left");
        }
    }
}
