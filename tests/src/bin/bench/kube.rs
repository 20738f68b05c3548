//! Ours and the floor side by side on Kubernetes, and what taking over running caches costs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use elasticache_host::engine::kube::{KubeOptions, Reach};
use elasticache_host::{Backend, Cache, CacheKey, CacheSpec, CacheState, Engine, Runtime};
use serde_json::json;
use tokio::task::JoinSet;

use crate::Part;
use crate::kube_floor::{self, Floor, Place, Template};
use crate::requests::{self, Requests};
use crate::resp::{self, Reply};
use crate::rounds::{KEYS, REST, Side, Step, check_rdb, check_value, order, pair, progress, record};
use crate::table::{Cost, Pair, Report, Samples};

/// What ours may take at most, as a multiple of the floor's median.
const TARGET: f64 = 1.10;
/// What taking over running caches may take, in ms and in list calls.
const ADOPT: (f64, f64) = (1_000.0, 3.0);
/// An embedder's lease.
const LEASE: Duration = Duration::from_secs(60);
/// Caches started at once, for the next run to take over.
const AT_ONCE: usize = 4;

/// Where the cluster is.
#[derive(Debug, Args)]
#[group(id = "cluster")]
pub(crate) struct Options {
    /// With `kube`: the file that says how to reach the cluster. Nobody's current context is ever used unasked
    #[arg(long, value_name = "FILE", env = "KUBE_TEST_KUBECONFIG", required_if_eq("backend", "kube"))]
    kubeconfig: Option<PathBuf>,

    /// With `kube`: which of its contexts
    #[arg(long, value_name = "NAME", env = "KUBE_TEST_CONTEXT", required_if_eq("backend", "kube"))]
    context: Option<String>,

    /// With `kube`: the storage class of claims. Without one data lies in the pods
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,

    /// With `kube`: how both sides get to the engines. Default: directly where pods' addresses lead to them from
    /// here
    #[arg(long, value_name = "REACH")]
    reach: Option<Way>,

    /// With `kube`: running caches that `adopt` takes over
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = crate::at_least_one)]
    adopted: usize,
}

/// How engines are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// At the pod's own address
    Direct,
    /// Through the API server
    Forward,
}

impl Options {
    /// The cluster, and in it a namespace of this run's own.
    fn cluster(&self) -> KubeOptions {
        let mut options = KubeOptions::default();
        options.kubeconfig.clone_from(&self.kubeconfig);
        options.context.clone_from(&self.context);
        options.storage_class.clone_from(&self.storage_class);
        options.namespace = Some(crate::prefix().trim_end_matches('-').to_owned());
        options.reach = self.reach.map(|way| match way {
            Way::Direct => Reach::Direct,
            Way::Forward => Reach::Forward,
        });
        options
    }
}

/// Removes what is left.
pub(crate) async fn clean_up(options: &Options) -> Result<()> {
    kube_floor::delete_namespace(&options.cluster()).await
}

/// All that was asked for.
pub(crate) async fn measure(
    options: &Options,
    parts: &[Part],
    runs: usize,
    folder: &Path,
    report: &mut Report,
) -> Result<()> {
    requests::listen()?;
    let cluster = options.cluster();
    kube_floor::make_namespace(&cluster).await?;
    let arena = Arena::new(cluster, folder.to_owned()).await?;
    report.machine["kubernetes"] = json!(arena.floor.release().await?);
    report.notes.push(match arena.floor.reach {
        Reach::Direct => "both sides ask the engines at the pods' own addresses".to_owned(),
        Reach::Forward => "both sides ask the engines through the API server's port-forward".to_owned(),
    });
    let mut steps: Vec<Step> = parts.iter().filter_map(|part| part.step()).collect();
    if options.storage_class.is_none() && steps.contains(&Step::Reboot) {
        steps.retain(|step| *step != Step::Reboot);
        let why = "without a claim a reboot hands over to another pod, which has no floor";
        report.notes.push(format!("reboot was left out: {why}; it is measured with --storage-class"));
    }
    if !steps.is_empty() {
        eprintln!("== {}", steps.iter().map(|step| step.name()).collect::<Vec<_>>().join(", "));
        report.pairs.extend(arena.steps(&steps, runs).await?);
    }
    if parts.contains(&Part::Adopt) {
        eprintln!("== adopt");
        arena.adopt(options.adopted, runs, report).await?;
    }
    Ok(())
}

/// Both sides.
struct Arena {
    runtime: Runtime,
    cluster: KubeOptions,
    floor: Floor,
    template: Template,
    /// Where snapshots and what runtimes keep go.
    folder: PathBuf,
}

/// The two caches of a round.
struct Caches {
    key: CacheKey,
    ours: Place,
    floor: Place,
}

