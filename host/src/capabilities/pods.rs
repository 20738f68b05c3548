//! What an operation may do with pods, and how: every look and every change goes through here.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Resource;

use super::files::{FILE_BYTES, Small};
use super::{
    ClaimHandle, OperationState, Outcome, PodHandle, Purpose, denied, invalid, is_unanswered, to_wit, within,
};
use crate::engine::EngineError;
use crate::engine::cluster::{Cluster, ObjectId, Pod, PodData, PodPhase, PodSpec, Toleration};
use crate::environment::KubeEnvironment;
use crate::lease;
use crate::ownership::{ID, INSTANCE, Kind, PORT, VOLUME, label_value, selectors};
use crate::policy::bindings::fakecloud::elasticache::kube as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::progress::Progress;
use crate::scheduling::Scheduling;
use crate::scheduling::syntax::dns_label;
use crate::snapshot::Snapshot;
use crate::types::CacheKey;

/// Under this annotation a pod says how it was scheduled, so that the one that follows it can be alike.
const SCHEDULING: &str = "fakecloud-elasticache-scheduling";

/// What a handle points at.
pub(super) struct PodTarget {
    pub(super) id: ObjectId,
    instance: String,
}

/// The port that the server in a pod listens on.
pub(super) fn port_of(pod: &Pod) -> u16 {
    pod.annotations.get(PORT).and_then(|port| port.parse().ok()).unwrap_or_default()
}

