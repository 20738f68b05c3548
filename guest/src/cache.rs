//! One cache during one operation: finding it, making it, waiting for it, settling its data, ending it.

use crate::bindings::fakecloud::elasticache::docker::{
    self, Container, ContainerInfo, ContainerSpec, ContainerState, Content, File, Publish, RestartPolicy,
    Volume,
};
use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Reply, Target};
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{
    Cache, CacheKey, CacheSpec, CacheState, Endpoint, Engine, Error, InvalidInput, Operation,
};
use crate::bindings::wasi::config::store;
use crate::data::{self, Durability, Parts};
use crate::engines::{self, Kind};
use crate::names;
use crate::steps::Seen;

/// The policy's labels: what `recover` needs to know about a container without asking anybody.
const ENGINE_LABEL: &str = "fakecloud-policy-engine";
const VERSION_LABEL: &str = "fakecloud-policy-version";

/// Milliseconds for an engine to answer after a start. Loading gigabytes takes its time.
const READY_WITHIN: u32 = 300_000;
/// Milliseconds for a small question.
const ANSWER_WITHIN: u32 = 10_000;
/// Milliseconds for a rewrite of the append-only file.
const REWRITE_WITHIN: u32 = 300_000;
/// Seconds between SIGTERM and SIGKILL.
pub const GRACE: u32 = 60;
/// Seconds where nothing can be lost: the engine never answered, or holds nothing.
const SHORT_GRACE: u32 = 2;
/// Ports to try before giving up. Each was free a moment before, so more than a few is no coincidence.
const PORT_ATTEMPTS: u32 = 8;

/// The container of a cache, as `find` saw it.
pub fn find(operation: &Operation, key: &CacheKey) -> Result<Option<Container>, Error> {
    docker::find(&names::container(&operation.instance, &key.scope, &key.id))
}

/// A container in the words of [`crate::steps`].
pub fn seen(container: Option<&Container>) -> Seen {
    match container.map(|c| c.info().state) {
        None => Seen::Absent,
        Some(ContainerState::Created) => Seen::Created,
        Some(ContainerState::Running) => Seen::Running,
        Some(ContainerState::Paused) => Seen::Paused,
        Some(ContainerState::Restarting) => Seen::Restarting,
        Some(ContainerState::Exited) => Seen::Exited,
        Some(ContainerState::Removing) => Seen::Removing,
        Some(ContainerState::Dead) => Seen::Dead,
    }
}

/// Names a cache in an error.
pub fn about(key: &CacheKey) -> String {
    if key.scope.is_empty() {
        format!("cache {:?}", key.id)
    } else {
        format!("cache {:?} in scope {:?}", key.id, key.scope)
    }
}

pub fn no_such_cache(key: &CacheKey) -> Error {
    Error::NotFound(about(key))
}

pub fn refuse(key: &CacheKey, why: &str) -> Error {
    Error::Conflict(format!("{}: {why}", about(key)))
}

fn invalid(field: &str, reason: String) -> Error {
    Error::Invalid(InvalidInput { field: field.to_owned(), reason })
}

pub fn kind_of(engine: Engine) -> Kind {
    match engine {
        Engine::Redis => Kind::Redis,
        Engine::Valkey => Kind::Valkey,
        Engine::Memcached => Kind::Memcached,
    }
}

fn engine_of(kind: Kind) -> Engine {
    match kind {
        Kind::Redis => Engine::Redis,
        Kind::Valkey => Engine::Valkey,
        Kind::Memcached => Engine::Memcached,
    }
}

/// What runs in a container of this policy's.
pub fn kind(info: &ContainerInfo) -> Result<Kind, Error> {
    label(info, ENGINE_LABEL)
        .and_then(Kind::from_label)
        .ok_or_else(|| refuse(&info.key, "its container does not say which engine it runs"))
}

fn label<'a>(info: &'a ContainerInfo, name: &str) -> Option<&'a str> {
    info.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn ready_check(kind: Kind) -> Check {
    match kind {
        Kind::Redis | Kind::Valkey => Check::RedisPing,
        Kind::Memcached => Check::MemcachedVersion,
    }
}

/// The image for what is asked. A setting replaces the default image, never one asked for by version.
pub fn image(spec: &CacheSpec) -> Result<String, Error> {
    let kind = kind_of(spec.engine);
    let image = engines::image(kind, spec.version.as_deref()).map_err(|reason| invalid("version", reason))?;
    if spec.version.is_some() {
        return Ok(image);
    }
    match store::get(kind.image_setting()) {
        Ok(setting) => Ok(setting.unwrap_or(image)),
        Err(store::Error::Upstream(why) | store::Error::Io(why)) => {
            Err(Error::Other(format!("reading the setting {}: {why}", kind.image_setting())))
        }
    }
}

