//! The Docker Engine: found, never installed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process;
use crate::report::Outcome;

/// How long an engine may take to answer a question that needs no work.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// A docker command. The CLI honours DOCKER_HOST and contexts just as its user expects.
pub(crate) fn docker(arguments: &[&str]) -> Command {
    let mut command = process::command("docker");
    command.args(arguments);
    command
}

/// Checks that an engine answers.
pub(crate) fn set_up() -> Result<Outcome> {
    const HELP: &str = "Install and start Docker Engine, or name one by DOCKER_HOST; xtask does neither";
    if process::on_path("docker").is_none() {
        bail!("there is no `docker` on PATH. {HELP}");
    }
    match process::output(&mut docker(&["version", "--format", "{{.Server.Version}}"]), ANSWER) {
        Ok(version) if !version.trim().is_empty() => {
            Ok(Outcome::Present(format!("version {}", version.trim())))
        }
        Ok(_) => bail!("the docker client names no server. {HELP}"),
        Err(error) => bail!("no Docker Engine answers. {HELP}. It was asked by {error:#}"),
    }
}
