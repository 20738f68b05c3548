//! Breaks the policies and the host, a little at a time, and sees whether that is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use conformance::corpus::{self, Scenario};
use conformance::explore::{Subject, on_all_cores};
use conformance::mutants::programs::Programs;
use conformance::mutants::{self, By, Kill, Mutant, policies, schemata};
use conformance::report::{self, Report};
use conformance::world::Place;
use elasticache_host::{Manifest, PolicySource};
use parking_lot::Mutex;

/// Mutants of the policies and of the host. `cargo xtask mutants` builds what this needs.
#[derive(Debug, Parser)]
#[command(name = "mutants", version)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Name them all.
    List,
    /// Write a copy of this workspace that has them all, and print what of it is to be built: `policy NAME`, or
    /// `program NAME`.
    Generate {
        /// Where to.
        place: PathBuf,
        /// Only what these need, as `run` has it.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Try them all. Exit code: 0 all were killed, 1 one survived.
    Run {
        /// The folder of the policies of the copy.
        #[arg(long, value_name = "DIR")]
        policies: PathBuf,
        /// A program of the copy.
        #[arg(long, value_name = "NAME=FILE", value_parser = named)]
        program: Vec<(String, PathBuf)>,
        /// Only the one of this id, or those whose id or file contains this.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// A folder in which `conformance --report` left a report: they are added to it.
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
}

fn named(text: &str) -> Result<(String, PathBuf)> {
    let (name, file) = text.split_once('=').context("is not NAME=FILE")?;
    Ok((name.to_owned(), PathBuf::from(file)))
}

fn main() -> Result<ExitCode> {
    match Args::parse().task {
        Task::List => {
            for mutant in mutants::all()? {
                println!("{}  {}: {}", mutant.id, mutant.file, mutant.what);
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Generate { place, only } => {
            schemata::write(&std::env::current_dir()?, &mutants::all()?, &place)?;
            let chosen = chosen(only.as_deref())?;
            let of_policies = chosen.iter().filter(|mutant| !mutant.is_of_host());
            let policies: BTreeSet<&str> = of_policies.map(Mutant::policy).collect();
            let programs: BTreeSet<&str> =
                chosen.iter().filter_map(|mutant| mutant.by.as_ref()).map(By::program).collect();
            policies.iter().for_each(|name| println!("policy {name}"));
            programs.iter().for_each(|name| println!("program {name}"));
            Ok(ExitCode::SUCCESS)
        }
        Task::Run { policies, program, only, report } => {
            let there = report.map(|folder| Ok::<_, anyhow::Error>((read(&folder)?, folder))).transpose()?;
            let tried =
                try_all(&policies, Programs::new(program.into_iter().collect()), &chosen(only.as_deref())?)?;
            let survived = tried.iter().filter(|(_, kill)| kill.is_none()).count();
            if let Some((mut report, folder)) = there {
                let reported = tried.iter().map(|(mutant, kill)| mutant.reported(kill.as_ref()));
                report.mutants = Some(reported.collect());
                report::write(&folder, &report)?;
                println!("report: {}", folder.join("index.html").display());
            }
            Ok(ExitCode::from(u8::from(survived > 0)))
        }
    }
}

fn chosen(only: Option<&str>) -> Result<Vec<Mutant>> {
    let mut all = mutants::all()?;
    let Some(text) = only else { return Ok(all) };
    // An id may be the beginning of another one.
    let is_one = all.iter().any(|mutant| mutant.id == text);
    all.retain(|mutant| {
        mutant.id == text || !is_one && (mutant.id.contains(text) || mutant.file.contains(text))
    });
    ensure!(
        !all.is_empty(),
        "there is no mutant {text:?} in tests/mutants; `cargo xtask mutants --list` has them all"
    );
    Ok(all)
}

/// The report that is there.
fn read(folder: &Path) -> Result<Report> {
    let path = folder.join(report::FILES[0]);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("no report to add to: {}; `conformance --report` writes one", path.display())
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
}

/// Tries each, and says of each what came of it as soon as that is known.
fn try_all(policies: &Path, programs: Programs, mutants: &[Mutant]) -> Result<Vec<(Mutant, Option<Kill>)>> {
    let begun = Instant::now();
    let bench = Bench {
        policies,
        programs,
        scenarios: corpus::all()?.into_iter().map(Arc::new).collect(),
        async_runtime: tokio::runtime::Runtime::new()?,
        cache: tempfile::tempdir()?,
    };
    let sound = bench.holds(mutants)?;
    println!("nothing fails where nothing is broken ({:.1} s)", begun.elapsed().as_secs_f64());
    let tried = Mutex::new(BTreeMap::new());
    let numbered: Vec<(usize, &Mutant)> = mutants.iter().enumerate().collect();
    on_all_cores(&numbered, |(number, mutant)| {
        let kill = bench.judge(mutant, &sound).with_context(|| format!("the mutant {}", mutant.id))?;
        let mut tried = tried.lock();
        let count = tried.len() + 1;
        match &kill {
            Some(Kill { clauses, test }) => {
                println!(
                    "{count:>3}/{}  killed    {}  by {} ({test})",
                    mutants.len(),
                    mutant.id,
                    clauses.join(", ")
                );
            }
            None => println!(
                "{count:>3}/{}  SURVIVED  {}: {} ({})",
                mutants.len(),
                mutant.id,
                mutant.what,
                mutant.file
            ),
        }
        tried.insert(*number, ((*mutant).clone(), kill));
        Ok(())
    })?;
    let tried: Vec<_> = tried.into_inner().into_values().collect();
    for (of, is_host) in [("policies", false), ("the host", true)] {
        let all = tried.iter().filter(|(mutant, _)| mutant.is_of_host() == is_host);
        let killed = all.clone().filter(|(_, kill)| kill.is_some()).count();
        println!("of {} mutants of {of} {killed} were killed", all.count());
    }
    println!("in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(tried)
}

/// A policy, and where it is judged.
type Ground<'a> = (&'a str, Place);

struct Bench<'a> {
    policies: &'a Path,
    programs: Programs,
    scenarios: Vec<Arc<Scenario>>,
    async_runtime: tokio::runtime::Runtime,
    /// Where policies are found compiled.
    cache: tempfile::TempDir,
}

/// The policies with nothing broken, wherever one of their mutants is judged.
type Sound<'a> = BTreeMap<Ground<'a>, Subject>;

impl Bench<'_> {
    /// That nothing fails where nothing is broken, neither plainly nor with the faults that mutants are given.
    fn holds<'a>(&self, mutants: &'a [Mutant]) -> Result<Sound<'a>> {
        let mut with_faults: BTreeMap<Ground<'a>, BTreeSet<&str>> = BTreeMap::new();
        for mutant in mutants.iter().filter(|mutant| !mutant.is_of_host()) {
            let named = with_faults.entry((mutant.policy(), mutant.place)).or_default();
            named.extend(mutant.faults.as_deref());
        }
        let tests: BTreeSet<(&By, Place)> =
            mutants.iter().filter_map(|mutant| Some((mutant.by.as_ref()?, mutant.place))).collect();
        let mut sound = BTreeMap::new();
        for &(policy, place) in with_faults.keys() {
            sound.insert((policy, place), self.subject(policy, place, None)?);
        }
        let mut runs: Vec<(&Subject, Vec<Arc<Scenario>>, bool)> = Vec::new();
        for (ground, named) in &with_faults {
            let subject = sound.get(ground).context("a policy was not loaded")?;
            runs.push((subject, self.scenarios.clone(), false));
            let faulty = self.scenarios.iter().filter(|scenario| named.contains(scenario.name.as_str()));
            runs.extend(faulty.map(|scenario| (subject, vec![Arc::clone(scenario)], true)));
        }
        on_all_cores(&runs, |(subject, scenarios, faults)| {
            let noticed = if *faults {
                policies::with_a_fault(subject, scenarios)?
            } else {
                policies::plainly(subject, scenarios)?
            };
            match noticed {
                Some(noticed) => {
                    bail!("{}: {} fails though nothing is broken", subject.description.name, noticed.schedule)
                }
                None => Ok(()),
            }
        })?;
        let tests: Vec<_> = tests.into_iter().collect();
        on_all_cores(&tests, |(by, place)| self.programs.holds(by, *place))?;
        Ok(sound)
    }

    fn judge(&self, mutant: &Mutant, sound: &Sound) -> Result<Option<Kill>> {
        if mutant.is_of_host() {
            return self.programs.judge(mutant);
        }
        let subject = self.subject(mutant.policy(), mutant.place, Some(&mutant.id))?;
        let sound = sound.get(&(mutant.policy(), mutant.place)).context("a policy was not loaded")?;
        policies::judge(&subject, sound, &self.scenarios, mutant)
    }

    fn subject(&self, policy: &str, place: Place, mutant: Option<&str>) -> Result<Subject> {
        // What it is given is what it comes with.
        let mut environment = Manifest::read(&self.policies.join(format!("{policy}.toml")))?;
        environment.policy = PolicySource::file(self.policies.join(format!("{policy}.wasm")));
        let chosen = mutant.map(|id| (schemata::SETTING.to_owned(), id.to_owned()));
        environment.config.0.extend(chosen);
        self.async_runtime.block_on(Subject::load(&environment, place, self.cache.path()))
    }
}
