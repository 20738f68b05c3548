//! One scenario with one engine: step by step, each held against what must be seen.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use elasticache_host::probes::Reply;
use elasticache_host::{Cache, CacheKey, CacheSpec, Engine, Error, Manifest, Restore, Runtime};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, TryStreamExt as _};
use tokio::sync::Mutex;

use crate::corpus::{Action, EndpointIs, Scenario, Step};
use crate::scopes;
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

/// Where a scenario runs, and with what.
#[derive(Clone)]
pub struct Setting {
    /// Where.
    pub world: World,
    /// The policy, and what it is given.
    pub environment: Manifest,
    /// A runtime that has loaded that policy, where many are made.
    pub loaded: Option<Runtime>,
    /// With which engine.
    pub engine: Engine,
    /// Whether the policy promises that.
    pub keeps_endpoints: bool,
    /// Whose caches they are: different for each run on one engine, and found again in a list of containers.
    pub instance: String,
    /// The embedder's data folder.
    pub data: PathBuf,
    /// As many keys as that stand for more, where what takes the time is how many runs there are.
    pub keys: u32,
}

/// A run of one scenario.
pub(crate) struct Run {
    setting: Setting,
    /// Files that scenarios name.
    folder: tempfile::TempDir,
    state: Mutex<State>,
}

/// A step in which an operation did not end as it must, where something else than the operation may be to blame. Any
/// other error of a step is a wrong answer, and no fault makes it a right one.
#[derive(Debug)]
pub(crate) struct WrongEnd {
    pub(crate) seen: Seen,
    text: String,
}

