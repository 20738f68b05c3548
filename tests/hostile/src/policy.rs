//! A policy that is decent wherever it says nothing else.

use std::marker::PhantomData;

use crate::bindings::exports::fakecloud::elasticache::lifecycle::{ExecResult, Guest, Restore};
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{
    Backend, Cache, CacheKey, CacheSpec, Description, Engine, Error, Operation,
};
use crate::decent;

/// The operations that can be done badly.
pub trait Policy {
    /// What every operation begins with.
    fn anywhere() {}

    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        decent::ensure(key)
    }

    fn reboot(key: &CacheKey) -> Result<Cache, Error> {
        decent::reboot(key)
    }

    fn snapshot(key: &CacheKey) -> Result<Snapshot, Error> {
        decent::snapshot(key)
    }

    fn stop(key: &CacheKey) -> Result<bool, Error> {
        decent::stop(key)
    }

    fn remove_data(key: &CacheKey) -> Result<bool, Error> {
        decent::remove_data(key)
    }

    fn exec(key: &CacheKey, args: Vec<String>) -> Result<ExecResult, Error> {
        decent::exec(key, args)
    }

    fn find(key: &CacheKey) -> Result<Option<Cache>, Error> {
        decent::find(key)
    }

    fn recover() -> Result<Vec<Cache>, Error> {
        decent::recover()
    }

    fn reap() -> Result<Vec<String>, Error> {
        decent::reap()
    }
}

/// A [`Policy`] as the contract wants it.
pub struct Lifecycle<P>(PhantomData<P>);

/// The cache that is always treated well.
fn is_good(key: &CacheKey) -> bool {
    key.id == "good"
}

/// One operation, on whatever cache it is for.
macro_rules! operation {
    ($policy:ident, $key:expr, $name:ident($($argument:expr),*)) => {
        if is_good($key) {
            decent::$name($key $(, $argument)*)
        } else {
            $policy::anywhere();
            $policy::$name($key $(, $argument)*)
        }
    };
}

impl<P: Policy> Guest for Lifecycle<P> {
    fn describe() -> Description {
        Description {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Misbehaves.".to_owned(),
            engines: vec![Engine::Redis],
            backends: vec![Backend::Docker],
            promises: Vec::new(),
        }
    }

    fn ensure(_: Operation, spec: CacheSpec, _: Option<Restore>) -> Result<Cache, Error> {
        operation!(P, &spec.key, ensure())
    }

    fn reboot(_: Operation, key: CacheKey) -> Result<Cache, Error> {
        operation!(P, &key, reboot())
    }

    fn snapshot(_: Operation, key: CacheKey) -> Result<Snapshot, Error> {
        operation!(P, &key, snapshot())
    }

    fn stop(_: Operation, key: CacheKey) -> Result<bool, Error> {
        operation!(P, &key, stop())
    }

    fn remove_data(_: Operation, key: CacheKey) -> Result<bool, Error> {
        operation!(P, &key, remove_data())
    }

    fn exec(_: Operation, key: CacheKey, args: Vec<String>) -> Result<ExecResult, Error> {
        operation!(P, &key, exec(args))
    }

    fn find(_: Operation, key: CacheKey) -> Result<Option<Cache>, Error> {
        operation!(P, &key, find())
    }

    fn recover(_: Operation) -> Result<Vec<Cache>, Error> {
        P::anywhere();
        P::recover()
    }

    fn reap(_: Operation) -> Result<Vec<String>, Error> {
        P::anywhere();
        P::reap()
    }
}
