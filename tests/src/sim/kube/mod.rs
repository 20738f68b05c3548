//! A simulated namespace of a cluster: pods with redis, valkey and memcached in them, claims, leases, secrets.
//!
//! What it does is what was seen of Kubernetes 1.20 and redis 7.0, through the host's own supplier.
//!
//! # Guarantees
//! - Deterministic: the same calls give the same identities, addresses and times. Nothing sleeps; the clock moves only
//!   by [`SimKube::advance`].
//! - One step at a time: each call is done whole or not at all, whatever runs at once.
//!
//! # Caveats
//! - A pod is pending until somebody waits for it to run or to stage: then it does so at once, or never.
//! - A deletion is over when its call returns: no pod is seen on its way out, unless [`SimKube::hold_on`] has it stay.
//! - A replica has all that its primary has as soon as it is told to follow, and a hand-over is over at once.
//! - Claims are bound as they are made, and any number of pods may mount one. There is one node, with room for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use elasticache_host::engine::EngineError;
use elasticache_host::engine::cluster::{ClaimSpec, Lease, ObjectId, PodData, PodSpec};

use self::world::World;
use super::disk::{Disk, Trouble};
use super::{DEFAULT_IMAGES, EPOCH, FOREIGN_IMAGE};

mod client;
mod cluster;
mod records;
mod replication;
#[cfg(test)]
mod tests;
mod world;

/// The namespace that it is.
pub const NAMESPACE: &str = "simulated";
/// The storage class that claims are of.
pub const STORAGE_CLASS: &str = "simulated";

/// The namespace. Clones are the same one; it is both the cluster and the probes into its pods.
#[derive(Clone)]
pub struct SimKube {
    world: Arc<Mutex<World>>,
    /// Counts what was done, for those who watch.
    changes: watch::Sender<u64>,
}

impl Default for SimKube {
    fn default() -> Self {
        Self::new()
    }
}

/// What stands for the rest of the world: everything but the two traits.
impl SimKube {
    /// One with nothing in it, on nodes that have the default images.
    pub fn new() -> Self {
        let images: BTreeSet<String> =
            DEFAULT_IMAGES.into_iter().chain([FOREIGN_IMAGE]).map(Into::into).collect();
        let world = World {
            clock: Duration::from_secs(EPOCH),
            images,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            disks: BTreeMap::new(),
            leases: BTreeMap::new(),
            secrets: BTreeMap::new(),
            trouble: Trouble::default(),
            last: 0,
        };
        Self { world: Arc::new(Mutex::new(world)), changes: watch::Sender::new(0) }
    }

    /// Does a step, and tells those who watch.
    fn act<T>(&self, step: impl FnOnce(&mut World) -> T) -> T {
        let outcome = step(&mut self.world.lock());
        self.changes.send_modify(|count| *count += 1);
        outcome
    }

    /// No longer have an image on any node, nor where nodes fetch it.
    pub fn remove_image(&self, image: &str) {
        self.world.lock().images.remove(image);
    }

    /// While set, no server in any pod answers anything.
    pub fn set_hang_ready(&self, hang: bool) {
        self.world.lock().trouble.hang_ready = hang;
    }

    /// While set, every server reads its dataset still.
    pub fn set_loading(&self, loading: bool) {
        self.world.lock().trouble.loading = loading;
    }

    /// Whether deletions of a pod go on for ever: it has been told to end, and something keeps it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that pod.
    pub fn hold_on(&self, name: &str, held: bool) -> Result<(), EngineError> {
        self.act(|world| {
            world.named(name)?.held_on = held;
            world.let_go(name);
            Ok(())
        })
    }

    /// From now on the server in a pod cannot save: a folder has the name of its file.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that pod.
    pub fn fail_saves(&self, name: &str) -> Result<(), EngineError> {
        let spoil = |disk: &mut Disk<'_>| {
            disk.remove("/data/dump.rdb");
            disk.write("/data/dump.rdb/x", Vec::new());
        };
        self.act(|world| world.parts(name).map(|(_, mut disk, _)| spoil(&mut disk)))
    }

    /// SIGKILL to the server in a pod.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that pod.
    pub fn kill(&self, name: &str) -> Result<(), EngineError> {
        self.act(|world| world.kill(name))
    }

    /// Restart the container engine of the node: SIGTERM to all that runs, which no pod survives. Returns the annotations
    /// of those whose servers ran.
    pub fn node_restart(&self) -> Vec<BTreeMap<String, String>> {
        self.act(World::node_restart)
    }

    /// Somebody else's pod, claim and Lease of that name, with whatever labels, which are annotations too.
    ///
    /// # Errors
    /// As for one's own: the name is taken, or is none.
    pub fn insert_foreign(&self, name: &str, labels: &[(&str, &str)]) -> Result<(), EngineError> {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.act(|world| {
            let renewed = SystemTime::UNIX_EPOCH + world.clock;
            world.create_claim(&ClaimSpec {
                name: name.to_owned(),
                labels: labels.clone(),
                annotations: labels.clone(),
                storage_class: STORAGE_CLASS.to_owned(),
                size: 1 << 30,
            })?;
            let lease = Lease {
                name: name.to_owned(),
                labels: labels.clone(),
                annotations: labels.clone(),
                holder: name.to_owned(),
                seconds: 1,
                renewed,
            };
            world.leases.insert(name.to_owned(), lease);
            world.create_pod(&PodSpec {
                name: name.to_owned(),
                image: FOREIGN_IMAGE.to_owned(),
                args: Vec::new(),
                annotations: labels.clone(),
                labels,
                node_selector: BTreeMap::new(),
                tolerations: Vec::new(),
                port: 6379,
                stop_grace: 1,
                staged: false,
                data: PodData::EmptyDir,
            })
        })
        .map(drop)
    }

    /// Every claim, with its annotations.
    pub fn claims(&self) -> Vec<(ObjectId, BTreeMap<String, String>)> {
        let world = self.world.lock();
        world.claims.values().map(|claim| (claim.id.clone(), claim.annotations.clone())).collect()
    }

    /// Every Lease.
    pub fn leases(&self) -> Vec<Lease> {
        self.world.lock().leases.values().cloned().collect()
    }

    /// Move the clock on.
    pub fn advance(&self, by: Duration) {
        let mut world = self.world.lock();
        world.clock = world.clock.saturating_add(by);
    }
}
