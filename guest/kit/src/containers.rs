//! Caches in containers: the order of steps in each operation on Docker or Podman.

use crate::bindings::exports::fakecloud::elasticache::lifecycle::Restore;
use crate::bindings::fakecloud::elasticache::docker::{
    self, Container, ContainerInfo, ContainerSpec, ContainerState, Publish, RestartPolicy, Volume,
};
use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Target};
use crate::bindings::fakecloud::elasticache::types::{
    Cache, CacheKey, CacheSpec, CacheState, Endpoint, Error, Operation,
};
use crate::cache::{
    self, DATA, LISTING_WITHIN, READY_WITHIN, SHORT_GRACE, VERSION_LABEL, no_such_cache, not_running,
    of_another_object, ready_check, refuse, tidy,
};
use crate::engines::Kind;
use crate::names;
use crate::server::{About, Disk};
use crate::steps::{self, Seen};
use crate::storage::{Restored, Staging, Storage};

/// The exit code of a redis or valkey that cannot load its data.
const FAILED_TO_START: i32 = 1;
/// Ports to try before giving up. Each was free a moment before, so more than a few is no coincidence.
const PORT_ATTEMPTS: u32 = 8;

/// Bring a cache to running and answering.
pub fn ensure<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    restore: Option<&Restore>,
) -> Result<Cache, Error> {
    let found = find(operation, &spec.key)?;
    let seen = seen(found.as_ref());
    if let (Some(container), None) = (&found, &restore) {
        cache::check_same(spec, &container.info().into())?;
    }
    let made = match restore {
        None => ensure_plain::<S>(operation, spec, image, found, seen),
        Some(restore) => ensure_restored::<S>(operation, spec, image, found, seen, restore),
    };
    made.map_err(of_another_object)
}

/// Restart its engine.
pub fn reboot<S: Storage>(operation: &Operation, key: &CacheKey) -> Result<Cache, Error> {
    let found = find(operation, key)?;
    match (steps::reboot(seen(found.as_ref())), found) {
        (steps::Reboot::Refuse(why), _) => Err(refuse(key, why)),
        (steps::Reboot::NoCache, _) | (_, None) => Err(no_such_cache(key)),
        (steps::Reboot::Start, Some(container)) => {
            start_again::<S>(operation, container).map_err(of_another_object)
        }
        (steps::Reboot::SettleAndRestart, Some(container)) => {
            if keeps_data(&container)? {
                S::before_reboot((&container).into())?;
            }
            match container.restart(S::GRACE) {
                Ok(()) => ready(&container, true),
                // It is stopped.
                Err(Error::PortTaken(_)) => start_again::<S>(operation, container),
                // It may not even have begun, and one that runs on was not restarted.
                Err(Error::Unavailable(_) | Error::Timeout(_)) => {
                    container.stop(S::GRACE)?;
                    start_again::<S>(operation, container)
                }
                Err(other) => Err(other),
            }
        }
    }
}

/// Stop its engine and remove its container.
pub fn stop<S: Storage>(operation: &Operation, key: &CacheKey) -> Result<bool, Error> {
    match find(operation, key)? {
        None => Ok(false),
        Some(container) => end::<S>(&container).map(|()| true),
    }
}

/// Every cache of this instance.
pub fn all() -> Result<Vec<Cache>, Error> {
    Ok(report_all(&docker::containers()?))
}

/// The cache as it is now.
pub fn look(operation: &Operation, key: &CacheKey) -> Result<Option<Cache>, Error> {
    Ok(find(operation, key)?.and_then(|container| report_all(&[container]).pop()))
}

/// Stop and remove what dead owners left.
pub fn reap<S: Storage>() -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for container in docker::stale()? {
        let name = container.info().name;
        match end::<S>(&container) {
            Ok(()) => removed.push(name),
            // Its owner may have come back; the others are still to be looked at.
            Err(error) => log(Level::Warn, &format!("{name} was left: {error:?}")),
        }
    }
    Ok(removed)
}

/// The container of a cache whose engine runs.
pub fn running(operation: &Operation, key: &CacheKey) -> Result<Container, Error> {
    let container = find(operation, key)?.ok_or_else(|| no_such_cache(key))?;
    match seen(Some(&container)) {
        Seen::Running => Ok(container),
        Seen::Paused => Err(refuse(key, steps::PAUSED)),
        Seen::Absent | Seen::Created | Seen::Restarting | Seen::Exited | Seen::Removing | Seen::Dead => {
            Err(not_running(key))
        }
    }
}

