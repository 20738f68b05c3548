//! The state behind the API server and the kubelet, and what each call does to it. Nothing here waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use elasticache_host::engine::EngineError;
use elasticache_host::engine::cluster::{
    Claim, ClaimSpec, Lease, ObjectId, Pod, PodData, PodGoal, PodPhase, PodSpec,
};

use crate::sim::disk::{Disk, Files, Trouble, Volume};
use crate::sim::errors::{conflict, failed, not_found};
use crate::sim::options::program;
use crate::sim::server::Server;

/// The exit codes of processes that were ended by SIGTERM and by SIGKILL.
const TERMINATED: i32 = 143;
const KILLED: i32 = 137;
/// Where claims and empty folders go.
const DATA: &str = "/data";
/// The lengths of names: of a DNS-1123 label and a subdomain.
const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;

/// What of a pod runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet.
    Waiting,
    /// What holds its server back.
    Staging,
    /// Its server.
    Running,
    /// Nothing any more; with the last exit code.
    Ended(i32),
}

pub(super) struct Held {
    pub(super) id: ObjectId,
    pub(super) spec: PodSpec,
    pub(super) state: State,
    /// Its server is not to start yet.
    pub(super) staged: bool,
    pub(super) terminating: bool,
    /// Its deletion does not end.
    pub(super) held_on: bool,
    pub(super) address: Option<String>,
    pub(super) log: Vec<String>,
    pub(super) server: Option<Server>,
    /// Of the container that runs.
    own: Files,
    /// The disk below `/data`.
    mounts: [(String, String); 1],
}

pub(super) struct World {
    /// Since the Unix epoch.
    pub(super) clock: Duration,
    pub(super) images: BTreeSet<String>,
    /// In the order in which the API server lists them.
    pub(super) pods: BTreeMap<String, Held>,
    pub(super) claims: BTreeMap<String, Claim>,
    /// By the uid of the claim that it lies behind, or of the pod that it goes with.
    pub(super) disks: BTreeMap<String, Volume>,
    pub(super) leases: BTreeMap<String, Lease>,
    pub(super) secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(super) trouble: Trouble,
    /// The last number of an identity or address.
    pub(super) last: u32,
}

pub(super) fn gone(name: &str) -> EngineError {
    not_found(name, "it is gone")
}

/// A name as Kubernetes allows it: labels of lower-case letters, digits and `-`.
fn check_name(name: &str, most: usize) -> Result<(), EngineError> {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let sound = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inside)
    };
    let whole = name.split('.').all(sound) && (most == SUBDOMAIN || !name.contains('.'));
    if whole && name.len() <= most { Ok(()) } else { Err(failed(name, "a DNS-1123 name is wanted")) }
}

fn check_labels(name: &str, labels: &BTreeMap<String, String>) -> Result<(), EngineError> {
    let end = |c: char| c.is_ascii_alphanumeric();
    let inside = |c: char| end(c) || matches!(c, '-' | '_' | '.');
    let sound = |value: &&String| {
        let ends = value.is_empty() || value.starts_with(end) && value.ends_with(end);
        value.len() <= LABEL && ends && value.chars().all(inside)
    };
    match labels.values().find(|value| !sound(value)) {
        None => Ok(()),
        Some(value) => Err(failed(name, format!("{value:?} is no value of a label"))),
    }
}

