//! The lifecycle that this policy exports: what the input alone decides, then the steps of where caches run.

use std::marker::PhantomData;

use crate::bindings::exports::fakecloud::elasticache::lifecycle::{ExecResult, Guest, Restore};
use crate::bindings::fakecloud::elasticache::docker::Container;
use crate::bindings::fakecloud::elasticache::kube::Pod;
use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
use crate::bindings::fakecloud::elasticache::types::{
    Cache, CacheKey, CacheSpec, Description, Engine, Error, Operation,
};
use crate::cache::{self, Place, invalid, keeps_nothing, of_another_object, refuse};
use crate::engines::{self, Kind};
use crate::server::Server;
use crate::storage::Storage;
use crate::{containers, pods};

/// A policy that keeps data as `S` does.
pub struct Lifecycle<S>(PhantomData<S>);

impl<S: Storage> Guest for Lifecycle<S> {
    fn describe() -> Description {
        S::describe(Place::now())
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
                return Err(invalid("snapshot", why));
            }
        }
        match Place::now() {
            Place::Docker => containers::ensure::<S>(&operation, &spec, &image, restore.as_ref()),
            Place::Kube { claims } => pods::ensure::<S>(&operation, &spec, &image, restore.as_ref(), claims),
        }
    }

    fn reboot(operation: Operation, key: CacheKey) -> Result<Cache, Error> {
        match Place::now() {
            Place::Docker => containers::reboot::<S>(&operation, &key),
            Place::Kube { .. } => pods::reboot::<S>(&operation, &key),
        }
    }

    fn snapshot(operation: Operation, key: CacheKey) -> Result<Snapshot, Error> {
        let running = Running::find(&operation, &key)?;
        let server = running.server();
        let about = server.about();
        if cache::kind(&about)? == Kind::Memcached {
            return Err(keeps_nothing("snapshotted"));
        }
        cache::save(server)?;
        let snapshot = server.get(&cache::dump(&about)).map_err(of_another_object)?;
        S::saved(server)?;
        Ok(snapshot)
    }

    fn stop(operation: Operation, key: CacheKey) -> Result<bool, Error> {
        match Place::now() {
            Place::Docker => containers::stop::<S>(&operation, &key),
            Place::Kube { .. } => pods::stop::<S>(&operation, &key),
        }
    }

    fn remove_data(operation: Operation, key: CacheKey) -> Result<bool, Error> {
        let exists = || refuse(&key, "it exists; stop it before deleting its data");
        match Place::now() {
            Place::Docker if containers::find(&operation, &key)?.is_some() => Err(exists()),
            Place::Docker => S::remove_data(&key),
            Place::Kube { .. } if pods::exists(&operation, &key)? => Err(exists()),
            Place::Kube { .. } => pods::remove_data(&key),
        }
    }

    fn exec(operation: Operation, key: CacheKey, args: Vec<String>) -> Result<ExecResult, Error> {
        let running = Running::find(&operation, &key)?;
        let server = running.server();
        let Some(client) = cache::kind(&server.about())?.client() else {
            return Err(invalid("engine", "is memcached, which has no command-line client".to_owned()));
        };
        // -e: without it the client ends with 0 where the server replied with an error.
        let mut argv = vec![client.to_owned(), "-e".to_owned()];
        argv.extend(args);
        let output = server.exec(&argv)?;
        Ok(ExecResult { success: output.exit_code() == 0, output })
    }

    fn find(operation: Operation, key: CacheKey) -> Result<Option<Cache>, Error> {
        match Place::now() {
            Place::Docker => containers::look(&operation, &key),
            Place::Kube { .. } => pods::look(&operation, &key),
        }
    }

    fn recover(_: Operation) -> Result<Vec<Cache>, Error> {
        let mut caches = match Place::now() {
            Place::Docker => containers::all(),
            Place::Kube { .. } => pods::all(),
        }?;
        caches.sort_by(|a, b| (&a.key.scope, &a.key.id).cmp(&(&b.key.scope, &b.key.id)));
        Ok(caches)
    }

    fn reap(_: Operation) -> Result<Vec<String>, Error> {
        match Place::now() {
            Place::Docker => containers::reap::<S>(),
            Place::Kube { .. } => pods::reap::<S>(),
        }
    }
}

/// What runs a cache's engine.
enum Running {
    Container(Container),
    Pod(Pod),
}

impl Running {
    fn find(operation: &Operation, key: &CacheKey) -> Result<Self, Error> {
        match Place::now() {
            Place::Docker => containers::running(operation, key).map(Running::Container),
            Place::Kube { .. } => pods::running(operation, key).map(Running::Pod),
        }
    }

    fn server(&self) -> Server<'_> {
        match self {
            Running::Container(container) => container.into(),
            Running::Pod(pod) => pod.into(),
        }
    }
}
