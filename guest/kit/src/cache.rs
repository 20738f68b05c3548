//! One cache during one operation: finding it, making it, waiting for it, reporting it.

use crate::bindings::fakecloud::elasticache::docker::{
    self, Container, ContainerInfo, ContainerSpec, ContainerState, Publish, RestartPolicy, Volume,
};
use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Reply, Target};
use crate::bindings::fakecloud::elasticache::types::{
    Cache, CacheKey, CacheSpec, CacheState, Endpoint, Engine, Error, InvalidInput, Operation,
};
use crate::bindings::wasi::config::store;
use crate::engines::{self, Kind};
use crate::names;
use crate::steps::Seen;
use crate::storage::{Restored, Staging, Storage};

/// The policy's labels: what `recover` needs to know about a container without asking anybody.
const ENGINE_LABEL: &str = "fakecloud-policy-engine";
const VERSION_LABEL: &str = "fakecloud-policy-version";
/// Where its dataset lies in the container; policies differ, and one may take over from another.
const FOLDER_LABEL: &str = "fakecloud-policy-folder";

/// Milliseconds for an engine to answer after a start. Loading gigabytes takes its time.
const READY_WITHIN: u32 = 300_000;
/// Seconds where nothing can be lost: the engine never answered, or holds nothing.
const SHORT_GRACE: u32 = 2;
/// Ports to try before giving up. Each was free a moment before, so more than a few is no coincidence.
const PORT_ATTEMPTS: u32 = 8;
/// The name of the file that `SAVE` writes.
pub const DUMP: &str = "dump.rdb";
/// Where a volume goes.
const VOLUME_AT: &str = "/data";

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

/// The file that `SAVE` writes and that a snapshot is read from.
pub fn dump(info: &ContainerInfo) -> String {
    // One without this label was made when there was one policy, which kept all data there.
    format!("{}/{DUMP}", label(info, FOLDER_LABEL).unwrap_or("/data"))
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

/// Make a cache where there is no container, and leave no container if that fails.
pub fn create<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    restored: Option<&Restored>,
) -> Result<Cache, Error> {
    let kind = kind_of(spec.engine);
    let volume = if kind.keeps_data() { S::volume(operation, &spec.key)? } else { None };
    let made = create_on::<S>(operation, spec, kind, image, volume.as_ref(), restored);
    if let (Err(_), Some(volume)) = (&made, &volume) {
        // Its very first start failed: nobody's data can be on it.
        if volume.info().operation.as_ref() == Some(&operation.id) {
            tidy(volume.remove(), "removing the new volume");
        }
    }
    made
}

/// The cache's volume, made if there is none.
pub fn data_volume(operation: &Operation, key: &CacheKey) -> Result<Volume, Error> {
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

fn create_on<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    kind: Kind,
    image: &str,
    volume: Option<&Volume>,
    restored: Option<&Restored>,
) -> Result<Cache, Error> {
    let hint = names::port_hint(&spec.key.scope, &spec.key.id);
    let mut taken = Error::PortTaken(0);
    for attempt in 0..PORT_ATTEMPTS {
        let port = docker::reserve_port(hint.wrapping_add(attempt))?;
        let wanted = container_spec::<S>(operation, spec, kind, image, port, restored.is_some());
        let container = create_container(operation, &wanted, volume)?;
        let staged = if kind.keeps_data() {
            S::stage(&Staging { operation, key: &spec.key, container: &container, volume, restored })
        } else {
            Ok(None)
        };
        let started = staged.as_ref().map_err(Clone::clone).and_then(|_| start(&container));
        let loaded = started.and_then(|()| ready(&container, false)).and_then(|cache| {
            // What it started from has been read.
            if restored.is_some() { S::loaded(&container).map(|()| cache) } else { Ok(cache) }
        });
        match loaded {
            Ok(cache) => return Ok(cache),
            Err(error) => {
                tidy(container.stop(SHORT_GRACE), "stopping the container that failed to start");
                if let Ok(Some(before)) = staged {
                    tidy(S::unstage(&container, before), "having back the dataset that was there before");
                }
                tidy(container.remove(), "removing the container that failed to start");
                match error {
                    Error::PortTaken(_) => taken = error,
                    _ => return Err(error),
                }
            }
        }
    }
    Err(taken)
}

fn container_spec<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    kind: Kind,
    image: &str,
    host_port: u16,
    restored: bool,
) -> ContainerSpec {
    let folder = S::folder(restored);
    let mut labels = vec![(ENGINE_LABEL.to_owned(), kind.as_str().to_owned())];
    labels.extend(spec.version.iter().map(|version| (VERSION_LABEL.to_owned(), version.clone())));
    let mut tmpfs = Vec::new();
    if kind.keeps_data() {
        labels.push((FOLDER_LABEL.to_owned(), folder.to_owned()));
        tmpfs.extend(S::TMPFS.iter().map(|path| (*path).to_owned()));
    }
    ContainerSpec {
        name: names::container(&operation.instance, &spec.key.scope, &spec.key.id),
        image: image.to_owned(),
        command: kind.command(folder, S::OPTIONS),
        labels,
        publish: Some(Publish { container_port: kind.port(), host_port }),
        tmpfs,
        restart: RestartPolicy::UnlessStopped,
        stop_grace: S::GRACE,
    }
}

fn create_container(
    operation: &Operation,
    wanted: &ContainerSpec,
    volume: Option<&Volume>,
) -> Result<Container, Error> {
    let mounts: Vec<_> = volume.iter().map(|volume| (*volume, VOLUME_AT.to_owned())).collect();
    let created = match docker::create(wanted, &mounts) {
        Err(Error::NotFound(_)) => {
            docker::pull(&wanted.image)?;
            docker::create(wanted, &mounts)
        }
        other => other,
    };
    match created {
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_) | Error::Conflict(_))) => {
            match docker::find(&wanted.name)? {
                Some(container) if container.info().operation == operation.id => Ok(container),
                // The create of an operation that was cut off came to its end only now: it was not there
                // when this operation began, and nobody but us may start it.
                Some(late) if late.info().state == ContainerState::Created => {
                    late.remove()?;
                    docker::create(wanted, &mounts)
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

pub fn command(container: &Container, words: &[&str], within: u32) -> Result<Reply, Error> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    probes::command(&Target::Container(container), &words, within)
}

/// Cleaning up after an error: a second error must not hide the first.
pub fn tidy(outcome: Result<(), Error>, what: &str) {
    if let Err(error) = outcome {
        log(Level::Warn, &format!("{what}: {error:?}"));
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
