//! An engine that does nothing and says so at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use async_trait::async_trait;
use elasticache_host::Endpoint;
use elasticache_host::engine::{
    Container, ContainerEngine, ContainerSpec, ContainerState, EngineError, ExecOutput, FileInfo, NewFile,
    Published, Volume,
};
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};
use elasticache_host::progress::SharedProgress;

/// The id of its one container.
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Knows no container by name and one by id, which runs. Every change succeeds and changes nothing.
pub(crate) struct NoEngine;

/// Every engine answers.
pub(crate) struct NoProbes;

fn not_asked<T>(object: &str) -> Result<T, EngineError> {
    let message = "the bench does not ask for this".to_owned();
    Err(EngineError::Failed { object: object.to_owned(), message })
}

#[async_trait]
impl ContainerEngine for NoEngine {
    fn name(&self) -> &str {
        "none"
    }

    async fn list_containers(&self, _: &[(&str, &str)]) -> Result<Vec<Container>, EngineError> {
        Ok(Vec::new())
    }

    async fn inspect_container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        if name != ID {
            return Ok(None);
        }
        Ok(Some(Container {
            id: ID.to_owned(),
            name: String::new(),
            image: String::new(),
            state: ContainerState::Running,
            labels: BTreeMap::new(),
            published: Some(Published { container_port: 6379, host_port: 20_000 }),
            exit_code: None,
        }))
    }

    async fn create_container(&self, _: &ContainerSpec) -> Result<String, EngineError> {
        Ok(ID.to_owned())
    }

    async fn start_container(&self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }

    async fn stop_container(&self, _: &str, _: u32) -> Result<(), EngineError> {
        Ok(())
    }

    async fn restart_container(&self, _: &str, _: u32) -> Result<(), EngineError> {
        Ok(())
    }

    async fn remove_container(&self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }

    async fn wait_exit(&self, id: &str) -> Result<i32, EngineError> {
        not_asked(id)
    }

    async fn log_tail(&self, _: &str, _: u32) -> Result<String, EngineError> {
        Ok(String::new())
    }

    async fn exec(&self, id: &str, _: &[String], _: usize) -> Result<ExecOutput, EngineError> {
        not_asked(id)
    }

    async fn put_files(
        &self,
        id: &str,
        _: &str,
        _: Vec<NewFile>,
        _: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        not_asked(id)
    }

    async fn get_file(&self, id: &str, _: &str, _: Box<dyn Write + Send>) -> Result<u64, EngineError> {
        not_asked(id)
    }

    async fn stat_file(&self, _: &str, _: &str) -> Result<Option<FileInfo>, EngineError> {
        Ok(None)
    }

    async fn list_volumes(&self, _: &[(&str, &str)]) -> Result<Vec<Volume>, EngineError> {
        Ok(Vec::new())
    }

    async fn inspect_volume(&self, _: &str) -> Result<Option<Volume>, EngineError> {
        Ok(None)
    }

    /// With the labels given: the host compares them.
    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, EngineError> {
        Ok(Volume { name: name.to_owned(), labels: labels.clone(), created: Some(SystemTime::UNIX_EPOCH) })
    }

    async fn remove_volume(&self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }

    async fn pull_image(&self, image: &str, _: SharedProgress) -> Result<(), EngineError> {
        not_asked(image)
    }

    async fn port_is_free(&self, _: IpAddr, _: u16) -> bool {
        true
    }
}

#[async_trait]
impl Probes for NoProbes {
    async fn check(&self, _: &Endpoint, _: Check) -> Result<(), ProbeError> {
        Ok(())
    }

    async fn command(&self, _: &Endpoint, _: &[String], _: usize) -> Result<Reply, ProbeError> {
        Ok(Reply::Status("OK".to_owned()))
    }
}
