//! Everything that operations share: the engine or the cluster, the probes, the owner, the ports handed out.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::ContainerEngine;
use crate::engine::cluster::Cluster;
use crate::ownership::{Owner, PORT};
use crate::probes::Probes;
use crate::progress::SharedProgress;
use crate::scheduling::Scheduling;
use crate::types::Endpoint;

/// Published ports are taken from here, so far as the kernel does not use it for outgoing connections.
const PORTS: RangeInclusive<u16> = 20_000..=32_767;
/// Where Linux says which ports it gives to outgoing connections.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What a runtime lends to its operations.
#[derive(Clone)]
pub(crate) enum Environment {
    Docker(Arc<DockerEnvironment>),
    Kube(Arc<KubeEnvironment>),
}

impl Environment {
    pub(crate) fn owner(&self) -> &Owner {
        match self {
            Environment::Docker(docker) => &docker.owner,
            Environment::Kube(kube) => &kube.owner,
        }
    }

    pub(crate) fn progress(&self) -> &SharedProgress {
        match self {
            Environment::Docker(docker) => &docker.progress,
            Environment::Kube(kube) => &kube.progress,
        }
    }
}

/// What is lent where caches are pods.
pub(crate) struct KubeEnvironment {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) probes: Arc<dyn Probes>,
    pub(crate) owner: Owner,
    pub(crate) progress: SharedProgress,
    /// Where pods may run, unless their caches' tags say otherwise.
    pub(crate) scheduling: Scheduling,
    /// Of which class claims are, and how large, in bytes; without it there are none.
    pub(crate) storage: Option<(String, u64)>,
}

/// What is lent where caches are containers.
pub(crate) struct DockerEnvironment {
    pub(crate) engine: Arc<dyn ContainerEngine>,
    pub(crate) probes: Arc<dyn Probes>,
    pub(crate) owner: Owner,
    /// At which address of the engine's host ports are published.
    pub(crate) publish_address: IpAddr,
    /// How clients reach that host.
    pub(crate) endpoint_host: String,
    pub(crate) progress: SharedProgress,
    pub(crate) ports: Ports,
}

impl DockerEnvironment {
    pub(crate) fn endpoint(&self, port: u16) -> Endpoint {
        Endpoint { address: self.endpoint_host.clone(), port }
    }

    /// A port that seems free, starting at a place that depends on `hint` only. One that a container was made
    /// for is that one's also while it does not run: else it would come back to find it taken.
    pub(crate) async fn reserve_port(&self, hint: u32) -> Option<PortReservation> {
        for port in self.ports.candidates(hint) {
            let Some(reservation) = self.ports.reserve(port) else { continue };
            if !self.engine.port_is_free(self.publish_address, port).await {
                continue;
            }
            // An engine that does not say is no reason to give up: a start on a port in use fails and is tried again.
            match self.engine.list_containers(&[(PORT, &port.to_string())]).await {
                Ok(owners) if !owners.is_empty() => {}
                Ok(_) | Err(_) => return Some(reservation),
            }
        }
        None
    }
}

/// The ports that may be published, and those that operations under way have been given.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    reserved: Arc<Mutex<HashSet<u16>>>,
}

impl Ports {
    /// Keeps clear of the kernel's ephemeral range: there, an outgoing connection of anybody's may hold
    /// the port just when a reboot wants it back, and a connection to a port on which nobody listens
    /// can end up connected to itself.
    pub(crate) fn outside_ephemeral() -> Self {
        let text = std::fs::read_to_string(EPHEMERAL).unwrap_or_default();
        Self { range: clear_of(&text), reserved: Arc::default() }
    }

    fn candidates(&self, hint: u32) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = (u32::from(*self.range.start()), u32::from(*self.range.end()));
        let count = last - first + 1;
        (0..count).filter_map(move |step| u16::try_from(first + (hint % count + step) % count).ok())
    }

    fn reserve(&self, port: u16) -> Option<PortReservation> {
        let fresh = self.reserved.lock().insert(port);
        fresh.then(|| PortReservation { port, reserved: Arc::clone(&self.reserved) })
    }
}

/// A port that no other operation of this process is given while this lives.
#[derive(Debug)]
pub(crate) struct PortReservation {
    pub(crate) port: u16,
    reserved: Arc<Mutex<HashSet<u16>>>,
}

impl Drop for PortReservation {
    fn drop(&mut self) {
        self.reserved.lock().remove(&self.port);
    }
}

/// The larger part of [`PORTS`] that the ephemeral range, in the kernel's words, leaves.
fn clear_of(ephemeral: &str) -> RangeInclusive<u16> {
    let mut numbers = ephemeral.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(low)), Some(Ok(high))) = (numbers.next(), numbers.next()) else { return PORTS };
    if high < *PORTS.start() || low > *PORTS.end() {
        return PORTS;
    }
    let below = *PORTS.start()..=low.saturating_sub(1);
    let above = high.saturating_add(1)..=*PORTS.end();
    match (below.len(), above.len()) {
        // All of it is ephemeral: better a port that is likely to work than none.
        (0, 0) => PORTS,
        (b, a) if b >= a => below,
        _ => above,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ports_keep_clear_of_the_ephemeral_range() {
        assert_eq!(clear_of("32768\t60999\n"), PORTS);
        assert_eq!(clear_of("30000 60999"), 20_000..=29_999);
        assert_eq!(clear_of("1024 25000"), 25_001..=32_767);
        assert_eq!(clear_of("1024 65535"), PORTS);
        assert_eq!(clear_of(""), PORTS);
    }

    #[test]
    fn the_search_starts_where_the_hint_says_and_covers_every_port_once() {
        let ports = Ports { range: 20_000..=20_009, reserved: Arc::default() };
        let seen: Vec<u16> = ports.candidates(13).collect();
        assert_eq!(seen[0], 20_003);
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 10);
        assert_eq!(ports.candidates(u32::MAX).count(), 10);
    }

    #[test]
    fn a_reserved_port_is_free_again_when_its_reservation_ends() {
        let ports = Ports { range: PORTS, reserved: Arc::default() };
        let held = ports.reserve(20_000).unwrap();
        assert!(ports.reserve(20_000).is_none());
        drop(held);
        assert!(ports.reserve(20_000).is_some());
    }
}
