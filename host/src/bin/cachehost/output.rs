//! What is printed: one JSON document for programs, or a few lines for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use elasticache_host::{Access, Cache, Description, Engine, Grants, PolicyInfo};

use crate::commands::Outcome;
use crate::documents::Document;
use crate::explain;
use crate::failure::{Failure, one_line};

/// As much of a container's id as the container engine's own lists show.
const SHORT_HANDLE: usize = 12;

/// Prints to stdout and stderr, as `--json` says.
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints what a command came to; gives the exit code.
    pub(crate) fn outcome(&self, outcome: &Outcome) -> u8 {
        let exit = exit_code(outcome);
        let printed = match outcome {
            _ if self.json => Document::from(outcome).line().and_then(|line| print(&line)),
            Outcome::Exec(exec) => {
                print(&exec.stdout).and_then(|()| quietly(io::stderr().write_all(&exec.stderr)))
            }
            outcome => print(text(outcome).as_bytes()),
        };
        if let Some(nothing) = nothing_to_show(outcome) {
            self.note(&nothing);
        }
        match printed {
            Ok(()) => exit,
            Err(error) => self.failure(&Failure::other(format!("cannot print the result: {error}"))),
        }
    }

    /// Prints why a command failed; gives the exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> u8 {
        let printed = if self.json {
            Document::from(failure).line().unwrap_or_default()
        } else {
            let hint = failure.hint.as_ref().map(|hint| format!("{hint}\n")).unwrap_or_default();
            format!("error: {}\n{hint}", failure.message).into_bytes()
        };
        // If even this cannot be printed, the exit code remains.
        let _ = io::stderr().write_all(&printed);
        failure.exit
    }

    /// Prints help or the version; gives the exit code.
    pub(crate) fn told(&self, text: &clap::Error) -> u8 {
        match quietly(text.print()) {
            Ok(()) => 0,
            Err(error) => self.failure(&Failure::other(format!("cannot print the help: {error}"))),
        }
    }

    /// Says something in passing, to people only.
    pub(crate) fn note(&self, note: &str) {
        if !self.json && io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "{note}");
        }
    }
}

/// The exit code of a command that ran to its end.
pub(crate) fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Exec(exec) if !exec.success => 1,
        _ => 0,
    }
}

fn engines(description: &Description) -> Vec<&'static str> {
    description.engines.iter().map(|engine| engine.as_str()).collect()
}

/// What a command came to, for people.
pub(crate) fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Cache(cache) => cache_text(cache),
        Outcome::Caches { caches, .. } if caches.is_empty() => String::new(),
        Outcome::Caches { caches, .. } => caches_text(caches),
        Outcome::Exec(exec) => String::from_utf8_lossy(&exec.stdout).into_owned(),
        Outcome::Snapshot(snapshot) => {
            let by = snapshot.engine_version.as_ref().map(|version| format!(", written by {version}"));
            format!(
                "{}: {} bytes, RDB version {}{}\n",
                one_line(&snapshot.path.to_string_lossy()),
                snapshot.size,
                snapshot.rdb_version,
                by.unwrap_or_default()
            )
        }
        Outcome::Down { key, stopped, data_deleted } => {
            let stopped = if *stopped { "stopped" } else { "nothing ran" };
            let data = match data_deleted {
                Some(true) => "; its data is deleted",
                Some(false) => "; it had no data",
                None => "",
            };
            format!("{key}: {stopped}{data}\n")
        }
        Outcome::Reap(removed) => {
            removed.iter().fold(String::new(), |text, name| text + &one_line(name) + "\n")
        }
        Outcome::Policy(policy, grants) => policy_text(policy, grants),
        Outcome::Environment(path, manifest, policy) => table(explain::environment(path, manifest, policy)),
        Outcome::Text(text) => (*text).to_owned(),
    }
}

