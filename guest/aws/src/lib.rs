//! `aws`: what ElastiCache itself does, for tests of applications that must bear it.
//!
//! A reboot of a redis or valkey node empties it, as that of a memcached node does, and so does every other end of
//! the engine. A snapshot is the only way to keep data: what was not saved by one is lost.

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]

use policy_kit::bindings::fakecloud::elasticache::docker::Volume;
use policy_kit::bindings::fakecloud::elasticache::types::{
    CacheKey, Description, Engine, Error, Operation, Promise,
};
use policy_kit::cache::{BACKENDS, Place};
use policy_kit::server::Server;
use policy_kit::storage::{InPods, Staging, Storage};
use policy_kit::volatile::{self, promises};

pub struct Aws;

impl Storage for Aws {
    type Before = ();

    const GRACE: u32 = 10;
    const OPTIONS: &'static [&'static str] = volatile::OPTIONS;
    const TMPFS: &'static [&'static str] = volatile::TMPFS;
    const IN_PODS: InPods = InPods::Emptied;

    fn describe(place: Place) -> Description {
        Description {
            name: "aws".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary:
                "As ElastiCache itself: a reboot empties a node of any engine, and a snapshot is the only \
                      way to keep data."
                    .to_owned(),
            engines: vec![Engine::Redis, Engine::Valkey, Engine::Memcached],
            backends: BACKENDS.to_vec(),
            promises: promises(place, Promise::RebootEmpties),
        }
    }

    fn folder(_: bool) -> &'static str {
        volatile::PREPARED
    }

    fn volume(_: &Operation, _: &CacheKey) -> Result<Option<Volume>, Error> {
        Ok(None)
    }

    fn stage(staging: &Staging) -> Result<Option<()>, Error> {
        match staging.restored {
            Some(_) => volatile::put_snapshot(staging)?,
            None => volatile::put_empty(staging.server)?,
        }
        Ok(None)
    }

    fn unstage(_: Server, (): ()) -> Result<(), Error> {
        Ok(())
    }

    /// What was loaded once is not to be loaded again, by whatever start.
    fn loaded(server: Server) -> Result<(), Error> {
        volatile::put_empty(server)
    }

    fn adopted(server: Server) -> Result<(), Error> {
        // One that another policy made is not for this one to empty.
        if volatile::is_volatile(server) { volatile::put_empty(server) } else { Ok(()) }
    }

    fn before_reboot(server: Server) -> Result<(), Error> {
        volatile::put_empty(server)
    }

    fn before_stop(_: Server) -> Result<(), Error> {
        Ok(())
    }

    fn saved(server: Server) -> Result<(), Error> {
        volatile::put_empty(server)
    }

    fn remove_data(_: &CacheKey) -> Result<bool, Error> {
        Ok(false)
    }
}

policy_kit::policy!(Aws);
