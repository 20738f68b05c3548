//! The bench: ours and bare calls of Docker's API or Kubernetes' side by side, and what ours costs by itself.
//!
//! It reports; it does not judge. A target that was missed is marked, and the exit code is 0 all the same:
//! on a machine that others use, noise is no failure.

mod calls;
mod docker;
mod floor;
mod http;
mod kube;
mod kube_floor;
mod limits;
mod memory;
mod neighbours;
mod noop;
mod policy;
mod requests;
mod resp;
mod rounds;
mod shipped;
mod swap;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use elasticache_host::Runtime;
use serde_json::json;

use crate::docker::Arena;
use crate::floor::Floor;
use crate::http::Daemon;
use crate::rounds::Step;
use crate::table::Report;

/// Measures ours and the floor side by side, interleaved, after a round that does not count. The floor is
/// the same work by bare calls of the Docker API over its socket, or of the Kubernetes API, with a tight
/// readiness loop; it creates what ours creates, read off a container or pod of ours.
///
/// `p99` of fewer than 100 runs is the slowest of them. `noise` is what chance alone makes of a ratio: the
/// median of the floor's every second run to that of the others.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110, after_help = EXAMPLES)]
struct Options {
    /// Where caches are
    #[arg(long, value_enum, default_value_t = On::Docker)]
    backend: On,

    #[command(flatten)]
    kube: kube::Options,

    /// Rounds of up, exec, snapshot, reboot and stop, loads of policies, swaps, and starts of `adopt`
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    runs: usize,

    /// Caches to start at once
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    concurrent: usize,

    /// Rounds of starting that many at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    concurrent_rounds: usize,

    /// Operations of each kind on an engine that does nothing
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = at_least_one)]
    policy_runs: usize,

    /// Size of the large dataset of `memory`, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1_024, value_parser = at_least_one)]
    memory_mib: usize,

    /// Measure only this; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<Part>,

    /// Leave `memory` out: it takes minutes and gigabytes of disk
    #[arg(long)]
    skip_memory: bool,

    /// Write all figures, each single measurement included, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                                    all of it
  cargo xtask bench --only up --runs 200               a p99 worth its name
  cargo xtask bench --skip-memory --json figures.json  keep the figures
  cargo xtask bench --backend kube --runs 10           up, exec, snapshot, stop and adopt, in pods
  cargo xtask bench --backend kube --storage-class hostpath --only reboot

FAKECLOUD_ELASTICACHE_POLICY names the policy (the others beside it, with their manifests, for `swap`
and `shipped`), CACHEHOST_BIN the command line (for `memory`), HOSTILE_POLICIES the folder of the hostile
ones (for `neighbours`); `cargo xtask bench` sets all of them, and KUBE_TEST_KUBECONFIG and
KUBE_TEST_CONTEXT to the cluster that `cargo xtask cluster up` brings up. On Kubernetes all is made in a
namespace of the run's own, bench-PID, which is deleted at the end. DOCKER_HOST may name a unix:// socket.
CACHEHOST_LOG=debug on a `cachehost` command shows where its time goes, call by call.";

/// How long operations that were broken off may go on making things.
const LATECOMERS: Duration = Duration::from_secs(60);

/// Names the shipped policy.
const POLICY: &str = "FAKECLOUD_ELASTICACHE_POLICY";
/// Names the folder of the hostile policies.
const HOSTILE: &str = "HOSTILE_POLICIES";

/// What the rounds run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// Containers; and all that needs no engine
    Docker,
    /// Pods of a cluster
    Kube,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From the call to the first true PONG of a new redis
    Up,
    /// One GET through redis-cli in the container
    Exec,
    /// SAVE, and the file synced under its name; 1,000 keys
    Snapshot,
    /// From the call to the first true PONG afterwards; in pods on claims only
    Reboot,
    /// Stop and remove the container or pod
    Stop,
    /// In pods: a new runtime that finds 100 caches running
    Adopt,
    /// Many caches at once, until the last one answers
    Concurrent,
    /// The policy by itself, on an engine that does nothing
    Policy,
    /// Loading the policy, compiled before and not
    Load,
    /// Operations with limits and without
    Limits,
    /// Operations beside hostile policies and alone
    Neighbours,
    /// Taking up another policy, idle and under load
    Swap,
    /// Size, loads and an instance of each shipped policy
    Shipped,
    /// What a large dataset adds to the peak of the host's memory
    Memory,
}

