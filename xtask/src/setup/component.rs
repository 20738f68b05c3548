//! cargo-component, which turns a WebAssembly module into a component, in exactly one version.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{debian, wasm::Toolchain};
use crate::context::{Context, Scratch};
use crate::process;
use crate::report::{self, Outcome};

/// The version that builds the policy. Another one may write other bindings, or another component.
const VERSION: &str = "0.21.1";

/// The environment variable by which the stand-in for rustc learns the folder that it names.
const STAND_IN_SYSROOT: &str = "XTASK_STAND_IN_SYSROOT";

/// A stand-in for rustc, for cargo-component alone.
///
/// cargo-component refuses to start unless the sysroot has wasm32-wasip1, even when another target is asked
/// for, or adds it by rustup, which needs a network. It asks the rustc on PATH, so that one answers with a
/// folder where it is found. Every other question goes to the real compiler.
const STAND_IN: &str = r#"#!/bin/sh
if [ "$*" = "--print sysroot" ]; then
    printf '%s\n' "$XTASK_STAND_IN_SYSROOT"
    exit
fi
exec "$RUSTC" "$@"
"#;

/// An installed cargo-component.
pub(crate) struct Component {
    program: PathBuf,
    stand_in: PathBuf,
}

/// Finds cargo-component of the right version, or installs it into the cache.
pub(crate) fn set_up(context: &Context) -> Result<(Component, Outcome)> {
    let stand_in = stand_in(&context.tools())?;
    let own = context.tools().join(format!("cargo-component-{VERSION}"));
    let candidates = [process::on_path("cargo-component"), Some(own.join("bin/cargo-component"))];
    for program in candidates.into_iter().flatten() {
        if version(&program).as_deref() == Some(VERSION) {
            let outcome = Outcome::Present(VERSION.to_owned());
            return Ok((Component { program, stand_in }, outcome));
        }
    }
    install(context, &own)?;
    let program = own.join("bin/cargo-component");
    match version(&program) {
        Some(found) if found == VERSION => {}
        found => bail!("the cargo-component just installed calls itself {found:?}, not {VERSION}"),
    }
    Ok((Component { program, stand_in }, Outcome::Made(format!("{VERSION} installed"))))
}

impl Component {
    /// A `cargo component` command that compiles with the given toolchain; flags are still to be added.
    pub(crate) fn command(&self, context: &Context, toolchain: &Toolchain) -> Result<Command> {
        let mut command = process::command(&self.program);
        command.arg("component").current_dir(&context.root);
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.stand_in.join("bin")].into_iter().chain(std::env::split_paths(&inherited));
        command.env("PATH", std::env::join_paths(folders).context("PATH cannot be extended")?);
        command.env(STAND_IN_SYSROOT, self.stand_in.join("sysroot"));
        match toolchain {
            Toolchain::Active { rustc } => {
                command.env("RUSTC", rustc).env("CARGO", &context.cargo);
            }
            Toolchain::Debian { rustc, cargo, linker } => {
                command
                    .env("RUSTC", rustc)
                    .env("CARGO", cargo)
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                    // Building the standard library is unstable, and this compiler is a released one.
                    .env("RUSTC_BOOTSTRAP", "1")
                    // It would lead back to rustup's toolchain, or promise cargo-component that rustup helps.
                    .env_remove("RUSTUP_TOOLCHAIN");
            }
        }
        Ok(command)
    }
}

fn version(program: &Path) -> Option<String> {
    let text = process::output(process::command(program).arg("--version"), Duration::from_secs(20)).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// Compiles cargo-component aside and moves it into place when it is whole.
fn install(context: &Context, place: &Path) -> Result<()> {
    if debian::may_install() && debian::install(&["pkg-config", "libssl-dev"])? {
        report::note("cargo-component", "installed pkg-config and OpenSSL's headers");
    }
    report::note("cargo-component", &format!("compiling {VERSION}, which takes some minutes"));
    let aside = Scratch::below(&context.tools(), "cargo-component")?;
    let mut command = process::command(&context.cargo);
    command
        .args(["install", "cargo-component", "--locked", "--version", VERSION, "--root"])
        .arg(aside.path())
        // It turns small modules into components in no time either way; optimising it is what takes minutes.
        .arg("--debug")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // Its dependencies are no part of this workspace's build, and nobody builds them twice.
        .env("CARGO_TARGET_DIR", aside.path().join("target"))
        .env_remove("RUSTFLAGS");
    process::run(&mut command).context(
        "cargo-component cannot be built; it needs a C compiler, pkg-config and OpenSSL's headers",
    )?;
    std::fs::remove_dir_all(aside.path().join("target")).context("cannot clear the build of a tool")?;
    if place.exists() {
        // What is there has been found wanting above.
        std::fs::remove_dir_all(place).with_context(|| format!("cannot replace {}", place.display()))?;
    }
    match std::fs::rename(aside.path(), place) {
        // Another run finished first; its result is as good.
        Err(_) if place.join("bin").is_dir() => Ok(()),
        other => other.with_context(|| format!("cannot move a tool to {}", place.display())),
    }
}

/// Writes the stand-in, unless it is there already, and returns its folder.
fn stand_in(tools: &Path) -> Result<PathBuf> {
    let folder = tools.join("rustc-stand-in");
    let program = folder.join("bin/rustc");
    if std::fs::read_to_string(&program).is_ok_and(|text| text == STAND_IN) {
        return Ok(folder);
    }
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder.join("sysroot/lib/rustlib/wasm32-wasip1"))?;
        std::fs::create_dir_all(folder.join("bin"))?;
        // Renamed into place, since another run may be executing it.
        let aside = folder.join(format!("bin/.rustc-{}", std::process::id()));
        std::fs::write(&aside, STAND_IN)?;
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&aside, &program)
    };
    write().with_context(|| format!("cannot write {}", program.display()))?;
    Ok(folder)
}
