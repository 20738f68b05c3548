//! The floor on Kubernetes: the same work by bare calls of the API, with a tight readiness loop.
//!
//! Written apart from the host and its supplier, so that neither's ways of doing things are in it. What it creates is
//! copied from a pod that ours made: the same spec, as many labels and annotations. It watches from the very version
//! that the API server answered with, so it never lists; and it asks the engine the same way as the host does.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use elasticache_host::engine::kube::{KubeOptions, Reach};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams, Portforwarder, PostParams};
use kube::api::{WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use crate::resp::{self, Redis, Reply};

/// The port of the engines.
const PORT: u16 = 6379;
/// An engine that does not answer by then never will.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Seconds between SIGTERM and SIGKILL where there is no claim, as the default policy has it.
const SHORT_GRACE: u32 = 2;
/// Bytes that wait on this side while a file comes.
const BUFFER: usize = 1 << 20;
/// From when on an address is taken for one that leads nowhere.
const CONNECT: Duration = Duration::from_secs(1);
/// The length of the snapshot on a line, then the snapshot.
const CAT: &str = "stat -c %s /data/dump.rdb && exec cat /data/dump.rdb";

/// A cluster, and the namespace in it.
pub(crate) struct Floor {
    client: Client,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    namespace: String,
    pub(crate) reach: Reach,
}

/// What to create: taken from a pod of ours.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pod: Pod,
    claim: Option<PersistentVolumeClaim>,
}

/// Where an engine is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// The pod's name.
    pub(crate) pod: String,
    /// Its IP address.
    pub(crate) address: String,
}

/// A forwarded port, which ends with this.
struct Forward(Portforwarder);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The client of a context of a kubeconfig, made as the host makes it.
async fn client(options: &KubeOptions) -> Result<Client> {
    let file = options.kubeconfig.as_ref().context("no kubeconfig was named")?;
    let chosen = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &chosen).await?;
    config.default_retry = false;
    if matches!(config.cluster_url.host(), Some("127.0.0.1" | "localhost" | "[::1]")) {
        config.proxy_url = None;
    }
    Ok(Client::try_from(config)?)
}

/// Makes the namespace of the bench.
pub(crate) async fn make_namespace(options: &KubeOptions) -> Result<()> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(options.namespace().to_owned());
    let namespaces = Api::all(client(options).await?);
    namespaces.create(&PostParams::default(), &namespace).await.context("making a namespace")?;
    Ok(())
}

