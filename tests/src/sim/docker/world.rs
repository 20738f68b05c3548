//! The state behind the engine, and what each call does to it. Nothing here waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::Call;
use crate::sim::disk::{self, Disk, Files, Trouble, Volume};
use crate::sim::errors::{conflict, failed, not_found};
use crate::sim::options::program;
use crate::sim::server::Server;
use elasticache_host::engine::{
    Container, ContainerSpec, ContainerState, EngineError, Published, RestartPolicy, Volume as VolumeInfo,
};

/// The exit code of a process that was killed by SIGKILL.
const KILLED: i32 = 137;
/// Lines kept of each container's log.
const LOG_LINES: usize = 1000;
/// Where Linux begins to choose ports.
pub(super) const FIRST_ANY_PORT: u16 = 32_768;

/// What goes wrong once.
pub(super) struct Fault {
    pub(super) call: Call,
    pub(super) error: EngineError,
    pub(super) after_effect: bool,
}

pub(super) struct Held {
    pub(super) id: String,
    pub(super) spec: ContainerSpec,
    pub(super) state: ContainerState,
    pub(super) log: Vec<String>,
    pub(super) server: Option<Server>,
    /// How many times it ended, and how the last time.
    pub(super) ends: watch::Sender<(u64, i32)>,
    own: Files,
    host_port: Option<u16>,
    started_before: bool,
    stopped_by_hand: bool,
}

impl Held {
    /// Docker counts a frozen or restarting container as running too.
    pub(super) fn is_up(&self) -> bool {
        use ContainerState as S;
        matches!(self.state, S::Running | S::Paused | S::Restarting)
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        let (count, code) = *self.ends.borrow();
        (count > 0).then_some(code)
    }

    pub(super) fn published(&self) -> Option<Published> {
        let (_, publish) = self.spec.publish?;
        let host_port = self.host_port.filter(|_| self.state == ContainerState::Running)?;
        Some(Published { host_port, ..publish })
    }

    fn holds_port(&self, port: u16) -> bool {
        self.is_up() && self.host_port == Some(port)
    }

    pub(super) fn observed(&self) -> Container {
        Container {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            image: self.spec.image.clone(),
            state: self.state,
            labels: self.spec.labels.clone(),
            published: self.published(),
            exit_code: self.exit_code(),
        }
    }

    fn end(&mut self, code: i32) {
        self.state = ContainerState::Exited;
        self.server = None;
        let in_memory = &self.spec.tmpfs;
        self.own.retain(|path, _| !in_memory.iter().any(|folder| disk::below(path, folder).is_some()));
        self.ends.send_modify(|(count, last)| {
            *count += 1;
            *last = code;
        });
    }
}

pub(super) struct World {
    /// Since the Unix epoch.
    pub(super) clock: Duration,
    pub(super) images: BTreeSet<String>,
    pub(super) pullable: BTreeSet<String>,
    /// Oldest first.
    pub(super) containers: Vec<Held>,
    pub(super) volumes: BTreeMap<String, Volume>,
    pub(super) foreign_ports: BTreeSet<u16>,
    pub(super) trouble: Trouble,
    pub(super) faults: VecDeque<Fault>,
    pub(super) calls: Vec<String>,
    pub(super) next_id: u64,
    /// For containers that leave the choice to the engine; another one at each start, as with Docker.
    pub(super) next_port: u16,
}

impl World {
    pub(super) fn index(&self, name: &str) -> Result<usize, EngineError> {
        let found = self.containers.iter().position(|held| held.id == name || held.spec.name == name);
        found.ok_or_else(|| not_found(name, "No such container"))
    }

    pub(super) fn held(&self, name: &str) -> Result<&Held, EngineError> {
        self.index(name).map(|index| &self.containers[index])
    }

    /// The name of a container given by name or id, for the trace.
    pub(super) fn name_of(&self, name: &str) -> String {
        self.held(name).map_or_else(|_| name.to_owned(), |held| held.spec.name.clone())
    }

    pub(super) fn port_is_free(&self, port: u16) -> bool {
        !self.foreign_ports.contains(&port) && !self.containers.iter().any(|held| held.holds_port(port))
    }

    /// A container, and the disk and log that its process sees.
    pub(super) fn parts(&mut self, index: usize) -> (&mut Option<Server>, Disk<'_>, &mut Vec<String>) {
        let Held { server, own, spec, log, .. } = &mut self.containers[index];
        let disk = Disk { own, mounts: &spec.mounts, volumes: &mut self.volumes, trouble: &self.trouble };
        (server, disk, log)
    }

    pub(super) fn create(&mut self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let name = &spec.name;
        check_name(name)?;
        if !self.images.contains(&spec.image) {
            return Err(not_found(&spec.image, "No such image"));
        }
        if let Ok(held) = self.held(name) {
            return Err(conflict(name, format!("The name is already in use by container {}", held.id)));
        }
        if let Some((volume, _)) = spec.mounts.iter().find(|(volume, _)| !self.volumes.contains_key(volume)) {
            return Err(not_found(volume, "no such volume"));
        }
        self.next_id += 1;
        // Identities differ in the digits that people and short forms show.
        let id = format!("{:012x}{:052x}", self.next_id, 0);
        self.containers.push(Held {
            id: id.clone(),
            spec: spec.clone(),
            state: ContainerState::Created,
            log: Vec::new(),
            server: None,
            ends: watch::Sender::new((0, 0)),
            own: Files::new(),
            host_port: None,
            started_before: false,
            stopped_by_hand: false,
        });
        Ok(id)
    }