/// Whether a cache that is there is the one asked for.
pub fn check_same(spec: &CacheSpec, info: &ContainerInfo) -> Result<(), Error> {
    let (wanted, found) = (kind_of(spec.engine), kind(info)?);
    if wanted != found {
        let why = format!("it is a {}; stop it before starting a {}", found.as_str(), wanted.as_str());
        return Err(refuse(&spec.key, &why));
    }
    let there = label(info, VERSION_LABEL);
    match &spec.version {
        Some(version) if there != Some(version) => {
            let why = format!(
                "it runs {}; stop it before starting version {version}",
                there.map_or("the default version".to_owned(), |v| format!("version {v}"))
            );
            Err(refuse(&spec.key, &why))
        }
        _ => Ok(()),
    }
}

/// A cache in the embedder's words, from an observation.
pub fn report(
    info: &ContainerInfo,
    endpoint: Option<Endpoint>,
    answers: bool,
    adopted: bool,
) -> Result<Cache, Error> {
    let state = match info.state {
        ContainerState::Running | ContainerState::Restarting if answers => CacheState::Available,
        ContainerState::Running | ContainerState::Restarting => CacheState::Starting,
        ContainerState::Created
        | ContainerState::Paused
        | ContainerState::Exited
        | ContainerState::Removing
        | ContainerState::Dead => CacheState::Stopped,
    };
    Ok(Cache {
        key: info.key.clone(),
        engine: engine_of(kind(info)?),
        version: label(info, VERSION_LABEL).map(str::to_owned),
        state,
        handle: info.id.clone(),
        endpoint,
        adopted,
    })
}

/// Wait until its engine answers, and report it as it then is.
pub fn ready(container: &Container, adopted: bool) -> Result<Cache, Error> {
    let info = container.info();
    let endpoint =
        probes::wait_ready(&Target::Container(container), ready_check(kind(&info)?), READY_WITHIN)?;
    let mut cache = report(&info, Some(endpoint), true, adopted)?;
    // It answered, whatever was seen before.
    cache.state = CacheState::Available;
    Ok(cache)
}

/// Reports containers with their engines asked, all at once.
pub fn report_all(containers: &[Container], within: u32) -> Vec<Cache> {
    let mut running = Vec::new();
    for container in containers {
        let info = container.info();
        if let (ContainerState::Running, Ok(kind)) = (info.state, kind(&info)) {
            running.push((Target::Container(container), ready_check(kind), info.id));
        }
    }
    let ids: Vec<String> = running.iter().map(|(_, _, id)| id.clone()).collect();
    let targets: Vec<_> = running.into_iter().map(|(target, check, _)| (target, check)).collect();
    let found = probes::check_now(&targets, within);
    let mut caches: Vec<Cache> = Vec::new();
    for container in containers {
        let info = container.info();
        let answer = ids.iter().position(|id| *id == info.id).and_then(|at| found.get(at));
        let (answers, endpoint) = answer.map_or((false, None), |a| (a.ready, a.endpoint.clone()));
        match report(&info, endpoint, answers, true) {
            Ok(cache) => caches.push(cache),
            Err(_) => {
                log(Level::Warn, &format!("container {} carries no engine's name; left out", info.name))
            }
        }
    }
    caches
}

/// A snapshot to start from.
pub struct Restored<'a> {
    pub snapshot: &'a Snapshot,
    /// Put it in the place of data that is there.
    pub replace: bool,
    /// The operation that broke off before its container ever ran, if one did.
    pub unfinished: Option<String>,
}

/// Make a cache where there is no container, and leave no container if that fails.
pub fn create(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    restore: Option<&Restored>,
) -> Result<Cache, Error> {
    let kind = kind_of(spec.engine);
    let volume = if kind.keeps_data() { Some(data_volume(operation, &spec.key)?) } else { None };
    let made = create_on(operation, spec, kind, image, volume.as_ref(), restore);
    if let (Err(_), Some(volume)) = (&made, &volume) {
        // Its very first start failed: nobody's data can be on it.
        if volume.info().operation.as_ref() == Some(&operation.id) {
            tidy(volume.remove(), "the new volume");
        }
    }
    made
}

/// The cache's volume, made if there is none.
fn data_volume(operation: &Operation, key: &CacheKey) -> Result<Volume, Error> {
    let name = names::volume(&key.scope, &key.id);
    if let Some(volume) = docker::find_volume(&name)? {
        return Ok(volume);
    }
    match docker::create_volume(&name) {
        // The reply may be lost where the deed was done; only our own mark proves that it was ours.
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_) | Error::Conflict(_))) => {
            match docker::find_volume(&name)? {
                Some(volume) if volume.info().operation.as_ref() == Some(&operation.id) => Ok(volume),
                _ => Err(error),
            }
        }
        other => other,
    }
}

fn create_on(
    operation: &Operation,
    spec: &CacheSpec,
    kind: Kind,
    image: &str,
    volume: Option<&Volume>,
    restore: Option<&Restored>,
) -> Result<Cache, Error> {
    let hint = names::port_hint(&spec.key.scope, &spec.key.id);
    let mut taken = Error::PortTaken(0);
    for attempt in 0..PORT_ATTEMPTS {
        let port = docker::reserve_port(hint.wrapping_add(attempt))?;
        let container = create_container(operation, spec, kind, image, volume, port)?;
        let staged =
            volume.map_or(Ok(None), |volume| stage(operation, &spec.key, &container, volume, restore));
        let started = staged.as_ref().map_err(Clone::clone).and_then(|_| start(&container));
        match started.and_then(|()| ready(&container, false)) {
            Ok(cache) => return Ok(cache),
            Err(error) => {
                tidy(container.stop(SHORT_GRACE), "the container that failed to start");
                if let Ok(Some(before)) = staged {
                    tidy(put_manifest(&container, before), "the restored dataset, to have the old one back");
                }
                tidy(container.remove(), "the container that failed to start");
                match error {
                    Error::PortTaken(_) => taken = error,
                    _ => return Err(error),
                }
            }
        }
    }
    Err(taken)
}