impl Held {
    fn phase(&self) -> PodPhase {
        match self.state {
            State::Waiting | State::Staging => PodPhase::Pending,
            State::Running => PodPhase::Running,
            State::Ended(0) => PodPhase::Succeeded,
            State::Ended(_) => PodPhase::Failed,
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    fn end(&mut self, code: i32) {
        self.state = State::Ended(code);
        self.server = None;
    }
}

impl World {
    /// A number that nothing else has.
    fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    fn new_id(&mut self, name: &str) -> ObjectId {
        // Where the pod's process would be looked for by it, it looks like one of the cluster's.
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.next());
        ObjectId { name: name.to_owned(), uid }
    }

    pub(super) fn named(&mut self, name: &str) -> Result<&mut Held, EngineError> {
        self.pods.get_mut(name).ok_or_else(|| gone(name))
    }

    /// That very pod, not another that took its name.
    pub(super) fn pod(&mut self, id: &ObjectId) -> Result<&mut Held, EngineError> {
        self.named(&id.name).and_then(|pod| if pod.id == *id { Ok(pod) } else { Err(gone(&id.name)) })
    }

    /// Its server, and the disk and log that its processes see.
    pub(super) fn parts(
        &mut self,
        name: &str,
    ) -> Result<(&mut Option<Server>, Disk<'_>, &mut Vec<String>), EngineError> {
        let Held { server, own, mounts, log, .. } = self.pods.get_mut(name).ok_or_else(|| gone(name))?;
        let disk = Disk { own, mounts, volumes: &mut self.disks, trouble: &self.trouble };
        Ok((server, disk, log))
    }

    /// As the API server shows it.
    pub(super) fn observed(&self, pod: &Held) -> Pod {
        let obstacle = self.obstacle(pod).filter(|_| pod.state == State::Waiting);
        let ended = match pod.state {
            State::Ended(code) => Some(format!("cache ended with exit code {code}")),
            _ => None,
        };
        Pod {
            id: pod.id.clone(),
            image: pod.spec.image.clone(),
            labels: pod.spec.labels.clone(),
            annotations: pod.spec.annotations.clone(),
            phase: pod.phase(),
            terminating: pod.terminating,
            staging: pod.staged,
            address: pod.address.clone(),
            message: ended.or(obstacle),
        }
    }

    /// What keeps a pod from running, if anything does.
    fn obstacle(&self, pod: &Held) -> Option<String> {
        let image = &pod.spec.image;
        match &pod.spec.data {
            PodData::Claim(claim) if !self.claims.contains_key(claim) => {
                Some(format!("Unschedulable: persistentvolumeclaim {claim:?} not found"))
            }
            _ => (!self.images.contains(image)).then(|| format!("ErrImagePull: {image}: not found")),
        }
    }

    pub(super) fn create_pod(&mut self, spec: &PodSpec) -> Result<Pod, EngineError> {
        check_name(&spec.name, LABEL)?;
        check_labels(&spec.name, &spec.labels)?;
        if self.pods.contains_key(&spec.name) {
            return Err(conflict(&spec.name, format!("pods {:?} already exists", spec.name)));
        }
        let id = self.new_id(&spec.name);
        let disk = match &spec.data {
            PodData::EmptyDir => {
                self.disks.insert(id.uid.clone(), Volume::default());
                id.uid.clone()
            }
            PodData::Claim(name) => {
                self.claims.get(name).map(|claim| claim.id.uid.clone()).unwrap_or_default()
            }
        };
        let pod = Held {
            id,
            spec: spec.clone(),
            state: State::Waiting,
            staged: spec.staged,
            terminating: false,
            held_on: false,
            address: None,
            log: Vec::new(),
            server: None,
            own: Files::new(),
            mounts: [(disk, DATA.to_owned())],
        };
        let shown = Pod { message: None, ..self.observed(&pod) };
        self.pods.insert(spec.name.clone(), pod);
        Ok(shown)
    }

    /// What the kubelet does with a pod that waits; false if there is nothing to do, or it cannot.
    pub(super) fn run(&mut self, name: &str) -> Result<bool, EngineError> {
        let pod = self.pods.get(name).ok_or_else(|| gone(name))?;
        if pod.state != State::Waiting || pod.terminating || self.obstacle(pod).is_some() {
            return Ok(false);
        }
        let number = self.next();
        let pod = self.named(name)?;
        let address = || format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
        pod.address.get_or_insert_with(address);
        if pod.staged {
            pod.state = State::Staging;
            return Ok(true);
        }
        (pod.state, pod.own) = (State::Running, Files::new());
        let spec = pod.spec.clone();
        let Some((engine, args)) = program(&spec.image, &spec.args) else { return Ok(true) };
        let (slot, mut disk, log) = self.parts(name)?;
        match Server::start(engine, args, &mut disk, log) {
            Ok(server) => *slot = Some(server),
            Err(line) => {
                log.push(line);
                self.named(name)?.end(1);
            }
        }
        Ok(true)
    }

    /// Whether a pod has come as far as somebody waits for; `None` to go on waiting.
    pub(super) fn judge(&mut self, id: &ObjectId, goal: PodGoal) -> Option<Result<Pod, EngineError>> {
        let pod = match self.pod(id) {
            Ok(pod) => &*pod,
            Err(error) => return Some(Err(error)),
        };
        let (state, terminating, staged) = (pod.state, pod.terminating, pod.staged);
        let pod = self.observed(self.pods.get(&id.name)?);
        let there = match goal {
            PodGoal::Ended => return matches!(state, State::Ended(_)).then_some(Ok(pod)),
            _ if terminating => return Some(Err(failed(&id.name, "it is being deleted"))),
            PodGoal::Staging => state == State::Staging,
            PodGoal::Running => state == State::Running,
        };
        if there {
            Some(Ok(pod))
        } else if let Some(message) = pod.message {
            Some(Err(failed(&id.name, message)))
        } else if goal == PodGoal::Staging && !staged {
            Some(Err(failed(&id.name, "its server was let go already")))
        } else {
            None
        }
    }

    /// SIGTERM, and SIGKILL to what does not end of it.
    fn terminate(&mut self, name: &str) -> Result<(), EngineError> {
        let code = match self.named(name)?.state {
            State::Waiting | State::Ended(_) => return Ok(()),
            State::Staging => TERMINATED,
            State::Running => {
                let (server, mut disk, log) = self.parts(name)?;
                server.as_mut().and_then(|server| server.terminate(&mut disk, log)).unwrap_or(KILLED)
            }
        };
        self.named(name)?.end(code);
        Ok(())
    }

    pub(super) fn delete_pod(&mut self, id: &ObjectId) -> Result<(), EngineError> {
        self.pod(id)?.terminating = true;
        self.terminate(&id.name)?;
        self.let_go(&id.name);
        Ok(())
    }

    /// Forgets a pod whose deletion may end.
    pub(super) fn let_go(&mut self, name: &str) {
        if self.pods.get(name).is_some_and(|pod| pod.terminating && !pod.held_on)
            && let Some(pod) = self.pods.remove(name)
        {
            self.disks.remove(&pod.id.uid);
        }
    }

    pub(super) fn release(&mut self, id: &ObjectId) -> Result<(), EngineError> {
        let pod = self.pod(id)?;
        match pod.state {
            _ if !pod.staged => Ok(()),
            State::Staging => {
                (pod.state, pod.staged) = (State::Waiting, false);
                Ok(())
            }
            State::Waiting | State::Running | State::Ended(_) => {
                Err(conflict(&id.name, "its stage is not running"))
            }
        }
    }

    pub(super) fn kill(&mut self, name: &str) -> Result<(), EngineError> {
        let pod = self.named(name)?;
        if matches!(pod.state, State::Staging | State::Running) {
            pod.end(KILLED);
        }
        Ok(())
    }

    /// SIGTERM to all that runs; what the pods say of themselves whose servers ended.
    pub(super) fn node_restart(&mut self) -> Vec<BTreeMap<String, String>> {
        let runs = |pod: &&Held| pod.state == State::Running;
        let ended = self.pods.values().filter(runs).map(|pod| pod.spec.annotations.clone()).collect();
        for name in self.pods.keys().cloned().collect::<Vec<_>>() {
            // It is there.
            let _ = self.terminate(&name);
        }
        ended
    }

    pub(super) fn create_claim(&mut self, spec: &ClaimSpec) -> Result<Claim, EngineError> {
        check_name(&spec.name, SUBDOMAIN)?;
        check_labels(&spec.name, &spec.labels)?;
        if self.claims.contains_key(&spec.name) {
            let message = format!("persistentvolumeclaims {:?} already exists", spec.name);
            return Err(conflict(&spec.name, message));
        }
        let claim = Claim {
            id: self.new_id(&spec.name),
            annotations: spec.annotations.clone(),
            capacity: Some(spec.size),
            terminating: false,
        };
        self.disks.insert(claim.id.uid.clone(), Volume::default());
        self.claims.insert(spec.name.clone(), claim.clone());
        Ok(Claim { capacity: None, ..claim })
    }

    pub(super) fn delete_claim(&mut self, id: &ObjectId) -> Result<(), EngineError> {
        if self.claims.get(&id.name).is_none_or(|claim| claim.id != *id) {
            return Err(gone(&id.name));
        }
        let uses = |pod: &&Held| pod.spec.data == PodData::Claim(id.name.clone()) && !pod.has_ended();
        if let Some(pod) = self.pods.values().find(uses) {
            return Err(conflict(&id.name, format!("the pod {} uses it", pod.id.name)));
        }
        self.claims.remove(&id.name);
        self.disks.remove(&id.uid);
        Ok(())
    }
}
