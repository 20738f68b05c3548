//! componentize-py, which makes a component of a Python module, in exactly one version.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::debian;
use crate::context::{Context, Scratch};
use crate::process;
use crate::report::{self, Outcome};

/// The version that builds the policy in Python. It brings its own CPython for components.
const VERSION: &str = "0.25.1";

/// How long the download of its 40 MiB may take.
const INSTALL: Duration = Duration::from_secs(600);
const ANSWER: Duration = Duration::from_secs(60);

/// An installed componentize-py.
pub(crate) struct Componentizer {
    program: PathBuf,
    /// The folder of its package, if it is one of our own that Python does not know.
    packages: Option<PathBuf>,
}

/// Finds componentize-py of the right version, or installs it into the cache.
pub(crate) fn set_up(context: &Context) -> Result<(Componentizer, Outcome)> {
    let own = context.tools().join(format!("componentize-py-{VERSION}"));
    let on_path =
        process::on_path("componentize-py").map(|program| Componentizer { program, packages: None });
    for found in on_path.into_iter().chain([Componentizer::within(&own)]) {
        if found.version().as_deref() == Some(VERSION) {
            return Ok((found, Outcome::Present(VERSION.to_owned())));
        }
    }
    install(context, &own)?;
    let installed = Componentizer::within(&own);
    match installed.version() {
        Some(found) if found == VERSION => {}
        found => bail!("the componentize-py just installed calls itself {found:?}, not {VERSION}"),
    }
    Ok((installed, Outcome::Made(format!("{VERSION} installed"))))
}

impl Componentizer {
    fn within(folder: &Path) -> Self {
        Self { program: folder.join("bin/componentize-py"), packages: Some(folder.to_owned()) }
    }

    /// The version that builds, on which what is built depends.
    pub(crate) fn built_by(&self) -> &'static str {
        VERSION
    }

    /// A command of it; arguments are still to be added.
    pub(crate) fn command(&self) -> Command {
        let mut command = process::command(&self.program);
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages);
        }
        command
    }

    fn version(&self) -> Option<String> {
        let text = process::output(self.command().arg("--version"), ANSWER).ok()?;
        text.split_whitespace().nth(1).map(str::to_owned)
    }
}

/// Installs it aside and moves it into place when it is whole.
///
/// Into a plain folder: a virtual environment is another package of Debian's, and cannot be moved.
fn install(context: &Context, place: &Path) -> Result<()> {
    let python = python()?;
    report::note("componentize-py", &format!("installing {VERSION} from PyPI"));
    let aside = Scratch::below(&context.tools(), "componentize-py")?;
    let mut command = process::command(python);
    command
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        // It has no dependencies, and its source needs much more than pip to be built.
        .args(["--no-deps", "--only-binary", ":all:", "--target"])
        .arg(aside.path())
        .arg(format!("componentize-py=={VERSION}"));
    process::output(&mut command, INSTALL).with_context(|| {
        format!(
            "componentize-py cannot be installed; let pip reach PyPI or a mirror of it (PIP_INDEX_URL), or put \
             componentize-py {VERSION} on PATH"
        )
    })?;
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

/// A Python that has pip.
fn python() -> Result<PathBuf> {
    let find = || {
        ["python3", "/usr/bin/python3"].into_iter().map(PathBuf::from).find(|python| {
            let version = process::capture(process::command(python).args(["-m", "pip", "--version"]), ANSWER);
            version.is_ok_and(|captured| captured.status.success())
        })
    };
    if let Some(python) = find() {
        return Ok(python);
    }
    if debian::may_install() {
        debian::install(&["python3-pip"])?;
    }
    find().context("there is no Python with pip, which installs componentize-py; install python3-pip")
}
