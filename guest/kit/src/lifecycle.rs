//! The lifecycle that this policy exports: each call observes, matches on what it sees, and acts.

use std::marker::PhantomData;

use crate::bindings::exports::fakecloud::elasticache::lifecycle::{ExecResult, Guest, Restore};
use crate::bindings::fakecloud::elasticache::docker::{self, Container, ContainerState};
use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Reply, Target};
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{
    Cache, CacheKey, CacheSpec, Description, Engine, Error, InvalidInput, Operation,
};
use crate::cache::{self, no_such_cache, refuse};
use crate::engines::{self, Kind};
use crate::steps::{self, Seen};
use crate::storage::{Restored, Storage};

/// Milliseconds for all engines of a listing to answer.
const LISTING_WITHIN: u32 = 1_000;
/// Milliseconds for a SAVE. The engine serves nobody meanwhile; gigabytes take minutes on slow disks.
const SAVE_WITHIN: u32 = 600_000;
/// How often another save may be in the way of ours.
const SAVE_ATTEMPTS: u32 = 5;

/// A policy that keeps data as `S` does.
pub struct Lifecycle<S>(PhantomData<S>);

impl<S: Storage> Guest for Lifecycle<S> {
    fn describe() -> Description {
        S::describe()
    }

    fn ensure(operation: Operation, spec: CacheSpec, restore: Option<Restore>) -> Result<Cache, Error> {
        // Everything that the input alone decides comes first: nothing has been touched yet.
        let image = cache::image(&spec)?;
        if restore.is_some() && spec.engine == Engine::Memcached {
            return Err(keeps_nothing("restored from a snapshot"));
        }
        if let Some(restore) = &restore {
            let (kind, version) = (cache::kind_of(spec.engine), restore.snapshot.rdb_version());
            if !engines::can_load(kind, version) {
                let why = format!("has RDB version {version}, which {} cannot load", kind.as_str());
                return Err(invalid("snapshot", &why));
            }
        }
        let found = cache::find(&operation, &spec.key)?;
        let seen = cache::seen(found.as_ref());
        if let (Some(container), None) = (&found, &restore) {
            cache::check_same(&spec, &container.info())?;
        }
        let made = match restore {
            None => ensure::<S>(&operation, &spec, &image, found, seen),
            Some(restore) => ensure_restored::<S>(&operation, &spec, &image, found, seen, &restore),
        };
        made.map_err(of_another_object)
    }

    fn reboot(operation: Operation, key: CacheKey) -> Result<Cache, Error> {
        let found = cache::find(&operation, &key)?;
        match (steps::reboot(cache::seen(found.as_ref())), found) {
            (steps::Reboot::Refuse(why), _) => Err(refuse(&key, why)),
            (steps::Reboot::NoCache, _) | (_, None) => Err(no_such_cache(&key)),
            (steps::Reboot::Start, Some(container)) => {
                start_again::<S>(&operation, container).map_err(of_another_object)
            }
            (steps::Reboot::SettleAndRestart, Some(container)) => {
                if keeps_data(&container)? {
                    S::before_reboot(&container)?;
                }
                match container.restart(S::GRACE) {
                    Ok(()) => cache::ready(&container, true),
                    // How far it came is looked up, not guessed: stopped at the worst.
                    Err(Error::PortTaken(_) | Error::Timeout(_)) => start_again::<S>(&operation, container),
                    // It may not even have begun, and one that runs on was not restarted.
                    Err(Error::Unavailable(_)) => {
                        container.stop(S::GRACE)?;
                        start_again::<S>(&operation, container)
                    }
                    Err(other) => Err(other),
                }
            }
        }
    }

    fn snapshot(operation: Operation, key: CacheKey) -> Result<Snapshot, Error> {
        let container = running(&operation, &key)?;
        if cache::kind(&container.info())? == Kind::Memcached {
            return Err(keeps_nothing("snapshotted"));
        }
        save(&container)?;
        let snapshot = container.get(&cache::dump(&container.info())).map_err(of_another_object)?;
        S::saved(&container)?;
        Ok(snapshot)
    }

    fn stop(operation: Operation, key: CacheKey) -> Result<bool, Error> {
        match cache::find(&operation, &key)? {
            None => Ok(false),
            Some(container) => end::<S>(&container).map(|()| true),
        }
    }

    fn remove_data(operation: Operation, key: CacheKey) -> Result<bool, Error> {
        if cache::find(&operation, &key)?.is_some() {
            return Err(refuse(&key, "it exists; stop it before deleting its data"));
        }
        S::remove_data(&key)
    }

    fn exec(operation: Operation, key: CacheKey, args: Vec<String>) -> Result<ExecResult, Error> {
        let container = running(&operation, &key)?;
        let Some(client) = cache::kind(&container.info())?.client() else {
            return Err(invalid("engine", "is memcached, which has no command-line client"));
        };
        // -e: without it the client ends with 0 where the server replied with an error.
        let mut argv = vec![client.to_owned(), "-e".to_owned()];
        argv.extend(args);
        let output = container.exec(&argv)?;
        Ok(ExecResult { success: output.exit_code() == 0, output })
    }

    fn find(operation: Operation, key: CacheKey) -> Result<Option<Cache>, Error> {
        match cache::find(&operation, &key)? {
            None => Ok(None),
            Some(container) => Ok(cache::report_all(&[container], LISTING_WITHIN).pop()),
        }
    }

