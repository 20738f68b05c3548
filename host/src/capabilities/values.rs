//! The small interfaces: snapshots, command output, log lines.

use wasmtime::component::Resource;

use super::OperationState;
use crate::engine::ExecOutput;
use crate::policy::bindings::fakecloud::elasticache::{exec, logging, snapshots};
use crate::snapshot::Snapshot;

/// Bytes of output that one call gives.
const OUTPUT_BYTES: usize = 64 << 10;
/// Bytes of a log line that are kept.
const LINE_BYTES: usize = 4 << 10;

impl snapshots::Host for OperationState {}

impl snapshots::HostSnapshot for OperationState {
    async fn size(&mut self, handle: Resource<Snapshot>) -> wasmtime::Result<u64> {
        self.count()?;
        Ok(self.table.get(&handle)?.size())
    }

    async fn rdb_version(&mut self, handle: Resource<Snapshot>) -> wasmtime::Result<u32> {
        self.count()?;
        Ok(self.table.get(&handle)?.info.rdb_version)
    }

    async fn engine_version(&mut self, handle: Resource<Snapshot>) -> wasmtime::Result<Option<String>> {
        self.count()?;
        Ok(self.table.get(&handle)?.info.engine_version.clone())
    }

    async fn drop(&mut self, handle: Resource<Snapshot>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl exec::Host for OperationState {}

impl exec::HostOutput for OperationState {
    async fn exit_code(&mut self, handle: Resource<ExecOutput>) -> wasmtime::Result<i32> {
        self.count()?;
        Ok(self.table.get(&handle)?.exit_code)
    }

    async fn stdout(&mut self, handle: Resource<ExecOutput>, max: u32) -> wasmtime::Result<Vec<u8>> {
        self.count()?;
        Ok(first(&self.table.get(&handle)?.stdout, max))
    }

    async fn stderr(&mut self, handle: Resource<ExecOutput>, max: u32) -> wasmtime::Result<Vec<u8>> {
        self.count()?;
        Ok(first(&self.table.get(&handle)?.stderr, max))
    }

    async fn drop(&mut self, handle: Resource<ExecOutput>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

fn first(bytes: &[u8], max: u32) -> Vec<u8> {
    bytes.iter().copied().take(OUTPUT_BYTES.min(max as usize)).collect()
}

impl logging::Host for OperationState {
    async fn log(&mut self, level: logging::Level, message: String) -> wasmtime::Result<()> {
        self.count_with(message.len())?;
        self.logs.take(message.len())?;
        let end = message.floor_char_boundary(LINE_BYTES);
        let message = message[..end].escape_debug().to_string();
        let (operation, cache) = (&self.id, self.key.as_ref().map(ToString::to_string).unwrap_or_default());
        match level {
            logging::Level::Debug => tracing::debug!(target: "policy", operation, cache, "{message}"),
            logging::Level::Info => tracing::info!(target: "policy", operation, cache, "{message}"),
            logging::Level::Warn => tracing::warn!(target: "policy", operation, cache, "{message}"),
            logging::Level::Error => tracing::error!(target: "policy", operation, cache, "{message}"),
        }
        Ok(())
    }
}
