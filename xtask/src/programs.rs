//! Programs of the tests that are run by hand: the conformance runner, the bench and the fuzzer.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::build;
use crate::context::{Context, Profile};
use crate::process;
use crate::setup;

/// Builds the runner and all that it drives, and runs it.
pub(crate) fn conformance(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let tools = setup::policy_tools(context)?;
    // A backend in memory asks for no engine.
    if wants_docker(arguments) {
        setup::engines(context)?;
    }
    build::policy(context, &tools)?;
    build::python_policy(context, &setup::python_tools(context)?)?;
    let program = build::for_tests(context, "conformance")?;
    hand_on(context, Profile::Debug, &program, arguments)
}

/// Builds the bench with optimisation and runs it.
pub(crate) fn bench(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let tools = setup::policy_tools(context)?;
    setup::engines(context)?;
    build::policy(context, &tools)?;
    build::python_policy(context, &setup::python_tools(context)?)?;
    // The neighbours of some of what is measured.
    build::test_policies(context, &tools)?;
    let program = build::for_bench(context)?;
    hand_on(context, Profile::Release, &program, arguments)
}

/// Builds the fuzzer with optimisation and runs it. It needs no engine.
pub(crate) fn fuzz(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let tools = setup::policy_tools(context)?;
    build::test_policies(context, &tools)?;
    let program = build::for_fuzzing(context)?;
    hand_on(context, Profile::Release, &program, arguments)
}

/// Runs a program with the caller's arguments, in the caller's folder, and returns its exit code.
fn hand_on(context: &Context, profile: Profile, program: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let mut command = process::command(program);
    context.hand_over(&mut command, profile);
    let status = command.args(arguments).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    // A program that a signal ended has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Whether the runner is going to need an engine: in memory is what it takes when nothing is said.
fn wants_docker(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let docker = words.iter().any(|word| word == "--backend=docker")
        || words.windows(2).any(|pair| pair[0] == "--backend" && pair[1] == "docker");
    let help = words.iter().any(|word| word == "--help" || word == "-h");
    docker && !help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_a_run_on_docker_wants_docker() {
        assert!(wants_docker(&words("--backend docker")));
        assert!(wants_docker(&words("--policy x.wasm --backend=docker")));
        assert!(!wants_docker(&words("")));
        assert!(!wants_docker(&words("--policy docker")));
        assert!(!wants_docker(&words("--backend memory --policy x.wasm")));
        assert!(!wants_docker(&words("--backend=memory")));
    }
}