    fn recover(_: Operation) -> Result<Vec<Cache>, Error> {
        let mut caches = cache::report_all(&docker::containers()?, LISTING_WITHIN);
        caches.sort_by(|a, b| (&a.key.scope, &a.key.id).cmp(&(&b.key.scope, &b.key.id)));
        Ok(caches)
    }

    fn reap(_: Operation) -> Result<Vec<String>, Error> {
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
}

/// Have the engine write all that it holds to its dump file, and see that it did.
pub fn save(container: &Container) -> Result<(), Error> {
    let target = Target::Container(container);
    for _ in 0..SAVE_ATTEMPTS {
        match cache::command(container, &["SAVE"], SAVE_WITHIN) {
            Ok(Reply::Status(words)) if words == "OK" => return Ok(()),
            Ok(Reply::Error(words)) if steps::is_save_under_way(&words) => {
                probes::wait_ready(&target, Check::RedisIdle, SAVE_WITHIN)?;
            }
            Ok(Reply::Error(words)) if steps::is_loading(&words) => {
                probes::wait_ready(&target, Check::RedisPing, SAVE_WITHIN)?;
            }
            // It runs, and does not listen yet.
            Err(Error::Unavailable(_)) => {
                probes::wait_ready(&target, Check::RedisPing, SAVE_WITHIN)?;
            }
            Err(error) => return Err(error),
            Ok(Reply::Error(words)) => return Err(Error::EngineError(format!("SAVE failed: {words}"))),
            Ok(other) => return Err(Error::EngineError(format!("SAVE was answered with {other:?}"))),
        }
    }
    Err(Error::EngineError("SAVE failed: the engine was loading or saving each time".to_owned()))
}

fn ensure<S: Storage>(
    operation: &Operation,
    spec: &CacheSpec,
    image: &str,
    found: Option<Container>,
    seen: Seen,
) -> Result<Cache, Error> {
    match (steps::ensure(seen), found) {
        (steps::Ensure::Refuse(why), _) => Err(refuse(&spec.key, why)),
        (steps::Ensure::Create, _) | (_, None) => cache::create::<S>(operation, spec, image, None),
        (steps::Ensure::Adopt, Some(container)) => match cache::ready(&container, true) {
            // Somebody was just ending it.
            Err(Error::EngineError(_)) if container.refresh()?.state == ContainerState::Exited => {
                start_again::<S>(operation, container)
            }
            other => other,
        },
        (steps::Ensure::Start, Some(container)) => start_again::<S>(operation, container),
        (steps::Ensure::Replace, Some(container)) => {
            match container.remove() {
                // The start of an operation that was cut off came to its end only now.
                Err(Error::Conflict(_)) if container.refresh()?.state == ContainerState::Running => {
                    return cache::ready(&container, true);
                }
                other => other?,
            }
            cache::create::<S>(operation, spec, image, None)
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
            container.remove()?;
        }
        (steps::Restore::StopAndReplace, Some(container)) => end::<S>(&container)?,
    }
    let restored = Restored { snapshot: &restore.snapshot, replace: restore.replace, unfinished };
    cache::create::<S>(operation, spec, image, Some(&restored))
}

/// Start a cache that is stopped, with the data and, if it is still free, the port that it had.
fn start_again<S: Storage>(operation: &Operation, container: Container) -> Result<Cache, Error> {
    match cache::start(&container) {
        Ok(()) => match cache::ready(&container, true) {
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
            let spec = cache::spec_of(&container.info())?;
            let image = container.info().image;
            container.remove()?;
            cache::create::<S>(operation, &spec, &image, None).map(|cache| Cache { adopted: true, ..cache })
        }
        Err(other) => Err(other),
    }
}

/// End a container, its data safe first where there is a process to ask.
fn end<S: Storage>(container: &Container) -> Result<(), Error> {
    match steps::stop(cache::seen(Some(container))) {
        steps::Stop::Refuse(why) => return Err(refuse(&container.info().key, why)),
        steps::Stop::Nothing => return Ok(()),
        steps::Stop::SettleAndStop => {
            if keeps_data(container)? {
                S::before_stop(container)?;
            }
            container.stop(S::GRACE)?;
        }
        steps::Stop::StopOnly => container.stop(S::GRACE)?,
        steps::Stop::Remove => {}
    }
    container.remove()
}

fn keeps_data(container: &Container) -> Result<bool, Error> {
    Ok(cache::kind(&container.info())?.keeps_data())
}

fn running(operation: &Operation, key: &CacheKey) -> Result<Container, Error> {
    let container = cache::find(operation, key)?.ok_or_else(|| no_such_cache(key))?;
    match cache::seen(Some(&container)) {
        Seen::Running => Ok(container),
        Seen::Paused => Err(refuse(key, steps::PAUSED)),
        Seen::Absent | Seen::Created | Seen::Restarting | Seen::Exited | Seen::Removing | Seen::Dead => {
            Err(refuse(key, "it does not run; bring it up first"))
        }
    }
}

/// `not-found` is for caches. What else is missing, an image say, or a program in it, is the engine's answer.
fn of_another_object(error: Error) -> Error {
    match error {
        Error::NotFound(words) => Error::EngineError(words),
        other => other,
    }
}

fn invalid(field: &str, reason: &str) -> Error {
    Error::Invalid(InvalidInput { field: field.to_owned(), reason: reason.to_owned() })
}

fn keeps_nothing(what: &str) -> Error {
    invalid("engine", &format!("is memcached, which keeps nothing and cannot be {what}"))
}
