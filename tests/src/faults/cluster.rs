//! A cluster behind a tap.

use std::io::Write;
use std::time::SystemTime;

use async_trait::async_trait;
use elasticache_host::Endpoint;
use elasticache_host::engine::cluster::{Claim, ClaimSpec, Cluster, Lease, ObjectId, Pod, PodGoal, PodSpec};
use elasticache_host::engine::{EngineError, ExecOutput, FileInfo, NewFile};

use super::engine::{change, labelled, look};
use super::{Call, Nature, Tapped};

#[async_trait]
impl<S: Cluster + ?Sized> Cluster for Tapped<S> {
    fn namespace(&self) -> &str {
        self.inner.namespace()
    }

    fn probed_at(&self, pod: &Pod, port: u16) -> Option<Endpoint> {
        self.inner.probed_at(pod, port)
    }

    async fn list_pods(&self, labels: &[(&str, &str)]) -> Result<Vec<Pod>, EngineError> {
        look!(self, "list_pods", &labelled(labels), "", list_pods(labels))
    }

    async fn find_pod(&self, name: &str) -> Result<Option<Pod>, EngineError> {
        look!(self, "find_pod", name, "", find_pod(name))
    }

    async fn create_pod(&self, spec: &PodSpec) -> Result<Pod, EngineError> {
        change!(self, "create_pod", &spec.name, create_pod(spec))
    }

    async fn wait_for_pod(&self, id: &ObjectId, goal: PodGoal) -> Result<Pod, EngineError> {
        look!(self, "wait_for_pod", &id.name, format!("{} {goal:?}", id.uid), wait_for_pod(id, goal))
    }

    async fn delete_pod(&self, id: &ObjectId, grace: u32) -> Result<(), EngineError> {
        change!(self, "delete_pod", &id.name, delete_pod(id, grace))
    }

    async fn release_pod(&self, id: &ObjectId) -> Result<(), EngineError> {
        change!(self, "release_pod", &id.name, release_pod(id))
    }

    async fn pod_log(&self, id: &ObjectId, lines: u32) -> Result<String, EngineError> {
        look!(self, "pod_log", &id.name, format!("{} {lines}", id.uid), pod_log(id, lines))
    }

    async fn exec(
        &self,
        id: &ObjectId,
        argv: &[String],
        max_output: usize,
    ) -> Result<ExecOutput, EngineError> {
        change!(self, "exec", &id.name, exec(id, argv, max_output))
    }

    async fn put_files(
        &self,
        id: &ObjectId,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        let call = Call::new(Nature::Stream, "put_files", &id.name, folder);
        self.tap.pass(call, self.inner.put_files(id, folder, files, moved), None).await
    }

    async fn get_file(
        &self,
        id: &ObjectId,
        path: &str,
        sink: Box<dyn Write + Send>,
    ) -> Result<u64, EngineError> {
        let call = Call::new(Nature::Stream, "get_file", &id.name, path);
        self.tap.pass(call, self.inner.get_file(id, path, sink), None).await
    }

    async fn stat_file(&self, id: &ObjectId, path: &str) -> Result<Option<FileInfo>, EngineError> {
        look!(self, "stat_file", &id.name, format!("{} {path}", id.uid), stat_file(id, path))
    }

    async fn find_claim(&self, name: &str) -> Result<Option<Claim>, EngineError> {
        look!(self, "find_claim", name, "", find_claim(name))
    }

    async fn create_claim(&self, spec: &ClaimSpec) -> Result<Claim, EngineError> {
        change!(self, "create_claim", &spec.name, create_claim(spec))
    }

    async fn delete_claim(&self, id: &ObjectId) -> Result<(), EngineError> {
        change!(self, "delete_claim", &id.name, delete_claim(id))
    }

    async fn list_leases(&self, labels: &[(&str, &str)]) -> Result<Vec<Lease>, EngineError> {
        look!(self, "list_leases", &labelled(labels), "", list_leases(labels))
    }

    async fn write_lease(&self, lease: &Lease) -> Result<(), EngineError> {
        change!(self, "write_lease", &lease.name, write_lease(lease))
    }

    async fn take_lease(&self, lease: &Lease, instead: Option<&Lease>) -> Result<Option<Lease>, EngineError> {
        change!(self, "take_lease", &lease.name, take_lease(lease, instead))
    }

    async fn delete_lease(&self, name: &str, renewed: SystemTime) -> Result<(), EngineError> {
        change!(self, "delete_lease", name, delete_lease(name, renewed))
    }

    async fn shared_secret(&self, name: &str, key: &str, make: &[u8]) -> Result<Vec<u8>, EngineError> {
        change!(self, "shared_secret", name, shared_secret(name, key, make))
    }

    async fn now(&self) -> Result<SystemTime, EngineError> {
        look!(self, "now", "the clock", "", now())
    }
}