/// A runtime as an embedder begins it, with a lease; all of them have the same caches.
async fn begin(cluster: &KubeOptions, folder: &Path) -> Result<Runtime> {
    let builder =
        Runtime::builder().backend(Backend::Kube).kube(cluster.clone()).instance("bench").lease(LEASE);
    Ok(builder.data_dir(folder.join("data")).cache_dir(folder.join("cache")).build().await?)
}

fn lists_of(requests: &Requests) -> f64 {
    requests.get("list").copied().unwrap_or(0) as f64
}

fn place(cache: Cache) -> Result<Place> {
    let endpoint = cache.endpoint.context("a cache without an endpoint")?;
    Ok(Place { pod: cache.handle, address: endpoint.address })
}

impl Arena {
    /// Makes a cache of ours once: for the floor to copy, and to see which way leads to it.
    async fn new(mut cluster: KubeOptions, folder: PathBuf) -> Result<Arena> {
        let runtime = begin(&cluster, &folder).await?;
        let key = CacheKey::new("", "template")?;
        let cache = place(runtime.ensure(CacheSpec::new(key.clone(), Engine::Redis)).await?)?;
        let mut floor = Floor::new(&cluster, cluster.reach.unwrap_or(Reach::Direct)).await?;
        if cluster.reach.is_none() && !floor.is_routed(&cache).await {
            floor.reach = Reach::Forward;
        }
        let template = floor.template(&cache.pod).await?;
        runtime.stop(&key).await?;
        runtime.remove_data(&key).await?;
        cluster.reach = Some(floor.reach);
        let runtime = begin(&cluster, &folder).await?;
        Ok(Arena { runtime, cluster, floor, template, folder })
    }

    /// `runs` rounds of the steps wanted, and one before them that does not count.
    async fn steps(&self, wanted: &[Step], runs: usize) -> Result<Vec<Pair>> {
        let steps: Vec<Step> = Step::ALL.into_iter().filter(|step| wanted.contains(step)).collect();
        let mut pairs: Vec<Pair> = steps.iter().map(|step| pair(step.name(), (TARGET, None))).collect();
        for round in 0..=runs {
            progress(&format!("{round} of {runs} rounds"));
            let key = CacheKey::new("", format!("round-{round}"))?;
            let mut caches = Caches { key, ours: Place::default(), floor: Place::default() };
            for step in Step::ALL {
                // Starting and stopping belong to every round, counted or not.
                if !matches!(step, Step::Up | Step::Stop) && !steps.contains(&step) {
                    continue;
                }
                for side in order(round) {
                    let took = self.timed(step, side, &mut caches).await?;
                    record(&steps, &mut pairs, round, step, side, took);
                }
                if step == Step::Up {
                    resp::fill(self.floor.connect(&caches.ours).await?, KEYS).await?;
                    resp::fill(self.floor.connect(&caches.floor).await?, KEYS).await?;
                }
            }
            self.runtime.remove_data(&caches.key).await?;
            self.floor.remove_data(&self.template, &caches.floor).await?;
        }
        progress("");
        Ok(pairs)
    }

    /// One step of one side. Only what stands between the two looks at the clock is measured.
    async fn timed(&self, step: Step, side: Side, caches: &mut Caches) -> Result<Duration> {
        tokio::time::sleep(REST).await;
        let file = self.folder.join(format!("{side:?}.rdb"));
        let (runtime, floor) = (&self.runtime, &self.floor);
        let began = Instant::now();
        let took;
        match (step, side) {
            (Step::Up, Side::Ours) => {
                let cache = runtime.ensure(CacheSpec::new(caches.key.clone(), Engine::Redis)).await?;
                took = began.elapsed();
                ensure!(!cache.adopted, "a cache of that name was there already");
                caches.ours = place(cache)?;
                let answers = resp::answers(floor.connect(&caches.ours)).await;
                ensure!(answers, "ours was said to be up, and does not answer");
            }
            (Step::Up, Side::Floor) => {
                let name = format!("floor-{}", caches.key.id());
                caches.floor = floor.up(&self.template, &name).await?;
                took = began.elapsed();
            }
            (Step::Exec, Side::Ours) => {
                let args = ["GET", "key:7"].map(str::to_owned);
                let output = runtime.exec(&caches.key, &args).await?;
                took = began.elapsed();
                ensure!(output.success, "GET failed in ours");
                check_value(&output.stdout)?;
            }
            (Step::Exec, Side::Floor) => {
                let output = floor.exec(&caches.floor, &["GET", "key:7"]).await?;
                took = began.elapsed();
                check_value(&output)?;
            }
            (Step::Snapshot, Side::Ours) => {
                runtime.snapshot(&caches.key, &file).await?;
                took = began.elapsed();
                check_rdb(&file)?;
            }
            (Step::Snapshot, Side::Floor) => {
                floor.snapshot(&caches.floor, &file).await?;
                took = began.elapsed();
                check_rdb(&file)?;
            }
            (Step::Reboot, Side::Ours) => {
                caches.ours = place(runtime.reboot(&caches.key).await?)?;
                took = began.elapsed();
                self.check_data(&caches.ours).await?;
            }
            (Step::Reboot, Side::Floor) => {
                caches.floor = floor.reboot(&self.template, &caches.floor).await?;
                took = began.elapsed();
                self.check_data(&caches.floor).await?;
            }
            (Step::Stop, Side::Ours) => {
                let stopped = runtime.stop(&caches.key).await?;
                took = began.elapsed();
                ensure!(stopped, "ours was not there to be stopped");
            }
            (Step::Stop, Side::Floor) => {
                floor.stop(&self.template, &caches.floor).await?;
                took = began.elapsed();
            }
        }
        Ok(took)
    }

