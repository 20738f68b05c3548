//! `fuzzed`: a policy that makes arbitrary calls of the host with arbitrary arguments, as many as it likes, whatever
//! it is asked to do. Which ones depends on its setting `seed`, on what it is asked and on what it finds.
//!
//! - `random`: numbers and texts
//! - `calls`: one call of any interface
//!
//! `tests/src/bin/fuzz` runs it and says what must hold meanwhile.

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "exported to WebAssembly hosts only"))]

mod calls;
mod random;

use hostile::bindings::exports::fakecloud::elasticache::lifecycle::{ExecResult, Guest, Restore};
use hostile::bindings::fakecloud::elasticache::docker;
use hostile::bindings::fakecloud::elasticache::snapshots::Snapshot;
use hostile::bindings::fakecloud::elasticache::types::{
    Backend, Cache, CacheKey, CacheSpec, CacheState, Description, Endpoint, Engine, Error, Operation,
};
use hostile::{setting, trap};

use calls::Calls;
use random::Random;

/// Calls of one operation, where none of them ends it.
const CALLS: u64 = 3_000;

struct Fuzzed;

/// An operation that has made its calls, and is to answer something.
fn made(kind: &str, key: &CacheKey) -> Calls {
    let seen = docker::containers().map_or(0, |containers| containers.len());
    let about = format!("{} {kind} {}/{} {seen}", setting("seed"), key.scope, key.id);
    let mut calls = Calls::new(Random::new(about.as_bytes()));
    let count = calls.random.below(CALLS);
    for _ in 0..count {
        calls.one();
    }
    calls
}

fn answer<T>(calls: &mut Calls, value: impl FnOnce(&mut Calls) -> Option<T>) -> Result<T, Error> {
    match calls.random.below(8) {
        0 => trap(),
        1 => Err(calls.random.error()),
        _ => value(calls).ok_or_else(|| Error::Other("there is nothing to answer".to_owned())),
    }
}

fn cache(calls: &mut Calls, key: &CacheKey) -> Cache {
    let random = &mut calls.random;
    let right = !random.one_in(4);
    Cache {
        key: if right { key.clone() } else { CacheKey { scope: random.text(), id: random.text() } },
        engine: random.pick(&[Engine::Redis, Engine::Valkey, Engine::Memcached]),
        version: random.one_in(2).then(|| random.text()),
        state: random.pick(&[CacheState::Available, CacheState::Starting, CacheState::Stopped]),
        handle: random.text(),
        endpoint: random.one_in(2).then(|| Endpoint { address: random.text(), port: random.next() as u16 }),
        adopted: random.one_in(2),
    }
}

fn all() -> CacheKey {
    CacheKey { scope: String::new(), id: String::new() }
}

impl Guest for Fuzzed {
    fn describe() -> Description {
        Description {
            name: "fuzzed".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Makes arbitrary calls.".to_owned(),
            engines: vec![Engine::Redis, Engine::Valkey, Engine::Memcached],
            backends: vec![Backend::Docker, Backend::Kube],
            promises: Vec::new(),
        }
    }

    fn ensure(_: Operation, spec: CacheSpec, restore: Option<Restore>) -> Result<Cache, Error> {
        let mut calls = made("ensure", &spec.key);
        calls.snapshots.extend(restore.map(|restore| restore.snapshot));
        answer(&mut calls, |calls| Some(cache(calls, &spec.key)))
    }

    fn reboot(_: Operation, key: CacheKey) -> Result<Cache, Error> {
        let mut calls = made("reboot", &key);
        answer(&mut calls, |calls| Some(cache(calls, &key)))
    }

    fn snapshot(_: Operation, key: CacheKey) -> Result<Snapshot, Error> {
        answer(&mut made("snapshot", &key), |calls| calls.snapshots.pop())
    }

    fn stop(_: Operation, key: CacheKey) -> Result<bool, Error> {
        answer(&mut made("stop", &key), |calls| Some(calls.random.one_in(2)))
    }

    fn remove_data(_: Operation, key: CacheKey) -> Result<bool, Error> {
        answer(&mut made("remove-data", &key), |calls| Some(calls.random.one_in(2)))
    }

    fn exec(_: Operation, key: CacheKey, _: Vec<String>) -> Result<ExecResult, Error> {
        answer(&mut made("exec", &key), |calls| {
            let success = calls.random.one_in(2);
            calls.outputs.pop().map(|output| ExecResult { success, output })
        })
    }

    fn find(_: Operation, key: CacheKey) -> Result<Option<Cache>, Error> {
        let mut calls = made("find", &key);
        answer(&mut calls, |calls| Some(calls.random.one_in(2).then(|| cache(calls, &key))))
    }

    fn recover(_: Operation) -> Result<Vec<Cache>, Error> {
        answer(&mut made("recover", &all()), |calls| {
            let count = calls.random.below(20);
            Some(
                (0..count)
                    .map(|at| cache(calls, &CacheKey { scope: String::new(), id: format!("k{at}") }))
                    .collect(),
            )
        })
    }

    fn reap(_: Operation) -> Result<Vec<String>, Error> {
        answer(&mut made("reap", &all()), |calls| {
            let count = calls.random.below(20);
            Some((0..count).map(|_| calls.random.text()).collect())
        })
    }
}

// The exported names are none that a native linker takes.
#[cfg(target_arch = "wasm32")]
hostile::bindings::export_policy!(Fuzzed);
