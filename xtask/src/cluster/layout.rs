//! What a cluster is called, the ports that it takes, and where it keeps what.

use std::path::{Path, PathBuf};

use crate::context::Context;

/// The name of the kubeconfigs' context, of the node, and of the folder in each hierarchy of cgroups.
pub(super) const NAME: &str = "fakecloud-elasticache";

/// The bridge that pods and node share. The kernel allows names of 15 characters.
pub(super) const BRIDGE: &str = "fce-cluster0";

/// The image that holds a pod's network.
pub(super) const PAUSE_IMAGE: &str = "fakecloud-elasticache/pause:1";

// The usual ports may be a real cluster's. These are below those that the kernel hands out by itself.
pub(super) const API_PORT: u16 = 26443;
pub(super) const ETCD_PORT: u16 = 22379;
pub(super) const ETCD_PEER_PORT: u16 = 22380;
pub(super) const CONTROLLER_PORT: u16 = 20257;
pub(super) const SCHEDULER_PORT: u16 = 20259;
pub(super) const KUBELET_PORT: u16 = 20250;
pub(super) const KUBELET_HEALTH_PORT: u16 = 20248;

/// Where Kubernetes keeps things whatever it is told. The cluster's programs see folders of their own there.
pub(super) const FIXED: [&str; 3] = ["/var/log", "/tmp/hostpath_pv", "/run/containerd"];

/// The folders of a cluster.
pub(crate) struct Layout {
    /// All that a cluster has, deleted with it.
    pub(super) data: PathBuf,
    /// What outlives a cluster: the programs, a folder per version, and the lock.
    pub(super) programs: PathBuf,
}

impl Layout {
    pub(super) fn of(context: &Context) -> Self {
        Self { data: context.cache.join("cluster"), programs: context.cache.join("kubernetes") }
    }

    pub(super) fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.data.join(name)
    }

    pub(super) fn log(&self, daemon: &str) -> PathBuf {
        self.data.join("logs").join(format!("{daemon}.log"))
    }

    /// Keys and certificates.
    pub(super) fn pki(&self, name: &str) -> PathBuf {
        self.data.join("pki").join(name)
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.file("tokens.csv")
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    pub(super) fn engine_socket(&self) -> PathBuf {
        self.file("engine.sock")
    }

    /// What the cluster's programs see instead of one of [`FIXED`].
    pub(super) fn stand_in(&self, fixed: &str) -> PathBuf {
        self.data.join("host").join(fixed.trim_start_matches('/').replace('/', "-"))
    }
}

/// An address of the API server's, on this machine only.
pub(super) fn api_url() -> String {
    format!("https://127.0.0.1:{API_PORT}")
}
