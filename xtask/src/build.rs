//! Builds the policies and the native programs, and puts the ones beside the others.

mod python;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::context::{Context, EXAMPLE, FUZZED, HOSTILE, POLICIES, Profile};
use crate::process;
use crate::report;
use crate::setup::{PolicyTools, Toolchain};

pub(crate) use python::python_policy;

/// The target and the profile of policies; the profile is in the workspace's Cargo.toml.
const TARGET: &str = "wasm32-unknown-unknown";
const POLICY_PROFILE: &str = "policy";

/// What is different for policies that only tests run: there are many, and what counts is how soon they are built.
/// Another profile would compile the generator of the bindings once more, which takes longer than all of them.
const QUICKLY: [(&str, &str); 3] = [
    ("CARGO_PROFILE_POLICY_LTO", "off"),
    ("CARGO_PROFILE_POLICY_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_POLICY_CODEGEN_UNITS", "16"),
];

/// The first eight bytes of a component. A module, which is what rustc writes, has another version.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Compiles the shipped policies, and puts them where they are shipped from.
pub(crate) fn policy(context: &Context, tools: &PolicyTools) -> Result<()> {
    let folder = components(context, tools, &POLICIES, &["--lib"], &[])?;
    for name in POLICIES {
        ship(context, name, &read_component(&folder.join(format!("{name}.wasm")))?)?;
    }
    Ok(())
}

/// Compiles policies of a copy of the sources, and puts them into a folder with their manifests.
pub(crate) fn mutated_policies(
    copy: &Context,
    tools: &PolicyTools,
    names: &[&str],
    place_in: &Path,
) -> Result<PathBuf> {
    if names.is_empty() {
        return Ok(place_in.to_owned());
    }
    let folder = components(copy, tools, names, &["--lib"], &QUICKLY)?;
    for name in names {
        let manifest = copy.root.join("guest").join(name).join(format!("{name}.toml"));
        let manifest = fs::read(&manifest).with_context(|| format!("no {}", manifest.display()))?;
        place(&manifest, &place_in.join(format!("{name}.toml")))?;
        let built = read_component(&folder.join(format!("mutated_{name}.wasm")))?;
        place(&built, &place_in.join(format!("{name}.wasm")))?;
    }
    Ok(place_in.to_owned())
}

/// Puts a policy with its SHA-256 and its manifest beside the programs of both profiles: a folder to ship.
fn ship(context: &Context, name: &str, component: &[u8]) -> Result<()> {
    let file = format!("{name}.wasm");
    let sha256 = hex(&Sha256::digest(component));
    let beside = context.root.join("guest").join(name).join(format!("{name}.toml"));
    let manifest = fs::read_to_string(&beside).with_context(|| format!("no {}", beside.display()))?;
    let manifest = pinned(&manifest, &file, &sha256)
        .with_context(|| format!("{} has no line `{}`", beside.display(), component_line(&file)))?;
    // As sha256sum writes it, which checks it with `-c`.
    let sum = format!("{sha256}  {file}\n");
    for profile in [Profile::Debug, Profile::Release] {
        let shipped = context.policies(profile);
        place(component, &shipped.join(&file))?;
        place(sum.as_bytes(), &shipped.join(format!("{file}.sha256")))?;
        place(manifest.as_bytes(), &shipped.join(format!("{name}.toml")))?;
    }
    eprintln!("{file}: {} KiB", component.len().div_ceil(1024));
    Ok(())
}

/// Compiles the policies that only tests run, and puts them where they look for them.
pub(crate) fn test_policies(context: &Context, tools: &PolicyTools) -> Result<()> {
    let packages = [HOSTILE, FUZZED, EXAMPLE];
    let folder = components(context, tools, &packages, &["--lib", "--examples"], &QUICKLY)?;
    let placed = |built: &Path| -> Result<()> {
        let name = built.file_name().context("a policy has no name")?;
        place(&read_component(built)?, &context.test_policies().join(name))
    };
    for name in [FUZZED, EXAMPLE] {
        placed(&folder.join(format!("{name}.wasm")))?;
    }
    let sources = context.root.join("tests").join(HOSTILE).join("examples");
    let entries = fs::read_dir(&sources).with_context(|| format!("cannot list {}", sources.display()))?;
    for entry in entries {
        let source = entry.context("cannot list the hostile policies")?.path().with_extension("wasm");
        placed(&folder.join("examples").join(source.file_name().context("a policy has no name")?))?;
    }
    Ok(())
}

/// The line of a manifest that names its component.
fn component_line(file: &str) -> String {
    format!("component = {file:?}")
}

/// A manifest that also says what its component must be. `None` if it does not name it.
fn pinned(manifest: &str, file: &str, sha256: &str) -> Option<String> {
    let line = component_line(file);
    let (before, after) = manifest.split_once(&line)?;
    Some(format!("{before}{line}\nsha256 = {sha256:?}{after}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles packages of this workspace to components, and returns the folder that they are in.
fn components(
    context: &Context,
    tools: &PolicyTools,
    packages: &[&str],
    targets: &[&str],
    variables: &[(&str, &str)],
) -> Result<PathBuf> {
    report::heading(&format!("build: policies {}", packages.join(", ")));
    let began = Instant::now();
    // A folder of its own: the compiler may be another one than that of the native programs.
    let folder = context.target.join("guest");
    let mut command = tools.component.command(context, &tools.toolchain)?;
    command.args(["build", "--target", TARGET, "--profile", POLICY_PROFILE]);
    for package in packages {
        command.args(["--package", package]);
    }
    command.args(targets);
    if matches!(tools.toolchain, Toolchain::Debian { .. }) {
        // cargo-component misreads this flag when it is written as one word.
        command.args(["-Z", "build-std=std,panic_abort"]);
    }
    command.env("CARGO_TARGET_DIR", &folder).envs(variables.iter().copied());
    process::run(&mut command).context("the policies cannot be built")?;
    eprintln!("built in {}", report::duration(began.elapsed()));
    Ok(folder.join(TARGET).join(POLICY_PROFILE))
}

fn read_component(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("no policy was built at {}", path.display()))?;
    if !bytes.starts_with(&COMPONENT) {
        bail!("{} is not a component: cargo-component found no WIT world in it", path.display());
    }
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

/// Builds the fuzzer, with optimisation.
pub(crate) fn for_fuzzing(context: &Context) -> Result<PathBuf> {
    let packages = ["-p", "elasticache-host", "-p", "conformance", "--features", "elasticache-host/cli"];
    native(context, Profile::Release, &[&packages[..], &["--bin", "fuzz"]].concat())?;
    Ok(context.program(Profile::Release, "fuzz"))
}

/// Builds the conformance runner, with optimisation.
pub(crate) fn for_exploring(context: &Context) -> Result<PathBuf> {
    let packages = ["-p", "elasticache-host", "-p", "conformance", "--features", "elasticache-host/cli"];
    native(context, Profile::Release, &[&packages[..], &["--bin", "conformance"]].concat())?;
    Ok(context.program(Profile::Release, "conformance"))
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
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
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

    #[test]
    fn a_manifest_is_pinned_below_the_name_of_its_component() {
        let text = "[policy]\ncomponent = \"a.wasm\"\n\n[grants]\n";
        let wanted = "[policy]\ncomponent = \"a.wasm\"\nsha256 = \"12\"\n\n[grants]\n";
        assert_eq!(pinned(text, "a.wasm", "12").as_deref(), Some(wanted));
        assert_eq!(pinned(text, "b.wasm", "12"), None);
    }
}
