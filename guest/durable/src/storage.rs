//! Every write goes to an append-only file on a volume of the cache's own before it is acknowledged.

use policy_kit::bindings::fakecloud::elasticache::docker::{self, Container, Content, File, Volume};
use policy_kit::bindings::fakecloud::elasticache::logging::{Level, log};
use policy_kit::bindings::fakecloud::elasticache::probes::{self, Check, Reply, Target};
use policy_kit::bindings::fakecloud::elasticache::snapshots::Snapshot;
use policy_kit::bindings::fakecloud::elasticache::types::{
    Backend, CacheKey, Description, Engine, Error, Operation, Promise,
};
use policy_kit::storage::{Staging, Storage};
use policy_kit::{cache, lifecycle, names, steps, volatile};

use crate::data::{self, Durability, Parts};

/// Milliseconds for a small question.
const ANSWER_WITHIN: u32 = 10_000;
/// Milliseconds for a rewrite of the append-only file.
const REWRITE_WITHIN: u32 = 300_000;

pub struct Durable;

impl Storage for Durable {
    /// The manifest of the dataset that was there.
    type Before = Vec<u8>;

    const GRACE: u32 = 60;
    const OPTIONS: &'static [&'static str] = data::OPTIONS;

    fn describe() -> Description {
        Description {
            name: "durable".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Keeps every acknowledged write on a volume of the cache's own, through reboots, \
                      restarts and crashes."
                .to_owned(),
            engines: vec![Engine::Redis, Engine::Valkey, Engine::Memcached],
            backends: vec![Backend::Docker],
            promises: vec![
                Promise::DataSurvivesReboot,
                Promise::DataSurvivesStop,
                Promise::DataSurvivesRemoval,
                Promise::DataSurvivesKill,
                Promise::EndpointSurvivesReboot,
                Promise::Snapshots,
            ],
        }
    }

    fn folder(_: bool) -> &'static str {
        data::FOLDER
    }

    fn volume(operation: &Operation, key: &CacheKey) -> Result<Option<Volume>, Error> {
        cache::data_volume(operation, key).map(Some)
    }

    fn stage(staging: &Staging) -> Result<Option<Vec<u8>>, Error> {
        staging.volume.map_or(Ok(None), |volume| stage(staging, volume))
    }

    fn unstage(container: &Container, before: Vec<u8>) -> Result<(), Error> {
        put_manifest(container, before)
    }

    fn loaded(_: &Container) -> Result<(), Error> {
        Ok(())
    }

    fn before_reboot(container: &Container) -> Result<(), Error> {
        // Made by another policy, which keeps no data on the disk: what it saves it loads again.
        if volatile::is_volatile(&container.info()) { lifecycle::save(container) } else { settle(container) }
    }

    fn before_stop(container: &Container) -> Result<(), Error> {
        // What such a container holds ends with it.
        if volatile::is_volatile(&container.info()) { Ok(()) } else { settle(container) }
    }

    fn saved(_: &Container) -> Result<(), Error> {
        Ok(())
    }

    fn remove_data(key: &CacheKey) -> Result<bool, Error> {
        match docker::find_volume(&names::volume(&key.scope, &key.id))? {
            None => Ok(false),
            Some(volume) => volume.remove().map(|()| true),
        }
    }
}