    pub(super) fn start(&mut self, index: usize) -> Result<(), EngineError> {
        use ContainerState as S;
        let held = &self.containers[index];
        let name = held.spec.name.clone();
        match held.state {
            S::Running | S::Restarting => return Ok(()),
            S::Created | S::Exited => {}
            S::Paused => {
                return Err(conflict(&name, "cannot start a paused container, try unpause instead"));
            }
            S::Removing | S::Dead => return Err(conflict(&name, "container is marked for removal")),
        }
        if !self.images.contains(&held.spec.image) {
            return Err(not_found(&held.spec.image, "No such image"));
        }
        let wanted = held.spec.publish.map(|(_, publish)| publish.host_port);
        if let Some(port) = wanted.filter(|port| !self.port_is_free(*port)) {
            return Err(EngineError::PortTaken { port, object: name });
        }
        let host_port = wanted.map(|port| if port == 0 { self.any_port() } else { port });
        let held = &mut self.containers[index];
        (held.host_port, held.state) = (host_port, S::Running);
        (held.started_before, held.stopped_by_hand) = (true, false);
        let (image, command) = (held.spec.image.clone(), held.spec.command.clone());
        let (slot, mut disk, log) = self.parts(index);
        if let Some((engine, args)) = program(&image, &command) {
            match Server::start(engine, args, &mut disk, log) {
                Ok(server) => *slot = Some(server),
                Err(line) => {
                    log.push(line);
                    self.containers[index].end(1);
                }
            }
        }
        self.trim_log(index);
        Ok(())
    }

    fn any_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_ANY_PORT);
            if self.port_is_free(port) {
                return port;
            }
        }
    }

    fn trim_log(&mut self, index: usize) {
        let log = &mut self.containers[index].log;
        log.drain(..log.len().saturating_sub(LOG_LINES));
    }

    /// As the engine does by itself, which is not a stop by hand.
    pub(super) fn terminate(&mut self, index: usize, grace: u32) {
        if !self.containers[index].is_up() {
            return;
        }
        let (server, mut disk, log) = self.parts(index);
        let code = match server {
            // Without any time to save, the signals arrive as good as together.
            Some(server) if grace > 0 => server.terminate(&mut disk, log).unwrap_or(KILLED),
            _ => KILLED,
        };
        self.containers[index].end(code);
        self.trim_log(index);
    }

    pub(super) fn stop(&mut self, index: usize, grace: u32) {
        self.terminate(index, grace);
        self.containers[index].stopped_by_hand = true;
    }

    pub(super) fn kill(&mut self, index: usize, by_hand: bool) {
        let held = &mut self.containers[index];
        if !held.is_up() {
            return;
        }
        held.end(KILLED);
        held.stopped_by_hand = by_hand;
        if !by_hand && held.spec.restart == RestartPolicy::UnlessStopped {
            // A start that fails leaves it ended, which is what there is to see.
            let _ = self.start(index);
        }
    }

    pub(super) fn remove(&mut self, index: usize) -> Result<(), EngineError> {
        let held = &self.containers[index];
        if held.is_up() {
            return Err(conflict(&held.spec.name, "You cannot remove a running container"));
        }
        self.containers.remove(index);
        Ok(())
    }

    pub(super) fn daemon_restart(&mut self) {
        for index in 0..self.containers.len() {
            let grace = self.containers[index].spec.stop_grace;
            self.terminate(index, grace);
        }
        for index in 0..self.containers.len() {
            let held = &self.containers[index];
            let wanted = held.spec.restart == RestartPolicy::UnlessStopped;
            if wanted && held.started_before && !held.stopped_by_hand {
                // One whose port was taken meanwhile stays ended.
                let _ = self.start(index);
            }
        }
    }

    pub(super) fn create_volume(
        &mut self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<VolumeInfo, EngineError> {
        check_name(name)?;
        let created = self.clock.as_secs();
        let fresh = || Volume { labels: labels.clone(), created, files: Files::new() };
        Ok(observed(name, self.volumes.entry(name.to_owned()).or_insert_with(fresh)))
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Result<(), EngineError> {
        let uses = |held: &&Held| held.spec.mounts.iter().any(|(volume, _)| volume == name);
        if let Some(held) = self.containers.iter().find(uses) {
            return Err(conflict(name, format!("volume is in use - [{}]", held.id)));
        }
        self.volumes.remove(name).map(drop).ok_or_else(|| not_found(name, "no such volume"))
    }
}

/// A volume as observed.
pub(super) fn observed(name: &str, volume: &Volume) -> VolumeInfo {
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(volume.created);
    VolumeInfo { name: name.to_owned(), labels: volume.labels.clone(), created: Some(created) }
}

/// Docker's rule for names: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn check_name(name: &str) -> Result<(), EngineError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits) && name.len() <= 255 {
        Ok(())
    } else {
        Err(failed(name, "invalid name: only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed"))
    }
}
