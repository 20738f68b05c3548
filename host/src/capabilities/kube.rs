//! The `kube` interface, linked so that a component that imports it loads. This host supplies no Kubernetes:
//! no handle is ever made, and every call says so, to a policy that is granted the interface. To others it is denied.

use wasmtime::component::Resource;

use super::{ClaimHandle, OperationState, Outcome, PodHandle};
use crate::engine::ExecOutput;
use crate::grants::Capability;
use crate::policy::bindings::fakecloud::elasticache::kube as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::snapshot::Snapshot;

pub(super) fn not_supplied() -> wit::Error {
    wit::Error::Unavailable("this host does not supply Kubernetes; use the docker interface".to_owned())
}

impl OperationState {
    fn no_kube<T>(&mut self) -> Outcome<T> {
        self.count()?;
        Ok(Err(match self.terms.grants.capability(Capability::Kube) {
            Ok(()) => not_supplied(),
            Err(denial) => denial.into(),
        }))
    }
}

impl api::Host for OperationState {
    async fn find(&mut self, _: String) -> Outcome<Option<Resource<PodHandle>>> {
        self.no_kube()
    }

    async fn create(&mut self, _: api::PodSpec, _: api::Data) -> Outcome<Resource<PodHandle>> {
        self.no_kube()
    }

    async fn pods(&mut self) -> Outcome<Vec<Resource<PodHandle>>> {
        self.no_kube()
    }

    async fn stale(&mut self) -> Outcome<Vec<Resource<PodHandle>>> {
        self.no_kube()
    }

    async fn find_claim(&mut self, _: String) -> Outcome<Option<Resource<ClaimHandle>>> {
        self.no_kube()
    }

    async fn create_claim(&mut self, _: String, _: u64) -> Outcome<Resource<ClaimHandle>> {
        self.no_kube()
    }
}

impl api::HostPod for OperationState {
    async fn info(&mut self, handle: Resource<PodHandle>) -> wasmtime::Result<api::PodInfo> {
        match *self.table.get(&handle)? {}
    }

    async fn refresh(&mut self, _: Resource<PodHandle>) -> Outcome<api::PodInfo> {
        self.no_kube()
    }

    async fn wait_running(&mut self, _: Resource<PodHandle>, _: u32) -> Outcome<api::PodInfo> {
        self.no_kube()
    }

    async fn delete(&mut self, _: Resource<PodHandle>, _: u32) -> Outcome<()> {
        self.no_kube()
    }

    async fn exec(&mut self, _: Resource<PodHandle>, _: Vec<String>) -> Outcome<Resource<ExecOutput>> {
        self.no_kube()
    }

    async fn put(&mut self, _: Resource<PodHandle>, _: String, _: Resource<Snapshot>) -> Outcome<()> {
        self.no_kube()
    }

    async fn get(&mut self, _: Resource<PodHandle>, _: String) -> Outcome<Resource<Snapshot>> {
        self.no_kube()
    }

    async fn drop(&mut self, handle: Resource<PodHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl api::HostClaim for OperationState {
    async fn info(&mut self, handle: Resource<ClaimHandle>) -> wasmtime::Result<api::ClaimInfo> {
        match *self.table.get(&handle)? {}
    }

    async fn delete(&mut self, _: Resource<ClaimHandle>) -> Outcome<()> {
        self.no_kube()
    }

    async fn drop(&mut self, handle: Resource<ClaimHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
