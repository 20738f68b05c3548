//! `ephemeral`: for continuous integration, where nothing is to be left behind and every millisecond is waited for.
//!
//! No volumes, nothing on disk but what a snapshot or a reboot needs, and no time for an engine to end in. A reboot
//! keeps the data, by a save that is loaded again; nothing survives `down`. An engine that crashes comes back with
//! what was saved last, or empty.

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]

use policy_kit::bindings::fakecloud::elasticache::docker::{Container, Volume};
use policy_kit::bindings::fakecloud::elasticache::types::{
    Backend, CacheKey, Description, Engine, Error, Operation, Promise,
};
use policy_kit::lifecycle::save;
use policy_kit::storage::{Staging, Storage};
use policy_kit::volatile;

pub struct Ephemeral;

impl Storage for Ephemeral {
    type Before = ();

    /// There is nothing to be saved at the end.
    const GRACE: u32 = 0;
    const OPTIONS: &'static [&'static str] = volatile::OPTIONS;
    const TMPFS: &'static [&'static str] = volatile::TMPFS;

    fn describe() -> Description {
        Description {
            name: "ephemeral".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "For continuous integration: data in memory only, kept through reboots and gone after \
                      `down`; the fastest."
                .to_owned(),
            engines: vec![Engine::Redis, Engine::Valkey, Engine::Memcached],
            backends: vec![Backend::Docker],
            promises: vec![
                Promise::DataSurvivesReboot,
                Promise::NothingSurvivesStop,
                Promise::EndpointSurvivesReboot,
                Promise::Snapshots,
            ],
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

    fn unstage(_: &Container, (): ()) -> Result<(), Error> {
        Ok(())
    }

    fn loaded(_: &Container) -> Result<(), Error> {
        Ok(())
    }

    fn before_reboot(container: &Container) -> Result<(), Error> {
        save(container)
    }

    fn before_stop(_: &Container) -> Result<(), Error> {
        Ok(())
    }

    fn saved(_: &Container) -> Result<(), Error> {
        Ok(())
    }

    fn remove_data(_: &CacheKey) -> Result<bool, Error> {
        Ok(false)
    }
}

policy_kit::policy!(Ephemeral);
