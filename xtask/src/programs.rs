//! Programs of the tests that are run by hand: the conformance runner, the bench and the fuzzer.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::build;
use crate::cluster;
use crate::context::{Context, Profile};
use crate::process;
use crate::setup;

/// Builds the runner and all that it drives, and runs it.
pub(crate) fn conformance(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let tools = setup::policy_tools(context)?;
    // A backend in memory asks for no engine.
    if wants(arguments, "docker") {
        setup::engines(context)?;
    }
    build::policy(context, &tools)?;
    if names_python(arguments) {
        build::python_policy(context, &setup::python_tools(context)?)?;
    }
    if explores(arguments) {
        let program = build::for_exploring(context)?;
        return hand_on(context, Profile::Release, &program, arguments);
    }
    let program = build::for_tests(context, "conformance")?;
    if wants(arguments, "kube") && !names_cluster(arguments) {
        cluster::up(context)?;
    }
    hand_on(context, Profile::Debug, &program, arguments)
}

/// Builds the bench with optimisation and runs it.
pub(crate) fn bench(context: &Context, arguments: &[OsString]) -> Result<ExitCode> {
    let tools = setup::policy_tools(context)?;
    // Pods need none here; a cluster of our own sees to its images itself.
    if !wants(arguments, "kube") {
        setup::engines(context)?;
    }
    build::policy(context, &tools)?;
    build::python_policy(context, &setup::python_tools(context)?)?;
    // The neighbours of some of what is measured.
    build::test_policies(context, &tools)?;
    let program = build::for_bench(context)?;
    if wants(arguments, "kube") && !names_cluster(arguments) {
        cluster::up(context)?;
    }
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
    if !names_cluster(arguments) {
        cluster::hand_over(context, &mut command);
    }
    let status = command.args(arguments).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    // A program that a signal ended has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Whether the program is going to need that backend: in memory is what the runner takes when nothing is said.
fn wants(arguments: &[OsString], backend: &str) -> bool {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let named = words.iter().any(|word| word.strip_prefix("--backend=") == Some(backend))
        || words.windows(2).any(|pair| pair[0] == "--backend" && pair[1] == backend);
    let help = words.iter().any(|word| word == "--help" || word == "-h");
    named && !help
}

/// Whether faults are to be simulated, by the ten thousand.
fn explores(arguments: &[OsString]) -> bool {
    let begins = |word: &OsString, option: &str| word.to_string_lossy().starts_with(option);
    arguments.iter().any(|word| begins(word, "--faults") || begins(word, "--replay"))
}

/// Whether a policy is named that takes more to be built than Rust's.
fn names_python(arguments: &[OsString]) -> bool {
    let is = |word: &OsString| {
        ["python.toml", "python.wasm"].iter().any(|file| word.to_string_lossy().ends_with(file))
    };
    arguments.iter().any(is)
}

/// Whether a cluster of the caller's is named.
fn names_cluster(arguments: &[OsString]) -> bool {
    arguments.iter().any(|word| word.to_string_lossy().starts_with("--kubeconfig"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_a_run_on_a_backend_wants_it() {
        assert!(wants(&words("--backend docker"), "docker"));
        assert!(wants(&words("--policy x.wasm --backend=kube"), "kube"));
        assert!(!wants(&words(""), "docker"));
        assert!(!wants(&words("--policy docker"), "docker"));
        assert!(!wants(&words("--backend sim --policy x.wasm"), "docker"));
        assert!(!wants(&words("--backend=memory"), "docker"));
        assert!(names_cluster(&words("--backend kube --kubeconfig=/k --context a")));
        assert!(!names_cluster(&words("--backend kube")));
        assert!(names_python(&words("--env=policies/python.toml")));
        assert!(!names_python(&words("--env policies/durable.toml --report /tmp/python")));
    }
}
