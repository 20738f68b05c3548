//! The `docker` and `kube` capabilities in native types, and their suppliers beside each other.
//!
//! A supplier does what it is told to the object it is told. Who may ask for what is decided before, in
//! one place, by the crate's `capabilities` module.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
#[cfg(any(feature = "docker", feature = "kube"))]
use std::path::{Component, Path};
use std::time::SystemTime;

use async_trait::async_trait;

use crate::progress::SharedProgress;

pub mod cluster;
#[cfg(feature = "docker")]
pub mod docker;
#[cfg(feature = "kube")]
pub mod kube;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Its process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its process ended and will be started again.
    Restarting,
    /// Its process ended.
    Exited,
    /// On its way out.
    Removing,
    /// Could not be removed.
    Dead,
}

/// A port of a container that is reachable on the engine's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Inside.
    pub container_port: u16,
    /// On the host.
    pub host_port: u16,
}

/// A container as observed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Engine-side identity.
    pub id: String,
    /// Without a leading slash.
    pub name: String,
    /// The image's name as it was asked for.
    pub image: String,
    /// What it is doing.
    pub state: ContainerState,
    /// All labels, the image's own included.
    pub labels: BTreeMap<String, String>,
    /// As published now; `None` unless it runs.
    pub published: Option<Published>,
    /// Of the last end; `None` if it never ended or the observation did not say (lists do not).
    pub exit_code: Option<i32>,
}

/// Whether the engine starts a container again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    Never,
    /// After a crash and after a restart of the engine, but not after a stop.
    UnlessStopped,
}

/// What a new container is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Unique on the engine.
    pub name: String,
    /// An image that is there already.
    pub image: String,
    /// In place of the image's command.
    pub command: Vec<String>,
    /// All of them.
    pub labels: BTreeMap<String, String>,
    /// The port to publish, at this address of the host.
    pub publish: Option<(IpAddr, Published)>,
    /// Named volumes and where they go.
    pub mounts: Vec<(String, String)>,
    /// Folders that are kept in memory, and are empty whenever it starts.
    pub tmpfs: Vec<String>,
    /// Whether the engine starts it again.
    pub restart: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL when the engine stops it by itself.
    pub stop_grace: u32,
}

/// A volume as observed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Unique on the engine.
    pub name: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// By the engine's clock, in whole seconds. `None` where it cannot tell: of one, say, that is being
    /// removed while it is looked at.
    pub created: Option<SystemTime>,
}

/// What a program run inside a container gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// As the engine reports it; 126 or 127 where the program could not be run.
    pub exit_code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// What a file or folder inside a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// Whether it is a folder.
    pub directory: bool,
}

/// What a file is filled with.
#[derive(Debug)]
pub enum Content {
    /// A few bytes.
    Bytes(Vec<u8>),
    /// A file on this side, read from its start, and its length in bytes.
    File(File, u64),
}

/// A file to be written into a container.
#[derive(Debug)]
pub struct NewFile {
    /// Relative to the folder given beside it. Its own folders are made with mode 0777: the server inside need not be
    /// root, and nobody else is there.
    pub path: String,
    /// What goes in; the file's mode is 0644.
    pub content: Content,
}

/// What is wrong with the path of a new file, if anything is.
#[cfg(any(feature = "docker", feature = "kube"))]
pub(crate) fn check_new_path(path: &str) -> Result<(), String> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || path.ends_with('/') || !plain {
        return Err("the path of a new file must be relative and without dots".to_owned());
    }
    Ok(())
}

/// Why an engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The object does not exist.
    #[error("{object} does not exist: {message}")]
    NotFound {
        /// Which object.
        object: String,
        /// The engine's own words.
        message: String,
    },
    /// The name is taken, or the object's state does not allow it.
    #[error("{object} is in the way: {message}")]
    Conflict {
        /// Which object.
        object: String,
        /// The engine's own words.
        message: String,
    },
    /// The port to be published is in use.
    #[error("port {port} for {object} is in use")]
    PortTaken {
        /// Which port.
        port: u16,
        /// For which object.
        object: String,
    },
    /// The engine cannot be reached, or hung up. What was asked may have happened.
    #[error("no answer about {object}: {message}")]
    Unavailable {
        /// Which object.
        object: String,
        /// What went wrong on the way.
        message: String,
    },
    /// The engine refused, or failed.
    #[error("{object}: {message}")]
    Failed {
        /// Which object.
        object: String,
        /// The engine's own words.
        message: String,
    },
    /// A file on this side could not be read or written.
    #[error("moving bytes of {object} failed: {message}")]
    Io {
        /// Which object.
        object: String,
        /// The system's own words.
        message: String,
    },
}