/// What was seen at the end of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// An error, by its code.
    Error(&'static str),
    /// Another word than must be on what it found there.
    Found,
    /// Another state of a cache than must be, by its word.
    State(&'static str),
    /// An endpoint at which nothing answers.
    Silence,
    /// Success, in place of a conflict.
    NoConflict,
}

impl Seen {
    /// Whether it says no more than that something could not be reached, or would not do it.
    pub(crate) fn says_so(self) -> bool {
        matches!(self, Seen::Error("unavailable" | "timeout" | "engine-error"))
    }
}

impl std::fmt::Display for WrongEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for WrongEnd {}

/// What the run has seen.
#[derive(Default)]
struct State {
    /// By the number of the host.
    runtimes: HashMap<usize, Runtime>,
    /// As last returned by an operation.
    caches: HashMap<String, Cache>,
    /// How many keys were written, by cache.
    written: HashMap<String, u32>,
    /// What is somebody else's, by its id.
    strangers: Vec<String>,
    occupied: Vec<Occupied>,
}

/// Runs a scenario, and removes what it left.
///
/// # Errors
/// What was seen instead of what must be, with the step.
pub async fn run(scenario: &Scenario, setting: Setting) -> Result<()> {
    let run = Run::new(setting)?;
    let mut outcome = Ok(());
    for (at, step) in scenario.steps.iter().enumerate() {
        outcome = run.step(step, true).await.with_context(|| place(at, step));
        if outcome.is_err() {
            break;
        }
    }
    run.end_host().await;
    let setting = &run.setting;
    let cleaned = setting.world.clean(&setting.instance).await.context("cleaning up after the scenario");
    outcome.and(cleaned)
}

/// Which step it is, for people.
pub(crate) fn place(at: usize, step: &Step) -> String {
    format!("step {} ({:?} {:?})", at + 1, step.r#do, step.cache)
}

impl Run {
    pub(crate) fn new(setting: Setting) -> Result<Self> {
        // Beside the data: whoever runs many has that in memory.
        let folder = tempfile::tempdir_in(&setting.data).context("making a temporary folder")?;
        Ok(Self { setting, folder, state: Mutex::default() })
    }

    /// The hosts' processes are gone.
    pub(crate) async fn end_host(&self) {
        self.state.lock().await.runtimes.clear();
    }

    pub(crate) fn key(&self, cache: &str) -> Result<CacheKey> {
        scopes::key(&self.setting.instance, cache)
    }

    /// What was put there to be left alone, by its id.
    pub(crate) async fn strangers(&self) -> Vec<String> {
        self.state.lock().await.strangers.clone()
    }

    /// That each of them is there as it was put there.
    pub(crate) async fn expect_strangers(&self) -> Result<()> {
        for id in self.strangers().await {
            ensure!(self.setting.world.is_untouched(&id).await?, "what somebody else put there was touched");
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The host of that number, one of the same instance and data folder.
    pub(crate) async fn runtime(&self, host: usize) -> Result<Runtime> {
        let mut state = self.state.lock().await;
        if let Some(runtime) = state.runtimes.get(&host) {
            return Ok(runtime.clone());
        }
        let Setting { world, environment, loaded, instance, data, .. } = &self.setting;
        let builder = Runtime::builder()
            .environment(environment.clone())
            .instance(instance)
            .data_dir(data)
            .cache_dir(data);
        let builder = match loaded {
            Some(loaded) => builder.policy_of(loaded),
            None => builder,
        };
        let runtime = world.equip(builder)?.build().await.map_err(|error| {
            let text = format!("the host does not start: {error}");
            WrongEnd { seen: Seen::Error(error.code()), text }
        })?;
        state.runtimes.insert(host, runtime.clone());
        Ok(runtime)
    }

    async fn known(&self, cache: &str) -> Result<Cache> {
        self.state.lock().await.caches.get(cache).cloned().with_context(|| format!("{cache} was never up"))
    }

    /// `alone`: no other step runs meanwhile, so what an operation returned can be held against the world.
    pub(crate) fn step<'a>(&'a self, step: &'a Step, alone: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match step.r#do {
                Action::Up | Action::Reboot => self.returns_a_cache(step, alone).await,
                Action::Stop | Action::RemoveData => self.returns_a_flag(step).await,
                Action::Snapshot => self.snapshot(step).await,
                Action::Exec => {
                    let (runtime, key) = (self.runtime(step.host).await?, self.key(&step.cache)?);
                    match expected(step, runtime.exec(&key, &step.args).await)? {
                        Some(done) => {
                            same("success", step.success, done.success)?;
                            same("what it printed", step.prints.as_deref().map(str::as_bytes), &done.stdout)
                        }
                        None => Ok(()),
                    }
                }
                Action::Find => self.find(step).await,
                Action::List => self.list(step).await,
                Action::StopAll => expected(step, self.runtime(step.host).await?.stop_all().await).map(drop),
                Action::Reap => expected(step, self.runtime(step.host).await?.reap().await).map(drop),
                Action::NewHost => {
                    self.end_host().await;
                    Ok(())
                }
                Action::Write => self.write(step).await,
                Action::ExpectData => self.expect_data(&step.cache, &step.cache).await,
                Action::ExpectDataOf => self.expect_data(&step.cache, &step.file).await,
                Action::ExpectEmpty => self.expect_size(&step.cache, 0).await,
                Action::AtOnce => {
                    // All of them: what goes on would meet the next step.
                    let ended = join_all(step.steps.iter().map(|step| self.step(step, false))).await;
                    worst(ended.into_iter().filter_map(Result::err))
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
                    let (containers, volumes) = self.setting.world.count(&self.setting.instance).await?;
                    same("containers", step.containers, containers)?;
                    same("volumes", step.volumes, volumes)
                }
                Action::Kill
                | Action::RestartByOthers
                | Action::RemoveByOthers
                | Action::OccupyPort
                | Action::FailSaves
                | Action::LookAlike
                | Action::Usurp
                | Action::ExpectLookAlikes => self.other_hands(step).await,
            }
        })
    }

    async fn returns_a_cache(&self, step: &Step, alone: bool) -> Result<()> {
        let (runtime, key) = (self.runtime(step.host).await?, self.key(&step.cache)?);
        let returned = if step.r#do == Action::Up {
            let mut spec = CacheSpec::new(key, self.setting.engine);
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
        found("adopted", step.adopted, cache.adopted)?;
        // An endpoint that was returned answers: true, not remembered.
        if alone && cache.engine != Engine::Memcached {
            self.setting.world.ask(&endpoint, &["PING".to_owned()]).await.map_err(|error| {
                let text = format!("the endpoint that was returned: {error:#}");
                WrongEnd { seen: Seen::Silence, text }
            })?;
        }
        let mut state = self.state.lock().await;
        let before = state.caches.get(&step.cache).and_then(|cache| cache.endpoint.as_ref());
        // Held against what it was before this step, however often the step has to be done again.
        match (step.endpoint, before) {
            (Some(EndpointIs::Same), before) if self.setting.keeps_endpoints => {
                same("the endpoint", before, &endpoint)?;
            }
            (Some(EndpointIs::Other), Some(before)) if *before == endpoint => {
                bail!("the endpoint is still {before}")
            }
            _ => {}
        }
        state.caches.insert(step.cache.clone(), cache);
        Ok(())
    }

    async fn returns_a_flag(&self, step: &Step) -> Result<()> {
        let (runtime, key) = (self.runtime(step.host).await?, self.key(&step.cache)?);
        let returned = if step.r#do == Action::Stop {
            runtime.stop(&key).await
        } else {
            runtime.remove_data(&key).await
        };
        match expected(step, returned)? {
            Some(flag) => found("was-there", step.was_there, flag),
            None => Ok(()),
        }
    }

    async fn snapshot(&self, step: &Step) -> Result<()> {
        let (runtime, key, file) =
            (self.runtime(step.host).await?, self.key(&step.cache)?, self.file(&step.file));
        let before = std::fs::read(&file).ok();
        let returned = runtime.snapshot(&key, &file).await;
        ensure!(
            returned.is_ok() || std::fs::read(&file).ok() == before,
            "it failed, and {} is not what it was",
            step.file
        );
        expected(step, returned).map(drop)
    }

    async fn find(&self, step: &Step) -> Result<()> {
        let (runtime, key) = (self.runtime(step.host).await?, self.key(&step.cache)?);
        let Some(cache) = expected(step, runtime.find(&key).await)? else { return Ok(()) };
        let state = cache.as_ref().map_or("none", |cache| cache.state.as_str());
        let text = match step.state.as_deref() {
            Some("not-available") if state == "available" => "it is said to be available".to_owned(),
            Some("not-available") | None => return Ok(()),
            Some(wanted) if wanted == state => return Ok(()),
            Some(wanted) => format!("state: {state:?} instead of {wanted:?}"),
        };
        Err(WrongEnd { seen: Seen::State(state), text }.into())
    }

    async fn list(&self, step: &Step) -> Result<()> {
        let Some(caches) = expected(step, self.runtime(step.host).await?.list().await)? else {
            return Ok(());
        };
        let instance = &self.setting.instance;
        let name = |cache: &Cache| scopes::name(instance, cache.key.scope(), cache.key.id());
        found("caches", step.caches.as_ref(), &caches.iter().map(name).collect())
    }

    async fn write(&self, step: &Step) -> Result<()> {
        let endpoint = self.known(&step.cache).await?.endpoint.context("it has no endpoint")?;
        let keys = step.keys.min(self.setting.keys);
        let numbers: Vec<u32> = (0..keys).collect();
        for numbers in numbers.chunks(500) {
            let pairs = numbers.iter().flat_map(|n| [format!("key-{n}"), value(&step.cache, *n)]);
            let args: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
            let reply = self.setting.world.ask(&endpoint, &args).await?;
            ensure!(reply == Reply::Status("OK".to_owned()), "MSET was answered with {reply:?}");
        }
        self.state.lock().await.written.insert(step.cache.clone(), keys);
        Ok(())
    }

    async fn expect_data(&self, cache: &str, of: &str) -> Result<()> {
        let written = self.state.lock().await.written.get(of).copied().context("nothing was written")?;
        self.expect_size(cache, written).await?;
        let endpoint = self.known(cache).await?.endpoint.context("it has no endpoint")?;
        if self.setting.world.is_real() {
            let args = ["EVAL", COUNT_KEPT, "0", &written.to_string(), &value_prefix(of)].map(str::to_owned);
            let kept = self.setting.world.ask(&endpoint, &args).await?;
            ensure!(kept == Reply::Integer(written.into()), "of {written} keys {kept:?} have their values");
            return Ok(());
        }
        // Each by itself: of an array only the length would come back.
        stream::iter((0..written).map(Ok))
            .try_for_each_concurrent(READS, |n| {
                let endpoint = &endpoint;
                async move {
                    let reply =
                        self.setting.world.ask(endpoint, &["GET".to_owned(), format!("key-{n}")]).await?;
                    ensure!(reply == Reply::Bulk(value(of, n).into_bytes()), "key-{n} is {reply:?}");
                    Ok(())
                }
            })
            .await
    }

    async fn expect_size(&self, cache: &str, keys: u32) -> Result<()> {
        let endpoint = self.known(cache).await?.endpoint.context("it has no endpoint")?;
        let reply = self.setting.world.ask(&endpoint, &["DBSIZE".to_owned()]).await?;
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
            return self.expect_strangers().await;
        }
        let cache = self.known(&step.cache).await?;
        match step.r#do {
            Action::OccupyPort => {
                let port = cache.endpoint.context("it has no endpoint")?.port;
                let occupied = self.setting.world.occupy(port)?;
                self.state.lock().await.occupied.push(occupied);
                Ok(())
            }
            Action::RestartByOthers => self.setting.world.restart(&cache.handle).await,
            Action::RemoveByOthers => self.setting.world.remove(&cache.handle).await,
            Action::Kill => self.setting.world.kill(&cache.handle).await,
            Action::FailSaves => self.setting.world.fail_saves(&cache.handle).await,
            Action::LookAlike | Action::Usurp => {
                let world = &self.setting.world;
                let id = match step.r#do {
                    Action::Usurp => world.usurp(&cache.handle).await?,
                    _ => world.look_alike(&cache.handle).await?,
                };
                self.state.lock().await.strangers.push(id);
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
    let may = |code: &str| step.errors.iter().any(|may| may == code);
    let (error, text) = match (returned, &step.error) {
        (Ok(value), None) => return Ok(Some(value)),
        (Ok(_), Some(code)) => {
            let text = format!("it succeeded instead of failing with {code}");
            // What was in the way may have ended with its pod. No other error turns into success by a fault.
            if code == "conflict" {
                return Err(WrongEnd { seen: Seen::NoConflict, text }.into());
            }
            bail!(text);
        }
        (Err(error), Some(code)) if error.code() == code => return Ok(None),
        (Err(error), None) if may(error.code()) => return Ok(None),
        (Err(error), Some(code)) => {
            let text = format!("it failed with {} instead of {code}: {error}", error.code());
            (error, text)
        }
        (Err(error), None) => {
            let text = format!("it failed with {}: {error}", error.code());
            (error, text)
        }
    };
    Err(WrongEnd { seen: Seen::Error(error.code()), text }.into())
}

/// Of the errors of what was done at once the one that counts: none is to hide behind one that says only that it was
/// disturbed.
fn worst(errors: impl Iterator<Item = anyhow::Error>) -> Result<()> {
    let says_so =
        |error: &anyhow::Error| error.downcast_ref::<WrongEnd>().is_some_and(|end| end.seen.says_so());
    errors.min_by_key(says_so).map_or(Ok(()), Err)
}

fn found<T: PartialEq + std::fmt::Debug>(what: &str, wanted: Option<T>, seen: T) -> Result<()> {
    same(what, wanted, seen).map_err(|error| WrongEnd { seen: Seen::Found, text: error.to_string() }.into())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: Option<T>, seen: T) -> Result<()> {
    match wanted {
        Some(wanted) if wanted != seen => bail!("{what}: {seen:?} instead of {wanted:?}"),
        _ => Ok(()),
    }
}
