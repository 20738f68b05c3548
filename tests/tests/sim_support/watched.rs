//! The simulated Docker with something in between: calls are counted, and one of them can be made special.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use conformance::sim::docker::{Call, SimDocker};
use elasticache_host::Endpoint;
use elasticache_host::engine::{
    Container, ContainerEngine, ContainerSpec, EngineError, ExecOutput, FileInfo, NewFile, Volume,
};
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};
use elasticache_host::progress::SharedProgress;
use tokio::sync::{Barrier, Semaphore};

/// What becomes of calls.
pub enum Plan {
    /// The call of this number, from 0 on, never returns, its effect done.
    Hang { at: usize },
    /// The next call of this kind waits before its effect.
    Gate { call: Call, reached: Semaphore, open: Semaphore },
    /// Calls of this kind wait until as many of them are under way as the barrier says.
    Meet { call: Call, barrier: Barrier },
}

impl Plan {
    pub fn gate(call: Call) -> Arc<Self> {
        Arc::new(Plan::Gate { call, reached: Semaphore::new(0), open: Semaphore::new(0) })
    }

    pub fn meet(call: Call, count: usize) -> Arc<Self> {
        Arc::new(Plan::Meet { call, barrier: Barrier::new(count) })
    }

    /// Returns once a call waits at the gate.
    pub async fn reached(&self) {
        let Plan::Gate { reached, .. } = self else { panic!("this is no gate") };
        reached.acquire().await.unwrap().forget();
    }

    /// Lets the call go on.
    pub fn open(&self) {
        let Plan::Gate { open, .. } = self else { panic!("this is no gate") };
        open.add_permits(1);
    }
}

/// Clones are the same engine under the same plan.
#[derive(Clone)]
pub struct Watched {
    inner: SimDocker,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Option<Arc<Plan>>>,
    count: AtomicUsize,
}

pub fn unavailable() -> EngineError {
    EngineError::Unavailable { object: "it".to_owned(), message: "hung up".to_owned() }
}

impl Watched {
    pub fn new(inner: SimDocker) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// Counts from 0 again, under this plan.
    pub fn follow(&self, plan: impl Into<Arc<Plan>>) {
        self.shared.count.store(0, Ordering::SeqCst);
        *self.shared.plan.lock().unwrap() = Some(plan.into());
    }

    /// Counts from 0 again; nothing is special any more.
    pub fn unwatch(&self) {
        self.shared.count.store(0, Ordering::SeqCst);
        *self.shared.plan.lock().unwrap() = None;
    }

    /// Calls since the last change of plan.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    async fn pass<T>(&self, call: Call, work: impl Future<Output = T>) -> T {
        let number = self.shared.count.fetch_add(1, Ordering::SeqCst);
        let plan = self.shared.plan.lock().unwrap().clone();
        match plan.as_deref() {
            Some(Plan::Gate { call: wanted, reached, open }) if *wanted == call => {
                // Only the first: who comes later finds no plan.
                *self.shared.plan.lock().unwrap() = None;
                reached.add_permits(1);
                open.acquire().await.unwrap().forget();
            }
            Some(Plan::Meet { call: wanted, barrier }) if *wanted == call => {
                barrier.wait().await;
            }
            _ => {}
        }
        let outcome = work.await;
        if let Some(Plan::Hang { at }) = plan.as_deref()
            && *at == number
        {
            std::future::pending().await
        }
        outcome
    }
}

#[async_trait]
impl ContainerEngine for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>, EngineError> {
        self.pass(Call::ListContainers, self.inner.list_containers(labels)).await
    }

    async fn inspect_container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        self.pass(Call::InspectContainer, self.inner.inspect_container(name)).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.pass(Call::CreateContainer, self.inner.create_container(spec)).await
    }

    async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        self.pass(Call::StartContainer, self.inner.start_container(id)).await
    }

    async fn stop_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        self.pass(Call::StopContainer, self.inner.stop_container(id, grace)).await
    }

    async fn restart_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        self.pass(Call::RestartContainer, self.inner.restart_container(id, grace)).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        self.pass(Call::RemoveContainer, self.inner.remove_container(id)).await
    }

    async fn wait_exit(&self, id: &str) -> Result<i32, EngineError> {
        self.pass(Call::WaitExit, self.inner.wait_exit(id)).await
    }

    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError> {
        self.pass(Call::LogTail, self.inner.log_tail(id, lines)).await
    }

    async fn exec(&self, id: &str, argv: &[String], max_output: usize) -> Result<ExecOutput, EngineError> {
        self.pass(Call::Exec, self.inner.exec(id, argv, max_output)).await
    }

    async fn put_files(
        &self,
        id: &str,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        self.pass(Call::PutFiles, self.inner.put_files(id, folder, files, moved)).await
    }

    async fn get_file(&self, id: &str, path: &str, sink: Box<dyn Write + Send>) -> Result<u64, EngineError> {
        self.pass(Call::GetFile, self.inner.get_file(id, path, sink)).await
    }

    async fn stat_file(&self, id: &str, path: &str) -> Result<Option<FileInfo>, EngineError> {
        self.pass(Call::StatFile, self.inner.stat_file(id, path)).await
    }

    async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>, EngineError> {
        self.pass(Call::ListVolumes, self.inner.list_volumes(labels)).await
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        self.pass(Call::InspectVolume, self.inner.inspect_volume(name)).await
    }

    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, EngineError> {
        self.pass(Call::CreateVolume, self.inner.create_volume(name, labels)).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.pass(Call::RemoveVolume, self.inner.remove_volume(name)).await
    }

    async fn pull_image(&self, image: &str, progress: SharedProgress) -> Result<(), EngineError> {
        self.pass(Call::PullImage, self.inner.pull_image(image, progress)).await
    }

    async fn port_is_free(&self, address: IpAddr, port: u16) -> bool {
        self.pass(Call::PortIsFree, self.inner.port_is_free(address, port)).await
    }
}

#[async_trait]
impl Probes for Watched {
    async fn check(&self, endpoint: &Endpoint, check: Check) -> Result<(), ProbeError> {
        self.pass(Call::Check, self.inner.check(endpoint, check)).await
    }

    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        self.pass(Call::Command, self.inner.command(endpoint, args, max_bytes)).await
    }
}
