//! One scenario with one engine: step by step, each held against what must be seen.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use elasticache_host::probes::Reply;
use elasticache_host::{Cache, CacheKey, CacheSpec, Engine, Error, Manifest, Restore, Runtime};
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::{self, TryStreamExt as _};
use tokio::sync::Mutex;

use crate::corpus::{Action, EndpointIs, Scenario, Step};
use crate::world::{Occupied, World};

/// Has the engine itself count the keys that have their values: one question instead of one for each.
const COUNT_KEPT: &str = "\
    local kept = 0 \
    for n = 0, tonumber(ARGV[1]) - 1 do \
        if redis.call('GET', 'key-' .. n) == ARGV[2] .. n then kept = kept + 1 end \
    end \
    return kept";
/// Keys that are read at once, over a connection each.
const READS: usize = 16;

/// A run of one scenario.
struct Run {
    world: World,
    environment: Manifest,
    engine: Engine,
    /// Whether the policy promises that.
    keeps_endpoints: bool,
    instance: String,
    /// The embedder's data folder, shared by runs: what differs is the instance.
    data: PathBuf,
    /// Files that scenarios name.
    folder: tempfile::TempDir,
    state: Mutex<State>,
}

/// What the run has seen.
#[derive(Default)]
struct State {
    runtime: Option<Runtime>,
    /// As last returned by an operation.
    caches: HashMap<String, Cache>,
    /// How many keys were written, by cache.
    written: HashMap<String, u32>,
    look_alikes: Vec<String>,
    occupied: Vec<Occupied>,
}