    async fn check_data(&self, place: &Place) -> Result<()> {
        match self.floor.connect(place).await?.command(&[b"DBSIZE"]).await? {
            Reply::Line(size) if size == KEYS.to_string() => Ok(()),
            other => bail!("after the reboot DBSIZE is {other:?}"),
        }
    }

    /// From nothing to knowing every cache that runs: a new runtime of the same instance, and its list. What an embedder
    /// does beside that, to reap what dead ones left, is told apart: it is about others' caches, and can wait.
    async fn adopt(&self, wanted: usize, runs: usize, report: &mut Report) -> Result<()> {
        let room = self.floor.room().await?;
        let count = wanted.min(room);
        ensure!(count > 0, "the cluster has no room for any pod");
        if count < wanted {
            report
                .notes
                .push(format!("the cluster has room for {room} pods more, so adopt is about {count}"));
        }
        self.start(count).await?;
        let (mut building, mut listing, mut all, mut lists) =
            (Samples::default(), Samples::default(), Samples::default(), Samples::default());
        let (mut reaping, mut reap_lists) = (Samples::default(), Samples::default());
        let mut requests = Requests::new();
        for run in 0..=runs {
            progress(&format!("{run} of {runs} runs"));
            tokio::time::sleep(REST).await;
            requests::sent();
            let began = Instant::now();
            let runtime = begin(&self.cluster, &self.folder).await?;
            let built = began.elapsed();
            let caches = runtime.list().await?;
            let took = began.elapsed();
            requests = requests::sent();
            let found = caches.iter().filter(|cache| cache.state == CacheState::Available).count();
            ensure!(found == count, "{found} of {count} caches were found available");
            let began = Instant::now();
            let reaped = runtime.reap().await?;
            let reap_took = began.elapsed();
            let reap_requests = requests::sent();
            ensure!(reaped.is_empty(), "there was nobody's cache to reap, but {reaped:?} were");
            // The first does not count: it is the one that finds its own code on no page in memory.
            if run > 0 {
                building.push(built.as_secs_f64() * 1e3);
                listing.push((took - built).as_secs_f64() * 1e3);
                all.push(took.as_secs_f64() * 1e3);
                lists.push(lists_of(&requests));
                reaping.push(reap_took.as_secs_f64() * 1e3);
                reap_lists.push(lists_of(&reap_requests));
            }
        }
        progress("");
        let cost = |name: &str, unit, samples, target| Cost { name: name.to_owned(), unit, samples, target };
        report.costs.extend([
            cost(&format!("adopt {count} running caches"), "ms", all, Some(ADOPT.0)),
            cost("  of it build", "ms", building, None),
            cost("  of it list", "ms", listing, None),
            cost("  list calls", "calls", lists, Some(ADOPT.1)),
            cost("reap after that, nobody being dead", "ms", reaping, None),
            cost("  list calls", "calls", reap_lists, None),
        ]);
        let sent: Vec<String> = requests.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        report.notes.push(format!("adopt sent the API server: {}", sent.join(", ")));
        Ok(())
    }

    /// Has so many caches run, by ours.
    async fn start(&self, count: usize) -> Result<()> {
        let mut tasks = JoinSet::new();
        for number in 0..count {
            if tasks.len() >= AT_ONCE
                && let Some(started) = tasks.join_next().await
            {
                started??;
            }
            progress(&format!("cache {number} of {count}"));
            let key = CacheKey::new("", format!("adopted-{number}"))?;
            let runtime = self.runtime.clone();
            tasks.spawn(async move { runtime.ensure(CacheSpec::new(key, Engine::Redis)).await });
        }
        while let Some(started) = tasks.join_next().await {
            started??;
        }
        Ok(())
    }
}
