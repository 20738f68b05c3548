//! The least that keeps a redis on a volume, in pieces that a hostile policy can put together wrongly.

use crate::bindings::exports::fakecloud::elasticache::lifecycle::ExecResult;
use crate::bindings::fakecloud::elasticache::docker::{
    self, Container, ContainerSpec, Publish, RestartPolicy, Volume,
};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Target};
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{Cache, CacheKey, CacheState, Endpoint, Engine, Error};

/// Milliseconds for an engine to answer.
const READY_WITHIN: u32 = 30_000;
/// Seconds for an engine to end by itself.
const GRACE: u32 = 1;

/// What the container of a cache is called, and its volume.
pub fn name(key: &CacheKey) -> String {
    format!("hostile-{}", key.id)
}

/// What a cache is run as.
pub fn spec(key: &CacheKey) -> Result<ContainerSpec, Error> {
    Ok(ContainerSpec {
        name: name(key),
        image: "redis:7-alpine".to_owned(),
        command: ["redis-server", "--appendonly", "yes"].map(str::to_owned).into(),
        labels: vec![("fakecloud-policy-hostile".to_owned(), "yes".to_owned())],
        publish: Some(Publish { container_port: 6379, host_port: docker::reserve_port(1)? }),
        tmpfs: vec![],
        restart: RestartPolicy::Never,
        stop_grace: GRACE,
    })
}

/// Its data, there already or not.
pub fn volume(key: &CacheKey) -> Result<Volume, Error> {
    match docker::find_volume(&name(key))? {
        Some(volume) => Ok(volume),
        None => docker::create_volume(&name(key)),
    }
}

/// A container that is not started.
pub fn create(key: &CacheKey, spec: &ContainerSpec) -> Result<Container, Error> {
    docker::create(spec, &[(&volume(key)?, "/data".to_owned())])
}

/// The container of a cache that is there.
pub fn existing(key: &CacheKey) -> Result<Container, Error> {
    docker::find(&name(key))?.ok_or_else(|| Error::NotFound(format!("cache {:?}", key.id)))
}

/// A started container.
pub fn started(key: &CacheKey) -> Result<Container, Error> {
    let container = create(key, &spec(key)?)?;
    container.start()?;
    Ok(container)
}

pub fn ready(container: &Container) -> Result<Endpoint, Error> {
    probes::wait_ready(&Target::Container(container), Check::RedisPing, READY_WITHIN)
}

/// A container as the cache that it is.
pub fn report(container: &Container, endpoint: Option<Endpoint>, adopted: bool) -> Cache {
    let info = container.info();
    let state = if endpoint.is_some() { CacheState::Available } else { CacheState::Stopped };
    Cache { key: info.key, engine: Engine::Redis, version: None, state, handle: info.id, endpoint, adopted }
}

/// A new cache that is run as said.
pub fn run(key: &CacheKey, spec: &ContainerSpec) -> Result<Cache, Error> {
    let container = create(key, spec)?;
    container.start()?;
    let endpoint = ready(&container)?;
    Ok(report(&container, Some(endpoint), false))
}

pub fn ensure(key: &CacheKey) -> Result<Cache, Error> {
    match docker::find(&name(key))? {
        Some(container) => {
            container.start()?;
            let endpoint = ready(&container)?;
            Ok(report(&container, Some(endpoint), true))
        }
        None => run(key, &spec(key)?),
    }
}

pub fn reboot(key: &CacheKey) -> Result<Cache, Error> {
    let container = existing(key)?;
    container.restart(GRACE)?;
    let endpoint = ready(&container)?;
    Ok(report(&container, Some(endpoint), true))
}

pub fn snapshot(key: &CacheKey) -> Result<Snapshot, Error> {
    let container = existing(key)?;
    probes::command(&Target::Container(&container), &["SAVE".to_owned()], READY_WITHIN)?;
    container.get("/data/dump.rdb")
}

pub fn stop(key: &CacheKey) -> Result<bool, Error> {
    let Some(container) = docker::find(&name(key))? else { return Ok(false) };
    container.stop(GRACE)?;
    container.remove()?;
    Ok(true)
}

pub fn remove_data(key: &CacheKey) -> Result<bool, Error> {
    let Some(volume) = docker::find_volume(&name(key))? else { return Ok(false) };
    volume.remove()?;
    Ok(true)
}

pub fn exec(key: &CacheKey, args: Vec<String>) -> Result<ExecResult, Error> {
    let argv: Vec<String> = std::iter::once("redis-cli".to_owned()).chain(args).collect();
    let output = existing(key)?.exec(&argv)?;
    Ok(ExecResult { success: output.exit_code() == 0, output })
}

pub fn find(key: &CacheKey) -> Result<Option<Cache>, Error> {
    Ok(docker::find(&name(key))?.map(|container| seen(&container)))
}

pub fn recover() -> Result<Vec<Cache>, Error> {
    Ok(docker::containers()?.iter().map(seen).collect())
}

pub fn reap() -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for container in docker::stale()? {
        container.stop(GRACE)?;
        container.remove()?;
        names.push(container.info().name);
    }
    Ok(names)
}

fn seen(container: &Container) -> Cache {
    let finding = probes::check_now(&[(Target::Container(container), Check::RedisPing)], 1_000).pop();
    report(container, finding.and_then(|finding| finding.endpoint), true)
}
