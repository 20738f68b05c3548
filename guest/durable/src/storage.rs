//! Every write goes to an append-only file on a volume of the cache's own before it is acknowledged.

use policy_kit::bindings::fakecloud::elasticache::docker::{self, Content, File, Volume};
use policy_kit::bindings::fakecloud::elasticache::logging::{Level, log};
use policy_kit::bindings::fakecloud::elasticache::probes::{self, Check, Reply};
use policy_kit::bindings::fakecloud::elasticache::snapshots::Snapshot;
use policy_kit::bindings::fakecloud::elasticache::types::{
    CacheKey, Description, Engine, Error, Operation, Promise,
};
use policy_kit::cache::{BACKENDS, Place};
use policy_kit::server::{Disk, Server};
use policy_kit::storage::{InPods, Staging, Storage};
use policy_kit::{cache, containers, names, steps, volatile};

use crate::data::{self, Durability, Parts};

/// Milliseconds for a small question.
const ANSWER_WITHIN: u32 = 10_000;
/// Milliseconds for an engine that was started a moment ago to answer at all.
const ANSWERS_WITHIN: u32 = 3_000;
/// Milliseconds for a rewrite of the append-only file.
const REWRITE_WITHIN: u32 = 300_000;

pub struct Durable;

impl Storage for Durable {
    /// The manifest of the dataset that was there.
    type Before = Vec<u8>;

    const GRACE: u32 = 60;
    const OPTIONS: &'static [&'static str] = data::OPTIONS;
    const IN_PODS: InPods = InPods::Kept;

    fn describe(place: Place) -> Description {
        Description {
            name: "durable".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Keeps every acknowledged write on a volume of the cache's own, through reboots, \
                      restarts and crashes."
                .to_owned(),
            engines: vec![Engine::Redis, Engine::Valkey, Engine::Memcached],
            backends: BACKENDS.to_vec(),
            promises: promises(place),
        }
    }

    fn folder(_: bool) -> &'static str {
        data::FOLDER
    }

    fn volume(operation: &Operation, key: &CacheKey) -> Result<Option<Volume>, Error> {
        containers::data_volume(operation, key).map(Some)
    }

    fn stage(staging: &Staging) -> Result<Option<Vec<u8>>, Error> {
        staging.disk.map_or(Ok(None), |disk| stage(staging, disk))
    }

    fn unstage(server: Server, before: Vec<u8>) -> Result<(), Error> {
        put_manifest(server, before)
    }

    fn undo(server: Server) -> Result<bool, Error> {
        if server.stat(data::MANIFEST)?.is_none() {
            return Ok(false);
        }
        let Some(operation) = data::restored_by(&server.read(data::MANIFEST)?) else { return Ok(false) };
        let kept = format!("{}/{}", data::FOLDER, data::kept(&operation));
        let loaded = format!("{}/{}", data::FOLDER, data::loaded(&operation));
        if server.stat(&kept)?.is_none()
            || server.stat(&loaded)?.is_some()
            || !is_untouched(server, &operation)?
        {
            return Ok(false);
        }
        log(Level::Warn, "a restore was cut off; having back the dataset that was there before");
        put_manifest(server, server.read(&kept)?)?;
        Ok(true)
    }

    /// From now on nothing else than this dataset counts, whatever becomes of its engine.
    fn loaded(server: Server) -> Result<(), Error> {
        let operation = server.about().operation;
        if server.stat(&format!("{}/{}", data::FOLDER, data::kept(&operation)))?.is_none() {
            return Ok(());
        }
        let (path, content) = (data::loaded(&operation), Content::Bytes(Vec::new()));
        server.put(data::FOLDER, &[File { path, content }])
    }

    fn before_reboot(server: Server) -> Result<(), Error> {
        // Made by another policy, which keeps no data on the disk: what it saves it loads again.
        if volatile::is_volatile(server) { cache::save(server) } else { settle(server) }
    }

    fn before_stop(server: Server) -> Result<(), Error> {
        // What such a container holds ends with it.
        if volatile::is_volatile(server) { Ok(()) } else { settle(server) }
    }

    fn saved(_: Server) -> Result<(), Error> {
        Ok(())
    }

    fn remove_data(key: &CacheKey) -> Result<bool, Error> {
        match docker::find_volume(&names::volume(&key.scope, &key.id))? {
            None => Ok(false),
            Some(volume) => volume.remove().map(|()| true),
        }
    }
}