/// Put the dataset in place before the first start. Returns the manifest that this took the place of.
fn stage(staging: &Staging, volume: &Volume) -> Result<Option<Vec<u8>>, Error> {
    let Staging { operation, key, container, restored, .. } = *staging;
    let new = volume.info().operation.as_ref() == Some(&operation.id);
    match restored {
        None if new => Ok(None),
        None => convert(operation, container).map(|()| None),
        Some(restored) => {
            let has_data = !new && has_data(container, volume, restored.unfinished.as_deref())?;
            if !has_data {
                put_base(operation, container, restored.snapshot, None)?;
                return Ok(None);
            }
            if !restored.replace {
                return Err(cache::refuse(key, steps::HAS_DATA));
            }
            // From here on what is there has a manifest, which brings it back if this fails.
            convert(operation, container)?;
            let before = container.read(data::MANIFEST)?;
            match put_base(operation, container, restored.snapshot, Some(&before)) {
                Ok(()) => Ok(Some(before)),
                Err(error) => {
                    // It may have been written all the same.
                    cache::tidy(
                        put_manifest(container, before),
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
fn has_data(container: &Container, volume: &Volume, unfinished: Option<&str>) -> Result<bool, Error> {
    let Some(manifest) = container.stat(data::MANIFEST)? else {
        return Ok(container.stat(data::DUMP)?.is_some());
    };
    let Some(unfinished) = unfinished.filter(|id| volume.info().operation.as_deref() == Some(id)) else {
        return Ok(true);
    };
    let parts = Parts::of(unfinished);
    let appended = container.stat(&format!("{}/{}", data::FOLDER, parts.increment))?;
    let untouched =
        manifest.size == parts.manifest_text.len() as u64 && appended.is_some_and(|file| file.size == 0);
    Ok(!untouched)
}

/// A volume of an earlier runtime has a `dump.rdb` and nothing else.
fn convert(operation: &Operation, container: &Container) -> Result<(), Error> {
    if container.stat(data::MANIFEST)?.is_some() || container.stat(data::DUMP)?.is_none() {
        return Ok(());
    }
    log(Level::Info, "the volume holds an RDB file only; making it the base of an append-only file");
    let dump = container.get(data::DUMP)?;
    let parts = Parts::of(&format!("{}-dump", operation.id));
    put_parts(container, parts, &dump, None)
}

/// Makes a snapshot the dataset. `before`, the manifest that counts now, is kept beside it.
fn put_base(
    operation: &Operation,
    container: &Container,
    snapshot: &Snapshot,
    before: Option<&[u8]>,
) -> Result<(), Error> {
    let kept = before.map(|before| File {
        path: format!("appendonlydir/before-{}.manifest", operation.id),
        content: Content::Bytes(before.to_vec()),
    });
    put_parts(container, Parts::of(&operation.id), snapshot, kept)
}

fn put_parts(container: &Container, parts: Parts, base: &Snapshot, kept: Option<File>) -> Result<(), Error> {
    let mut files: Vec<File> = kept.into_iter().collect();
    files.push(File { path: parts.base, content: Content::Snapshot(base) });
    files.push(File { path: parts.increment, content: Content::Bytes(Vec::new()) });
    // The last one is what makes the others count.
    files.push(File { path: parts.manifest, content: Content::Bytes(parts.manifest_text.into_bytes()) });
    container.put(data::FOLDER, &files)
}

fn put_manifest(container: &Container, text: Vec<u8>) -> Result<(), Error> {
    let path = "appendonlydir/appendonly.aof.manifest".to_owned();
    container.put(data::FOLDER, &[File { path, content: Content::Bytes(text) }])
}

/// Make sure that every acknowledged write of a running engine is on disk, before it is ended.
fn settle(container: &Container) -> Result<(), Error> {
    match durability(container)? {
        Durability::Safe | Durability::Unknown => Ok(()),
        Durability::Refused(words) => Err(Error::EngineError(format!(
            "the engine does not say whether its data is on disk ({words}); nothing was stopped, try again"
        ))),
        Durability::Failing => Err(failing()),
        Durability::Off => {
            log(Level::Info, "the append-only file was turned off; turning it on to keep what is in memory");
            match cache::command(container, &["CONFIG", "SET", "appendonly", "yes"], ANSWER_WITHIN)? {
                Reply::Status(_) => {}
                Reply::Error(words) => return Err(Error::EngineError(words)),
                _ => return Err(failing()),
            }
            probes::wait_ready(&Target::Container(container), Check::RedisIdle, REWRITE_WITHIN)?;
            match durability(container)? {
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
/// first is taken at its default: the append-only file is on.
fn durability(container: &Container) -> Result<Durability, Error> {
    match cache::command(container, &["INFO", "persistence"], ANSWER_WITHIN) {
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
