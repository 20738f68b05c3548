//! Debian's packages: installed where this machine's user may do so, downloaded otherwise.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// How long apt may take for its lists, and for a download of some packages.
const LISTS: Duration = Duration::from_secs(300);
const DOWNLOAD: Duration = Duration::from_secs(600);

/// Whether the packages of this system are Debian's (or of a distribution that calls itself like it).
pub(crate) fn is_debian() -> bool {
    let Ok(text) = std::fs::read_to_string("/etc/os-release") else {
        return false;
    };
    text.lines().any(|line| {
        let Some((key, value)) = line.split_once('=') else {
            return false;
        };
        matches!(key, "ID" | "ID_LIKE") && value.trim_matches('"').split(' ').any(|id| id == "debian")
    })
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    // The standard library has no geteuid; a process's folder belongs to its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// Whether `install` may be tried here.
pub(crate) fn may_install() -> bool {
    is_debian() && is_root() && process::on_path("apt-get").is_some()
}

/// Whether a package is installed whole.
pub(crate) fn installed(package: &str) -> bool {
    let query = process::capture(
        process::command("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]),
        Duration::from_secs(30),
    );
    // A foreign architecture's twin would be printed as well, hence no comparison with the whole output.
    query.is_ok_and(|found| found.status.success() && found.stdout.starts_with("installed"))
}

/// Installs those of `packages` that are missing. Returns whether there were any.
pub(crate) fn install(packages: &[&str]) -> Result<bool> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    update_lists()?;
    apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat(), None, DOWNLOAD)?;
    Ok(true)
}

/// Downloads packages into `folder` without installing them.
pub(crate) fn download(packages: &[String], folder: &Path) -> Result<()> {
    let mut arguments = vec!["download"];
    arguments.extend(packages.iter().map(String::as_str));
    apt(&arguments, Some(folder), DOWNLOAD)
}

/// Brings apt's knowledge of packages up to date; without root it is used as it is.
pub(crate) fn update_lists() -> Result<()> {
    if is_root() { apt(&["update"], None, LISTS) } else { Ok(()) }
}

/// The libraries that packages depend on, directly or not.
pub(crate) fn libraries(packages: &[&str]) -> Result<Vec<String>> {
    let mut command = process::command("apt-cache");
    command.args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]);
    command.args(["--no-breaks", "--no-replaces", "--no-enhances", "--no-pre-depends"]).args(packages);
    let text = process::output(&mut command, Duration::from_secs(60))?;
    Ok(library_names(&text))
}

/// Package names stand at the start of a line; libraries are known by their prefix.
fn library_names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .lines()
        .filter(|line| ["lib", "lua", "zlib"].iter().any(|prefix| line.starts_with(prefix)))
        // Perl is what maintainer scripts want, and none of them runs.
        .filter(|line| !line.contains("perl"))
        .map(|line| line.trim().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn apt(arguments: &[&str], folder: Option<&Path>, limit: Duration) -> Result<()> {
    let mut command = process::command("apt-get");
    // Nobody is there to answer a question, whatever kind of terminal this is.
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    command.args(arguments);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let captured = process::capture(&mut command, limit).context("apt-get cannot be run")?;
    if !captured.status.success() {
        bail!("`{}` failed: {}", process::shown(&command), process::last_words(&captured));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_are_taken_from_a_dependency_tree() {
        let tree = "redis-server\n  Depends: redis-tools\nredis-tools\n  Depends: libc6\nlibc6\n<libc6-virtual>\nlibperl5.36\nzlib1g\nadduser\nlibc6\n";
        assert_eq!(library_names(tree), ["libc6", "zlib1g"]);
    }
}
