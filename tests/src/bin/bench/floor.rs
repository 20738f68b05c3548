//! The floor: the same work by bare calls of the Docker API, with a tight readiness loop.
//!
//! Written apart from the host and its supplier, so that neither's ways of doing things are in it. What
//! it creates is copied from a container that ours made: the same image, command, mounts, ports, number
//! of labels, restart policy. So the engine has the same to do, whichever policy runs.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::http::{Connection, Daemon};
use crate::resp::{self, Redis, Reply};

/// Ports of the floor: outside those that ours takes, and outside the kernel's ephemeral ones.
const PORTS: std::ops::Range<u16> = 12_000..20_000;
/// Seconds between SIGTERM and SIGKILL, as the default policy has it.
const GRACE: u32 = 60;
/// An engine that does not answer by then never will.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two attempts at a PING where many wait at once: without it they take from the engines the very
/// cores on which these start.
const PAUSE: Duration = Duration::from_millis(1);
/// Objects removed at once when the bench cleans up.
const REMOVALS: usize = 4;

/// Calls the daemon over one connection.
pub(crate) struct Floor {
    daemon: Daemon,
    connection: Connection,
    ports: Arc<AtomicU16>,
    /// Between two attempts at a PING.
    pause: Option<Duration>,
}

/// What to create: taken from a container of ours.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    container: Value,
    volume_labels: Value,
}

/// A cache of the floor's.
#[derive(Debug)]
pub(crate) struct Cache {
    id: String,
    volume: String,
    pub(crate) port: u16,
}

impl Floor {
    pub(crate) async fn new(daemon: Daemon) -> Result<Floor> {
        let connection = daemon.connect().await?;
        // Not always the same ones: a bench that was killed may have left some taken.
        let first = PORTS.start + u16::try_from(std::process::id() % 7_000)?;
        Ok(Floor { daemon, connection, ports: Arc::new(AtomicU16::new(first)), pause: None })
    }

    /// One of many at once, on a connection of its own.
    pub(crate) async fn another(&self) -> Result<Floor> {
        let connection = self.daemon.connect().await?;
        let (daemon, ports) = (self.daemon.clone(), Arc::clone(&self.ports));
        Ok(Floor { daemon, connection, ports, pause: Some(PAUSE) })
    }

    /// Reads off a container how to make one like it.
    pub(crate) async fn template(&mut self, container: &str) -> Result<Template> {
        let path = format!("/containers/{container}/json");
        let seen = self.connection.json(Method::GET, &path, None).await?;
        let (config, host) = (&seen["Config"], &seen["HostConfig"]);
        let source = host["Mounts"][0]["Source"].as_str().context("our container mounts no volume")?;
        let path = format!("/volumes/{source}");
        let volume = self.connection.json(Method::GET, &path, None).await?;
        let container = json!({
            "Image": config["Image"],
            "Cmd": config["Cmd"],
            "ExposedPorts": config["ExposedPorts"],
            "StopTimeout": config["StopTimeout"],
            "Labels": other_labels(&config["Labels"]),
            "HostConfig": {
                "RestartPolicy": host["RestartPolicy"],
                "PortBindings": host["PortBindings"],
                "Mounts": host["Mounts"],
            },
        });
        Ok(Template { container, volume_labels: other_labels(&volume["Labels"]) })
    }

    /// Volume, container, start, and the first true PONG.
    pub(crate) async fn up(&mut self, template: &Template, name: &str) -> Result<Cache> {
        let volume = json!({ "Name": name, "Labels": template.volume_labels });
        self.connection.json(Method::POST, "/volumes/create", Some(&volume)).await?;
        let port = self.free_port()?;
        let mut body = template.container.clone();
        body["HostConfig"]["Mounts"][0]["Source"] = json!(name);
        let ports = body["HostConfig"]["PortBindings"].as_object_mut();
        for bindings in ports.context("our container publishes no port")?.values_mut() {
            bindings[0]["HostPort"] = json!(port.to_string());
        }
        let path = format!("/containers/create?name={name}");
        let made = self.connection.json(Method::POST, &path, Some(&body)).await?;
        let id = made["Id"].as_str().context("a container without an id")?.to_owned();
        self.connection.json(Method::POST, &format!("/containers/{id}/start"), None).await?;
        self.ready(port).await?;
        Ok(Cache { id, volume: name.to_owned(), port })
    }

    pub(crate) async fn reboot(&mut self, cache: &Cache) -> Result<()> {
        let path = format!("/containers/{}/restart?t={GRACE}", cache.id);
        self.connection.json(Method::POST, &path, None).await?;
        self.ready(cache.port).await
    }

    /// Stop and remove; the volume stays.
    pub(crate) async fn stop(&mut self, cache: &Cache) -> Result<()> {
        let path = format!("/containers/{}/stop?t={GRACE}", cache.id);
        self.connection.json(Method::POST, &path, None).await?;
        self.connection.json(Method::DELETE, &format!("/containers/{}?v=1", cache.id), None).await?;
        Ok(())
    }

    pub(crate) async fn remove_data(&mut self, cache: &Cache) -> Result<()> {
        self.connection.remove(&format!("/volumes/{}", cache.volume)).await
    }