/// Deletes it with all that is in it, which goes on after this.
pub(crate) async fn delete_namespace(options: &KubeOptions) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client(options).await?);
    match namespaces.delete(options.namespace(), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Floor {
    pub(crate) async fn new(options: &KubeOptions, reach: Reach) -> Result<Floor> {
        let client = client(options).await?;
        let namespace = options.namespace().to_owned();
        let pods = Api::namespaced(client.clone(), &namespace);
        let claims = Api::namespaced(client.clone(), &namespace);
        Ok(Floor { client, pods, claims, namespace, reach })
    }

    /// What the cluster is.
    pub(crate) async fn release(&self) -> Result<String> {
        Ok(self.client.apiserver_version().await?.git_version)
    }

    /// Pods that all nodes together have room for. A pod that ended takes none.
    pub(crate) async fn room(&self) -> Result<usize> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let most = nodes.list(&ListParams::default()).await?.into_iter().filter_map(|node| {
            node.status?.allocatable?.get("pods").and_then(|pods| pods.0.parse::<usize>().ok())
        });
        let pods: Api<Pod> = Api::all(self.client.clone());
        let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        Ok(most.sum::<usize>().saturating_sub(pods.list(&running).await?.items.len()))
    }

    /// Whether the pod's own address leads to it from here.
    pub(crate) async fn is_routed(&self, place: &Place) -> bool {
        let connected = tokio::time::timeout(CONNECT, Redis::at(&place.address, PORT)).await;
        matches!(connected, Ok(Ok(_)))
    }

    /// Reads off a pod how to make one like it.
    pub(crate) async fn template(&self, pod: &str) -> Result<Template> {
        let seen = self.pods.get(pod).await?;
        let mut spec = seen.spec.context("our pod has no spec")?;
        // The scheduler's part.
        spec.node_name = None;
        let mounted =
            spec.volumes.iter().flatten().find_map(|volume| volume.persistent_volume_claim.as_ref());
        let claim = match mounted {
            Some(mounted) => {
                let seen = self.claims.get(&mounted.claim_name).await?;
                let mut spec = seen.spec.context("our claim has no spec")?;
                spec.volume_name = None;
                Some(PersistentVolumeClaim {
                    metadata: nobodys(&seen.metadata),
                    spec: Some(spec),
                    status: None,
                })
            }
            None => None,
        };
        Ok(Template { pod: Pod { metadata: nobodys(&seen.metadata), spec: Some(spec), status: None }, claim })
    }

    /// The claim if there is to be one, the pod, and the first true PONG.
    pub(crate) async fn up(&self, template: &Template, name: &str) -> Result<Place> {
        if let Some(claim) = &template.claim {
            let mut claim = claim.clone();
            claim.metadata.name = Some(name.to_owned());
            self.claims.create(&PostParams::default(), &claim).await?;
        }
        self.start(template, name).await
    }

    /// On the claim that there is.
    async fn start(&self, template: &Template, name: &str) -> Result<Place> {
        let mut pod = template.pod.clone();
        pod.metadata.name = Some(name.to_owned());
        for volume in pod.spec.iter_mut().flat_map(|spec| spec.volumes.iter_mut().flatten()) {
            if let Some(claim) = &mut volume.persistent_volume_claim {
                name.clone_into(&mut claim.claim_name);
            }
        }
        let made = self.pods.create(&PostParams::default(), &pod).await?;
        let version = made.metadata.resource_version.context("a pod without a version")?;
        let address = self
            .watch(name, &version, |event| match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => Ok(runs_at(&pod)),
                WatchEvent::Deleted(_) => bail!("pod {name} is gone"),
                _ => Ok(None),
            })
            .await?;
        let place = Place { pod: name.to_owned(), address };
        self.ready(&place).await?;
        Ok(place)
    }

    /// Ends it, and makes another on the same claim.
    pub(crate) async fn reboot(&self, template: &Template, place: &Place) -> Result<Place> {
        self.stop(template, place).await?;
        self.start(template, &place.pod).await
    }

    /// Until the pod is gone; a claim stays.
    pub(crate) async fn stop(&self, template: &Template, place: &Place) -> Result<()> {
        let grace_period_seconds = template.claim.is_none().then_some(SHORT_GRACE);
        let params = DeleteParams { grace_period_seconds, ..DeleteParams::default() };
        // A pod that had not been scheduled would be gone with the answer.
        let Some(going) = self.pods.delete(&place.pod, &params).await?.left() else { return Ok(()) };
        let version = going.metadata.resource_version.context("a pod without a version")?;
        let gone = |event| Ok(matches!(event, WatchEvent::Deleted(_)).then_some(()));
        self.watch(&place.pod, &version, gone).await
    }

    pub(crate) async fn remove_data(&self, template: &Template, place: &Place) -> Result<()> {
        if template.claim.is_some() {
            self.claims.delete(&place.pod, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// Runs redis-cli; returns what it wrote to standard output.
    pub(crate) async fn exec(&self, place: &Place, args: &[&str]) -> Result<Vec<u8>> {
        let argv = ["redis-cli", "-e"].iter().chain(args).copied();
        let mut process = self.pods.exec(&place.pod, argv, &AttachParams::default().stderr(false)).await?;
        let mut written = Vec::new();
        process.stdout().context("no output came")?.read_to_end(&mut written).await?;
        succeeded(&mut process).await?;
        Ok(written)
    }

    /// SAVE, then the file out of the pod, whole, synced and renamed.
    pub(crate) async fn snapshot(&self, place: &Place, file: &Path) -> Result<()> {
        let saved = self.connect(place).await?.command(&[b"SAVE"]).await?;
        ensure!(saved == Reply::Line("OK".to_owned()), "SAVE was answered with {saved:?}");
        let params = AttachParams::default().stderr(false).max_stdout_buf_size(BUFFER);
        let mut process = self.pods.exec(&place.pod, ["sh", "-c", CAT], &params).await?;
        let temporary = file.with_extension("tmp");
        receive(process.stdout().context("no output came")?, &temporary).await?;
        succeeded(&mut process).await?;
        Ok(std::fs::rename(&temporary, file)?)
    }

    /// A connection to an engine, of ours or of the floor's.
    pub(crate) async fn connect(&self, place: &Place) -> Result<Redis> {
        match self.reach {
            Reach::Direct => Redis::at(&place.address, PORT).await,
            Reach::Forward => {
                let mut forward = Forward(self.pods.portforward(&place.pod, &[PORT]).await?);
                let stream = forward.0.take_stream(PORT).context("no stream came")?;
                Ok(Redis::over(stream, forward))
            }
        }
    }

    async fn ready(&self, place: &Place) -> Result<()> {
        let began = Instant::now();
        while !resp::answers(self.connect(place)).await {
            ensure!(
                began.elapsed() < READY_WITHIN,
                "pod {} did not answer within {READY_WITHIN:?}",
                place.pod
            );
        }
        Ok(())
    }

    /// From a version on, until that is found which is looked for.
    async fn watch<T>(
        &self,
        name: &str,
        version: &str,
        mut look: impl FnMut(WatchEvent<Pod>) -> Result<Option<T>>,
    ) -> Result<T> {
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let watching = async {
            let mut events = pin!(self.pods.watch(&params, version).await?);
            while let Some(event) = events.next().await {
                match event? {
                    WatchEvent::Error(status) => bail!("watching {name}: {}", status.message),
                    event => {
                        if let Some(found) = look(event)? {
                            return Ok(found);
                        }
                    }
                }
            }
            bail!("the watch of {name} in {} ended", self.namespace)
        };
        let watched = tokio::time::timeout(READY_WITHIN, watching).await;
        watched.with_context(|| format!("pod {name} did not come so far within {READY_WITHIN:?}"))?
    }
}

/// The address of a pod whose container runs.
fn runs_at(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let runs = |one: &k8s_openapi::api::core::v1::ContainerStatus| {
        one.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    status.container_statuses.iter().flatten().any(runs).then(|| status.pod_ip.clone()).flatten()
}

/// That a program ended well.
async fn succeeded(process: &mut AttachedProcess) -> Result<()> {
    let status: Option<Status> = match process.take_status() {
        Some(status) => status.await,
        None => None,
    };
    let status = status.context("the connection ended before the program did")?;
    ensure!(status.status.as_deref() == Some("Success"), "the program failed: {:?}", status.message);
    Ok(())
}

/// A length on a line, and so many bytes, into a file.
async fn receive(stream: impl AsyncRead + Unpin, file: &Path) -> Result<()> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let length: u64 = line.trim_end().parse().with_context(|| format!("{line:?} is no length"))?;
    let mut sink = std::fs::File::create(file).with_context(|| format!("writing {}", file.display()))?;
    let mut received = 0;
    loop {
        let piece = stream.fill_buf().await?;
        if piece.is_empty() {
            break;
        }
        sink.write_all(piece)?;
        let count = piece.len();
        received += count as u64;
        stream.consume(count);
    }
    ensure!(received == length, "{received} of {length} bytes came");
    Ok(sink.sync_all()?)
}

/// As many labels and annotations, as long, under names that nobody takes for ours.
fn nobodys(seen: &ObjectMeta) -> ObjectMeta {
    let renamed = |pairs: &Option<BTreeMap<String, String>>| {
        let ours = pairs.iter().flatten().filter(|(name, _)| name.starts_with("fakecloud-"));
        let renamed = ours.enumerate().map(|(at, (_, value))| (format!("bench-floor-{at}"), value.clone()));
        Some(renamed.collect())
    };
    ObjectMeta {
        labels: renamed(&seen.labels),
        annotations: renamed(&seen.annotations),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_nobody_s_and_what_the_cluster_added_is_left_out() {
        let pairs = |names: &[&str]| {
            Some(names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect::<BTreeMap<_, _>>())
        };
        let seen = ObjectMeta {
            name: Some("a".to_owned()),
            labels: pairs(&["fakecloud-managed-by", "fakecloud-instance"]),
            annotations: pairs(&["fakecloud-id", "pv.kubernetes.io/bind-completed"]),
            ..ObjectMeta::default()
        };
        let made = nobodys(&seen);
        assert_eq!(made.labels, pairs(&["bench-floor-0", "bench-floor-1"]));
        assert_eq!((made.annotations, made.name), (pairs(&["bench-floor-0"]), None));
    }

    #[tokio::test]
    async fn a_file_that_broke_off_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        receive(&b"5\nREDIS"[..], &file).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"REDIS");
        for broken in [&b"6\nREDIS"[..], b"4\nREDIS", b"", b"x\nREDIS"] {
            assert!(receive(broken, &file).await.is_err());
        }
    }
}