fn nothing_to_show(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Caches { caches, instance } if caches.is_empty() => {
            Some(format!("instance {instance:?} has no caches"))
        }
        Outcome::Reap(removed) if removed.is_empty() => Some("nothing was left behind".to_owned()),
        _ => None,
    }
}

fn cache_text(cache: &Cache) -> String {
    let engine = match &cache.version {
        Some(version) => format!("{} {version}", cache.engine),
        None => cache.engine.to_string(),
    };
    let mut rows = vec![("id", cache.key.id().to_owned())];
    if !cache.key.scope().is_empty() {
        rows.push(("scope", cache.key.scope().to_owned()));
    }
    rows.push(("engine", engine));
    rows.push(("state", cache.state.as_str().to_owned()));
    rows.push(("handle", short(&cache.handle)));
    if let Some(endpoint) = &cache.endpoint {
        let client = match cache.engine {
            Engine::Memcached => format!("nc {} {}", endpoint.address, endpoint.port),
            Engine::Redis | Engine::Valkey => {
                format!("redis-cli -h {} -p {}", endpoint.address, endpoint.port)
            }
        };
        rows.push(("endpoint", endpoint.to_string()));
        rows.push(("connect", client));
    }
    table(rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect())
}

fn caches_text(caches: &[Cache]) -> String {
    let scoped = caches.iter().any(|cache| !cache.key.scope().is_empty());
    let mut rows = vec![["SCOPE", "ID", "ENGINE", "STATE", "ENDPOINT", "HANDLE"].map(str::to_owned).to_vec()];
    rows.extend(caches.iter().map(|cache| {
        vec![
            or_dash(cache.key.scope()),
            cache.key.id().to_owned(),
            cache.engine.to_string(),
            cache.state.as_str().to_owned(),
            or_dash(&cache.endpoint.as_ref().map(ToString::to_string).unwrap_or_default()),
            short(&cache.handle),
        ]
    }));
    if !scoped {
        for row in &mut rows {
            row.remove(0);
        }
    }
    table(rows)
}

/// A cell is never empty, so that columns can be counted.
fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn policy_text(policy: &PolicyInfo, grants: &Grants) -> String {
    let mut rows = vec![
        ("file", policy.path.to_string_lossy().into_owned()),
        ("size", format!("{} bytes", policy.size)),
        ("sha256", policy.sha256.clone()),
        ("interface", policy.wit_version.clone()),
        (
            "memory",
            policy.initial_memory.map_or("unknown".to_owned(), |bytes| format!("{bytes} bytes at the start")),
        ),
        (
            "deterministic",
            if policy.deterministic { "yes" } else { "no: it imports clocks or randomness" }.to_owned(),
        ),
    ];
    if let Some(description) = &policy.description {
        rows.push(("policy", format!("{} {}", description.name, description.version)));
        rows.push(("summary", description.summary.clone()));
        rows.push(("engines", engines(description).join(", ")));
        rows.push(("backends", description.backends.join(", ")));
        rows.push(("promises", or_dash(&description.promises.join(", "))));
    }
    rows.extend(policy.imports.iter().map(|name| {
        (
            "imports",
            match grants.access(name) {
                Access::Free => name.clone(),
                access => format!("{name} ({})", access.as_str()),
            },
        )
    }));
    rows.extend(policy.exports.iter().map(|name| ("exports", name.clone())));
    table(rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect())
}

/// A container's id is cut as people know it; a pod's name is whole.
fn short(handle: &str) -> String {
    let is_container_id = handle.len() == 64 && handle.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_container_id { handle[..SHORT_HANDLE].to_owned() } else { handle.to_owned() }
}

/// Cells in columns, without what a terminal would obey.
fn table(mut rows: Vec<Vec<String>>) -> String {
    let mut widths = Vec::new();
    for row in &mut rows {
        for (column, cell) in row.iter_mut().enumerate() {
            // Names come from policies and engines, too.
            *cell = one_line(cell);
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    quietly(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// A reader that has seen enough and left is no failure.
fn quietly(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
