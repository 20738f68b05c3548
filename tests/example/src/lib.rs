//! A whole policy, for memcached. README shows it word for word.

wit_bindgen::generate!({ path: "../../wit", world: "policy", generate_all });

use exports::fakecloud::elasticache::lifecycle::{ExecResult, Guest, Restore};
use fakecloud::elasticache::docker::{self, Container, ContainerSpec, Publish, RestartPolicy};
use fakecloud::elasticache::probes::{self, Check, Target};
use fakecloud::elasticache::snapshots::Snapshot;
use fakecloud::elasticache::types::*;

struct Plain;
export!(Plain);

/// Names are the policy's affair; `guest/kit/src/names.rs` shows how to make them one-to-one for any id.
fn name(operation: &Operation, key: &CacheKey) -> String {
    format!("plain-{}-{}-{}", operation.instance, key.scope, key.id)
}

fn find(operation: &Operation, key: &CacheKey) -> Result<Container, Error> {
    docker::find(&name(operation, key))?.ok_or_else(|| Error::NotFound(format!("cache {:?}", key.id)))
}

fn started(container: &Container, adopted: bool) -> Result<Cache, Error> {
    container.start()?;
    probes::wait_ready(&Target::Container(container), Check::MemcachedVersion, 30_000)?;
    Ok(seen(container, adopted))
}

fn ended(container: &Container) -> Result<(), Error> {
    container.stop(10)?;
    container.remove()
}

/// As observed now.
fn seen(container: &Container, adopted: bool) -> Cache {
    let asked = [(Target::Container(container), Check::MemcachedVersion)];
    let finding = probes::check_now(&asked, 1_000).remove(0);
    let state = match (finding.ready, &finding.endpoint) {
        (true, _) => CacheState::Available,
        (false, Some(_)) => CacheState::Starting,
        (false, None) => CacheState::Stopped,
    };
    let (info, engine, endpoint) = (container.info(), Engine::Memcached, finding.endpoint);
    Cache { key: info.key, engine, version: None, state, handle: info.id, endpoint, adopted }
}

fn invalid<T>(field: &str, reason: &str) -> Result<T, Error> {
    Err(Error::Invalid(InvalidInput { field: field.into(), reason: reason.into() }))
}

impl Guest for Plain {
    fn describe() -> Description {
        Description {
            name: "plain".into(),
            version: "0.1.0".into(),
            summary: "Runs memcached, and keeps nothing.".into(),
            engines: vec![Engine::Memcached],
            backends: vec![Backend::Docker],
            promises: vec![Promise::EndpointSurvivesReboot],
        }
    }
    fn ensure(operation: Operation, spec: CacheSpec, restore: Option<Restore>) -> Result<Cache, Error> {
        if spec.engine != Engine::Memcached || spec.version.is_some() || restore.is_some() {
            return invalid("cache", "asks for more than a memcached of the default version");
        }
        let name = name(&operation, &spec.key);
        if let Some(container) = docker::find(&name)? {
            return started(&container, true);
        }
        let hint = name.bytes().fold(0, |hint: u32, byte| hint.wrapping_mul(31) + u32::from(byte));
        let wanted = ContainerSpec {
            name,
            image: "memcached:1.6-alpine".into(),
            command: vec!["memcached".into()],
            labels: vec![],
            publish: Some(Publish { container_port: 11211, host_port: docker::reserve_port(hint)? }),
            tmpfs: vec![],
            restart: RestartPolicy::UnlessStopped,
            stop_grace: 10,
        };
        // If anything fails from here on, the host removes what this operation made.
        started(&docker::create(&wanted, &[])?, false)
    }
    fn reboot(operation: Operation, key: CacheKey) -> Result<Cache, Error> {
        let container = find(&operation, &key)?;
        container.restart(10)?;
        started(&container, true)
    }
    fn stop(operation: Operation, key: CacheKey) -> Result<bool, Error> {
        let found = docker::find(&name(&operation, &key))?;
        found.map_or(Ok(false), |container| ended(&container).map(|()| true))
    }
    fn remove_data(_: Operation, _: CacheKey) -> Result<bool, Error> {
        Ok(false)
    }
    fn snapshot(operation: Operation, key: CacheKey) -> Result<Snapshot, Error> {
        find(&operation, &key).and_then(|_| invalid("engine", "is memcached, which has no snapshots"))
    }
    fn exec(operation: Operation, key: CacheKey, _: Vec<String>) -> Result<ExecResult, Error> {
        find(&operation, &key).and_then(|_| invalid("engine", "is memcached, which has no client program"))
    }
    fn find(operation: Operation, key: CacheKey) -> Result<Option<Cache>, Error> {
        Ok(docker::find(&name(&operation, &key))?.map(|container| seen(&container, true)))
    }
    fn recover(_: Operation) -> Result<Vec<Cache>, Error> {
        let mut caches: Vec<_> = docker::containers()?.iter().map(|found| seen(found, true)).collect();
        caches.sort_by_key(|cache: &Cache| (cache.key.scope.clone(), cache.key.id.clone()));
        Ok(caches)
    }
    fn reap(_: Operation) -> Result<Vec<String>, Error> {
        docker::stale()?.iter().map(|left| ended(left).map(|()| left.info().name)).collect()
    }
}
