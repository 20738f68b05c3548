//! The verdict, with the report if one was asked for.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use conformance::certificate::{self, Asked, Seen};
use conformance::report::{self, model};
use conformance::spec::Profile;
use conformance::verdict::Verdict;
use elasticache_host::{Manifest, inspect_environment};

use crate::{Args, Backend, FaultsArg};

/// Prints the verdict, and writes the report.
///
/// # Errors
/// If the policy cannot be looked at, or the report not be written.
pub(crate) async fn close(
    args: &Args,
    environment: &Manifest,
    seen: Seen,
    mut verdict: Verdict,
) -> Result<ExitCode> {
    if verdict == Verdict::Conforms && !args.only.is_empty() {
        verdict = Verdict::Partial;
    }
    if args.profile.is_some() || args.report.is_some() {
        let policy = inspect_environment(environment).await?;
        let promises = policy.description.as_ref().map(|of| of.promises.clone()).unwrap_or_default();
        for wanted in args.profile.map(Profile::promises).unwrap_or_default() {
            if !promises.contains(wanted) {
                println!("FAIL  it does not promise {wanted}, as the profile asks");
                verdict = Verdict::Fails;
            }
        }
        if let Some(folder) = &args.report {
            let mut report = certificate::report(&asked(args), &policy, seen)?;
            if verdict == Verdict::Fails {
                report.verdict = model::Verdict::Fails;
            }
            report::write(folder, &report)?;
            verdict = match report.verdict {
                model::Verdict::Conforms => Verdict::Conforms,
                model::Verdict::Partial => Verdict::Partial,
                model::Verdict::Fails => Verdict::Fails,
            };
            println!("report: {}", folder.join("index.html").display());
        }
    }
    let (word, code) = match verdict {
        Verdict::Conforms => ("conforms", 0),
        Verdict::Fails => ("fails", 1),
        Verdict::Partial => ("partial", 3),
    };
    println!("verdict: {word}");
    Ok(ExitCode::from(code))
}

fn asked(args: &Args) -> Asked {
    let (backend, place) = match (args.backend, args.profile) {
        (Backend::Sim, Some(Profile::Kube)) => ("sim", Profile::Kube),
        (Backend::Sim, _) => ("sim", Profile::Docker),
        (Backend::Docker, _) => ("docker", Profile::Docker),
        (Backend::Kube, _) => ("kube", Profile::Kube),
    };
    let faults = match args.faults {
        FaultsArg::None => model::Faults::None,
        FaultsArg::Single => model::Faults::Single,
        FaultsArg::Pairs => model::Faults::Pairs,
        FaultsArg::Random => model::Faults::Random,
    };
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let backend = backend.to_owned();
    let (profile, only, seed) = (args.profile, args.only.clone(), args.seed);
    Asked { backend, place, profile, faults, seed, only, started }
}

/// Where the report is to be, made before anything is run: what cannot be written is to be known early.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn prepare(args: &Args) -> Result<()> {
    match &args.report {
        Some(folder) => std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display())),
        None => Ok(()),
    }
}
