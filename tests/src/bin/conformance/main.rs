//! Holds a policy to what it promises, on an engine of choice.

mod faults;
mod reporting;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueEnum};
use conformance::certificate::{self, Seen, plain_failure};
use conformance::corpus::{self, Scenario};
use conformance::explore::{Faults, Schedule, Subject};
use conformance::report::model;
use conformance::spec::Profile;
use conformance::verdict::{Judged, Line, Outcome, judge};
use conformance::world::{Place, World};
use elasticache_host::{Manifest, PolicySource};

use reporting::Ended;

/// Runs the corpus of scenarios against a policy component, one line each, and gives a verdict.
///
/// The verdict is `conforms` only if all that the policy owes was tried and held; what is about faults is asked for by
/// `--faults`. A scenario about what the policy does not claim, a promise or an engine, does not apply; what it claims
/// and nothing tests makes it `fails`, and what it owes and was not tried `partial`. Exit code: 0 conforms, 1 fails, 2 bad
/// usage, 3 partial.
#[derive(Debug, Parser)]
#[command(name = "conformance", version)]
struct Args {
    /// The component. Default: the environment's, else the shipped policy, `durable`.
    #[arg(long, value_name = "FILE.wasm")]
    policy: Option<PathBuf>,
    /// The environment's manifest. Default: what `durable` needs on Docker.
    #[arg(long, value_name = "FILE.toml")]
    env: Option<PathBuf>,
    /// Where the scenarios run.
    #[arg(long, value_enum, default_value_t = Backend::Sim)]
    backend: Backend,
    /// With `kube`: the file that says how to reach the cluster. Nobody's current context is ever used unasked.
    #[arg(long, value_name = "FILE", env = "KUBE_TEST_KUBECONFIG", required_if_eq("backend", "kube"))]
    kubeconfig: Option<PathBuf>,
    /// With `kube`: which of its contexts.
    #[arg(long, value_name = "NAME", env = "KUBE_TEST_CONTEXT", required_if_eq("backend", "kube"))]
    context: Option<String>,
    /// With `kube`, real or simulated: the storage class of claims. Default: none, data lies in the pods.
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// Hold it to this profile of the specification alone: core, durable, ephemeral or aws. With `sim`, docker or kube is
    /// what is simulated, and all that it owes there is asked for.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// Write what was found there, for people and for machines: index.html, junit.xml, report.json.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Only scenarios whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// With `sim`: what goes wrong, at every call of the host.
    #[arg(long, value_enum, default_value_t = FaultsArg::None)]
    faults: FaultsArg,
    /// With `--faults random`: the first schedule's seed; the others have the numbers after it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// With `--faults random`: how many schedules.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    schedules: u64,
    /// With `sim`: one schedule again, as a violation names it, with every call of the host.
    #[arg(long, value_name = "SCENARIO/ENGINE/CALL:FAULT,...", conflicts_with = "faults")]
    replay: Option<String>,
    /// Scenarios at once.
    #[arg(long, default_value_t = 4)]
    at_once: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// A simulated Docker, or Kubernetes with `--profile kube`: quick, needs nothing.
    Sim,
    /// The Docker or Podman of this machine, with real engines.
    Docker,
    /// Kubernetes, with real engines, in a namespace of its own.
    Kube,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FaultsArg {
    /// Nothing.
    None,
    /// One fault in each run, every one at every call.
    Single,
    /// Two faults in each run.
    Pairs,
    /// Steps, order and faults by a seed.
    Random,
}

impl Args {
    /// Which world it is, or is simulated.
    fn place(&self) -> Place {
        match (self.backend, self.profile) {
            (Backend::Kube, _) | (Backend::Sim, Some(Profile::Kube)) => {
                Place::Kube { claims: self.storage_class.is_some() }
            }
            (Backend::Sim | Backend::Docker, _) => Place::Docker,
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.backend != Backend::Sim && exploration(&args).is_some() {
        let why = "faults are simulated: --faults and --replay go with --backend sim (and --profile kube)";
        Args::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    reporting::prepare(&args)?;
    let async_runtime = tokio::runtime::Runtime::new()?;
    match exploration(&args) {
        Some(faults) => faults::explore(&async_runtime, &args, faults),
        None => scenarios(&async_runtime, &args),
    }
}

fn exploration(args: &Args) -> Option<Faults> {
    match args.faults {
        FaultsArg::None => args.replay.is_some().then_some(Faults::None),
        FaultsArg::Single => Some(Faults::Single),
        FaultsArg::Pairs => Some(Faults::Pairs),
        FaultsArg::Random => Some(Faults::Random { seed: args.seed, count: args.schedules }),
    }
}

fn environment(args: &Args) -> Result<Manifest> {
    let mut environment = match &args.env {
        Some(path) => Manifest::read(path)?,
        None => Manifest::standard(),
    };
    if let Some(path) = &args.policy {
        environment.policy = PolicySource::file(path);
    }
    Ok(environment)
}

fn scenarios(runtime: &tokio::runtime::Runtime, args: &Args) -> Result<ExitCode> {
    let scenarios: Vec<Scenario> =
        corpus::all()?.into_iter().filter(|scenario| scenario.name.contains(&args.only)).collect();
    let environment = environment(args)?;
    let Judged { lines, description } = runtime.block_on(judged(args, &environment, scenarios.clone()))?;
    let count = |test: fn(&Outcome) -> bool| lines.iter().filter(|line| test(&line.outcome)).count();
    let (passed, failed) =
        (count(|o| matches!(o, Outcome::Passed { .. })), count(|o| matches!(o, Outcome::Failed(_))));
    let skipped = count(|o| matches!(o, Outcome::Skipped(_)));
    let not_claimed = count(|o| matches!(o, Outcome::NotClaimed(_)));
    let failures = match args.backend {
        Backend::Sim => failures(runtime, args, &environment, &scenarios, &lines)?,
        Backend::Docker | Backend::Kube => Vec::new(),
    };
    for failure in &failures {
        println!("replay: {}", failure.replay);
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped; {not_claimed} about what is not claimed");
    let compared: Vec<usize> = lines.iter().filter_map(compared).collect();
    if !compared.is_empty() {
        let changes: usize = compared.iter().sum();
        println!("simulated as in truth: {} of them, with {changes} changes", compared.len());
    }
    let seen = Seen { scenarios: certificate::scenarios(&lines), failures, ..Seen::default() };
    let ended = Ended { description: description.as_ref(), seen, failed: false };
    runtime.block_on(reporting::close(args, &environment, ended))
}

/// Each scenario that failed, once more in a simulation that writes down every call.
fn failures(
    runtime: &tokio::runtime::Runtime,
    args: &Args,
    environment: &Manifest,
    scenarios: &[Scenario],
    lines: &[Line],
) -> Result<Vec<model::Failure>> {
    let mut failed = Vec::new();
    for line in lines {
        let scenario = scenarios.iter().find(|scenario| scenario.name == line.name);
        if let (Outcome::Failed(error), Some(engine), Some(scenario)) = (&line.outcome, line.engine, scenario)
        {
            failed.push((Arc::new(scenario.clone()), engine, error));
        }
    }
    if failed.is_empty() {
        return Ok(Vec::new());
    }
    let cache = tempfile::tempdir()?;
    let subject = runtime.block_on(Subject::load(environment, args.place(), cache.path()))?;
    let replay = |schedule: &Schedule| faults::replay_command(args, schedule);
    let shown = failed.iter().take(certificate::FAILURES);
    shown.map(|(scenario, engine, error)| plain_failure(&subject, scenario, *engine, error, replay)).collect()
}

async fn judged(args: &Args, environment: &Manifest, scenarios: Vec<Scenario>) -> Result<Judged> {
    let shared = match args.backend {
        Backend::Sim => None,
        Backend::Docker => Some(World::docker().await.context("no Docker to run the scenarios on")?),
        Backend::Kube => {
            let file = args.kubeconfig.as_deref().context("--kubeconfig is missing")?;
            let context = args.context.as_deref().context("--context is missing")?;
            let world = World::kube(file, context, args.storage_class.as_deref()).await;
            Some(world.context("no cluster to run the scenarios on")?)
        }
    };
    let world = || shared.clone().unwrap_or_else(|| World::sim(args.place()));
    judge(scenarios, world, environment, args.at_once.max(1), show).await
}

/// In how many changes it went in the simulation as it did in truth.
fn compared(line: &Line) -> Option<usize> {
    match line.outcome {
        Outcome::Passed { compared } => compared,
        _ => None,
    }
}

fn show(line: &Line) {
    let engine = line.engine.map_or("-", |engine| engine.as_str());
    match &line.outcome {
        Outcome::Passed { .. } => println!("pass  {engine:<9}  {}", line.title),
        Outcome::Failed(error) => println!("FAIL  {engine:<9}  {} [{}]: {error:#}", line.title, line.name),
        Outcome::Skipped(why) => println!("skip  {engine:<9}  {} ({why})", line.title),
        Outcome::NotClaimed(what) => {
            println!("n/a   {engine:<9}  {} ({what} is not claimed)", line.title)
        }
    }
}