/// What is kept where data lies on volumes or claims, and what remains without them.
fn promises(place: Place) -> Vec<Promise> {
    let mut promises = vec![Promise::DataSurvivesReboot, Promise::Snapshots];
    match place {
        Place::Docker => promises.push(Promise::EndpointSurvivesReboot),
        Place::Kube { claims: true } => {}
        Place::Kube { claims: false } => {
            promises.push(Promise::NothingSurvivesStop);
            return promises;
        }
    }
    promises.extend([Promise::DataSurvivesStop, Promise::DataSurvivesRemoval, Promise::DataSurvivesKill]);
    promises
}

/// Put the dataset in place before the first start. Returns the manifest that this took the place of.
fn stage(staging: &Staging, disk: Disk) -> Result<Option<Vec<u8>>, Error> {
    let Staging { operation, key, server, restored, .. } = *staging;
    let new = disk.operation().as_ref() == Some(&operation.id);
    match restored {
        None if new => Ok(None),
        None => convert(operation, server).map(|()| None),
        Some(restored) => {
            let has_data = !new && has_data(server, disk, restored.unfinished.as_deref())?;
            if !has_data {
                put_base(operation, server, restored.snapshot, None)?;
                return Ok(None);
            }
            if !restored.replace {
                return Err(cache::refuse(key, steps::HAS_DATA));
            }
            // From here on what is there has a manifest, which brings it back if this fails.
            convert(operation, server)?;
            let before = server.read(data::MANIFEST)?;
            match put_base(operation, server, restored.snapshot, Some(&before)) {
                Ok(()) => Ok(Some(before)),
                Err(error) => {
                    // It may have been written all the same.
                    cache::tidy(
                        put_manifest(server, before),
                        "having back the dataset that was there before",
                    );
                    Err(error)
                }
            }
        }
    }
}

/// Whether a volume that was there holds a dataset.
///
/// What an operation put there that broke off before its container ran is nobody's, unless an engine has
/// written to it since, of whichever instance: it then appended, or rewrote the manifest.
fn has_data(server: Server, disk: Disk, unfinished: Option<&str>) -> Result<bool, Error> {
    if server.stat(data::MANIFEST)?.is_none() {
        return Ok(server.stat(data::DUMP)?.is_some());
    }
    let Some(unfinished) = unfinished.filter(|id| disk.operation().as_deref() == Some(id)) else {
        return Ok(true);
    };
    Ok(!is_untouched(server, unfinished)?)
}

/// Whether the dataset that counts is the one that an operation put there, and no engine has written to it since.
fn is_untouched(server: Server, operation: &str) -> Result<bool, Error> {
    let parts = Parts::of(operation);
    let size = |path: &str| Ok(server.stat(path)?.map(|file| file.size));
    let appended = size(&format!("{}/{}", data::FOLDER, parts.increment))?;
    Ok(appended == Some(0) && size(data::MANIFEST)? == Some(parts.manifest_text.len() as u64))
}

/// A volume of an earlier runtime has a `dump.rdb` and nothing else.
fn convert(operation: &Operation, server: Server) -> Result<(), Error> {
    if server.stat(data::MANIFEST)?.is_some() || server.stat(data::DUMP)?.is_none() {
        return Ok(());
    }
    log(Level::Info, "the volume holds an RDB file only; making it the base of an append-only file");
    let dump = server.get(data::DUMP)?;
    let parts = Parts::of(&format!("{}-dump", operation.id));
    put_parts(server, parts, &dump, None)
}

