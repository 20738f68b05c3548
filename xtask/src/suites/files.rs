//! Which integration tests belong to which suite: the file's name says it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The packages that have integration tests, and where.
const FOLDERS: [&str; 2] = ["tests/tests", "host/tests"];

/// What a file of tests needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing but this process.
    Host,
    /// A browser.
    Report,
    /// A Docker Engine.
    Docker,
    /// A Kubernetes.
    Kube,
    /// The Kubernetes that xtask runs, whose parts can be restarted and whose pods reach this machine.
    OwnKube,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Host => "host_",
            Self::Report => "report_",
            Self::Docker => "docker_",
            Self::Kube => "kube_",
            Self::OwnKube => "ownkube_",
        }
    }
}

/// The names of all test targets of a kind, sorted. None at all is an error: a suite without tests would pass.
pub(super) fn of_kind(root: &Path, wanted: Kind) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {folder}"))?.path();
            let Some(name) = target(&path) else { continue };
            if kind(&name).with_context(|| format!("{folder}/{name}.rs joins no suite"))? == wanted {
                names.push(name);
            }
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("there is no file {}*.rs in {}", wanted.prefix(), FOLDERS.join(" or "));
    }
    Ok(names)
}

/// The name of the test target that cargo makes of a file, if it makes one. Folders are modules shared by
/// tests.
fn target(path: &Path) -> Option<String> {
    let rust = path.extension().is_some_and(|extension| extension == "rs") && path.is_file();
    rust.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned())).flatten()
}

fn kind(name: &str) -> Result<Kind> {
    let kinds = [Kind::Host, Kind::Report, Kind::Docker, Kind::Kube, Kind::OwnKube];
    match kinds.into_iter().find(|kind| name.starts_with(kind.prefix())) {
        Some(kind) => Ok(kind),
        None => bail!(
            "a name begins with what its tests need: host_ for nothing, report_ for a browser, docker_ for an engine, \
             kube_ for a cluster, ownkube_ for the one that xtask runs"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Scratch;

    #[test]
    fn files_join_the_suite_that_their_name_says() -> Result<()> {
        let scratch = Scratch::below(&std::env::temp_dir(), "xtask-files")?;
        let folder = scratch.path().join("tests/tests");
        std::fs::create_dir_all(folder.join("common"))?;
        assert!(of_kind(scratch.path(), Kind::Host).is_err(), "no file is no success");
        for name in ["host_b.rs", "host_a.rs", "docker_reboot.rs", "notes.md"] {
            std::fs::write(folder.join(name), "")?;
        }
        assert_eq!(of_kind(scratch.path(), Kind::Host)?, ["host_a", "host_b"]);
        assert_eq!(of_kind(scratch.path(), Kind::Docker)?, ["docker_reboot"]);
        std::fs::write(folder.join("other.rs"), "")?;
        let error = of_kind(scratch.path(), Kind::Host).err().map(|error| format!("{error:#}"));
        assert!(error.is_some_and(|text| text.contains("other.rs")));
        Ok(())
    }
}
