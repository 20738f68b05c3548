//! Mutants: a copy of the sources in which each can be chosen, built once, and what judges them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::context::{Context, Profile};
use crate::setup::PolicyTools;
use crate::{build, process, report, setup};

/// For writing the copy.
const WITHIN: Duration = Duration::from_secs(60);

/// Which mutants, and what becomes of the result.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The one of this id, or those whose id or file contains it.
    pub(crate) only: Option<String>,
    /// Name them, and try none.
    pub(crate) list: bool,
    /// The folder of the report that they are added to.
    pub(crate) report: Option<PathBuf>,
}

/// Builds the copy and all that drives it, and tries the mutants.
pub(crate) fn run(context: &Context, asked: &Asked) -> Result<ExitCode> {
    if asked.list {
        let program = build::for_tests(context, "mutants")?;
        process::run(process::command(program).arg("list"))?;
        return Ok(ExitCode::SUCCESS);
    }
    try_all(context, &setup::policy_tools(context)?, asked)
}

fn try_all(context: &Context, tools: &PolicyTools, asked: &Asked) -> Result<ExitCode> {
    let program = build::for_tests(context, "mutants")?;
    let place = context.target.join("mutants");
    let only: Vec<OsString> =
        asked.only.iter().flat_map(|id| [OsString::from("--only"), OsString::from(id)]).collect();
    report::heading("mutants: the copy");
    let mut generate = process::command(&program);
    generate.arg("generate").arg(place.join("src")).args(&only).current_dir(&context.root);
    // What is wrong is in its last words.
    generate.env("RUST_BACKTRACE", "0");
    let needed = process::output(&mut generate, WITHIN).context("the mutants do not fit the sources")?;
    let named = |kind: &str| -> Vec<&str> {
        needed.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).collect()
    };
    let copy = context.of_copy(place.join("src"));
    let policies = build::mutated_policies(&copy, tools, &named("policy"), &place.join("policies"))?;
    let named = named("program");
    if !named.is_empty() {
        // Their tests run what is not broken.
        build::policy(context, tools)?;
        build::test_policies(context, tools)?;
    }
    let programs = programs(&copy, &named, &place.join("programs"))?;
    // Both have programs of the same names, and this one's are what the next suite finds.
    build::for_tests(context, "conformance")?;
    let program = build::for_tests(context, "mutants")?;
    report::heading("mutants");
    let mut command = process::command(program);
    context.hand_over(&mut command, Profile::Debug);
    context.keep_user_folders(&mut command);
    command.arg("run").arg("--policies").arg(policies).args(&only);
    for (name, file) in programs {
        command.arg("--program").arg(format!("{name}={}", file.display()));
    }
    if let Some(folder) = &asked.report {
        command.arg("--report").arg(folder);
    }
    let status = command.status().context("cannot start what judges mutants")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The programs of the copy, at places of their own.
fn programs(copy: &Context, names: &[&str], place: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut made = Vec::new();
    for (task, option) in [("build", "--bin"), ("test", "--test")] {
        let chosen: Vec<&str> =
            names.iter().copied().filter(|name| (*name == "conformance") == (task == "build")).collect();
        if chosen.is_empty() {
            continue;
        }
        report::heading(&format!("build: mutants in {}", chosen.join(", ")));
        let mut command = copy.cargo(&[task, "--workspace", "--all-features"]);
        if task == "test" {
            command.arg("--no-run");
        }
        for name in &chosen {
            command.args([option, name]);
        }
        let text = messages(&mut command)?;
        for name in chosen {
            let file = executable(&text, name).with_context(|| format!("cargo made no program {name}"))?;
            std::fs::create_dir_all(place)?;
            let kept = place.join(name);
            // In one step, and never over one that runs.
            let aside = place.join(format!(".{name}"));
            std::fs::copy(&file, &aside).and_then(|_| std::fs::rename(&aside, &kept))?;
            made.push((name.to_owned(), kept));
        }
    }
    Ok(made)
}

/// What cargo says of what it makes, a document in each line.
fn messages(command: &mut Command) -> Result<String> {
    command.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let output =
        command.spawn().and_then(std::process::Child::wait_with_output).context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed with {}", process::shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let file = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| PathBuf::from(file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_target() {
        let text = "{\"reason\":\"x\",\"target\":{\"name\":\"a\"},\"executable\":null}\n\
                    not json\n{\"target\":{\"name\":\"a\"},\"executable\":\"/t/a-1\"}\n";
        assert_eq!(executable(text, "a"), Some(PathBuf::from("/t/a-1")));
        assert_eq!(executable(text, "b"), None);
    }
}