/// Runs a scenario, as an embedder whose data folder is `data`, and removes what it left.
///
/// # Errors
/// What was seen instead of what must be, with the step.
pub async fn run(
    scenario: &Scenario,
    world: &World,
    environment: &Manifest,
    engine: Engine,
    keeps_endpoints: bool,
    data: &Path,
) -> Result<()> {
    // Different for each run, and found again in a list of containers.
    let instance = format!("conformance-{}-{}-{engine}", std::process::id(), scenario.name);
    let run = Arc::new(Run {
        world: world.clone(),
        environment: environment.clone(),
        engine,
        keeps_endpoints,
        instance: instance.clone(),
        data: data.to_owned(),
        folder: tempfile::tempdir().context("making a temporary folder")?,
        state: Mutex::default(),
    });
    let mut outcome = Ok(());
    for (at, step) in scenario.steps.iter().enumerate() {
        outcome = run
            .step(step, true)
            .await
            .with_context(|| format!("step {} ({:?} {:?})", at + 1, step.r#do, step.cache));
        if outcome.is_err() {
            break;
        }
    }
    drop(run);
    let cleaned = world.clean(&instance).await.context("cleaning up after the scenario");
    outcome.and(cleaned)
}

impl Run {
    /// Ids differ between runs, so that runs at once on one engine never meet.
    fn key(&self, cache: &str) -> Result<CacheKey> {
        Ok(CacheKey::new(format!("s-{}", self.instance), cache)?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn runtime(&self) -> Result<Runtime> {
        let mut state = self.state.lock().await;
        if let Some(runtime) = &state.runtime {
            return Ok(runtime.clone());
        }
        let builder = Runtime::builder()
            .environment(self.environment.clone())
            .instance(&self.instance)
            .data_dir(&self.data)
            .cache_dir(&self.data);
        let runtime = self.world.equip(builder)?.build().await?;
        Ok(state.runtime.insert(runtime).clone())
    }

    async fn known(&self, cache: &str) -> Result<Cache> {
        self.state.lock().await.caches.get(cache).cloned().with_context(|| format!("{cache} was never up"))
    }

    /// `alone`: no other step runs meanwhile, so what an operation returned can be held against the world.
    fn step<'a>(&'a self, step: &'a Step, alone: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match step.r#do {
                Action::Up | Action::Reboot => self.returns_a_cache(step, alone).await,
                Action::Stop | Action::RemoveData => self.returns_a_flag(step).await,
                Action::Snapshot => {
                    let (runtime, key) = (self.runtime().await?, self.key(&step.cache)?);
                    expected(step, runtime.snapshot(&key, &self.file(&step.file)).await).map(drop)
                }
                Action::Exec => {
                    let (runtime, key) = (self.runtime().await?, self.key(&step.cache)?);
                    match expected(step, runtime.exec(&key, &step.args).await)? {
                        Some(done) => same("success", step.success, done.success),
                        None => Ok(()),
                    }
                }
                Action::Find => self.find(step).await,
                Action::List => self.list(step).await,
                Action::StopAll => expected(step, self.runtime().await?.stop_all().await).map(drop),
                Action::Reap => expected(step, self.runtime().await?.reap().await).map(drop),
                Action::NewHost => {
                    self.state.lock().await.runtime = None;
                    Ok(())
                }
                Action::Write => self.write(step).await,
                Action::ExpectData => self.expect_data(&step.cache, &step.cache).await,
                Action::ExpectDataOf => self.expect_data(&step.cache, &step.file).await,
                Action::ExpectEmpty => self.expect_size(&step.cache, 0).await,
                Action::AtOnce => {
                    try_join_all(step.steps.iter().map(|step| self.step(step, false))).await.map(drop)
                }
                Action::Damage => self.damage(&step.file),
                Action::Forge => Ok(std::fs::write(self.file(&step.file), unloadable())?),
                Action::ExpectNoFile => {
                    let left: Vec<_> = std::fs::read_dir(self.folder.path())?
                        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                        .collect();
                    ensure!(left.is_empty(), "{left:?} is there");
                    Ok(())
                }
                Action::Count => {
                    let (containers, volumes) = self.world.count(&self.instance).await?;
                    same("containers", step.containers, containers)?;
                    same("volumes", step.volumes, volumes)
                }
                Action::Kill
                | Action::RestartByOthers
                | Action::RemoveByOthers
                | Action::OccupyPort
                | Action::FailSaves
                | Action::LookAlike
                | Action::ExpectLookAlikes => self.other_hands(step).await,
            }
        })
    }

    async fn returns_a_cache(&self, step: &Step, alone: bool) -> Result<()> {
        let (runtime, key) = (self.runtime().await?, self.key(&step.cache)?);
        let returned = if step.r#do == Action::Up {
            let mut spec = CacheSpec::new(key, self.engine);
            if let Some(engine) = &step.engine {
                spec.engine = engine.parse()?;
            }
            spec.version.clone_from(&step.version);
            spec.restore = (!step.file.is_empty())
                .then(|| Restore { path: self.file(&step.file), replace: step.replace });
            runtime.ensure(spec).await
        } else {
            runtime.reboot(&key).await
        };
        let Some(cache) = expected(step, returned)? else { return Ok(()) };
        ensure!(cache.state.as_str() == "available", "it was returned {}", cache.state.as_str());
        let endpoint = cache.endpoint.clone().context("it was returned without an endpoint")?;
        same("adopted", step.adopted, cache.adopted)?;
        // An endpoint that was returned answers: true, not remembered.
        if alone && cache.engine != Engine::Memcached {
            self.world
                .ask(&endpoint, &["PING".to_owned()])
                .await
                .context("the endpoint that was returned")?;
        }
        let mut state = self.state.lock().await;
        let before = state.caches.insert(step.cache.clone(), cache).and_then(|cache| cache.endpoint);
        match (step.endpoint, before) {
            (Some(EndpointIs::Same), before) if self.keeps_endpoints => {
                same("the endpoint", before.as_ref(), &endpoint)
            }
            (Some(EndpointIs::Other), Some(before)) if before == endpoint => {
                bail!("the endpoint is still {before}")
            }
            _ => Ok(()),
        }
    }

    async fn returns_a_flag(&self, step: &Step) -> Result<()> {
        let (runtime, key) = (self.runtime().await?, self.key(&step.cache)?);
        let returned = if step.r#do == Action::Stop {
            runtime.stop(&key).await
        } else {
            runtime.remove_data(&key).await
        };
        match expected(step, returned)? {
            Some(flag) => same("was-there", step.was_there, flag),
            None => Ok(()),
        }
    }

    async fn find(&self, step: &Step) -> Result<()> {
        let (runtime, key) = (self.runtime().await?, self.key(&step.cache)?);
        let Some(found) = expected(step, runtime.find(&key).await)? else { return Ok(()) };
        let state = found.as_ref().map_or("none", |cache| cache.state.as_str());
        match step.state.as_deref() {
            Some("not-available") => ensure!(state != "available", "it is said to be available"),
            wanted => same("state", wanted, state)?,
        }
        Ok(())
    }

    async fn list(&self, step: &Step) -> Result<()> {
        let Some(caches) = expected(step, self.runtime().await?.list().await)? else { return Ok(()) };
        let ids: Vec<String> = caches.iter().map(|cache| cache.key.id().to_owned()).collect();
        same("caches", step.caches.as_ref(), &ids)
    }

    async fn write(&self, step: &Step) -> Result<()> {
        let endpoint = self.known(&step.cache).await?.endpoint.context("it has no endpoint")?;
        let numbers: Vec<u32> = (0..step.keys).collect();
        for numbers in numbers.chunks(500) {
            let pairs = numbers.iter().flat_map(|n| [format!("key-{n}"), value(&step.cache, *n)]);
            let args: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
            let reply = self.world.ask(&endpoint, &args).await?;
            ensure!(reply == Reply::Status("OK".to_owned()), "MSET was answered with {reply:?}");
        }
        self.state.lock().await.written.insert(step.cache.clone(), step.keys);
        Ok(())
    }

    async fn expect_data(&self, cache: &str, of: &str) -> Result<()> {
        let written = self.state.lock().await.written.get(of).copied().context("nothing was written")?;
        self.expect_size(cache, written).await?;
        let endpoint = self.known(cache).await?.endpoint.context("it has no endpoint")?;
        if self.world.runs_scripts() {
            let args = ["EVAL", COUNT_KEPT, "0", &written.to_string(), &value_prefix(of)].map(str::to_owned);
            let kept = self.world.ask(&endpoint, &args).await?;
            ensure!(kept == Reply::Integer(written.into()), "of {written} keys {kept:?} have their values");
            return Ok(());
        }
        // Each by itself: of an array only the length would come back.
        stream::iter((0..written).map(Ok))
            .try_for_each_concurrent(READS, |n| {
                let endpoint = &endpoint;
                async move {
                    let reply = self.world.ask(endpoint, &["GET".to_owned(), format!("key-{n}")]).await?;
                    ensure!(reply == Reply::Bulk(value(of, n).into_bytes()), "key-{n} is {reply:?}");
                    Ok(())
                }
            })
            .await
    }

    async fn expect_size(&self, cache: &str, keys: u32) -> Result<()> {
        let endpoint = self.known(cache).await?.endpoint.context("it has no endpoint")?;
        let reply = self.world.ask(&endpoint, &["DBSIZE".to_owned()]).await?;
        ensure!(reply == Reply::Integer(keys.into()), "{cache} holds {reply:?} keys instead of {keys}");
        Ok(())
    }

    fn damage(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        let mut bytes = std::fs::read(&path)?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("the file is empty")? ^= 1;
        Ok(std::fs::write(path, bytes)?)
    }

    async fn other_hands(&self, step: &Step) -> Result<()> {
        if step.r#do == Action::ExpectLookAlikes {
            for name in &self.state.lock().await.look_alikes {
                ensure!(self.world.is_untouched(name).await?, "{name} was touched");
            }
            return Ok(());
        }
        let cache = self.known(&step.cache).await?;
        match step.r#do {
            Action::OccupyPort => {
                let port = cache.endpoint.context("it has no endpoint")?.port;
                let occupied = self.world.occupy(port)?;
                self.state.lock().await.occupied.push(occupied);
                Ok(())
            }
            Action::RestartByOthers => self.world.restart(&cache.handle).await,
            Action::RemoveByOthers => self.world.remove(&cache.handle).await,
            Action::Kill => self.world.kill(&cache.handle).await,
            Action::FailSaves => self.world.fail_saves(&cache.handle).await,
            Action::LookAlike => {
                let name = self.world.look_alike(&cache.handle).await?;
                self.state.lock().await.look_alikes.push(name);
                Ok(())
            }
            other => bail!("{other:?} is not done by other hands"),
        }
    }
}

/// Head, a value of a type that does not exist, end, checksum.
fn unloadable() -> Vec<u8> {
    let mut bytes = b"REDIS0010\xc8\xff".to_vec();
    let checksum = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn value(cache: &str, n: u32) -> String {
    format!("{}{n}", value_prefix(cache))
}

fn value_prefix(cache: &str) -> String {
    format!("value-of-{cache}-")
}

/// The value, or `None` where the error came that must.
fn expected<T>(step: &Step, returned: Result<T, Error>) -> Result<Option<T>> {
    match (returned, &step.error) {
        (Ok(value), None) => Ok(Some(value)),
        (Ok(_), Some(code)) => bail!("it succeeded instead of failing with {code}"),
        (Err(error), Some(code)) if error.code() == code => Ok(None),
        (Err(error), None) if step.errors.iter().any(|code| code == error.code()) => Ok(None),
        (Err(error), Some(code)) => bail!("it failed with {} instead of {code}: {error}", error.code()),
        (Err(error), None) => bail!("it failed with {}: {error}", error.code()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: Option<T>, seen: T) -> Result<()> {
    match wanted {
        Some(wanted) if wanted != seen => bail!("{what}: {seen:?} instead of {wanted:?}"),
        _ => Ok(()),
    }
}
