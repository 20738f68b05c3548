//! Builds the policy and the native programs, and puts the one beside the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::context::{Context, HOSTILE, POLICY, Profile};
use crate::process;
use crate::report;
use crate::setup::{PolicyTools, Toolchain};

/// The target and the profile of policies; the profile is in the workspace's Cargo.toml.
const TARGET: &str = "wasm32-unknown-unknown";
const POLICY_PROFILE: &str = "policy";

/// The first eight bytes of a component. A module, which is what rustc writes, has another version.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Compiles the policy and copies it beside the programs of both profiles.
pub(crate) fn policy(context: &Context, tools: &PolicyTools) -> Result<()> {
    let bytes = component(context, tools, POLICY)?;
    for profile in [Profile::Debug, Profile::Release] {
        place(&bytes, &context.policy(profile))?;
    }
    Ok(())
}

/// Compiles the policy that only tests run, and puts it where they look for it.
pub(crate) fn hostile_policy(context: &Context, tools: &PolicyTools) -> Result<()> {
    place(&component(context, tools, HOSTILE)?, &context.hostile_policy())
}

/// Compiles a package of this workspace to a component.
fn component(context: &Context, tools: &PolicyTools, package: &str) -> Result<Vec<u8>> {
    report::heading(&format!("build: policy {package}"));
    let began = Instant::now();
    // A folder of its own: the compiler may be another one than that of the native programs.
    let folder = context.target.join("guest");
    let mut command = tools.component.command(context, &tools.toolchain)?;
    command.args(["build", "--target", TARGET, "--profile", POLICY_PROFILE, "--package", package]);
    if matches!(tools.toolchain, Toolchain::Debian { .. }) {
        // cargo-component misreads this flag when it is written as one word.
        command.args(["-Z", "build-std=std,panic_abort"]);
    }
    command.env("CARGO_TARGET_DIR", &folder);
    process::run(&mut command).with_context(|| format!("the policy {package} cannot be built"))?;

    let built = folder.join(TARGET).join(POLICY_PROFILE).join(format!("{package}.wasm"));
    let bytes = fs::read(&built).with_context(|| format!("no policy was built at {}", built.display()))?;
    if !bytes.starts_with(&COMPONENT) {
        bail!("{} is not a component: cargo-component found no WIT world in it", built.display());
    }
    let size = bytes.len().div_ceil(1024);
    eprintln!("{package}.wasm: {size} KiB, in {}", report::duration(began.elapsed()));
    Ok(bytes)
}

/// Builds what a user runs: the command line alone, and nothing that only tests need.
pub(crate) fn cachehost(context: &Context, profile: Profile) -> Result<PathBuf> {
    native(context, profile, &["-p", "elasticache-host", "--features", "cli", "--bin", "cachehost"])?;
    Ok(context.program(profile, "cachehost"))
}

/// Builds the command line and a program of the tests, both without optimisation.
///
/// The whole workspace with all features is what the test suites build, so that one set of compiled
/// dependencies serves them all.
pub(crate) fn for_tests(context: &Context, name: &str) -> Result<PathBuf> {
    let mut arguments = vec!["--workspace", "--all-features", "--bin", "cachehost"];
    if name != "cachehost" {
        arguments.extend(["--bin", name]);
    }
    native(context, Profile::Debug, &arguments)?;
    Ok(context.program(Profile::Debug, name))
}

/// Builds the command line and the bench, with optimisation.
pub(crate) fn for_bench(context: &Context) -> Result<PathBuf> {
    let packages = ["-p", "elasticache-host", "-p", "conformance", "--features", "elasticache-host/cli"];
    native(context, Profile::Release, &[&packages[..], &["--bin", "cachehost", "--bin", "bench"]].concat())?;
    Ok(context.program(Profile::Release, "bench"))
}

fn native(context: &Context, profile: Profile, arguments: &[&str]) -> Result<()> {
    report::heading(&format!("build: programs ({})", profile.folder()));
    let began = Instant::now();
    process::run(context.cargo(&["build"]).args(profile.flags()).args(arguments))?;
    eprintln!("built in {}", report::duration(began.elapsed()));
    Ok(())
}

/// Writes a file so that a reader sees the old one or the new one, never a part.
fn place(bytes: &[u8], path: &Path) -> Result<()> {
    // An unchanged file keeps its modification time, and with it what others cached of it.
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let aside = path.with_extension(format!("wasm.{}", std::process::id()));
    let folder = path.parent().context("a policy has no folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&aside, bytes))
        .and_then(|()| fs::rename(&aside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Scratch;

    #[test]
    fn placing_replaces_and_leaves_nothing_else() -> Result<()> {
        let scratch = Scratch::below(&std::env::temp_dir(), "xtask-place")?;
        let path = scratch.path().join("policies/durable.wasm");
        place(b"one", &path)?;
        place(b"two", &path)?;
        assert_eq!(fs::read(&path)?, b"two");
        assert_eq!(fs::read_dir(scratch.path().join("policies"))?.count(), 1);
        Ok(())
    }
}