/// How a pod was scheduled.
pub(super) fn scheduling_of(pod: &Pod) -> Scheduling {
    // Covered by the mark, so it is as this host wrote it.
    pod.annotations.get(SCHEDULING).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

impl OperationState {
    /// A pod as a handle, if it is this instance's and made for this operation's cache.
    pub(super) fn own_pod(&self, environment: &KubeEnvironment, observed: Pod) -> Option<PodHandle> {
        let provenance = environment.owner.provenance(Kind::Pod, &observed.id.name, &observed.annotations)?;
        let ours = provenance.instance == environment.owner.instance
            && self.key.as_ref().is_none_or(|key| *key == provenance.key);
        ours.then_some(PodHandle { observed, provenance })
    }

    pub(super) fn pod_target(&self, handle: &Resource<PodHandle>) -> wasmtime::Result<PodTarget> {
        let handle = self.table.get(handle)?;
        Ok(PodTarget { id: handle.observed.id.clone(), instance: handle.provenance.instance.clone() })
    }

    /// The pod of a name, if it is one that the operation may see.
    pub(super) async fn look_for_pod(&mut self, name: String) -> Result<Option<PodHandle>, wit::Error> {
        dns_label(&name).map_err(|reason| invalid("name", reason))?;
        let environment = self.kube()?;
        let look = async { environment.cluster.find_pod(&name).await.map_err(to_wit) };
        let found = self.bounded("looking for pod", &name, Purpose::Cleanup, within::CALL, look).await?;
        Ok(found.and_then(|observed| self.own_pod(&environment, observed)))
    }

    /// All that the operation may see.
    pub(super) async fn own_pods(&mut self) -> Result<Vec<PodHandle>, wit::Error> {
        let environment = self.kube()?;
        let mut wanted = selectors(None);
        wanted.insert(INSTANCE.to_owned(), label_value(&environment.owner.instance));
        let all = self.list_pods(&environment, &wanted, "pods").await?;
        Ok(all.into_iter().filter_map(|observed| self.own_pod(&environment, observed)).collect())
    }

    async fn list_pods(
        &mut self,
        environment: &KubeEnvironment,
        labels: &BTreeMap<String, String>,
        what: &str,
    ) -> Result<Vec<Pod>, wit::Error> {
        let wanted: Vec<(&str, &str)> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let look = async { environment.cluster.list_pods(&wanted).await.map_err(to_wit) };
        self.bounded("listing", what, Purpose::Work, within::CALL, look).await
    }

    /// Pods of owners whose Lease has ended, and who do not renew it although they could.
    ///
    /// While the API server is away nobody can, and once it is back all Leases may have ended: whoever looks first must
    /// not take the others for dead. Who lives renews its own within a known time. That is waited for only where somebody
    /// left a pod, and does not count towards the time that the operation has.
    pub(super) async fn stale_pods(&mut self) -> Result<Vec<PodHandle>, wit::Error> {
        self.may_reap("pods")?;
        let environment = self.kube()?;
        let ended = self.ended_leases(&environment).await?;
        let left = self.pods_of(&environment, &ended).await?;
        let lengths = left.iter().filter_map(|pod| ended.get(&pod.provenance.instance));
        let Some(longest) = lengths.max() else { return Ok(Vec::new()) };
        let pause = lease::renewed_within(*longest);
        let what = "owners whose leases have ended";
        environment.progress.report(Progress::Waiting { what: what.to_owned() });
        let wait = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.bounded("waiting for", what, Purpose::Apart, pause + within::CALL, wait).await?;
        let mut dead = self.ended_leases(&environment).await?;
        dead.retain(|instance, _| ended.contains_key(instance));
        // As they are now: what an engine may lose by its end is asked of those that run.
        self.pods_of(&environment, &dead).await
    }

    async fn ended_leases(
        &mut self,
        environment: &KubeEnvironment,
    ) -> Result<HashMap<String, Duration>, wit::Error> {
        let look = async { lease::ended(environment).await.map_err(to_wit) };
        self.bounded("listing", "leases that have ended", Purpose::Work, within::CALL, look).await
    }

    /// The pods of these instances, if they held a lease when they made them.
    async fn pods_of(
        &mut self,
        environment: &KubeEnvironment,
        instances: &HashMap<String, Duration>,
    ) -> Result<Vec<PodHandle>, wit::Error> {
        let all = self.list_pods(environment, &selectors(None), "pods of dead owners").await?;
        let theirs = |observed: Pod| {
            let made = environment.owner.provenance(Kind::Pod, &observed.id.name, &observed.annotations)?;
            let is_theirs = made.leased && instances.contains_key(&made.instance);
            is_theirs.then_some(PodHandle { observed, provenance: made })
        };
        Ok(all.into_iter().filter_map(theirs).collect())
    }

    /// Looks again at the pod behind a handle; never at another that took its name.
    pub(super) async fn observe_pod(&mut self, handle: &Resource<PodHandle>) -> Outcome<Pod> {
        let target = self.pod_target(handle)?;
        let environment = match self.kube() {
            Ok(environment) => environment,
            Err(error) => return Ok(Err(error)),
        };
        let name = target.id.name.clone();
        let look = async { environment.cluster.find_pod(&name).await.map_err(to_wit) };
        let found = self.bounded("looking at pod", &name, Purpose::Cleanup, within::CALL, look).await;
        Ok(match found {
            Ok(Some(observed)) if observed.id == target.id => {
                self.table.get_mut(handle)?.observed = observed.clone();
                Ok(observed)
            }
            Ok(_) => Err(wit::Error::NotFound(format!("pod {name} is gone"))),
            Err(error) => Err(error),
        })
    }

    /// One call on one pod, after the checks that every change goes through.
    pub(super) async fn change_pod<T, F>(
        &mut self,
        target: &PodTarget,
        what: &str,
        purpose: Purpose,
        limit: Duration,
        act: impl FnOnce(Arc<dyn Cluster>, ObjectId) -> F,
    ) -> Result<T, wit::Error>
    where
        F: Future<Output = Result<T, EngineError>> + Send,
    {
        let name = &target.id.name;
        self.may_change(&format!("pod {name}"), &target.instance).await?;
        let work = act(Arc::clone(&self.kube()?.cluster), target.id.clone());
        self.bounded(what, name, purpose, limit, async { work.await.map_err(to_wit) }).await
    }

    /// Waits for a pod, and keeps what was seen at the end.
    pub(super) async fn wait_for_pod(
        &mut self,
        handle: &Resource<PodHandle>,
        goal: crate::engine::cluster::PodGoal,
        limit: Duration,
    ) -> Outcome<()> {
        let target = self.pod_target(handle)?;
        let seen = self
            .change_pod(&target, "waiting for pod", Purpose::Work, limit, move |cluster, id| async move {
                cluster.wait_for_pod(&id, goal).await
            })
            .await;
        Ok(match seen {
            Ok(observed) => {
                self.table.get_mut(handle)?.observed = observed;
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    /// Deletes a pod and waits until it is gone.
    pub(super) async fn delete_pod(&mut self, target: &PodTarget, grace: u32) -> Result<(), wit::Error> {
        let limit = Duration::from_secs(u64::from(grace)) + within::START;
        let deleted = self
            .change_pod(target, "deleting pod", Purpose::Cleanup, limit, move |cluster, id| async move {
                match cluster.delete_pod(&id, grace).await {
                    Ok(()) => Ok(true),
                    Err(EngineError::NotFound { .. }) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        // One that was gone already may have been followed by another of its name, which is still to be accounted
        // for.
        if deleted {
            self.created.pods.retain(|name| *name != target.id.name);
        }
        Ok(())
    }

    /// Reads a small file out of a pod.
    pub(super) async fn read_small_of_pod(
        &mut self,
        target: &PodTarget,
        path: String,
    ) -> Result<Vec<u8>, wit::Error> {
        let small = Small::new(FILE_BYTES);
        let (sink, asked) = (small.sink(), path.clone());
        let read = self
            .change_pod(
                target,
                "reading a file out of pod",
                Purpose::Cleanup,
                within::CALL,
                |cluster, id| async move { cluster.get_file(&id, &asked, sink).await },
            )
            .await;
        small.taken(&path, read)
    }

    /// Reads a file out of a pod into a checked snapshot.
    pub(super) async fn receive_from_pod(
        &mut self,
        target: &PodTarget,
        path: String,
    ) -> Result<Snapshot, wit::Error> {
        let (receiving, sink) = self.incoming(self.kube()?.progress.clone())?;
        let what = format!("{path} of pod {}", target.id.name);
        self.change_pod(
            target,
            "reading a file out of pod",
            Purpose::Work,
            within::OPERATION,
            |cluster, id| async move { cluster.get_file(&id, &path, sink).await },
        )
        .await?;
        self.received(&what, receiving)
    }

    /// That nobody else runs an engine on the data of this cache: two on one folder destroy it, and a claim that is
    /// for one node may be mounted by many pods of that node.
    async fn sole_pod(&mut self, environment: &KubeEnvironment, key: &CacheKey) -> Result<(), wit::Error> {
        let mut wanted = selectors(None);
        wanted.insert(ID.to_owned(), label_value(key.id()));
        let users = self.list_pods(environment, &wanted, "pods of the cache").await?;
        let in_use = users.iter().find_map(|user| {
            // One that ended keeps the claim but writes no more.
            let ended = matches!(user.phase, PodPhase::Succeeded | PodPhase::Failed);
            let made = environment.owner.provenance(Kind::Pod, &user.id.name, &user.annotations)?;
            let uses_it = !ended && made.key == *key && user.annotations.contains_key(VOLUME);
            uses_it.then_some((&user.id.name, made.instance))
        });
        match in_use {
            Some((name, instance)) => Err(wit::Error::Conflict(format!(
                "{key} runs already, as pod {name} of instance {instance}; stop it there first"
            ))),
            None => Ok(()),
        }
    }

    pub(super) async fn create_pod(
        &mut self,
        spec: api::PodSpec,
        claim: Option<ClaimHandle>,
    ) -> Result<PodHandle, wit::Error> {
        dns_label(&spec.name).map_err(|reason| invalid("name", reason))?;
        let environment = self.kube()?;
        let key = self.may_create("pod", &spec.name)?;
        let grants = &self.terms.grants;
        grants.image(&spec.image)?;
        for (label, _) in &spec.labels {
            grants.label(label)?;
        }
        if let Some(claim) = &claim {
            grants.volume(&claim.id.name)?;
            self.sole_pod(&environment, &key).await?;
        }
        self.has_turn(&format!("pod {}", spec.name)).await?;
        let scheduling = from_wit(spec.scheduling);
        if let Some(own) = scheduling.annotations.keys().find(|name| name.starts_with("fakecloud-")) {
            return Err(denied(
                format!("setting the annotation {own:?}"),
                "no grant: annotations that begin with fakecloud- are the runtime's",
            ));
        }
        let kept = serde_json::to_string(&scheduling)
            .map_err(|error| wit::Error::Other(format!("the scheduling of pod {}: {error}", spec.name)))?;
        let volume = claim.as_ref().map(|claim| (VOLUME.to_owned(), claim.id.name.clone()));
        let given = spec
            .labels
            .into_iter()
            .chain(volume)
            .chain([(PORT.to_owned(), spec.port.to_string()), (SCHEDULING.to_owned(), kept)])
            .chain(scheduling.annotations);
        let annotations = environment.owner.labels(Kind::Pod, &spec.name, &key, &self.id, given);
        let native = PodSpec {
            name: spec.name,
            image: spec.image,
            args: spec.command,
            labels: selectors(Some((&environment.owner.instance, &key))),
            annotations,
            node_selector: scheduling.node_selector,
            tolerations: scheduling.tolerations,
            port: spec.port,
            stop_grace: spec.stop_grace,
            staged: spec.staged,
            data: claim.map_or(PodData::EmptyDir, |claim| PodData::Claim(claim.id.name)),
        };
        let work = async { environment.cluster.create_pod(&native).await.map_err(to_wit) };
        // Noted before it is known to be there: the reply may be lost.
        self.created.pods.push(native.name.clone());
        let made = self.bounded("creating pod", &native.name, Purpose::Work, within::CALL, work).await;
        if made.as_ref().is_err_and(|error| !is_unanswered(error)) {
            self.created.pods.pop();
        }
        let observed = made?;
        self.own_pod(&environment, observed)
            .ok_or_else(|| wit::Error::Other("a pod just created does not carry its mark".to_owned()))
    }
}

/// What the contract calls scheduling, in native types.
fn from_wit(scheduling: api::Scheduling) -> Scheduling {
    Scheduling {
        annotations: scheduling.annotations.into_iter().collect(),
        node_selector: scheduling.node_selector.into_iter().collect(),
        tolerations: scheduling
            .tolerations
            .into_iter()
            .map(|t| Toleration {
                key: t.key,
                operator: t.operator,
                value: t.value,
                effect: t.effect,
                toleration_seconds: t.seconds,
            })
            .collect(),
    }
}

/// The reverse.
pub(super) fn to_wit_scheduling(scheduling: Scheduling) -> api::Scheduling {
    api::Scheduling {
        annotations: scheduling.annotations.into_iter().collect(),
        node_selector: scheduling.node_selector.into_iter().collect(),
        tolerations: scheduling
            .tolerations
            .into_iter()
            .map(|t| api::Toleration {
                key: t.key,
                operator: t.operator,
                value: t.value,
                effect: t.effect,
                seconds: t.toleration_seconds,
            })
            .collect(),
    }
}
