//! From a command to what came of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use elasticache_host::engine::kube::KubeOptions;
use elasticache_host::{
    Backend, Cache, CacheExec, CacheKey, CacheSpec, Error, Grants, Manifest, PolicyInfo, PolicySource,
    Restore, Runtime, SharedProgress, SnapshotInfo, check_exec_arguments, inspect_environment,
};

use crate::args::{Cli, Command, EnvCommand, PolicyCommand, Up};
use crate::failure::{Failure, Files};

/// What a command came to.
#[allow(clippy::large_enum_variant, reason = "there is one of them, once")]
pub(crate) enum Outcome {
    /// A cache, as it is now.
    Cache(Cache),
    /// The caches there are, as they are now.
    Caches {
        /// In the order in which they are shown.
        caches: Vec<Cache>,
        /// Whose they are.
        instance: String,
    },
    /// What a cache's redis-cli gave back.
    Exec(CacheExec),
    /// A file was written.
    Snapshot(SnapshotInfo),
    /// A cache is gone.
    Down {
        /// Which.
        key: CacheKey,
        /// Whether it was there.
        stopped: bool,
        /// Whether its data was there and was deleted; `None` if nobody asked for that.
        data_deleted: Option<bool>,
    },
    /// The names of what was removed.
    Reap(Vec<String>),
    /// A policy component, under what an environment grants.
    Policy(PolicyInfo, Grants),
    /// An environment, and the component that it names.
    Environment(PathBuf, Box<Manifest>, Box<PolicyInfo>),
    /// A manifest's text.
    Text(&'static str),
}

/// Seconds for an operation where no environment says otherwise: somebody is waiting.
const TIMEOUT: u64 = 120;

/// Runs one command to its end.
pub(crate) async fn run(cli: Cli, progress: SharedProgress) -> Result<Outcome, Failure> {
    let key = |id: &str| {
        let scope = cli.scope.clone().unwrap_or_default();
        CacheKey::new(scope, id).map_err(|invalid| Failure::of(&Error::Invalid(invalid), Files::Input))
    };
    // What is wrong with the input is said before an engine is looked for.
    match &cli.command {
        Command::Up(up) => {
            let spec = spec(key(&up.id)?, up)?;
            done(runtime(&cli, progress).await?.ensure(spec).await, Outcome::Cache, &cli)
        }
        Command::Ls => {
            let found = runtime(&cli, progress).await?.list().await;
            done(found, |caches| listed(caches, &cli), &cli)
        }
        Command::Describe { id } => {
            let key = key(id)?;
            let found = runtime(&cli, progress).await?.find(&key).await;
            let found = found.and_then(|cache| cache.ok_or(Error::NotFound { what: key.to_string() }));
            done(found, Outcome::Cache, &cli)
        }
        Command::Exec { id, args } => {
            let key = key(id)?;
            check_exec_arguments(args)
                .map_err(|invalid| Failure::of(&Error::Invalid(invalid), Files::Input))?;
            done(runtime(&cli, progress).await?.exec(&key, args).await, Outcome::Exec, &cli)
        }
        Command::Snapshot { id, file } => {
            let key = key(id)?;
            done(runtime(&cli, progress).await?.snapshot(&key, file).await, Outcome::Snapshot, &cli)
        }
        Command::Reboot { id } => {
            let key = key(id)?;
            done(runtime(&cli, progress).await?.reboot(&key).await, Outcome::Cache, &cli)
        }
        Command::Down { id, delete_data } => {
            let key = key(id)?;
            done(down(&runtime(&cli, progress).await?, key, *delete_data).await, |outcome| outcome, &cli)
        }
        Command::Reap => done(runtime(&cli, progress).await?.reap().await, Outcome::Reap, &cli),
        Command::Policy { command: PolicyCommand::Inspect { file } } => {
            let manifest = inspected(&cli, file)?;
            let found = inspect_environment(&manifest).await.map_err(Error::Policy);
            done(found, |policy| Outcome::Policy(policy, manifest.grants), &cli)
        }
        Command::Env { command: EnvCommand::Check { file } } => {
            let checked = async {
                let manifest = Manifest::read(file)?;
                let policy = inspect_environment(&manifest).await?;
                Ok(Outcome::Environment(file.clone(), Box::new(manifest), Box::new(policy)))
            };
            done(checked.await, |outcome| outcome, &cli)
        }
        Command::Env { command: EnvCommand::Default } => Ok(Outcome::Text(Manifest::standard_text())),
    }
}

async fn runtime(cli: &Cli, progress: SharedProgress) -> Result<Runtime, Failure> {
    let mut builder = Runtime::builder().instance(&cli.instance).progress(progress);
    let environment = environment(cli)?;
    let mut kube = environment.as_ref().map(|manifest| manifest.kube.clone()).unwrap_or_default();
    choose_cluster(&mut kube, cli, environment.as_ref().map(|manifest| manifest.backend))?;
    builder = builder.kube(kube);
    let timeout = cli.timeout.or(environment.is_none().then_some(TIMEOUT));
    if let Some(manifest) = environment {
        builder = builder.environment(manifest);
    }
    if let Some(backend) = cli.backend {
        builder = builder.backend(backend);
    }
    if let Some(seconds) = timeout {
        builder = builder.timeout(Duration::from_secs(seconds));
    }
    if let Some(file) = &cli.policy {
        builder = builder.policy_file(file);
    }
    // The files that are read here are the policy and the environment.
    builder.build().await.map_err(|error| Failure::of(&error, Files::Input))
}

/// What the command line says of the cluster takes the place of what the environment does. Without Kubernetes it would
/// say nothing, and caches would come up elsewhere than where they were meant to.
fn choose_cluster(kube: &mut KubeOptions, cli: &Cli, named: Option<Backend>) -> Result<(), Failure> {
    let asked = [&cli.context, &cli.namespace, &cli.storage_class].iter().any(|option| option.is_some())
        || cli.kubeconfig.is_some();
    if asked {
        let backend = match cli.backend.or(named) {
            Some(backend) => backend,
            None => Backend::of_variables()
                .map_err(|invalid| Failure::of(&Error::Invalid(invalid), Files::Input))?,
        };
        if backend != Backend::Kube {
            return Err(Failure::usage(format!(
                "--kubeconfig, --context, --namespace and --storage-class are for --backend kube, and the backend is {}",
                backend.as_str()
            )));
        }
    }
    let replace = |option: &mut Option<String>, said: &Option<String>| {
        if said.is_some() {
            option.clone_from(said);
        }
    };
    replace(&mut kube.context, &cli.context);
    replace(&mut kube.namespace, &cli.namespace);
    replace(&mut kube.storage_class, &cli.storage_class);
    if cli.kubeconfig.is_some() {
        kube.kubeconfig.clone_from(&cli.kubeconfig);
    }
    Ok(())
}

/// The environment under which a component is looked at.
fn inspected(cli: &Cli, file: &Path) -> Result<Manifest, Failure> {
    let named = environment(cli)?;
    let backend = named.as_ref().map(|manifest| manifest.backend);
    let mut manifest = named.unwrap_or_else(Manifest::standard);
    choose_cluster(&mut manifest.kube, cli, backend)?;
    manifest.policy = PolicySource::file(file);
    if let Some(backend) = cli.backend {
        manifest.backend = backend;
        if cli.env.is_none() && backend == Backend::Kube {
            manifest.grants = Grants::standard_kube(manifest.kube.namespace())
                .map_err(|invalid| Failure::of(&Error::Invalid(invalid), Files::Input))?;
        }
    }
    Ok(manifest)
}

/// The environment that was named, if one was.
fn environment(cli: &Cli) -> Result<Option<Manifest>, Failure> {
    let read = |path: &PathBuf| {
        Manifest::read(path).map_err(|error| Failure::of(&Error::Manifest(error), Files::Input))
    };
    cli.env.as_ref().map(read).transpose()
}

fn spec(key: CacheKey, up: &Up) -> Result<CacheSpec, Failure> {
    let restore = up.from.clone().map(|path| Restore { path, replace: up.replace_data });
    if let Some(restore) = &restore {
        restore.check_file().map_err(|error| Failure::of(&error, Files::Input))?;
    }
    Ok(CacheSpec {
        version: up.engine_version.clone(),
        tags: up.tags()?,
        restore,
        ..CacheSpec::new(key, up.engine)
    })
}

async fn down(runtime: &Runtime, key: CacheKey, delete_data: bool) -> Result<Outcome, Error> {
    let stopped = runtime.stop(&key).await?;
    let data_deleted = match delete_data {
        true => Some(runtime.remove_data(&key).await?),
        false => None,
    };
    Ok(Outcome::Down { key, stopped, data_deleted })
}

/// A scope that was asked for is the only one shown; the order is that of the names.
fn listed(mut caches: Vec<Cache>, cli: &Cli) -> Outcome {
    caches.retain(|cache| cli.scope.as_deref().is_none_or(|scope| cache.key.scope() == scope));
    caches.sort_by(|one, other| one.key.cmp(&other.key));
    Outcome::Caches { caches, instance: cli.instance.clone() }
}

fn done<T>(
    result: Result<T, Error>,
    outcome: impl FnOnce(T) -> Outcome,
    cli: &Cli,
) -> Result<Outcome, Failure> {
    result.map(outcome).map_err(|error| {
        let files = match cli.command {
            Command::Snapshot { .. } => Files::Output,
            _ => Files::Input,
        };
        let failure = Failure::of(&error, files);
        match error {
            Error::NotFound { .. } => failure
                .with_hint(format!("hint: `cachehost ls` lists the caches of instance {:?}", cli.instance)),
            _ => failure,
        }
    })
}