fn create_container(
    operation: &Operation,
    spec: &CacheSpec,
    kind: Kind,
    image: &str,
    volume: Option<&Volume>,
    host_port: u16,
) -> Result<Container, Error> {
    let name = names::container(&operation.instance, &spec.key.scope, &spec.key.id);
    let mut labels = vec![(ENGINE_LABEL.to_owned(), kind.as_str().to_owned())];
    labels.extend(spec.version.iter().map(|version| (VERSION_LABEL.to_owned(), version.clone())));
    let wanted = ContainerSpec {
        name: name.clone(),
        image: image.to_owned(),
        command: kind.command(),
        labels,
        publish: Some(Publish { container_port: kind.port(), host_port }),
        restart: RestartPolicy::UnlessStopped,
        stop_grace: GRACE,
    };
    let mounts: Vec<_> = volume.iter().map(|volume| (*volume, data::FOLDER.to_owned())).collect();
    let created = match docker::create(&wanted, &mounts) {
        Err(Error::NotFound(_)) => {
            docker::pull(image)?;
            docker::create(&wanted, &mounts)
        }
        other => other,
    };
    match created {
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_) | Error::Conflict(_))) => {
            match docker::find(&name)? {
                Some(container) if container.info().operation == operation.id => Ok(container),
                // The create of an operation that was cut off came to its end only now: it was not there
                // when this operation began, and nobody but us may start it.
                Some(late) if late.info().state == ContainerState::Created => {
                    late.remove()?;
                    docker::create(&wanted, &mounts)
                }
                _ => Err(error),
            }
        }
        other => other,
    }
}

/// Start, and look again where the reply was lost.
pub fn start(container: &Container) -> Result<(), Error> {
    match container.start() {
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_))) => match container.refresh()?.state {
            ContainerState::Running => Ok(()),
            _ => Err(error),
        },
        other => other,
    }
}

/// Put the dataset in place before the first start. Returns the manifest that this took the place of.
fn stage(
    operation: &Operation,
    key: &CacheKey,
    container: &Container,
    volume: &Volume,
    restore: Option<&Restored>,
) -> Result<Option<Vec<u8>>, Error> {
    let new = volume.info().operation.as_ref() == Some(&operation.id);
    match restore {
        None if new => Ok(None),
        None => convert(operation, container).map(|()| None),
        Some(restored) => {
            let has_data = !new && has_data(container, volume, restored.unfinished.as_deref())?;
            if !has_data {
                put_base(operation, container, restored.snapshot, None)?;
                return Ok(None);
            }
            if !restored.replace {
                return Err(refuse(key, crate::steps::HAS_DATA));
            }
            // From here on what is there has a manifest, which brings it back if this fails.
            convert(operation, container)?;
            let before = container.read(data::MANIFEST)?;
            match put_base(operation, container, restored.snapshot, Some(&before)) {
                Ok(()) => Ok(Some(before)),
                Err(error) => {
                    // It may have been written all the same.
                    tidy(put_manifest(container, before), "the restored dataset, to have the old one back");
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
pub fn settle(container: &Container) -> Result<(), Error> {
    if !kind(&container.info())?.keeps_data() {
        return Ok(());
    }
    match durability(container)? {
        Durability::Safe | Durability::Unknown => Ok(()),
        Durability::Refused(words) => Err(Error::EngineError(format!(
            "the engine does not say whether its data is on disk ({words}); nothing was stopped, try again"
        ))),
        Durability::Failing => Err(failing()),
        Durability::Off => {
            log(Level::Info, "the append-only file was turned off; turning it on to keep what is in memory");
            match command(container, &["CONFIG", "SET", "appendonly", "yes"], ANSWER_WITHIN)? {
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
    match command(container, &["INFO", "persistence"], ANSWER_WITHIN) {
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

pub fn command(container: &Container, words: &[&str], within: u32) -> Result<Reply, Error> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    probes::command(&Target::Container(container), &words, within)
}

/// Cleaning up after an error: a second error must not hide the first.
fn tidy(outcome: Result<(), Error>, what: &str) {
    if let Err(error) = outcome {
        log(Level::Warn, &format!("removing {what}: {error:?}"));
    }
}

/// What a cache that is there was once asked to be.
pub fn spec_of(info: &ContainerInfo) -> Result<CacheSpec, Error> {
    Ok(CacheSpec {
        key: info.key.clone(),
        engine: engine_of(kind(info)?),
        version: label(info, VERSION_LABEL).map(str::to_owned),
        tags: Vec::new(),
    })
}
