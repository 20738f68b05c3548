//! The `docker` command as somebody else at the same engine uses it.

use std::process::Command;

use serde_json::Value;

/// Runs it; its standard output, trimmed.
pub fn run(args: &[&str]) -> String {
    match attempt(args) {
        Ok(text) => text,
        Err(problem) => panic!("docker {args:?}: {problem}"),
    }
}

/// Runs it; what it said on standard error if it failed.
pub fn attempt(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("the docker command cannot be run: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

pub fn lines(args: &[&str]) -> Vec<String> {
    run(args).lines().map(str::to_owned).collect()
}

/// Ids and names of all containers of an instance, in whatever state.
pub fn containers_of(instance: &str) -> Vec<String> {
    let label = format!("label=fakecloud-instance={instance}");
    lines(&["ps", "-a", "--no-trunc", "--filter", &label, "--format", "{{.ID}} {{.Names}}"])
}

/// Names of all volumes with a label.
pub fn volumes_with(label: &str) -> Vec<String> {
    lines(&["volume", "ls", "-q", "--filter", &format!("label={label}")])
}

pub fn volume_exists(name: &str) -> bool {
    attempt(&["volume", "inspect", name]).is_ok()
}

/// A container or volume, as the engine describes it.
pub fn inspect(name: &str) -> Value {
    let all: Value = serde_json::from_str(&run(&["inspect", name])).unwrap();
    all[0].clone()
}

/// What changes whenever somebody starts, stops or replaces a container.
pub fn life(name: &str) -> String {
    run(&[
        "inspect",
        "--format",
        "{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.State.FinishedAt}} {{.RestartCount}}",
        name,
    ])
}

pub fn state(name: &str) -> String {
    run(&["inspect", "--format", "{{.State.Status}}", name])
}

/// Runs a line of shell in a container.
pub fn shell(container: &str, script: &str) -> String {
    run(&["exec", container, "sh", "-c", script])
}

/// Sends a signal to a container's engine as the kernel would, behind the daemon's back.
pub fn signal_engine(container: &str, signal: &str) {
    let process = run(&["inspect", "--format", "{{.State.Pid}}", container]);
    // From a container that sees the host's processes: that needs no rights here, and works where the
    // daemon runs on another machine.
    run(&["run", "--rm", "--pid=host", "--entrypoint=", "redis:7-alpine", "kill", signal, &process]);
}

/// Removes containers, volumes or images by force, and says what could not be.
pub fn remove(kind: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let command: &[&str] = match kind {
        "rm" => &["rm", "-f", "-v"],
        "volume" => &["volume", "rm", "-f"],
        _ => &["rmi", "-f"],
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Err(problem) = attempt(&[command, &names[..]].concat())
        && !problem.to_lowercase().contains("no such")
    {
        eprintln!("cleaning up: {problem}");
    }
}
