//! Calls the `cachehost` command line and reads what it prints.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;

/// How long one call may take; the command line has tighter deadlines of its own.
const LIMIT: Duration = Duration::from_secs(300);

/// The command line, as one instance that owns what it starts.
pub(crate) struct Cachehost {
    pub(crate) program: PathBuf,
    pub(crate) instance: String,
}

/// Where a cache is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.address, self.port)
    }
}

impl Cachehost {
    /// Starts a cache and returns where it is reached.
    pub(crate) fn up(&self, id: &str, options: &[&str]) -> Result<Endpoint> {
        endpoint(&self.call(&[&["up", id], options].concat())?)
    }

    /// Looks up where a cache is reached now.
    pub(crate) fn describe(&self, id: &str) -> Result<Endpoint> {
        endpoint(&self.call(&["describe", id])?)
    }

    /// Runs a command inside of a cache and returns its answer, without the line's end.
    pub(crate) fn exec(&self, id: &str, arguments: &[&str]) -> Result<String> {
        let answer = self.call(&[&["exec", id, "--"], arguments].concat())?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().trim().to_owned();
        if answer["success"] != Value::Bool(true) {
            bail!("`{}` failed in {id}: {}{}", arguments.join(" "), text("stdout"), text("stderr"));
        }
        Ok(text("stdout"))
    }

    /// Calls a command whose document says no more than that it went well.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = process::command(&self.program);
        command.args(["--json", "--instance", &self.instance]).args(arguments);
        let line = arguments.join(" ");
        let captured = process::capture(&mut command, LIMIT)?;
        if !captured.status.success() {
            bail!("`cachehost {line}` failed with {}: {}", captured.status, reason(&captured));
        }
        let text = captured.stdout.trim();
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(text).with_context(|| format!("`cachehost {line}` printed no JSON: {text}"))
    }
}

/// The sentence inside of an error document, or whatever else was printed.
fn reason(captured: &process::Captured) -> String {
    let documents = captured.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let message = |document: Value| {
        let error = &document["error"];
        Some(format!("{} ({})", error["message"].as_str()?, error["code"].as_str()?))
    };
    // A document over several lines is tried as well; lines of a log may stand around either.
    documents
        .filter_map(message)
        .next_back()
        .or_else(|| message(serde_json::from_str(captured.stderr.trim()).ok()?))
        .unwrap_or_else(|| process::last_words(captured))
}

fn endpoint(cache: &Value) -> Result<Endpoint> {
    let found = &cache["endpoint"];
    let address = found["address"].as_str();
    let port = found["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let (Some(address), Some(port)) = (address, port) else { bail!("a cache without an endpoint: {cache}") };
    Ok(Endpoint { address: address.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_from_a_cache() -> Result<()> {
        let cache = serde_json::from_str(r#"{"id":"a","endpoint":{"address":"127.0.0.1","port":6379}}"#)?;
        assert_eq!(endpoint(&cache)?.to_string(), "127.0.0.1:6379");
        let cache = serde_json::from_str(r#"{"id":"a","endpoint":{"address":"127.0.0.1","port":70000}}"#)?;
        assert!(endpoint(&cache).is_err());
        Ok(())
    }
}
