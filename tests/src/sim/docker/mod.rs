//! A simulated Docker, with redis, valkey and memcached in its containers.
//!
//! The same scenarios run here and on a real engine, so what this one does is what was seen of Docker 20.10 and
//! redis 7.0, in particular where that loses data. The files are real too:
//! what `SAVE` leaves is an RDB file, and the append-only file is redis 7's.
//!
//! # Guarantees
//! - Deterministic: the same calls give the same identities, times and [`SimDocker::calls`]. Nothing
//!   sleeps; the clock moves only by [`SimDocker::advance`].
//! - One step at a time: each call is done whole or not at all, whatever runs at once.
//!
//! # Caveats
//! - Addresses are not told apart: a host port is taken or free.
//! - A volume must be created before it is mounted; Docker would create it silently.
//! - An engine that ends by itself at its start stays ended; Docker tries again and again where the restart
//!   policy says so.
//! - Keys hold strings, in database 0, without expiry. Saves and rewrites are done as they are asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use elasticache_host::engine::{ContainerSpec, ContainerState, EngineError, RestartPolicy};

use self::world::{FIRST_ANY_PORT, Fault, World};
use super::disk::{Trouble, Volume};
use super::errors::not_found;
use super::{DEFAULT_IMAGES, EPOCH, FOREIGN_IMAGE};

mod client;
mod containers;
#[cfg(test)]
mod tests;
mod world;

/// A call to the engine or to what runs in it, as [`SimDocker::fail_next`] names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the methods of the traits are")]
pub enum Call {
    ListContainers,
    InspectContainer,
    CreateContainer,
    StartContainer,
    StopContainer,
    RestartContainer,
    RemoveContainer,
    WaitExit,
    LogTail,
    Exec,
    PutFiles,
    GetFile,
    StatFile,
    ListVolumes,
    InspectVolume,
    CreateVolume,
    RemoveVolume,
    PullImage,
    PortIsFree,
    Check,
    Command,
}

impl Call {
    /// The method's name, as [`SimDocker::calls`] shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Call::ListContainers => "list_containers",
            Call::InspectContainer => "inspect_container",
            Call::CreateContainer => "create_container",
            Call::StartContainer => "start_container",
            Call::StopContainer => "stop_container",
            Call::RestartContainer => "restart_container",
            Call::RemoveContainer => "remove_container",
            Call::WaitExit => "wait_exit",
            Call::LogTail => "log_tail",
            Call::Exec => "exec",
            Call::PutFiles => "put_files",
            Call::GetFile => "get_file",
            Call::StatFile => "stat_file",
            Call::ListVolumes => "list_volumes",
            Call::InspectVolume => "inspect_volume",
            Call::CreateVolume => "create_volume",
            Call::RemoveVolume => "remove_volume",
            Call::PullImage => "pull_image",
            Call::PortIsFree => "port_is_free",
            Call::Check => "check",
            Call::Command => "command",
        }
    }
}

/// The engine. Clones are the same engine; it is both the supplier of containers and of probes into them.
#[derive(Clone)]
pub struct SimDocker {
    world: Arc<Mutex<World>>,
}

impl Default for SimDocker {
    fn default() -> Self {
        Self::new()
    }
}