/// The container of a cache, as `find` saw it.
pub fn find(operation: &Operation, key: &CacheKey) -> Result<Option<Container>, Error> {
    docker::find(&names::container(&operation.instance, &key.scope, &key.id))
}

/// A container in the words of [`crate::steps`].
fn seen(container: Option<&Container>) -> Seen {
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

fn kind(info: &ContainerInfo) -> Result<Kind, Error> {
    cache::kind(&info.clone().into())
}

/// A cache in the embedder's words, from an observation.
fn report(
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
    let about = About::from(info.clone());
    Ok(Cache {
        key: info.key.clone(),
        engine: cache::engine_of(cache::kind(&about)?),
        version: about.label(VERSION_LABEL).map(str::to_owned),
        state,
        handle: info.id.clone(),
        endpoint,
        adopted,
    })
}

/// Wait until its engine answers, and report it as it then is.
fn ready(container: &Container, adopted: bool) -> Result<Cache, Error> {
    let info = container.info();
    let endpoint =
        probes::wait_ready(&Target::Container(container), ready_check(kind(&info)?), READY_WITHIN)?;
    let mut cache = report(&info, Some(endpoint), true, adopted)?;
    // It answered, whatever was seen before.
    cache.state = CacheState::Available;
    Ok(cache)
}

/// Reports containers with their engines asked, all at once.
fn report_all(containers: &[Container]) -> Vec<Cache> {
    let mut running = Vec::new();
    for container in containers {
        let info = container.info();
        if let (ContainerState::Running, Ok(kind)) = (info.state, kind(&info)) {
            running.push((Target::Container(container), ready_check(kind), info.id));
        }
    }
    let ids: Vec<String> = running.iter().map(|(_, _, id)| id.clone()).collect();
    let targets: Vec<_> = running.into_iter().map(|(target, check, _)| (target, check)).collect();
    let found = probes::check_now(&targets, LISTING_WITHIN);
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
fn create<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    restored: Option<&Restored>,
) -> Result<Cache, Error> {
    let kind = cache::kind_of(spec.engine);
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
    let mut failed = Error::PortTaken(0);
    for attempt in 0..PORT_ATTEMPTS {
        let port = docker::reserve_port(hint.wrapping_add(attempt))?;
        let wanted = container_spec::<S>(operation, spec, kind, image, port, restored.is_some());
        let container = create_container(operation, &wanted, volume)?;
        let staged = if kind.keeps_data() {
            S::stage(&Staging {
                operation,
                key: &spec.key,
                server: (&container).into(),
                disk: volume.map(Disk::Volume),
                restored,
            })
        } else {
            Ok(None)
        };
        let started = staged.as_ref().map_err(Clone::clone).and_then(|_| start(&container));
        let loaded = started.and_then(|()| ready(&container, false)).and_then(|cache| {
            // What it started from has been read.
            if restored.is_some() { S::loaded((&container).into()).map(|()| cache) } else { Ok(cache) }
        });
        match loaded {
            Ok(cache) => return Ok(cache),
            Err(error) => {
                tidy(container.stop(SHORT_GRACE), "stopping the container that failed to start");
                let undone = restored.is_none() && undo::<S>(&container).unwrap_or(false);
                if let Ok(Some(before)) = staged {
                    tidy(
                        S::unstage((&container).into(), before),
                        "having back the dataset that was there before",
                    );
                }
                tidy(container.remove(), "removing the container that failed to start");
                match error {
                    Error::PortTaken(_) => failed = error,
                    // It is worth another try.
                    Error::EngineError(_) if undone => failed = error,
                    _ => return Err(error),
                }
            }
        }
    }
    Err(failed)
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
    let mut tmpfs = Vec::new();
    if kind.keeps_data() {
        tmpfs.extend(S::TMPFS.iter().map(|path| (*path).to_owned()));
    }
    ContainerSpec {
        name: names::container(&operation.instance, &spec.key.scope, &spec.key.id),
        image: image.to_owned(),
        command: kind.command(folder, S::OPTIONS),
        labels: cache::labels(spec, kind.keeps_data().then_some(folder)),
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
    let mounts: Vec<_> = volume.iter().map(|volume| (*volume, DATA.to_owned())).collect();
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
fn start(container: &Container) -> Result<(), Error> {
    match container.start() {
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_))) => match container.refresh()?.state {
            ContainerState::Running => Ok(()),
            _ => Err(error),
        },
        other => other,
    }
}

