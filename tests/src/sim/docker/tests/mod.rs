#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;

use super::*;
use crate::sim::rdb;
use elasticache_host::Endpoint;
use elasticache_host::engine::{Container, ContainerEngine, Content, NewFile, Published};
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};
use elasticache_host::{Progress, ProgressSink, silent};

mod clients;
mod data;
mod lifecycle;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const AOF: &[&str] = &["redis-server", "--appendonly", "yes", "--save", ""];
const POINTS: &[&str] = &["redis-server", "--appendonly", "no", "--save", "60", "1"];
const NEITHER: &[&str] = &["redis-server", "--appendonly", "no", "--save", ""];
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

/// An engine, and what tests do with it, in few words.
struct Bench(SimDocker);

impl Bench {
    async fn new() -> Self {
        let bench = Bench(SimDocker::new());
        bench.0.create_volume("vol", &BTreeMap::new()).await.unwrap();
        bench
    }

    fn spec(name: &str, port: u16, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: name.into(),
            image: DEFAULT_IMAGES[0].into(),
            command: command.iter().map(|word| (*word).into()).collect(),
            labels: owned(&[("a", "1")]),
            publish: Some((LOCAL, Published { container_port: 6379, host_port: port })),
            mounts: vec![("vol".into(), "/data".into())],
            tmpfs: vec![],
            restart: RestartPolicy::UnlessStopped,
            stop_grace: 10,
        }
    }

    async fn create(&self, name: &str, port: u16, command: &[&str]) -> String {
        self.0.create_container(&Self::spec(name, port, command)).await.unwrap()
    }

    /// Created and started, with the volume `vol`.
    async fn run(name: &str, port: u16, command: &[&str]) -> Self {
        let bench = Self::new().await;
        bench.create(name, port, command).await;
        bench.0.start_container(name).await.unwrap();
        bench
    }

    async fn ask(&self, port: u16, line: &str) -> Result<Reply, ProbeError> {
        let args: Vec<String> = line.split(' ').map(Into::into).collect();
        self.0.command(&at(port), &args, 1024).await
    }

    async fn keys(&self, port: u16) -> i64 {
        let Reply::Integer(keys) = self.ask(port, "DBSIZE").await.unwrap() else { panic!("no number") };
        keys
    }

    async fn see(&self, name: &str) -> Container {
        self.0.inspect_container(name).await.unwrap().unwrap()
    }

    async fn exec(&self, name: &str, line: &str) -> (i32, String, String) {
        let argv: Vec<String> = line.split(' ').map(Into::into).collect();
        let out = self.0.exec(name, &argv, 1024).await.unwrap();
        (out.exit_code, String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    }

    async fn put(&self, name: &str, path: &str, bytes: &[u8]) {
        let file = NewFile { path: path.into(), content: Content::Bytes(bytes.to_vec()) };
        self.0.put_files(name, "/data", vec![file], Box::new(|_| {})).await.unwrap();
    }

    async fn get(&self, name: &str, path: &str) -> Result<Vec<u8>, EngineError> {
        let sink = Sink::default();
        self.0.get_file(name, path, Box::new(sink.clone())).await?;
        Ok(sink.0.lock().clone())
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn at(port: u16) -> Endpoint {
    Endpoint { address: "127.0.0.1".into(), port }
}

fn ok() -> Reply {
    Reply::Status("OK".into())
}

fn lost() -> EngineError {
    EngineError::Unavailable { object: "x".into(), message: "hung up".into() }
}

fn database(pairs: &[(&str, &str)]) -> Vec<u8> {
    let keys = pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()));
    rdb::write(&[("redis-ver", "7.4.0")], &keys.collect())
}