impl Part {
    /// As a step of the rounds on the engine, if it is one.
    fn step(self) -> Option<Step> {
        match self {
            Part::Up => Some(Step::Up),
            Part::Exec => Some(Step::Exec),
            Part::Snapshot => Some(Step::Snapshot),
            Part::Reboot => Some(Step::Reboot),
            Part::Stop => Some(Step::Stop),
            Part::Concurrent | Part::Policy | Part::Load | Part::Memory => None,
            Part::Limits | Part::Neighbours | Part::Swap | Part::Shipped | Part::Adopt => None,
        }
    }

    fn is_for(self, backend: On) -> bool {
        match backend {
            On::Docker => self != Part::Adopt,
            On::Kube => self.step().is_some() || self == Part::Adopt,
        }
    }
}

impl Options {
    fn parts(&self) -> Result<Vec<Part>> {
        if let Some(part) = self.only.iter().find(|part| !part.is_for(self.backend)) {
            bail!("{part:?} is not measured with --backend {:?}", self.backend);
        }
        let wanted =
            |part: &Part| part.is_for(self.backend) && (self.only.is_empty() || self.only.contains(part));
        let skipped = |part: &Part| self.skip_memory && *part == Part::Memory;
        Ok(Part::value_variants().iter().copied().filter(|part| wanted(part) && !skipped(part)).collect())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a whole number, 1 at least".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let parts = options.parts()?;
    let json = options.json.clone();
    // Found out before the work, not after it.
    if let Some(path) = &json {
        std::fs::write(path, "").with_context(|| format!("writing {}", path.display()))?;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = Arc::new(options);
    let (report, outcome) = tokio.block_on(async {
        let scratch = tempfile::Builder::new().prefix("elasticache-bench-").tempdir()?;
        let folder = scratch.path().to_owned();
        let asked = Arc::clone(&options);
        // In a task, as an embedder's own calls are: from the main thread each would begin with a wake-up.
        let work = tokio::spawn(async move {
            let mut report = Report { machine: machine().await, ..Report::default() };
            let outcome = measure(&asked, &parts, &folder, &mut report).await;
            (report, outcome)
        });
        let stop = work.abort_handle();
        let (report, outcome) = tokio::select! {
            ended = work => ended?,
            _ = tokio::signal::ctrl_c() => {
                stop.abort();
                (Report::default(), Err(anyhow::anyhow!("interrupted")))
            }
        };
        // What a part could not remove itself, whatever broke it off.
        match options.backend {
            On::Docker => {
                if let Err(error) = clean_up(outcome.is_err()).await {
                    eprintln!("warning: containers or volumes named *{}* were left: {error:#}", prefix());
                }
            }
            On::Kube => {
                if let Err(error) = kube::clean_up(&options.kube).await {
                    eprintln!("warning: a namespace named {}* was left: {error:#}", prefix());
                }
            }
        }
        Ok::<_, anyhow::Error>((report, outcome))
    })?;
    // A part that failed takes nothing away from those before it.
    let table = report.table();
    if !table.is_empty() {
        println!("\n{table}");
    }
    if let Some(path) = json {
        std::fs::write(&path, format!("{:#}\n", report.json()))?;
        eprintln!("figures: {}", path.display());
    }
    outcome
}

/// Begins the name of all that this run makes.
fn prefix() -> String {
    format!("bench-{}-", std::process::id())
}

/// Removes what is left. After a part broke off, operations of ours are still on their way to their end, and
/// may make something yet: then until there is nothing any more.
async fn clean_up(broken_off: bool) -> Result<()> {
    // No engine, nothing on it.
    let Ok(daemon) = Daemon::find().await else { return Ok(()) };
    let mut floor = Floor::new(daemon).await?;
    let mut outcome = floor.sweep(&prefix()).await;
    let began = Instant::now();
    while broken_off && began.elapsed() < LATECOMERS && !matches!(outcome, Ok(0)) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        outcome = floor.sweep(&prefix()).await;
    }
    outcome.map(drop)
}

async fn measure(options: &Options, parts: &[Part], folder: &Path, report: &mut Report) -> Result<()> {
    // What would fail at the end is better known at the start.
    let program = if parts.contains(&Part::Memory) { Some(memory::program()?) } else { None };
    if cfg!(debug_assertions) {
        report.notes.push("built without optimisation: figures of ours mean little".to_owned());
    }
    if options.backend == On::Kube {
        return kube::measure(&options.kube, parts, options.runs, folder, report).await;
    }
    let (data, cache) = (folder.join("data"), folder.join("cache"));
    // What needs no engine comes first, while no container of ours keeps the machine busy.
    let folders = policy::Folders { data: &data, cache: &cache };
    for part in parts {
        let (mut contrasts, mut costs) = (Vec::new(), Vec::new());
        let notes;
        match part {
            Part::Policy => {
                (costs, notes) = heading(part, policy::operations(&folders, options.policy_runs)).await?;
            }
            Part::Load => {
                (costs, notes) = heading(part, policy::load(&folders, options.runs, folder)).await?
            }
            Part::Limits => {
                (contrasts, notes) = heading(part, limits::cost(&folders, options.policy_runs)).await?;
            }
            Part::Neighbours => {
                let hostile = path_in(HOSTILE)?;
                let work = neighbours::suffering(&folders, &hostile, options.policy_runs);
                (contrasts, notes) = heading(part, work).await?;
            }
            Part::Swap => {
                let policies = beside(POLICY)?;
                (costs, notes) = heading(part, swap::time(&folders, &policies, options.runs, folder)).await?;
            }
            Part::Shipped => {
                let policies = beside(POLICY)?;
                (costs, notes) =
                    heading(part, shipped::all(&folders, &policies, options.runs, folder)).await?;
            }
            Part::Up | Part::Exec | Part::Snapshot | Part::Reboot | Part::Stop => continue,
            Part::Concurrent | Part::Memory | Part::Adopt => continue,
        }
        report.contrasts.extend(contrasts);
        report.costs.extend(costs);
        report.notes.extend(notes);
    }
    let steps: Vec<Step> = parts.iter().filter_map(|part| part.step()).collect();
    if !steps.is_empty() || parts.contains(&Part::Concurrent) {
        let instance = prefix().trim_end_matches('-').to_owned();
        let runtime = Runtime::builder().instance(instance).data_dir(&data).cache_dir(&cache).build().await?;
        let floor = Floor::new(Daemon::find().await?).await?;
        let mut arena = Arena { runtime, floor, prefix: prefix(), folder: folder.to_owned() };
        if !steps.is_empty() {
            eprintln!("== {}", steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(", "));
            report.pairs.extend(arena.steps(&steps, options.runs).await?);
        }
        if parts.contains(&Part::Concurrent) {
            let work = arena.concurrent(options.concurrent, options.concurrent_rounds);
            report.pairs.push(heading(&Part::Concurrent, work).await?);
        }
    }
    if let Some(program) = program {
        let instance = prefix().trim_end_matches('-').to_owned();
        let cachehost = memory::Cachehost { program, instance, data, cache };
        let mut floor = Floor::new(Daemon::find().await?).await?;
        let name = prefix();
        let work = memory::growth(&cachehost, &mut floor, &name, folder, options.memory_mib);
        let (costs, notes) = heading(&Part::Memory, work).await?;
        report.costs.extend(costs);
        report.notes.extend(notes);
    }
    Ok(())
}

/// What a variable names.
fn path_in(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty());
    path.map(PathBuf::from).with_context(|| format!("{variable} is not set; `cargo xtask bench` sets it"))
}