    /// Runs redis-cli; returns what it wrote to standard output.
    pub(crate) async fn exec(&mut self, cache: &Cache, args: &[&str]) -> Result<Vec<u8>> {
        let argv: Vec<&str> = ["redis-cli", "-e"].iter().chain(args).copied().collect();
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": argv });
        let path = format!("/containers/{}/exec", cache.id);
        let made = self.connection.json(Method::POST, &path, Some(&body)).await?;
        let id = made["Id"].as_str().context("an exec without an id")?;
        // The daemon takes the connection over for the output.
        let attached = self.daemon.connect().await?;
        let body = json!({ "Detach": false, "Tty": false });
        let written = attached.attached(&format!("/exec/{id}/start"), &body).await?;
        loop {
            // The output ends a moment before the daemon hears of the program's end.
            let path = format!("/exec/{id}/json");
            let seen = self.connection.json(Method::GET, &path, None).await?;
            if seen["Running"] == json!(false) && seen["ExitCode"].is_i64() {
                if seen["ExitCode"] != json!(0) {
                    bail!("redis-cli ended with {}", seen["ExitCode"]);
                }
                return Ok(unframed(&written));
            }
        }
    }

    /// SAVE, then the file out of the container, synced and renamed.
    pub(crate) async fn snapshot(&mut self, cache: &Cache, file: &Path) -> Result<()> {
        let saved = Redis::connect(cache.port).await?.command(&[b"SAVE"]).await?;
        if saved != Reply::Line("OK".to_owned()) {
            bail!("SAVE was answered with {saved:?}");
        }
        let temporary = file.with_extension("tmp");
        let path = format!("/containers/{}/archive?path=%2Fdata%2Fdump.rdb", cache.id);
        self.connection.download(&path, &temporary).await?;
        Ok(std::fs::rename(&temporary, file)?)
    }

    /// Removes every container and volume whose name contains `part`, whoever made it; returns how many.
    pub(crate) async fn sweep(&mut self, part: &str) -> Result<usize> {
        // {"name":["part"]}
        let filters = format!("%7B%22name%22%3A%5B%22{part}%22%5D%7D");
        let path = format!("/containers/json?all=1&filters={filters}");
        let containers = self.connection.json(Method::GET, &path, None).await?;
        let removed = self.remove_all(&containers, "Id", "/containers/", "?force=1&v=1").await?;
        let volumes = self.connection.json(Method::GET, &format!("/volumes?filters={filters}"), None).await?;
        Ok(removed + self.remove_all(&volumes["Volumes"], "Name", "/volumes/", "").await?)
    }

    async fn remove_all(&self, listed: &Value, key: &str, before: &str, after: &str) -> Result<usize> {
        let listed = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut removals = JoinSet::new();
        for one in listed {
            let path = format!("{before}{}{after}", one[key].as_str().context("an object without a name")?);
            if removals.len() >= REMOVALS
                && let Some(removed) = removals.join_next().await
            {
                removed??;
            }
            let daemon = self.daemon.clone();
            removals.spawn(async move { daemon.connect().await?.remove(&path).await });
        }
        while let Some(removed) = removals.join_next().await {
            removed??;
        }
        Ok(listed.len())
    }

    /// Where the daemon keeps volumes.
    pub(crate) async fn data_root(&mut self) -> Result<String> {
        let info = self.connection.json(Method::GET, "/info", None).await?;
        Ok(info["DockerRootDir"].as_str().context("a daemon without a data folder")?.to_owned())
    }

    async fn ready(&self, port: u16) -> Result<()> {
        let began = Instant::now();
        while !resp::is_ready(port).await {
            if began.elapsed() > READY_WITHIN {
                bail!("the engine at port {port} did not answer within {READY_WITHIN:?}");
            }
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    fn free_port(&self) -> Result<u16> {
        for _ in PORTS {
            let next = self.ports.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| {
                Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start })
            });
            let (Ok(port) | Err(port)) = next;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("every port from {} to {} is in use", PORTS.start, PORTS.end)
    }
}

/// As many labels, as long, under names that nobody takes for ours.
fn other_labels(labels: &Value) -> Value {
    let values = labels.as_object().into_iter().flat_map(Map::values);
    let renamed =
        values.enumerate().map(|(at, value)| (format!("bench-floor-of-elasticache-{at}"), value.clone()));
    Value::Object(renamed.collect())
}

/// Standard output out of the daemon's frames: a stream's number, three zeros, a length, the bytes.
fn unframed(mut bytes: &[u8]) -> Vec<u8> {
    let mut stdout = Vec::new();
    while let Some((&[stream, _, _, _, a, b, c, d], rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        if stream == 1 {
            stdout.extend_from_slice(payload);
        }
        bytes = rest;
    }
    stdout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_is_taken_out_of_its_frames() {
        let bytes = b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\x01c";
        assert_eq!(unframed(bytes), b"abc");
        assert_eq!(unframed(b"\x01\0\0\0\0\0\0\x09cut"), b"cut");
    }

    #[test]
    fn labels_are_as_many_and_as_long_and_nobody_s() {
        let labels = other_labels(&json!({ "fakecloud-instance": "a", "fakecloud-elasticache": "b" }));
        let names: Vec<&String> = labels.as_object().into_iter().flat_map(Map::keys).collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| !name.starts_with("fakecloud")));
    }
}
