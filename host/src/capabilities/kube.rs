//! The `kube` interface: converts and hands on. What may be done is decided in `pods` and `claims`.

use std::time::Duration;

use wasmtime::component::Resource;

use super::docker::OUTPUT_BYTES;
use super::files::Outgoing;
use super::pods::{port_of, scheduling_of, to_wit_scheduling};
use super::{ClaimHandle, OperationState, Outcome, PodHandle, Purpose, within};
use crate::engine::ExecOutput;
use crate::engine::cluster::{PodGoal, PodPhase};
use crate::grants::Grants;
use crate::policy::bindings::fakecloud::elasticache::docker::{File, FileInfo};
use crate::policy::bindings::fakecloud::elasticache::kube as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::snapshot::Snapshot;

fn info_of(handle: &PodHandle, grants: &Grants) -> api::PodInfo {
    let pod = &handle.observed;
    api::PodInfo {
        name: pod.id.name.clone(),
        uid: pod.id.uid.clone(),
        image: pod.image.clone(),
        key: wit::CacheKey {
            scope: handle.provenance.key.scope().to_owned(),
            id: handle.provenance.key.id().to_owned(),
        },
        phase: match pod.phase {
            PodPhase::Pending => api::PodPhase::Pending,
            PodPhase::Running => api::PodPhase::Running,
            PodPhase::Succeeded => api::PodPhase::Succeeded,
            PodPhase::Failed => api::PodPhase::Failed,
            PodPhase::Unknown => api::PodPhase::Unknown,
        },
        terminating: pod.terminating,
        staging: pod.staging,
        address: pod.address.clone(),
        port: port_of(pod),
        operation: handle.provenance.operation.clone(),
        labels: pod
            .annotations
            .iter()
            .filter(|(name, _)| grants.has_label(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        scheduling: to_wit_scheduling(scheduling_of(pod)),
        message: pod.message.clone(),
    }
}

/// Bytes that a spec hands over.
fn size_of_spec(spec: &api::PodSpec) -> usize {
    let scheduling = &spec.scheduling;
    let pairs = spec.labels.iter().chain(&scheduling.annotations).chain(&scheduling.node_selector);
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let tolerations = scheduling
        .tolerations
        .iter()
        .map(|t| text(&t.key) + text(&t.operator) + text(&t.value) + text(&t.effect));
    spec.name.len()
        + spec.image.len()
        + spec.command.iter().map(String::len).sum::<usize>()
        + pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
        + tolerations.sum::<usize>()
}

impl OperationState {
    async fn waited(
        &mut self,
        handle: Resource<PodHandle>,
        goal: PodGoal,
        millis: u32,
    ) -> Outcome<api::PodInfo> {
        self.count()?;
        let limit = Duration::from_millis(millis.into());
        Ok(match self.wait_for_pod(&handle, goal, limit).await? {
            Ok(()) => Ok(info_of(self.table.get(&handle)?, &self.terms.grants)),
            Err(error) => Err(error),
        })
    }
}

impl api::HostPod for OperationState {
    async fn info(&mut self, handle: Resource<PodHandle>) -> wasmtime::Result<api::PodInfo> {
        self.count()?;
        Ok(info_of(self.table.get(&handle)?, &self.terms.grants))
    }

    async fn refresh(&mut self, handle: Resource<PodHandle>) -> Outcome<api::PodInfo> {
        self.count()?;
        Ok(match self.observe_pod(&handle).await? {
            Ok(_) => Ok(info_of(self.table.get(&handle)?, &self.terms.grants)),
            Err(error) => Err(error),
        })
    }

    async fn wait_staging(&mut self, handle: Resource<PodHandle>, millis: u32) -> Outcome<api::PodInfo> {
        self.waited(handle, PodGoal::Staging, millis).await
    }

    async fn release(&mut self, handle: Resource<PodHandle>) -> Outcome<()> {
        self.count()?;
        let target = self.pod_target(&handle)?;
        Ok(self
            .change_pod(&target, "releasing pod", Purpose::Work, within::CALL, |cluster, id| async move {
                cluster.release_pod(&id).await
            })
            .await)
    }

    async fn wait_running(&mut self, handle: Resource<PodHandle>, millis: u32) -> Outcome<api::PodInfo> {
        self.waited(handle, PodGoal::Running, millis).await
    }

    async fn delete(&mut self, handle: Resource<PodHandle>, grace: u32) -> Outcome<()> {
        self.count()?;
        let target = self.pod_target(&handle)?;
        let outcome = self.delete_pod(&target, grace).await;
        if outcome.is_ok() {
            self.table.get_mut(&handle)?.observed.terminating = true;
        }
        Ok(outcome)
    }

    async fn exec(
        &mut self,
        handle: Resource<PodHandle>,
        argv: Vec<String>,
    ) -> Outcome<Resource<ExecOutput>> {
        self.count_with(argv.iter().map(String::len).sum())?;
        let target = self.pod_target(&handle)?;
        if let Err(denial) = self.terms.grants.program(&argv) {
            return Ok(Err(denial.into()));
        }
        // Both streams are kept until the policy drops them or ends.
        let most = OUTPUT_BYTES.min(self.left() / 2);
        let outcome = self
            .change_pod(
                &target,
                "running a command in pod",
                Purpose::Work,
                within::OPERATION,
                |cluster, id| async move { cluster.exec(&id, &argv, most).await },
            )
            .await;
        if let Ok(output) = &outcome {
            self.take(output.stdout.len() + output.stderr.len())?;
        }
        self.hand_out(outcome)
    }

    async fn put(&mut self, handle: Resource<PodHandle>, folder: String, files: Vec<File>) -> Outcome<()> {
        let Outgoing { files, purpose, moved } = match self.outgoing(&folder, files)? {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok(Err(error)),
        };
        let target = self.pod_target(&handle)?;
        Ok(self
            .change_pod(
                &target,
                "writing files into pod",
                purpose,
                within::OPERATION,
                |cluster, id| async move { cluster.put_files(&id, &folder, files, moved).await },
            )
            .await)
    }

    async fn get(&mut self, handle: Resource<PodHandle>, path: String) -> Outcome<Resource<Snapshot>> {
        self.count_with(path.len())?;
        let target = self.pod_target(&handle)?;
        let outcome = self.receive_from_pod(&target, path).await;
        self.hand_out(outcome)
    }

    async fn read(&mut self, handle: Resource<PodHandle>, path: String) -> Outcome<Vec<u8>> {
        self.count_with(path.len())?;
        let target = self.pod_target(&handle)?;
        Ok(self.read_small_of_pod(&target, path).await)
    }

    async fn stat(&mut self, handle: Resource<PodHandle>, path: String) -> Outcome<Option<FileInfo>> {
        self.count_with(path.len())?;
        let target = self.pod_target(&handle)?;
        let found = self
            .change_pod(&target, "looking into pod", Purpose::Work, within::CALL, |cluster, id| async move {
                cluster.stat_file(&id, &path).await
            })
            .await;
        Ok(found.map(|found| found.map(|f| FileInfo { size: f.size, directory: f.directory })))
    }

    async fn drop(&mut self, handle: Resource<PodHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl api::HostClaim for OperationState {
    async fn info(&mut self, handle: Resource<ClaimHandle>) -> wasmtime::Result<api::ClaimInfo> {
        self.count()?;
        let claim = self.table.get(&handle)?;
        Ok(api::ClaimInfo {
            name: claim.id.name.clone(),
            operation: claim.operation.clone(),
            capacity: claim.capacity,
        })
    }

    async fn delete(&mut self, handle: Resource<ClaimHandle>) -> Outcome<()> {
        self.count()?;
        let claim = self.table.get(&handle)?.clone();
        Ok(self.delete_claim(claim).await)
    }

    async fn drop(&mut self, handle: Resource<ClaimHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl api::Host for OperationState {
    async fn find(&mut self, name: String) -> Outcome<Option<Resource<PodHandle>>> {
        self.count_with(name.len())?;
        let found = self.look_for_pod(name).await;
        self.hand_out_maybe(found)
    }

    async fn create(&mut self, spec: api::PodSpec, data: api::Data) -> Outcome<Resource<PodHandle>> {
        self.count_with(size_of_spec(&spec))?;
        let claim = match data {
            api::Data::EmptyDir => None,
            api::Data::Claim(claim) => Some(self.table.get(&claim)?.clone()),
        };
        let made = self.create_pod(spec, claim).await;
        self.hand_out(made)
    }

    async fn pods(&mut self) -> Outcome<Vec<Resource<PodHandle>>> {
        self.count()?;
        let found = self.own_pods().await;
        self.hand_out_all(found)
    }

    async fn stale(&mut self) -> Outcome<Vec<Resource<PodHandle>>> {
        self.count()?;
        let found = self.stale_pods().await;
        self.hand_out_all(found)
    }

    async fn find_claim(&mut self, name: String) -> Outcome<Option<Resource<ClaimHandle>>> {
        self.count_with(name.len())?;
        let found = self.look_for_claim(name).await;
        self.hand_out_maybe(found)
    }

    async fn create_claim(&mut self, name: String) -> Outcome<Resource<ClaimHandle>> {
        self.count_with(name.len())?;
        let made = self.make_claim(name).await;
        self.hand_out(made)
    }

    async fn scheduling_for(&mut self, tags: Vec<(String, String)>) -> wasmtime::Result<api::Scheduling> {
        self.count_with(tags.iter().map(|(name, value)| name.len() + value.len()).sum())?;
        let Ok(environment) = self.kube() else {
            return Ok(to_wit_scheduling(crate::scheduling::Scheduling::default()));
        };
        let (scheduling, warnings) = environment.scheduling.with_tags(&tags.into_iter().collect());
        for warning in warnings {
            tracing::warn!(operation = self.id, "{warning}");
        }
        Ok(to_wit_scheduling(scheduling))
    }
}
