//! The cluster's side: each call done at once, but for those that wait.

use std::future::pending;
use std::io::Write;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use elasticache_host::Endpoint;
use elasticache_host::engine::cluster::{Claim, ClaimSpec, Cluster, Lease, ObjectId, Pod, PodGoal, PodSpec};
use elasticache_host::engine::{EngineError, ExecOutput, FileInfo, NewFile};

use super::world::{State, World};
use super::{NAMESPACE, SimKube, client};
use crate::sim::disk::Disk;
use crate::sim::errors::{conflict, failed};
use crate::sim::moves::{self, bytes_of, has_all, normal};

/// What whichever container runs sees as its disk.
fn disk<'w>(world: &'w mut World, id: &ObjectId) -> Result<Disk<'w>, EngineError> {
    match world.pod(id)?.state {
        State::Staging | State::Running => Ok(world.parts(&id.name)?.1),
        State::Waiting | State::Ended(_) => Err(conflict(&id.name, "it does not run")),
    }
}

#[async_trait]
impl Cluster for SimKube {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn probed_at(&self, pod: &Pod, port: u16) -> Option<Endpoint> {
        Some(Endpoint { address: pod.address.clone()?, port })
    }

    async fn list_pods(&self, labels: &[(&str, &str)]) -> Result<Vec<Pod>, EngineError> {
        let world = self.world.lock();
        let fits = world.pods.values().filter(|pod| has_all(&pod.spec.labels, labels));
        Ok(fits.map(|pod| world.observed(pod)).collect())
    }

    async fn find_pod(&self, name: &str) -> Result<Option<Pod>, EngineError> {
        let world = self.world.lock();
        Ok(world.pods.get(name).map(|pod| world.observed(pod)))
    }

    async fn create_pod(&self, spec: &PodSpec) -> Result<Pod, EngineError> {
        self.act(|world| world.create_pod(spec))
    }

    async fn wait_for_pod(&self, id: &ObjectId, goal: PodGoal) -> Result<Pod, EngineError> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let (began, verdict) = {
                let mut world = self.world.lock();
                world.pod(id)?;
                let began = goal != PodGoal::Ended && world.run(&id.name)?;
                (began, world.judge(id, goal))
            };
            if began {
                self.changes.send_modify(|count| *count += 1);
            }
            match verdict {
                Some(verdict) => return verdict,
                None if changes.changed().await.is_err() => pending().await,
                None => {}
            }
        }
    }

    async fn delete_pod(&self, id: &ObjectId, _: u32) -> Result<(), EngineError> {
        // The supplier gives it a second at least, in which all that a simulated server does at its end is done.
        self.act(|world| world.delete_pod(id))?;
        let mut changes = self.changes.subscribe();
        while self.world.lock().pod(id).is_ok() {
            if changes.changed().await.is_err() {
                pending().await
            }
        }
        Ok(())
    }

    async fn release_pod(&self, id: &ObjectId) -> Result<(), EngineError> {
        self.act(|world| world.release(id))
    }

    async fn pod_log(&self, id: &ObjectId, lines: u32) -> Result<String, EngineError> {
        Ok(moves::tail(&self.world.lock().pod(id)?.log, lines))
    }

    async fn exec(
        &self,
        id: &ObjectId,
        argv: &[String],
        max_output: usize,
    ) -> Result<ExecOutput, EngineError> {
        let mut world = self.world.lock();
        world.pod(id)?;
        let output = client::exec(&mut world, &id.name, argv)?;
        if output.stdout.len() > max_output || output.stderr.len() > max_output {
            return Err(failed(&id.name, format!("the program wrote more than {max_output} bytes")));
        }
        Ok(output)
    }

    async fn put_files(
        &self,
        id: &ObjectId,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        let folder = normal(folder)?;
        disk(&mut self.world.lock(), id).map(drop)?;
        for file in files {
            let path = format!("{}{}", folder.trim_end_matches('/'), normal(&file.path)?);
            let bytes = bytes_of(file, &*moved)?;
            disk(&mut self.world.lock(), id)?.write(&path, bytes);
        }
        Ok(())
    }

    async fn get_file(
        &self,
        id: &ObjectId,
        path: &str,
        sink: Box<dyn Write + Send>,
    ) -> Result<u64, EngineError> {
        let path = normal(path)?;
        let bytes = moves::read(&mut disk(&mut self.world.lock(), id)?, &path)?;
        moves::send(&path, &bytes, sink)
    }

    async fn stat_file(&self, id: &ObjectId, path: &str) -> Result<Option<FileInfo>, EngineError> {
        Ok(disk(&mut self.world.lock(), id)?.stat(&normal(path)?))
    }

    async fn find_claim(&self, name: &str) -> Result<Option<Claim>, EngineError> {
        Ok(self.world.lock().claims.get(name).cloned())
    }

    async fn create_claim(&self, spec: &ClaimSpec) -> Result<Claim, EngineError> {
        self.act(|world| world.create_claim(spec))
    }

    async fn delete_claim(&self, id: &ObjectId) -> Result<(), EngineError> {
        self.act(|world| world.delete_claim(id))
    }

    async fn list_leases(&self, labels: &[(&str, &str)]) -> Result<Vec<Lease>, EngineError> {
        let world = self.world.lock();
        Ok(world.leases.values().filter(|lease| has_all(&lease.labels, labels)).cloned().collect())
    }

    async fn write_lease(&self, lease: &Lease) -> Result<(), EngineError> {
        self.act(|world| world.leases.insert(lease.name.clone(), lease.clone()));
        Ok(())
    }

    async fn take_lease(&self, lease: &Lease, instead: Option<&Lease>) -> Result<Option<Lease>, EngineError> {
        self.act(|world| world.take_lease(lease, instead))
    }

    async fn delete_lease(&self, name: &str, renewed: SystemTime) -> Result<(), EngineError> {
        self.act(|world| world.delete_lease(name, renewed))
    }

    async fn shared_secret(&self, name: &str, key: &str, make: &[u8]) -> Result<Vec<u8>, EngineError> {
        self.act(|world| world.shared_secret(name, key, make))
    }

    async fn now(&self) -> Result<SystemTime, EngineError> {
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(self.world.lock().clock.as_secs()))
    }
}
