//! A container engine behind a tap.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use async_trait::async_trait;
use elasticache_host::engine::{
    Container, ContainerEngine, ContainerSpec, EngineError, ExecOutput, FileInfo, NewFile, Volume,
};
use elasticache_host::progress::SharedProgress;

use super::{Call, Nature, Tapped};

pub(super) fn labelled(labels: &[(&str, &str)]) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

macro_rules! change {
    ($self:ident, $name:literal, $object:expr, $method:ident($($argument:expr),*)) => {{
        let call = Call::new(Nature::Change, $name, $object, "");
        let again = $self.inner.$method($($argument),*);
        $self.tap.pass(call, $self.inner.$method($($argument),*), Some(again)).await
    }};
}

macro_rules! look {
    ($self:ident, $name:literal, $object:expr, $rest:expr, $method:ident($($argument:expr),*)) => {{
        let call = Call::new(Nature::Look, $name, $object, $rest);
        $self.tap.pass(call, $self.inner.$method($($argument),*), None).await
    }};
}

pub(super) use {change, look};

#[async_trait]
impl<S: ContainerEngine + ?Sized> ContainerEngine for Tapped<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>, EngineError> {
        let listed = look!(self, "list_containers", &labelled(labels), "", list_containers(labels));
        listed.iter().flatten().for_each(|seen| self.tap.named(&seen.id, &seen.name));
        listed
    }

    async fn inspect_container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let seen = look!(self, "inspect_container", name, "", inspect_container(name));
        seen.iter().flatten().for_each(|seen| self.tap.named(&seen.id, &seen.name));
        seen
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let created = change!(self, "create_container", &spec.name, create_container(spec));
        created.iter().for_each(|id| self.tap.named(id, &spec.name));
        created
    }

    async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        change!(self, "start_container", id, start_container(id))
    }

    async fn stop_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        change!(self, "stop_container", id, stop_container(id, grace))
    }

    async fn restart_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        change!(self, "restart_container", id, restart_container(id, grace))
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        change!(self, "remove_container", id, remove_container(id))
    }

    async fn wait_exit(&self, id: &str) -> Result<i32, EngineError> {
        look!(self, "wait_exit", id, "", wait_exit(id))
    }

    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError> {
        look!(self, "log_tail", id, lines, log_tail(id, lines))
    }

    async fn exec(&self, id: &str, argv: &[String], max_output: usize) -> Result<ExecOutput, EngineError> {
        change!(self, "exec", id, exec(id, argv, max_output))
    }

    async fn put_files(
        &self,
        id: &str,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        let call = Call::new(Nature::Stream, "put_files", id, folder);
        self.tap.pass(call, self.inner.put_files(id, folder, files, moved), None).await
    }

    async fn get_file(&self, id: &str, path: &str, sink: Box<dyn Write + Send>) -> Result<u64, EngineError> {
        let call = Call::new(Nature::Stream, "get_file", id, path);
        self.tap.pass(call, self.inner.get_file(id, path, sink), None).await
    }

    async fn stat_file(&self, id: &str, path: &str) -> Result<Option<FileInfo>, EngineError> {
        look!(self, "stat_file", id, path, stat_file(id, path))
    }

    async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>, EngineError> {
        look!(self, "list_volumes", &labelled(labels), "", list_volumes(labels))
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        look!(self, "inspect_volume", name, "", inspect_volume(name))
    }

    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, EngineError> {
        change!(self, "create_volume", name, create_volume(name, labels))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        change!(self, "remove_volume", name, remove_volume(name))
    }

    async fn pull_image(&self, image: &str, progress: SharedProgress) -> Result<(), EngineError> {
        let call = Call::new(Nature::Stream, "pull_image", image, "");
        self.tap.pass(call, self.inner.pull_image(image, progress), None).await
    }

    async fn port_is_free(&self, address: IpAddr, port: u16) -> bool {
        let call = Call::new(Nature::Look, "port_is_free", &port.to_string(), "");
        let work = async { Ok::<_, EngineError>(self.inner.port_is_free(address, port).await) };
        // Whether a port is free cannot fail: if it cannot be told, it is not.
        self.tap.pass(call, Box::pin(work), None).await.unwrap_or(false)
    }
}
