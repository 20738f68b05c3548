//! Where a dataset lies, and what becomes of it: all in which the policies differ. Memcached has none, so none of
//! this is asked for it.

use crate::bindings::fakecloud::elasticache::docker::{Container, Volume};
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{CacheKey, Description, Error, Operation};

/// A snapshot to start from.
pub struct Restored<'a> {
    pub snapshot: &'a Snapshot,
    /// Put it in the place of data that is there.
    pub replace: bool,
    /// The operation that broke off before its container ever ran, if one did.
    pub unfinished: Option<String>,
}

/// A container that was created and has not run, whose data is to be put in place.
pub struct Staging<'a> {
    pub operation: &'a Operation,
    pub key: &'a CacheKey,
    pub container: &'a Container,
    pub volume: Option<&'a Volume>,
    pub restored: Option<&'a Restored<'a>>,
}

/// How a policy keeps the data of redis and valkey.
pub trait Storage {
    /// What has to be put back if a start fails.
    type Before;

    /// Seconds between SIGTERM and SIGKILL.
    const GRACE: u32;
    /// The server's options for keeping data, beside the folder and the dump file's name.
    const OPTIONS: &'static [&'static str];
    /// Folders of the container that are kept in memory.
    const TMPFS: &'static [&'static str] = &[];

    /// What the policy says of itself.
    fn describe() -> Description;

    /// The server's folder, for a container that is to start from a snapshot or not.
    fn folder(restored: bool) -> &'static str;

    /// The volume for a cache, made if there is none; none if the policy keeps no data on volumes.
    fn volume(operation: &Operation, key: &CacheKey) -> Result<Option<Volume>, Error>;

    /// Put the data in place. Returns what this took the place of.
    fn stage(staging: &Staging) -> Result<Option<Self::Before>, Error>;

    /// Put back what `stage` took the place of.
    fn unstage(container: &Container, before: Self::Before) -> Result<(), Error>;

    /// After the engine has read the snapshot that it was to start from.
    fn loaded(container: &Container) -> Result<(), Error>;

    /// Before a running engine is restarted. An error leaves it running.
    fn before_reboot(container: &Container) -> Result<(), Error>;

    /// Before a running engine is ended. An error leaves it running.
    fn before_stop(container: &Container) -> Result<(), Error>;

    /// After a snapshot was read out of the container.
    fn saved(container: &Container) -> Result<(), Error>;

    /// Delete what is kept of a cache that has no container. False if there is nothing.
    fn remove_data(key: &CacheKey) -> Result<bool, Error>;
}
