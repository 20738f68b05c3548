//! `ephemeral`: for continuous integration, where nothing is to be left behind and every millisecond is waited for.
//!
//! No volumes, nothing on disk but what a snapshot or a reboot needs, and no time for an engine to end in. A reboot
//! keeps the data, by a save that is loaded again; nothing survives `down`. An engine that crashes comes back with
//! what was saved last, or empty. On Kubernetes a reboot hands the data from one pod to the next.

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]

use policy_kit::bindings::fakecloud::elasticache::docker::Volume;
use policy_kit::bindings::fakecloud::elasticache::types::{
    CacheKey, Description, Engine, Error, Operation, Promise,
};
use policy_kit::cache::{BACKENDS, Place, save};
use policy_kit::server::Server;
use policy_kit::storage::{InPods, Staging, Storage};
use policy_kit::volatile::{self, promises};

pub struct Ephemeral;

impl Storage for Ephemeral {
    type Before = ();

    /// There is nothing to be saved at the end.
    const GRACE: u32 = 0;
    const OPTIONS: &'static [&'static str] = volatile::OPTIONS;
    const TMPFS: &'static [&'static str] = volatile::TMPFS;
    const IN_PODS: InPods = InPods::Carried;

    fn describe(place: Place) -> Description {
        Description {
            name: "ephemeral".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "For continuous integration: data in memory only, kept through reboots and gone after \
                      `down`; the fastest."
                .to_owned(),
            engines: vec![Engine::Redis, Engine::Valkey, Engine::Memcached],
            backends: BACKENDS.to_vec(),
            promises: promises(place, Promise::DataSurvivesReboot),
        }
    }

    fn folder(restored: bool) -> &'static str {
        // Without a file to be put there, the call that puts it is saved.
        if restored { volatile::PREPARED } else { volatile::PLAIN }
    }

    fn volume(_: &Operation, _: &CacheKey) -> Result<Option<Volume>, Error> {
        Ok(None)
    }

    fn stage(staging: &Staging) -> Result<Option<()>, Error> {
        volatile::put_snapshot(staging).map(|()| None)
    }

    fn unstage(_: Server, (): ()) -> Result<(), Error> {
        Ok(())
    }

    fn loaded(_: Server) -> Result<(), Error> {
        Ok(())
    }

    fn before_reboot(server: Server) -> Result<(), Error> {
        save(server)
    }

    fn before_stop(_: Server) -> Result<(), Error> {
        Ok(())
    }

    fn saved(_: Server) -> Result<(), Error> {
        Ok(())
    }

    fn remove_data(_: &CacheKey) -> Result<bool, Error> {
        Ok(false)
    }
}

policy_kit::policy!(Ephemeral);
