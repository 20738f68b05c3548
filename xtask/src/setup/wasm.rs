//! A Rust toolchain that compiles to wasm32-unknown-unknown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use super::debian;
use crate::process;
use crate::report::{self, Outcome};

/// What policies are compiled to.
const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's toolchain for the web: it comes with the source of the standard library, not with a compiled one.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Chooses the toolchain instead of finding one: `rustup` or `debian`.
const CHOICE: &str = "XTASK_WASM_TOOLCHAIN";

/// How a policy is compiled here.
pub(crate) enum Toolchain {
    /// The toolchain that runs xtask has the target's standard library.
    Active { rustc: PathBuf },
    /// Debian's toolchain, which builds the standard library from its source, linked by this linker.
    Debian { rustc: PathBuf, cargo: PathBuf, linker: PathBuf },
}

/// Finds a toolchain, or makes one. System packages are the last resort: they are touched where rustup does
/// not help, and only on Debian as root.
pub(crate) fn set_up() -> Result<(Toolchain, Outcome)> {
    let choice = std::env::var(CHOICE).unwrap_or_default();
    match choice.as_str() {
        "" | "rustup" => {}
        "debian" => return debian_toolchain(active_sysroot().as_deref(), "chosen by the environment"),
        other => bail!("{CHOICE}={other} is unknown; it is `rustup` or `debian`"),
    }

    let sysroot = active_sysroot();
    if let Some(found) = sysroot.as_deref().and_then(active) {
        return Ok((found, Outcome::Present(format!("{TARGET} in the active toolchain"))));
    }
    let refusal = match add_by_rustup() {
        // Success has been seen without a library in its place, so it is looked for.
        Ok(()) => match active_sysroot().as_deref().and_then(active) {
            Some(found) => return Ok((found, Outcome::Made(format!("{TARGET} added by rustup")))),
            None => "rustup said that it added the target, and it is not there".to_owned(),
        },
        Err(error) => format!("{error:#}"),
    };
    if choice == "rustup" {
        bail!("rustup cannot add {TARGET}: {refusal}");
    }
    debian_toolchain(sysroot.as_deref(), &refusal)
}

/// The root of the toolchain that `rustc` stands for here.
fn active_sysroot() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = process::output(process::command(rustc).args(["--print", "sysroot"]), Duration::from_secs(60))
        .ok()?;
    Some(PathBuf::from(text.trim()))
}

/// The toolchain at `sysroot`, if it has a compiled standard library for the target.
fn active(sysroot: &Path) -> Option<Toolchain> {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    // The folder alone proves nothing: an interrupted download leaves it empty.
    let whole = std::fs::read_dir(libraries).ok()?.flatten().any(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    });
    whole.then(|| Toolchain::Active { rustc: sysroot.join("bin/rustc") })
}

fn add_by_rustup() -> Result<()> {
    if process::on_path("rustup").is_none() {
        bail!("rustup is not on PATH");
    }
    report::note("wasm target", &format!("rustup target add {TARGET}"));
    let mut command = process::command("rustup");
    command.args(["target", "add", TARGET]);
    process::output(&mut command, Duration::from_secs(120)).map(drop)
}

fn debian_toolchain(sysroot: Option<&Path>, why: &str) -> Result<(Toolchain, Outcome)> {
    let present = DEBIAN_PACKAGES.iter().all(|package| debian::installed(package));
    if !present {
        if !debian::may_install() {
            bail!(
                "no Rust toolchain here compiles to {TARGET} ({why}). Run `rustup target add {TARGET}` where \
                 the network allows it; on Debian, run this as root once, or install {}",
                DEBIAN_PACKAGES.join(" ")
            );
        }
        report::note("wasm target", &format!("rustup does not help ({why}); installing Debian's packages"));
        debian::install(&DEBIAN_PACKAGES)?;
    }
    let toolchain = Toolchain::Debian {
        rustc: "/usr/bin/rustc".into(),
        cargo: "/usr/bin/cargo".into(),
        linker: linker(sysroot)?,
    };
    Ok((
        toolchain,
        if present {
            Outcome::Present(format!("Debian's {}", DEBIAN_PACKAGES[0]))
        } else {
            Outcome::Made(format!("Debian's {} installed", DEBIAN_PACKAGES.join(", ")))
        },
    ))
}

/// A linker for WebAssembly: the one inside of rustup's toolchain, else Debian's.
fn linker(sysroot: Option<&Path>) -> Result<PathBuf> {
    let inside = sysroot.and_then(|root| {
        let hosts = std::fs::read_dir(root.join("lib/rustlib")).ok()?;
        hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.is_file())
    });
    if let Some(path) = inside.or_else(|| process::on_path("wasm-ld")) {
        return Ok(path);
    }
    if debian::may_install() {
        debian::install(&["lld"])?;
        if let Some(path) = process::on_path("wasm-ld") {
            return Ok(path);
        }
    }
    bail!("no linker for WebAssembly: neither rust-lld in the toolchain nor wasm-ld on PATH; install lld")
}
