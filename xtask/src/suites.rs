//! `cargo xtask test`: every suite in its order, and a verdict in which nothing is left out silently.

mod files;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::context::{Context, EXAMPLE, POLICIES, Profile};
use crate::{build, cluster, mutants, process, report, setup};

/// What a suite needs before it can run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The policies, and a `cachehost` beside them.
    Policy,
    /// A Docker Engine with the images.
    Engine,
    /// A Kubernetes: the one that was named, else one of our own.
    Cluster,
}

/// Somebody's cluster, named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) context: String,
}

/// What the suites run on.
struct Ground<'a> {
    context: &'a Context,
    named: Option<&'a Named>,
}

struct Suite {
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Ground) -> Result<()>,
}

/// All suites. Cheap ones come first: what they find should not have to wait.
const SUITES: [Suite; 16] = [
    Suite { name: "format", needs: &[], run: format },
    Suite { name: "clippy", needs: &[], run: clippy },
    Suite { name: "docs", needs: &[], run: docs },
    Suite { name: "unit", needs: &[], run: unit },
    Suite { name: "host", needs: &[Need::Policy], run: host },
    Suite { name: "fuzz", needs: &[Need::Policy], run: fuzz },
    Suite { name: "report", needs: &[], run: report_page },
    Suite { name: "docker", needs: &[Need::Policy, Need::Engine], run: docker },
    Suite { name: "conformance-sim", needs: &[Need::Policy], run: conformance_sim },
    Suite { name: "faults", needs: &[Need::Policy], run: faults },
    Suite { name: "mutants", needs: &[Need::Policy], run: mutated },
    Suite { name: "conformance-docker", needs: &[Need::Policy, Need::Engine], run: conformance_docker },
    Suite { name: "conformance-python", needs: &[Need::Policy, Need::Engine], run: conformance_python },
    Suite { name: "kube", needs: &[Need::Policy, Need::Cluster], run: kube },
    Suite { name: "kube-own", needs: &[Need::Policy, Need::Cluster], run: kube_own },
    Suite { name: "conformance-kube", needs: &[Need::Policy, Need::Cluster], run: conformance_kube },
];

impl Ground<'_> {
    /// Hands a program the cluster, under the names that tests look for.
    fn hand_over_cluster(&self, command: &mut Command) {
        match self.named {
            Some(Named { kubeconfig, context }) => {
                command.env("KUBE_TEST_KUBECONFIG", kubeconfig).env("KUBE_TEST_CONTEXT", context);
            }
            None => cluster::hand_over(self.context, command),
        }
    }
}

/// `--skip` of this leaves out all that needs a cluster.
const KUBE: &str = "kube";
/// Features of the host, each set without any other: of them nothing else here is built alone.
const LEAN: [&str; 2] = ["", "docker"];

