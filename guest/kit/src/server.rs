//! What a cache's server runs in, a container or a pod, as far as the two are alike.

use crate::bindings::fakecloud::elasticache::docker::{Container, ContainerInfo, File, FileInfo, Volume};
use crate::bindings::fakecloud::elasticache::exec::Output;
use crate::bindings::fakecloud::elasticache::kube::{Claim, Pod, PodInfo};
use crate::bindings::fakecloud::elasticache::probes::Target;
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{CacheKey, Error};

/// A container or a pod.
#[derive(Clone, Copy)]
pub enum Server<'a> {
    Container(&'a Container),
    Pod(&'a Pod),
}

impl<'a> From<&'a Container> for Server<'a> {
    fn from(container: &'a Container) -> Self {
        Server::Container(container)
    }
}

impl<'a> From<&'a Pod> for Server<'a> {
    fn from(pod: &'a Pod) -> Self {
        Server::Pod(pod)
    }
}

/// What is known of it without looking again, in words that fit both.
pub struct About {
    pub key: CacheKey,
    /// The engine-side identity: a container's id, a pod's name.
    pub handle: String,
    pub name: String,
    pub image: String,
    /// The operation that created it.
    pub operation: String,
    /// The policy's own.
    pub labels: Vec<(String, String)>,
}

impl From<ContainerInfo> for About {
    fn from(info: ContainerInfo) -> Self {
        let ContainerInfo { key, id, name, image, operation, labels, .. } = info;
        Self { key, handle: id, name, image, operation, labels }
    }
}

impl From<PodInfo> for About {
    fn from(info: PodInfo) -> Self {
        let PodInfo { key, name, image, operation, labels, .. } = info;
        Self { key, handle: name.clone(), name, image, operation, labels }
    }
}

impl About {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl<'a> Server<'a> {
    pub fn about(self) -> About {
        match self {
            Server::Container(container) => container.info().into(),
            Server::Pod(pod) => pod.info().into(),
        }
    }

    /// For questions to the server itself.
    pub fn target(self) -> Target<'a> {
        match self {
            Server::Container(container) => Target::Container(container),
            Server::Pod(pod) => Target::Pod(pod),
        }
    }

    pub fn exec(self, argv: &[String]) -> Result<Output, Error> {
        match self {
            Server::Container(container) => container.exec(argv),
            Server::Pod(pod) => pod.exec(argv),
        }
    }

    pub fn put(self, folder: &str, files: &[File]) -> Result<(), Error> {
        match self {
            Server::Container(container) => container.put(folder, files),
            Server::Pod(pod) => pod.put(folder, files),
        }
    }

    pub fn get(self, path: &str) -> Result<Snapshot, Error> {
        match self {
            Server::Container(container) => container.get(path),
            Server::Pod(pod) => pod.get(path),
        }
    }

    pub fn read(self, path: &str) -> Result<Vec<u8>, Error> {
        match self {
            Server::Container(container) => container.read(path),
            Server::Pod(pod) => pod.read(path),
        }
    }

    pub fn stat(self, path: &str) -> Result<Option<FileInfo>, Error> {
        match self {
            Server::Container(container) => container.stat(path),
            Server::Pod(pod) => pod.stat(path),
        }
    }
}

/// Where data outlives its server.
#[derive(Clone, Copy)]
pub enum Disk<'a> {
    Volume(&'a Volume),
    Claim(&'a Claim),
}

impl Disk<'_> {
    /// The operation that created it, if it is known.
    pub fn operation(self) -> Option<String> {
        match self {
            Disk::Volume(volume) => volume.info().operation,
            Disk::Claim(claim) => Some(claim.info().operation),
        }
    }

    /// Delete it with all data.
    pub fn remove(self) -> Result<(), Error> {
        match self {
            Disk::Volume(volume) => volume.remove(),
            Disk::Claim(claim) => claim.delete(),
        }
    }
}