/// The folder of the file that a variable names.
fn beside(variable: &str) -> Result<PathBuf> {
    let file = path_in(variable)?;
    Ok(file.parent().with_context(|| format!("{variable} names no file"))?.to_owned())
}

async fn heading<T>(part: &Part, work: impl Future<Output = T>) -> T {
    eprintln!("== {part:?}");
    work.await
}

/// Where the figures come from.
async fn machine() -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let docker = Daemon::find().await.ok().map(|daemon| daemon.release);
    json!({
        "processors": std::thread::available_parallelism().ok(),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load_average_before": read("/proc/loadavg"),
        "docker": docker,
        "optimised": !cfg!(debug_assertions),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_and_left_out() -> Result<()> {
        let parts = |line: &str| Options::try_parse_from(line.split(' '))?.parts();
        assert_eq!(parts("bench")?.len(), Part::value_variants().len() - 1);
        assert_eq!(parts("bench --only up --only load")?, [Part::Up, Part::Load]);
        assert!(!parts("bench --skip-memory")?.contains(&Part::Memory));
        assert!(parts("bench --runs 0").is_err() && parts("bench --only speed").is_err());
        let kube = "bench --backend kube --kubeconfig k --context c";
        assert!(parts(kube)?.contains(&Part::Adopt) && !parts(kube)?.contains(&Part::Load));
        assert!(parts(&format!("{kube} --only load")).is_err() && parts("bench --only adopt").is_err());
        Ok(())
    }
}
