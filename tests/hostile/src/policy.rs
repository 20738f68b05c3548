//! The lifecycle: the least that makes a cache, with something wrong at each step.

use std::hint::black_box;

use crate::bindings::exports::fakecloud::elasticache::lifecycle::{ExecResult, Guest, Restore};
use crate::bindings::fakecloud::elasticache::docker::{
    self, Container, ContainerSpec, Content, File, Publish, RestartPolicy, Volume,
};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Target};
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{
    Backend, Cache, CacheKey, CacheSpec, CacheState, Description, Endpoint, Engine, Error, Operation,
};
use crate::bindings::wasi::config::store;
use crate::excess::{self, HUGE};

/// Milliseconds for an engine to answer.
const READY_WITHIN: u32 = 30_000;

pub struct Hostile;

fn setting(name: &str) -> String {
    store::get(name).ok().flatten().unwrap_or_default()
}

/// What is asked of this operation, begun at once where that is possible.
fn behaviour(key: &CacheKey) -> String {
    let behaviour = if key.id == "good" { String::new() } else { setting("behaviour") };
    excess::anywhere(&behaviour);
    behaviour
}

impl Guest for Hostile {
    fn describe() -> Description {
        Description {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Misbehaves as it is told to.".to_owned(),
            engines: vec![Engine::Redis],
            backends: vec![Backend::Docker],
            promises: Vec::new(),
        }
    }

    fn ensure(_: Operation, spec: CacheSpec, _: Option<Restore>) -> Result<Cache, Error> {
        let behaviour = behaviour(&spec.key);
        match behaviour.as_str() {
            "stale" => {
                docker::stale()?;
            }
            "steal-container" => {
                let seen = docker::find(&setting("target"))?;
                return Err(Error::Other(format!("seen: {}", seen.is_some())));
            }
            "steal-volume" => {
                let seen = docker::find_volume(&setting("target"))?;
                return Err(Error::Other(format!("seen: {}", seen.is_some())));
            }
            "other-key" => return Ok(report(&spec.key, "another", &made(&spec.key, "")?, None)),
            _ => {}
        }
        let container = made(&spec.key, &behaviour)?;
        let target = Target::Container(&container);
        match behaviour.as_str() {
            "panic-after-start" => panic!("on purpose"),
            "error-after-start" => return Err(Error::Other("on purpose".to_owned())),
            "call-flood" => loop {
                black_box(container.info());
            },
            "command-huge" => {
                probes::command(&target, &["ECHO".to_owned(), "x".repeat(HUGE)], 1_000)?;
            }
            "command-many" => {
                probes::command(&target, &vec![String::new(); HUGE / 8], 1_000)?;
            }
            "wait-for-ever" => {
                probes::wait_ready(&target, Check::RedisPing, u32::MAX)?;
            }
            // It hears that the time is up, each time, and goes on.
            "deaf" => loop {
                drop(black_box(probes::wait_ready(&target, Check::RedisPing, u32::MAX)));
            },
            _ => {}
        }
        let endpoint = probes::wait_ready(&target, Check::RedisPing, READY_WITHIN)?;
        let id = if behaviour == "bad-key" { "" } else { spec.key.id.as_str() };
        Ok(report(&spec.key, id, &container, Some(endpoint)))
    }

    fn reboot(_: Operation, key: CacheKey) -> Result<Cache, Error> {
        if behaviour(&key) == "remove-volume" {
            let volume = docker::find_volume(&setting("target"))?;
            volume.ok_or_else(|| Error::NotFound(setting("target")))?.remove()?;
        }
        Err(Error::NotFound(key.id))
    }

    fn snapshot(_: Operation, key: CacheKey) -> Result<Snapshot, Error> {
        behaviour(&key);
        Err(Error::NotFound(key.id))
    }

    fn stop(_: Operation, key: CacheKey) -> Result<bool, Error> {
        match behaviour(&key).as_str() {
            "create-while-stopping" => made(&key, "").map(|_| true),
            "create-volume-while-stopping" => docker::create_volume(&name(&key)).map(|_| true),
            _ => Ok(false),
        }
    }

    fn remove_data(_: Operation, key: CacheKey) -> Result<bool, Error> {
        behaviour(&key);
        Ok(false)
    }

    fn exec(_: Operation, key: CacheKey, _: Vec<String>) -> Result<ExecResult, Error> {
        behaviour(&key);
        Err(Error::NotFound(key.id))
    }

    fn find(_: Operation, key: CacheKey) -> Result<Option<Cache>, Error> {
        behaviour(&key);
        Ok(None)
    }

    fn recover(_: Operation) -> Result<Vec<Cache>, Error> {
        excess::anywhere(&setting("behaviour"));
        Ok(Vec::new())
    }

    fn reap(_: Operation) -> Result<Vec<String>, Error> {
        excess::anywhere(&setting("behaviour"));
        Ok(Vec::new())
    }
}

fn name(key: &CacheKey) -> String {
    format!("hostile-{}", key.id)
}

/// A volume and a started container on it.
fn made(key: &CacheKey, behaviour: &str) -> Result<Container, Error> {
    let breaks_at = |step: &str| {
        if behaviour.strip_prefix("panic-") == Some(step) {
            panic!("on purpose, {step}");
        }
    };
    breaks_at("before-create");
    let volume = docker::create_volume(&name(key))?;
    breaks_at("after-volume");
    let container = created(key, behaviour, &volume)?;
    breaks_at("after-create");
    let file =
        |path: &str, bytes: usize| File { path: path.to_owned(), content: Content::Bytes(vec![0; bytes]) };
    match behaviour {
        "put-outside" => container.put("/data", &[file("../etc/passwd", 1)])?,
        "put-elsewhere" => container.put("data", &[file("x", 1)])?,
        "put-large" => container.put("/data", &[file("x", (64 << 10) + 1)])?,
        "put-huge" => container.put("/data", &[file("x", HUGE)])?,
        _ => {}
    }
    container.start()?;
    Ok(container)
}

fn created(key: &CacheKey, behaviour: &str, volume: &Volume) -> Result<Container, Error> {
    let host_port = if behaviour == "port-zero" { 0 } else { docker::reserve_port(1)? };
    let name = match behaviour {
        "bad-name" => "../hostile".to_owned(),
        "take-name" => setting("target"),
        _ => name(key),
    };
    let label = match behaviour {
        "foreign-label" => "fakecloud-instance",
        _ => "fakecloud-policy-hostile",
    };
    let spec = ContainerSpec {
        name: name.clone(),
        image: "redis:7-alpine".to_owned(),
        command: vec!["redis-server".to_owned()],
        labels: vec![(label.to_owned(), "somebody".to_owned())],
        publish: Some(Publish { container_port: 6379, host_port }),
        restart: RestartPolicy::Never,
        stop_grace: 1,
    };
    match docker::create(&spec, &[(volume, "/data".to_owned())]) {
        Err(error) if behaviour == "panic-after-lost-create" => panic!("on purpose, after {error:?}"),
        other => other,
    }
}

fn report(key: &CacheKey, id: &str, container: &Container, endpoint: Option<Endpoint>) -> Cache {
    Cache {
        key: CacheKey { scope: key.scope.clone(), id: id.to_owned() },
        engine: Engine::Redis,
        version: None,
        state: CacheState::Available,
        handle: container.info().id,
        endpoint,
        adopted: false,
    }
}
