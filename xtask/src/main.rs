//! The chores of this repository: set-up, builds, tests, demo, bench and fuzzing.
//!
//! This program drives others (cargo, docker, `cachehost`) and knows nothing of how the project works inside.
//! It runs on Unix systems.

mod args;
mod build;
mod cachehost;
mod cluster;
mod context;
mod demo;
mod mutants;
mod process;
mod programs;
mod report;
mod setup;
mod suites;

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Action, Task, Usage};
use crate::context::{Context, Profile};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            // A wrong command line is told from a chore that failed, as `cachehost` does it.
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run() -> Result<ExitCode> {
    let task = args::parse(std::env::args_os().skip(1), &suites::names())?;
    if let Task::Help(text) = &task {
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::discover()?;
    match task {
        Task::Help(_) => Ok(ExitCode::SUCCESS),
        Task::Setup => {
            // What one part lacks is no reason to leave the other one undone.
            let tools = setup::policy_tools(&context).map(drop);
            let python = setup::python_tools(&context).map(drop);
            let browser = setup::browser().map(drop);
            setup::engines(&context).and(tools).and(python).and(browser)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Build { debug } => {
            let tools = setup::policy_tools(&context)?;
            build::policy(&context, &tools)?;
            build::python_policy(&context, &setup::python_tools(&context)?)?;
            let profile = if debug { Profile::Debug } else { Profile::Release };
            let program = build::cachehost(&context, profile)?;
            println!("{}", program.display());
            println!("{}", context.policies(profile).display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Demo => demo::run(&context),
        Task::Test { skip, cluster } => suites::run(&context, &skip, cluster.as_ref()),
        Task::Conformance { arguments } => programs::conformance(&context, &arguments),
        Task::Mutants(asked) => mutants::run(&context, &asked),
        Task::Bench { arguments } => programs::bench(&context, &arguments),
        Task::Fuzz { arguments } => programs::fuzz(&context, &arguments),
        Task::Cluster(action) => match action {
            Action::Up => cluster::bring_up(&context),
            Action::Down => cluster::down(&context),
            Action::Status => cluster::status(&context),
            Action::Restart(part) => cluster::restart(&context, part),
        },
    }
}