/// Containers, volumes and images of one engine.
///
/// # Guarantees asked of a supplier
/// - A call does what it says to the object named, or reports an error; it never tries twice.
/// - Dropping a call's future stops the waiting, not what the engine already began.
/// - Nothing waits for longer than the engine does: deadlines are the caller's.
/// - Memory stays bounded whatever the size of a file that is moved.
#[async_trait]
pub trait ContainerEngine: Send + Sync + 'static {
    /// `docker`, `podman`, `memory`.
    fn name(&self) -> &str;

    /// Every container, in whatever state, that has all of these labels; one list call. An empty value
    /// asks only that the label be there.
    async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>, EngineError>;

    /// A container by name or id; `None` if there is none.
    async fn inspect_container(&self, name: &str) -> Result<Option<Container>, EngineError>;

    /// Create without starting; returns the id. [`EngineError::Conflict`] if the name is taken,
    /// [`EngineError::NotFound`] if the image is not there.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError>;

    /// Start. A running one is left as it is. [`EngineError::PortTaken`] if its port is in use.
    async fn start_container(&self, id: &str) -> Result<(), EngineError>;

    /// SIGTERM, SIGKILL after `grace` seconds, and wait for the end. One that does not run is left.
    async fn stop_container(&self, id: &str, grace: u32) -> Result<(), EngineError>;

    /// Stop and start in one call.
    async fn restart_container(&self, id: &str, grace: u32) -> Result<(), EngineError>;

    /// Remove one that does not run, without its named volumes. [`EngineError::Conflict`] if it runs,
    /// [`EngineError::NotFound`] if it is gone.
    async fn remove_container(&self, id: &str) -> Result<(), EngineError>;

    /// Wait until it does not run; returns its exit code.
    async fn wait_exit(&self, id: &str) -> Result<i32, EngineError>;

    /// The last lines that its process wrote, at most 4 KiB.
    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError>;

    /// Run a program in it, no terminal, no input; collect at most `max_output` bytes of each stream
    /// ([`EngineError::Failed`] beyond).
    async fn exec(&self, id: &str, argv: &[String], max_output: usize) -> Result<ExecOutput, EngineError>;

    /// Write files below `folder`, in the order given. `moved` is told each number of bytes.
    async fn put_files(
        &self,
        id: &str,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError>;

    /// Read one regular file into `sink`; returns its length. [`EngineError::NotFound`] without it. An
    /// error of the sink is [`EngineError::Io`], a stream that ends early too.
    async fn get_file(&self, id: &str, path: &str, sink: Box<dyn Write + Send>) -> Result<u64, EngineError>;

    /// What is at a path; `None` if nothing is.
    async fn stat_file(&self, id: &str, path: &str) -> Result<Option<FileInfo>, EngineError>;

    /// Every volume that has all of these labels, as in `list_containers`; one list call.
    async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>, EngineError>;

    /// A volume by name; `None` if there is none.
    async fn inspect_volume(&self, name: &str) -> Result<Option<Volume>, EngineError>;

    /// Create a volume; returns it as the engine has it. Engines return one of that name that was
    /// there before as if they had just made it: only its labels tell.
    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, EngineError>;

    /// Remove a volume with all data. [`EngineError::Conflict`] while a container uses it,
    /// [`EngineError::NotFound`] if it is gone.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Fetch an image.
    async fn pull_image(&self, image: &str, progress: SharedProgress) -> Result<(), EngineError>;

    /// Whether nothing listens on that port of the engine's host at that address, as far as can be told
    /// from here.
    async fn port_is_free(&self, address: IpAddr, port: u16) -> bool;
}

#[cfg(all(test, any(feature = "docker", feature = "kube")))]
mod tests {
    use super::check_new_path;

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for path in ["", "/a", "../a", "a/../b", "./a", "a/"] {
            assert!(check_new_path(path).is_err(), "{path}");
        }
        assert!(check_new_path("a/b.rdb").is_ok());
    }
}