/// Makes a snapshot the dataset. `before`, the manifest that counts now, is kept beside it.
fn put_base(
    operation: &Operation,
    server: Server,
    snapshot: &Snapshot,
    before: Option<&[u8]>,
) -> Result<(), Error> {
    let kept = before
        .map(|before| File { path: data::kept(&operation.id), content: Content::Bytes(before.to_vec()) });
    put_parts(server, Parts::of(&operation.id), snapshot, kept)
}

fn put_parts(server: Server, parts: Parts, base: &Snapshot, kept: Option<File>) -> Result<(), Error> {
    let mut files: Vec<File> = kept.into_iter().collect();
    files.push(File { path: parts.base, content: Content::Snapshot(base) });
    files.push(File { path: parts.increment, content: Content::Bytes(Vec::new()) });
    // The last one is what makes the others count.
    files.push(File { path: parts.manifest, content: Content::Bytes(parts.manifest_text.into_bytes()) });
    server.put(data::FOLDER, &files)
}

fn put_manifest(server: Server, text: Vec<u8>) -> Result<(), Error> {
    let path = "appendonlydir/appendonly.aof.manifest".to_owned();
    server.put(data::FOLDER, &[File { path, content: Content::Bytes(text) }])
}

/// Make sure that every acknowledged write of a running engine is on disk, before it is ended.
fn settle(server: Server) -> Result<(), Error> {
    match durability(server)? {
        Durability::Safe | Durability::Unknown => Ok(()),
        Durability::Refused(words) => Err(Error::EngineError(format!(
            "the engine does not say whether its data is on disk ({words}); nothing was stopped, try again"
        ))),
        Durability::Failing => Err(failing()),
        Durability::Off => {
            log(Level::Info, "the append-only file was turned off; turning it on to keep what is in memory");
            match cache::command(server, &["CONFIG", "SET", "appendonly", "yes"], ANSWER_WITHIN)? {
                Reply::Status(_) => {}
                Reply::Error(words) => return Err(Error::EngineError(words)),
                _ => return Err(failing()),
            }
            probes::wait_ready(&server.target(), Check::RedisIdle, REWRITE_WITHIN)?;
            match durability(server)? {
                Durability::Safe => Ok(()),
                Durability::Failing | Durability::Off | Durability::Unknown | Durability::Refused(_) => {
                    Err(failing())
                }
            }
        }
    }
}

fn failing() -> Error {
    Error::EngineError(
        "the engine cannot write its append-only file (is the disk full?); nothing was stopped".to_owned(),
    )
}

/// Asks the engine. One that does not answer at all, that is still reading its file, or that wants a password
/// first is taken at its default: the append-only file is on. Then nothing is lost, in whichever way it ends: what it
/// acknowledged is in the file. Only what somebody kept out of the file, who turned it off, goes with an engine that is
/// silent twice. To refuse for that would leave one that hangs without the reboot that mends it.
fn durability(server: Server) -> Result<Durability, Error> {
    let ask = || cache::command(server, &["INFO", "persistence"], ANSWER_WITHIN);
    let answer = match ask() {
        // One that was started a moment ago, by a process that was killed since perhaps, takes no signal before it
        // listens: the one that ends it would be lost, and the container engine wait for all of the grace.
        // One that is only late says it when it is asked again: to be silent once is no reason to lose what it holds.
        Err(Error::Unavailable(_) | Error::Timeout(_)) => {
            cache::tidy(
                probes::wait_ready(&server.target(), Check::RedisPing, ANSWERS_WITHIN).map(drop),
                "waiting for an engine that may be starting",
            );
            ask()
        }
        other => other,
    };
    match answer {
        Ok(Reply::Bulk(text)) => Ok(data::durability(&String::from_utf8_lossy(&text))),
        Ok(Reply::Error(words)) => {
            log(Level::Warn, &format!("the engine does not say how it keeps its data: {words}"));
            Ok(data::unsaid(words))
        }
        Ok(_) => Ok(Durability::Unknown),
        Err(Error::Timeout(why) | Error::Unavailable(why) | Error::EngineError(why)) => {
            log(Level::Warn, &format!("the engine does not answer: {why}"));
            Ok(Durability::Unknown)
        }
        Err(other) => Err(other),
    }
}