/// What stands for the rest of the machine: everything but the two traits. None of it is traced, and none
/// of it fails because of [`SimDocker::fail_next`].
impl SimDocker {
    /// An engine with the three default images, and nothing else.
    pub fn new() -> Self {
        let images: BTreeSet<String> =
            DEFAULT_IMAGES.into_iter().chain([FOREIGN_IMAGE]).map(Into::into).collect();
        let world = World {
            clock: Duration::from_secs(EPOCH),
            images,
            pullable: BTreeSet::new(),
            containers: Vec::new(),
            volumes: BTreeMap::new(),
            foreign_ports: BTreeSet::new(),
            trouble: Trouble::default(),
            faults: VecDeque::new(),
            calls: Vec::new(),
            next_id: 0,
            next_port: FIRST_ANY_PORT,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Every call so far: the method, the object's name and, where there are any, the arguments, with
    /// spaces between them.
    pub fn calls(&self) -> Vec<String> {
        self.world.lock().calls.clone()
    }

    /// Forget the calls so far.
    pub fn clear_calls(&self) {
        self.world.lock().calls.clear();
    }

    /// Make the next call of this kind fail, before it has any effect or after it (a lost reply). Several
    /// for one kind fail one call each, in the order given. [`Call::Check`] and [`Call::Command`] report
    /// the error's words; [`Call::PortIsFree`] then says that it is not.
    pub fn fail_next(&self, call: Call, error: EngineError, after_effect: bool) {
        self.world.lock().faults.push_back(Fault { call, error, after_effect });
    }

    /// The errors of [`Self::fail_next`] that no call has met yet.
    pub fn faults_left(&self) -> usize {
        self.world.lock().faults.len()
    }

    /// Let something that is no container listen on a port of the host.
    pub fn occupy_port(&self, port: u16) {
        self.world.lock().foreign_ports.insert(port);
    }

    /// End what [`Self::occupy_port`] began.
    pub fn release_port(&self, port: u16) {
        self.world.lock().foreign_ports.remove(&port);
    }

    /// Have an image.
    pub fn add_image(&self, image: &str) {
        self.world.lock().images.insert(image.to_owned());
    }

    /// No longer have an image.
    pub fn remove_image(&self, image: &str) {
        self.world.lock().images.remove(image);
    }

    /// Whether an image can be fetched.
    pub fn set_pullable(&self, image: &str, pullable: bool) {
        let mut world = self.world.lock();
        if pullable {
            world.pullable.insert(image.to_owned());
        } else {
            world.pullable.remove(image);
        }
    }

    /// While set, no server in any container answers anything.
    pub fn set_hang_ready(&self, hang: bool) {
        self.world.lock().trouble.hang_ready = hang;
    }

    /// While set, a background save is under way in every redis and valkey.
    pub fn set_saving(&self, saving: bool) {
        self.world.lock().trouble.saving = saving;
    }

    /// While set, every save fails, with these words where there is a reply to put them in.
    pub fn set_save_error(&self, error: Option<String>) {
        self.world.lock().trouble.save_error = error;
    }

    /// While set, the disk is full: saves fail, and a redis or valkey that writes to the disk at all refuses
    /// writes and, as the real ones do, `PING`.
    pub fn set_write_error(&self, full: bool) {
        self.world.lock().trouble.write_error = full;
    }

    /// Somebody else's container, with whatever labels, whether its process runs or not; returns its id. It
    /// publishes nothing, and nothing in it answers.
    ///
    /// # Errors
    /// As for one's own: the name is taken, or is none.
    pub fn insert_foreign_container(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        running: bool,
    ) -> Result<String, EngineError> {
        let mut world = self.world.lock();
        let id = world.create(&ContainerSpec {
            name: name.to_owned(),
            image: FOREIGN_IMAGE.to_owned(),
            command: Vec::new(),
            labels: owned(labels),
            publish: None,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            restart: RestartPolicy::Never,
            stop_grace: 10,
        })?;
        if running {
            let index = world.index(&id)?;
            world.start(index)?;
        }
        Ok(id)
    }

    /// Somebody else's volume, or an older one, with whatever labels and files. One of that name is replaced.
    pub fn insert_foreign_volume(&self, name: &str, labels: &[(&str, &str)], files: &[(&str, &[u8])]) {
        let mut world = self.world.lock();
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let volume = Volume { labels: owned(labels), created: world.clock.as_secs(), files };
        world.volumes.insert(name.to_owned(), volume);
    }

    /// A file of a volume, by its path from the volume's root.
    pub fn volume_file(&self, volume: &str, path: &str) -> Option<Vec<u8>> {
        self.world.lock().volumes.get(volume)?.files.get(path).cloned()
    }

    /// Write a file of a volume (`None` removes it) behind the back of whatever uses it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that volume.
    pub fn set_volume_file(&self, volume: &str, path: &str, bytes: Option<&[u8]>) -> Result<(), EngineError> {
        let mut world = self.world.lock();
        let missing = || not_found(volume, "no such volume");
        let files = &mut world.volumes.get_mut(volume).ok_or_else(missing)?.files;
        match bytes {
            Some(bytes) => files.insert(path.to_owned(), bytes.to_vec()),
            None => files.remove(path),
        };
        Ok(())
    }

    /// SIGKILL, as `docker kill` sends it: the container is not started again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that container.
    pub fn kill(&self, name: &str) -> Result<(), EngineError> {
        let mut world = self.world.lock();
        let index = world.index(name)?;
        world.kill(index, true);
        Ok(())
    }

    /// The process dies by itself, as from a lack of memory; the container is started again if its restart
    /// policy says so.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that container.
    pub fn crash(&self, name: &str) -> Result<(), EngineError> {
        let mut world = self.world.lock();
        let index = world.index(name)?;
        world.kill(index, false);
        Ok(())
    }

    /// Show a container in a state that only others bring about, such as paused or dead. What runs in it
    /// answers only while that is [`ContainerState::Running`].
    ///
    /// # Errors
    /// [`EngineError::NotFound`] without that container.
    pub fn set_state(&self, name: &str, state: ContainerState) -> Result<(), EngineError> {
        let mut world = self.world.lock();
        let index = world.index(name)?;
        world.containers[index].state = state;
        Ok(())
    }

    /// Restart the container engine: SIGTERM to all that runs, then a start of what is to run unless it was
    /// stopped, on the same ports.
    pub fn daemon_restart(&self) {
        self.world.lock().daemon_restart();
    }

    /// Move the clock on.
    pub fn advance(&self, by: Duration) {
        let mut world = self.world.lock();
        world.clock = world.clock.saturating_add(by);
    }

    /// What the clock says.
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.world.lock().clock
    }

    /// Note a call, and meet the fault meant for it: `Err` to fail at once, `Ok(Some)` to fail in the end.
    fn begin(&self, call: Call, object: &str, rest: &str) -> Result<Option<EngineError>, EngineError> {
        let mut world = self.world.lock();
        let line = [call.as_str(), &world.name_of(object), rest].join(" ");
        world.calls.push(line.trim_end().to_owned());
        let met = world.faults.iter().position(|fault| fault.call == call);
        match met.and_then(|at| world.faults.remove(at)) {
            Some(Fault { error, after_effect: false, .. }) => Err(error),
            met => Ok(met.map(|fault| fault.error)),
        }
    }
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