/// The names that `--skip` takes.
pub(crate) fn names() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Runs all suites but those skipped by name. Fails if any did.
pub(crate) fn run(context: &Context, skip: &[String], named: Option<&Named>) -> Result<ExitCode> {
    let skipped = |suite: &Suite| {
        let is = |name: &String| name == suite.name || name == KUBE && suite.needs.contains(&Need::Cluster);
        skip.iter().any(is)
    };
    let needed = |need: Need| SUITES.iter().any(|suite| !skipped(suite) && suite.needs.contains(&need));

    report::heading("set-up");
    let policy = if needed(Need::Policy) { set_up_policy(context) } else { Ok(()) };
    let engine = if needed(Need::Engine) { setup::engines(context) } else { Ok(()) };
    let ground = Ground { context, named };
    // One that was up before stays so.
    let was_up = named.is_some() || cluster::is_up(context);
    let cluster = if needed(Need::Cluster) { set_up_cluster(&ground) } else { Ok(()) };

    let mut results = Vec::new();
    for suite in &SUITES {
        if skipped(suite) {
            results.push((suite.name, Verdict::Skipped, Duration::ZERO, String::new()));
            continue;
        }
        report::heading(suite.name);
        let began = Instant::now();
        let lacking = suite.needs.iter().find_map(|need| match need {
            Need::Policy => policy.as_ref().err().map(|error| anyhow!("no policy: {error:#}")),
            Need::Engine => engine.as_ref().err().map(|error| anyhow!("no engine: {error:#}")),
            Need::Cluster => cluster.as_ref().err().map(|error| anyhow!("no cluster: {error:#}")),
        });
        // What could not be set up fails here: a test that did not run has not passed.
        let result = lacking.map_or_else(|| (suite.run)(&ground), Err);
        let (verdict, why) = match result {
            Ok(()) => (Verdict::Passed, String::new()),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        let took = began.elapsed();
        if verdict == Verdict::Failed {
            eprintln!("{why}");
        }
        eprintln!("{} {} in {}", suite.name, verdict.word(), report::duration(took));
        results.push((suite.name, verdict, took, why));
    }
    let down = || if needed(Need::Cluster) && !was_up { cluster::down(context).map(drop) } else { Ok(()) };
    Ok(if close(&results, down) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Results = [(&'static str, Verdict, Duration, String)];

/// Says how it went, and whether all is well. The cluster is taken down after that: should it fail, it takes nobody the
/// verdict on the suites, but is a failure itself.
fn close(results: &Results, down: impl FnOnce() -> Result<()>) -> bool {
    let count = |wanted| results.iter().filter(|(_, verdict, ..)| *verdict == wanted).count();
    println!("\n{}", summary(results));
    let mut failed = count(Verdict::Failed);
    if let Err(error) = down() {
        println!("the cluster could not be taken down: {error:#}");
        failed += 1;
    }
    println!("{} passed, {failed} failed, {} skipped", count(Verdict::Passed), count(Verdict::Skipped));
    failed == 0
}

fn summary(results: &Results) -> String {
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|(name, verdict, took, why)| {
            let took = if *verdict == Verdict::Skipped { "-".to_owned() } else { report::duration(*took) };
            vec![(*name).to_owned(), verdict.word().to_owned(), took, brief(why)]
        })
        .collect();
    report::table(&["suite", "verdict", "time", ""], &rows, false)
}

/// The beginning of a reason; the whole one stands where the suite ran.
fn brief(why: &str) -> String {
    const WIDTH: usize = 60;
    let line = why.lines().next().unwrap_or_default();
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 3).chain("...".chars()).collect()
}

fn set_up_policy(context: &Context) -> Result<()> {
    let result = setup::policy_tools(context).and_then(|tools| {
        build::policy(context, &tools)?;
        build::test_policies(context, &tools)?;
        build::for_tests(context, "cachehost").map(drop)
    });
    if let Err(error) = &result {
        eprintln!("{error:#}");
    }
    result
}

fn set_up_cluster(ground: &Ground) -> Result<()> {
    let result = if ground.named.is_some() { Ok(()) } else { cluster::up(ground.context).map(drop) };
    if let Err(error) = &result {
        eprintln!("{error:#}");
    }
    result
}

fn format(ground: &Ground) -> Result<()> {
    process::run(&mut ground.context.cargo(&["fmt", "--all", "--", "--check"]))
}

fn clippy(ground: &Ground) -> Result<()> {
    let context = ground.context;
    let mut command = context.cargo(&["clippy", "--workspace", "--all-targets", "--all-features"]);
    process::run(command.args(["--", "-D", "warnings"]))?;
    // What an embedder takes who wants less than all of it.
    for features in LEAN {
        let mut command = context.cargo(&["clippy", "-p", "elasticache-host", "--no-default-features"]);
        process::run(command.args(["--features", features, "--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// The documentation is whole, and its examples are true.
fn docs(ground: &Ground) -> Result<()> {
    let context = ground.context;
    let mut command = context.cargo(&["doc", "--no-deps", "--workspace", "--all-features"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    process::run(&mut test(context, &["--doc"]))
}

fn unit(ground: &Ground) -> Result<()> {
    process::run(&mut test(ground.context, &["--lib", "--bins"]))
}

fn host(ground: &Ground) -> Result<()> {
    integration(ground, files::Kind::Host, &[])
}

/// Briefly, and without optimisation: numbers that run over and broken assumptions are panics then.
fn fuzz(ground: &Ground) -> Result<()> {
    let context = ground.context;
    let program = build::for_tests(context, "fuzz")?;
    let mut command = process::command(program);
    context.hand_over(&mut command, Profile::Debug);
    process::run(command.args(["--seconds", "10", "--calls", "1000000"]).current_dir(&context.root))
}

/// The report as files, and its page in a real browser.
fn report_page(ground: &Ground) -> Result<()> {
    let browser = setup::browser()?;
    let mut command = tests_of_kind(ground, files::Kind::Report, &[])?;
    process::run(command.env(setup::BROWSER, browser))
}

fn docker(ground: &Ground) -> Result<()> {
    // More would fight for the engine, and be slower on a small machine.
    integration(ground, files::Kind::Docker, &["--", "--test-threads", "2"])
}

fn kube(ground: &Ground) -> Result<()> {
    // Most of the time passes while pods go, which takes little of the machine.
    integration(ground, files::Kind::Kube, &["--", "--test-threads", "6"])
}

/// Their programs run one after the other, as cargo has it. The one that restarts what is everybody's has one test.
fn kube_own(ground: &Ground) -> Result<()> {
    if let Some(named) = ground.named {
        anyhow::bail!(
            "the context {} is not a cluster whose parts xtask can restart; leave this out by --skip kube-own",
            named.context
        );
    }
    integration(ground, files::Kind::OwnKube, &["--", "--test-threads", "4"])
}

/// Scenarios at once: most of the time of each passes while pods come and go. A node has room for 110 pods, unless it
/// was told otherwise, as that of xtask's own cluster.
const AT_ONCE: &str = "24";

/// Each policy with its data on claims or in its pods, whichever it is made for; the default one both ways.
fn conformance_kube(ground: &Ground) -> Result<()> {
    let class =
        std::env::var("KUBE_TEST_STORAGE_CLASS").unwrap_or_else(|_| cluster::STORAGE_CLASS.to_owned());
    conformance(
        ground,
        &["--backend", "kube", "--at-once", AT_ONCE, "--storage-class", &class],
        POLICIES[0],
    )?;
    POLICIES
        .iter()
        .try_for_each(|policy| conformance(ground, &["--backend", "kube", "--at-once", AT_ONCE], policy))
}

/// The simulated worlds: Docker, and Kubernetes with its data in pods and on claims.
const SIMULATED: [&[&str]; 3] = [
    &["--backend", "sim"],
    &["--backend", "sim", "--profile", "kube"],
    &["--backend", "sim", "--profile", "kube", "--storage-class", "simulated"],
];

/// Which of them a policy is for: only the default one keeps data on claims.
fn simulated(policy: &str) -> impl Iterator<Item = &'static [&'static str]> {
    let worlds = if policy == POLICIES[0] { SIMULATED.len() } else { SIMULATED.len() - 1 };
    SIMULATED.into_iter().take(worlds)
}

fn conformance_sim(ground: &Ground) -> Result<()> {
    for policy in POLICIES {
        simulated(policy).try_for_each(|world| conformance(ground, world, policy))?;
    }
    // README promises that the policy which it shows conforms, in the environment that holds where none is named.
    let component = ground.context.test_policies().join(format!("{EXAMPLE}.wasm"));
    judge(ground, &["--backend", "sim"], EXAMPLE, "--policy", &component)
}

/// How the line begins by which runs of one seed are compared.
const HASH: &str = "trace hash: ";
/// For some hundred schedules, unless something hangs.
const RANDOM_WITHIN: Duration = Duration::from_secs(600);

/// Every fault at every call of every scenario, and steps, order and faults by a seed, with each policy. Not optimised:
/// to compile all that this stands on once more takes longer than it saves.
fn faults(ground: &Ground) -> Result<()> {
    let context = ground.context;
    let program = build::for_tests(context, "conformance")?;
    for policy in POLICIES {
        let environment = context.policies(Profile::Debug).join(format!("{policy}.toml"));
        for world in simulated(policy) {
            let run = |faults: &[&str]| {
                let mut command = process::command(&program);
                command.args(world).arg("--faults").args(faults).arg("--env").arg(&environment);
                command.current_dir(&context.root);
                command
            };
            let place = world[1..].join(" ");
            report::heading(&format!("{policy} on {place}: faults, single"));
            process::run(&mut run(&["single"]))?;
            report::heading(&format!("{policy} on {place}: faults, random"));
            let mut hashes = Vec::new();
            // What is said of a seed can only be replayed if the same seed is the same runs.
            for _ in 0..2 {
                let seen = process::capture(&mut run(&["random", "--schedules", "500"]), RANDOM_WITHIN)?;
                print!("{}", seen.stdout);
                if !seen.status.success() {
                    anyhow::bail!("{policy} on {place} with faults by a seed: {}", seen.status);
                }
                hashes.extend(seen.stdout.lines().filter(|line| line.starts_with(HASH)).map(str::to_owned));
            }
            if hashes.len() != 2 || hashes[0] != hashes[1] {
                anyhow::bail!("{policy} on {place}: the same seed gave {hashes:?}");
            }
        }
    }
    Ok(())
}

/// Whether what is broken is noticed.
fn mutated(ground: &Ground) -> Result<()> {
    let code = mutants::run(ground.context, &mutants::Asked::default())?;
    if code == ExitCode::SUCCESS { Ok(()) } else { Err(anyhow!("a mutant survived")) }
}

fn conformance_docker(ground: &Ground) -> Result<()> {
    POLICIES.iter().try_for_each(|policy| conformance(ground, &["--backend", "docker"], policy))
}

/// A policy that is no Rust, on the same scenarios as the others. Compiling it for this machine takes a minute, so
/// that it has a suite of its own.
fn conformance_python(ground: &Ground) -> Result<()> {
    let context = ground.context;
    build::python_policy(context, &setup::python_tools(context)?)?;
    conformance(ground, &["--backend", "docker"], "python")
}

fn integration(ground: &Ground, kind: files::Kind, options: &[&str]) -> Result<()> {
    let mut command = tests_of_kind(ground, kind, options)?;
    if matches!(kind, files::Kind::Kube | files::Kind::OwnKube) {
        ground.hand_over_cluster(&mut command);
    }
    process::run(&mut command)
}

/// `cargo test` for the files of tests of a kind.
fn tests_of_kind(ground: &Ground, kind: files::Kind, options: &[&str]) -> Result<Command> {
    let context = ground.context;
    let names = files::of_kind(&context.root, kind)?;
    let mut arguments = Vec::new();
    for name in &names {
        arguments.extend(["--test", name.as_str()]);
    }
    arguments.extend(options);
    Ok(test(context, &arguments))
}

/// Holds a policy, in the environment that comes with it, to what it promises.
fn conformance(ground: &Ground, on: &[&str], policy: &str) -> Result<()> {
    let environment = ground.context.policies(Profile::Debug).join(format!("{policy}.toml"));
    judge(ground, on, policy, "--env", &environment)
}

fn judge(ground: &Ground, on: &[&str], name: &str, option: &str, file: &Path) -> Result<()> {
    let context = ground.context;
    report::heading(&format!("{name} on {}", on[1..].join(" ")));
    let program = build::for_tests(context, "conformance")?;
    let mut command = process::command(program);
    context.hand_over(&mut command, Profile::Debug);
    ground.hand_over_cluster(&mut command);
    command.args(on).arg(option).arg(file);
    process::run(command.current_dir(&context.root))
}

/// `cargo test` for the workspace. With other packages or features per suite, cargo would compile the
/// dependencies several times over.
fn test(context: &Context, arguments: &[&str]) -> Command {
    let mut command = context.cargo(&["test", "--workspace", "--all-features"]);
    // One failure must not hide the ones after it.
    command.arg("--no-fail-fast").args(arguments);
    context.hand_over(&mut command, Profile::Debug);
    context.keep_user_folders(&mut command);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_cluster_is_a_failure_after_all_suites_have_passed() {
        let passed = [("format", Verdict::Passed, Duration::ZERO, String::new())];
        assert!(close(&passed, || Ok(())));
        assert!(!close(&passed, || Err(anyhow!("it stays"))));
        let failed = [("format", Verdict::Failed, Duration::ZERO, "why".to_owned())];
        assert!(!close(&failed, || Ok(())));
    }
}
