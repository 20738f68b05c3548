//! A browser without a window, in which the tests open the report's page: found, else Debian's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::debian;
use crate::process;
use crate::report::{self, Outcome};

/// Names a browser for the tests that open the report's page; what is found on PATH otherwise.
pub(crate) const VARIABLE: &str = "REPORT_BROWSER";
/// Programs that speak the same protocol of Chromium's, the smallest first.
const NAMES: [&str; 5] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Debian's package of the smallest.
const PACKAGE: &str = "chromium-headless-shell";
/// How long a browser may take to say its version. The first start reads it from a cold disk.
const ANSWER: Duration = Duration::from_secs(60);

/// Makes sure that there is a browser, and says where.
pub(crate) fn set_up(browser: &mut Option<PathBuf>) -> Result<Outcome> {
    if let Some(found) = find() {
        let version = version(&found)?;
        *browser = Some(found);
        return Ok(Outcome::Present(version));
    }
    if !debian::may_install() {
        bail!(
            "there is no {} on PATH. Install Chromium or Chrome, or name one by {VARIABLE}; xtask installs Debian's \
             package {PACKAGE} where it runs as root on Debian",
            NAMES.join(", ")
        );
    }
    report::note("browser", &format!("installing Debian's {PACKAGE}"));
    debian::install(&[PACKAGE]).with_context(|| {
        format!("{PACKAGE} cannot be installed; install a Chromium or Chrome, or name one by {VARIABLE}")
    })?;
    let installed = find().with_context(|| format!("{PACKAGE} brought no browser onto PATH"))?;
    let version = version(&installed)?;
    *browser = Some(installed);
    Ok(Outcome::Made(format!("{version}, of Debian's package {PACKAGE}")))
}

/// The one that is named, else the first on PATH.
fn find() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(named) => Some(PathBuf::from(named)),
        None => NAMES.iter().find_map(|name| process::on_path(name)),
    }
}

/// What a browser calls itself, as a proof that it starts.
fn version(browser: &Path) -> Result<String> {
    let text = process::output(process::command(browser).arg("--version"), ANSWER)
        .with_context(|| format!("{} is no browser that starts", browser.display()))?;
    Ok(text.trim().to_owned())
}