fn ensure_plain<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    found: Option<Container>,
    seen: Seen,
) -> Result<Cache, Error> {
    match (steps::ensure(seen), found) {
        (steps::Ensure::Refuse(why), _) => Err(refuse(&spec.key, why)),
        (steps::Ensure::Create, _) | (_, None) => create::<S>(operation, spec, image, None),
        (steps::Ensure::Adopt, Some(container)) => match ready(&container, true) {
            Ok(cache) => {
                // Whoever started it may have died before it could do what is done after that.
                if keeps_data(&container)? {
                    tidy(S::adopted((&container).into()), "seeing to what it started from");
                }
                Ok(cache)
            }
            // Somebody was just ending it.
            Err(Error::EngineError(_)) if container.refresh()?.state == ContainerState::Exited => {
                start_again::<S>(operation, container)
            }
            other => other,
        },
        (steps::Ensure::Start, Some(container)) => start_again::<S>(operation, container),
        (steps::Ensure::Replace, Some(container)) => {
            undo::<S>(&container)?;
            match container.remove() {
                // The start of an operation that was cut off came to its end only now.
                Err(Error::Conflict(_)) if container.refresh()?.state == ContainerState::Running => {
                    return ready(&container, true);
                }
                other => other?,
            }
            create::<S>(operation, spec, image, None)
        }
    }
}

fn ensure_restored<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    found: Option<Container>,
    seen: Seen,
    restore: &Restore,
) -> Result<Cache, Error> {
    let mut unfinished = None;
    match (steps::restore(seen, restore.replace), found) {
        (steps::Restore::Refuse(why), _) => return Err(refuse(&spec.key, why)),
        (steps::Restore::Create, _) | (_, None) => {}
        (steps::Restore::Replace, Some(container)) => {
            // A dead one may have run: what its operation made may hold data by now.
            unfinished = (seen == Seen::Created).then(|| container.info().operation);
            if seen == Seen::Created || container.info().exit_code == Some(FAILED_TO_START) {
                undo::<S>(&container)?;
            }
            container.remove()?;
        }
        (steps::Restore::StopAndReplace, Some(container)) => end::<S>(&container)?,
    }
    let restored = Restored { snapshot: &restore.snapshot, replace: restore.replace, unfinished };
    create::<S>(operation, spec, image, Some(&restored))
}

/// Start a cache that is stopped, with the data and, if it is still free, the port that it had.
fn start_again<S: Storage>(operation: &Operation, container: Container) -> Result<Cache, Error> {
    match start(&container) {
        Ok(()) => match ready(&container, true).or_else(|error| ready_with_old::<S>(&container, error)) {
            Ok(cache) => Ok(cache),
            Err(error) => {
                // It was stopped before. Left as it is the container engine would start it for ever.
                if let Err(second) = container.stop(S::GRACE) {
                    log(Level::Warn, &format!("stopping what does not get ready: {second:?}"));
                }
                Err(error)
            }
        },
        Err(Error::PortTaken(_)) => {
            let spec = cache::spec_of(&container.info().into())?;
            let image = container.info().image;
            container.remove()?;
            create::<S>(operation, &spec, &image, None).map(|cache| Cache { adopted: true, ..cache })
        }
        Err(other) => Err(other),
    }
}

/// If it did not start since a restore was cut off that put there what no engine can load, start it with what there was
/// before.
fn ready_with_old<S: Storage>(container: &Container, error: Error) -> Result<Cache, Error> {
    if !matches!(error, Error::EngineError(_)) || container.refresh()?.state == ContainerState::Running {
        return Err(error);
    }
    container.stop(SHORT_GRACE)?;
    if !undo::<S>(container)? {
        return Err(error);
    }
    start(container)?;
    ready(container, true)
}

/// Has back what the operation that made this container took the place of, if it broke off doing that.
fn undo<S: Storage>(container: &Container) -> Result<bool, Error> {
    if keeps_data(container)? { S::undo(container.into()) } else { Ok(false) }
}

/// End a container, its data safe first where there is a process to ask.
fn end<S: Storage>(container: &Container) -> Result<(), Error> {
    match steps::stop(seen(Some(container))) {
        steps::Stop::Refuse(why) => return Err(refuse(&container.info().key, why)),
        steps::Stop::Nothing => return Ok(()),
        steps::Stop::SettleAndStop => {
            if keeps_data(container)? {
                S::before_stop(container.into())?;
            }
            container.stop(S::GRACE)?;
        }
        steps::Stop::StopOnly => container.stop(S::GRACE)?,
        steps::Stop::Remove => {}
    }
    container.remove()
}

fn keeps_data(container: &Container) -> Result<bool, Error> {
    Ok(kind(&container.info())?.keeps_data())
}
