//! Where a dataset lies, and what becomes of it: all in which the policies differ. Memcached has none, so none of
//! this is asked for it.

use crate::bindings::fakecloud::elasticache::docker::Volume;
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{CacheKey, Description, Error, Operation};
use crate::cache::Place;
use crate::server::{Disk, Server};

/// A snapshot to start from.
pub struct Restored<'a> {
    pub snapshot: &'a Snapshot,
    /// Put it in the place of data that is there.
    pub replace: bool,
    /// The operation that broke off before its container ever ran, if one did.
    pub unfinished: Option<String>,
}

/// A container or pod that was created and whose server has not run, whose data is to be put in place.
pub struct Staging<'a> {
    pub operation: &'a Operation,
    pub key: &'a CacheKey,
    pub server: Server<'a>,
    pub disk: Option<Disk<'a>>,
    pub restored: Option<&'a Restored<'a>>,
}

/// What becomes of the data in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPods {
    /// It lies on a claim, where the environment has a storage class; elsewhere as `Carried`.
    Kept,
    /// It lives as long as the cache: a reboot hands it from one pod to the next.
    Carried,
    /// It lives as long as the pod: a reboot empties.
    Emptied,
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
    /// On Kubernetes, where no pod starts again.
    const IN_PODS: InPods;

    /// What the policy says of itself where it runs.
    fn describe(place: Place) -> Description;

    /// The server's folder, for a container that is to start from a snapshot or not.
    fn folder(restored: bool) -> &'static str;

    /// The volume for a cache, made if there is none; none if the policy keeps no data on volumes.
    fn volume(operation: &Operation, key: &CacheKey) -> Result<Option<Volume>, Error>;

    /// Put the data in place. Returns what this took the place of.
    fn stage(staging: &Staging) -> Result<Option<Self::Before>, Error>;

    /// Put back what `stage` took the place of.
    fn unstage(server: Server, before: Self::Before) -> Result<(), Error>;

    /// Put back what a restore took the place of, where nothing was written since to what it put there: of one that
    /// broke off before an engine had read that, or whose dataset no engine can read. False if there is no such thing.
    fn undo(_: Server) -> Result<bool, Error> {
        Ok(false)
    }

    /// When an engine is adopted: whoever started it may have died before [`Storage::loaded`].
    fn adopted(_: Server) -> Result<(), Error> {
        Ok(())
    }

    /// After the engine has read the snapshot that it was to start from.
    fn loaded(server: Server) -> Result<(), Error>;

    /// Before a running engine is restarted. An error leaves it running.
    fn before_reboot(server: Server) -> Result<(), Error>;

    /// Before a running engine is ended. An error leaves it running.
    fn before_stop(server: Server) -> Result<(), Error>;

    /// After a snapshot was read out of the container or pod.
    fn saved(server: Server) -> Result<(), Error>;

    /// Delete the volume of a cache that has no container. False if there is nothing.
    fn remove_data(key: &CacheKey) -> Result<bool, Error>;
}
