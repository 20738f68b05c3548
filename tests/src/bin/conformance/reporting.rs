//! The verdict, with the report if one was asked for.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use conformance::certificate::{self, Asked, Seen};
use conformance::report::{self, model};
use conformance::spec::Profile;
use elasticache_host::{Description, Manifest, inspect_environment};

use crate::{Args, Backend, FaultsArg};

/// What a run came to.
pub(crate) struct Ended<'a> {
    /// What the policy says of itself where it was run.
    pub(crate) description: Option<&'a Description>,
    /// What was seen.
    pub(crate) seen: Seen,
    /// Whether something did not hold that `seen` does not show.
    pub(crate) failed: bool,
}

/// Prints the verdict, and writes the report if one was asked for. Both come of the same.
///
/// # Errors
/// If the policy cannot be looked at, or the report not be written.
pub(crate) async fn close(args: &Args, environment: &Manifest, ended: Ended<'_>) -> Result<ExitCode> {
    let Ended { description, seen, failed } = ended;
    let policy = inspect_environment(environment).await?;
    let mut report = certificate::report(&asked(args), &policy, description, seen)?;
    for skip in &report.skipped {
        println!("not tried: {} ({})", skip.what, skip.why);
    }
    let lacking = args.profile.map(Profile::promises).unwrap_or_default();
    let lacking = lacking.iter().filter(|wanted| !report.policy.promises.iter().any(|made| made == *wanted));
    let lacking: Vec<_> = lacking.collect();
    for wanted in &lacking {
        println!("FAIL  it does not promise {wanted}, as the profile asks");
    }
    if failed || !lacking.is_empty() {
        report.verdict = model::Verdict::Fails;
    }
    if let Some(folder) = &args.report {
        report::write(folder, &report)?;
        println!("report: {}", folder.join("index.html").display());
    }
    let (word, code) = match report.verdict {
        model::Verdict::Conforms => ("conforms", 0),
        model::Verdict::Fails => ("fails", 1),
        model::Verdict::Partial => ("partial", 3),
    };
    let about = if args.faults == FaultsArg::None { " (without faults: --faults)" } else { "" };
    println!("verdict: {word}{about}");
    Ok(ExitCode::from(code))
}

fn asked(args: &Args) -> Asked {
    let backend = match args.backend {
        Backend::Sim => "sim",
        Backend::Docker => "docker",
        Backend::Kube => "kube",
    };
    let faults = match args.faults {
        FaultsArg::None => model::Faults::None,
        FaultsArg::Single => model::Faults::Single,
        FaultsArg::Pairs => model::Faults::Pairs,
        FaultsArg::Random => model::Faults::Random,
    };
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let backend = backend.to_owned();
    // These two say where it is run, and what is owed there is all that is owed.
    let profile = args.profile.filter(|profile| !matches!(profile, Profile::Docker | Profile::Kube));
    let (only, seed) = (args.only.clone(), args.seed);
    let schedules = (args.faults == FaultsArg::Random).then_some(args.schedules);
    Asked { backend, place: args.place(), profile, faults, seed, schedules, only, started }
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
