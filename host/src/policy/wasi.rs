//! WASI for components that want it, as those of most languages do: with nothing in it. No files, no network, no
//! environment, no arguments; what is printed becomes log lines.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::capabilities::OperationState;
use crate::error::Fault;

/// Bytes of a line; a longer one is broken.
const LINE_BYTES: usize = 4 << 10;
/// Bytes that may be written at once, and of random numbers that may be had at once.
const AT_ONCE: usize = 64 << 10;

/// Whether a component asks for WASI, other than for its settings.
pub(super) fn is_imported(imports: &[String]) -> bool {
    imports.iter().any(|name| name.starts_with("wasi:") && !name.starts_with("wasi:config/"))
}

/// Whether a component asks for what differs from run to run: then the same observations need not lead to the same
/// calls.
pub(super) fn is_deterministic(imports: &[String]) -> bool {
    !imports.iter().any(|name| name.starts_with("wasi:clocks/") || name.starts_with("wasi:random/"))
}

pub(super) fn add_to_linker(linker: &mut Linker<OperationState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// What an operation may still log or print.
#[derive(Debug, Clone)]
pub(crate) struct LogBudget {
    left: Arc<Mutex<usize>>,
    limit: usize,
}

impl LogBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { left: Arc::new(Mutex::new(limit)), limit }
    }

    /// Takes some of it.
    pub(crate) fn take(&self, bytes: usize) -> wasmtime::Result<()> {
        let mut left = self.left.lock();
        *left = left.checked_sub(bytes).ok_or(Fault::Logs(self.limit))?;
        Ok(())
    }
}

/// The WASI of one operation, made when the component first asks for it.
pub(crate) struct Wasi {
    operation: String,
    logs: LogBudget,
    context: Option<WasiCtx>,
}

impl Wasi {
    pub(crate) fn new(operation: &str, logs: LogBudget) -> Self {
        Self { operation: operation.to_owned(), logs, context: None }
    }
}

impl WasiView for OperationState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { operation, logs, context } = &mut self.wasi;
        let ctx = context.get_or_insert_with(|| {
            let printed = |stream| Printed {
                operation: operation.as_str().into(),
                stream,
                logs: logs.clone(),
                line: Arc::default(),
            };
            WasiCtx::builder()
                .allow_tcp(false)
                .allow_udp(false)
                .allow_ip_name_lookup(false)
                .max_random_size(AT_ONCE as u64)
                .stdout(printed("stdout"))
                .stderr(printed("stderr"))
                .build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// Standard output or standard error: each line becomes one of the log.
#[derive(Clone)]
struct Printed {
    operation: Arc<str>,
    stream: &'static str,
    logs: LogBudget,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Printed {
    fn print(&self, bytes: &[u8]) -> wasmtime::Result<()> {
        self.logs.take(bytes.len())?;
        let mut line = self.line.lock();
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LINE_BYTES {
                self.log(&line);
                line.clear();
            }
        }
        Ok(())
    }

    fn log(&self, line: &[u8]) {
        let (operation, stream) = (&*self.operation, self.stream);
        let text = String::from_utf8_lossy(line).escape_debug().to_string();
        match stream {
            "stderr" => tracing::warn!(target: "policy", operation, stream, "{text}"),
            _ => tracing::info!(target: "policy", operation, stream, "{text}"),
        }
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        // What was printed last need not end its line. The last of all clones has it.
        if Arc::strong_count(&self.line) == 1 {
            let line = self.line.lock();
            if !line.is_empty() {
                self.log(&line);
            }
        }
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Too much ends the operation, as too much of anything else does.
        self.print(bytes.chunk()).map_err(StreamError::Trap)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(AT_ONCE)
    }
}

#[async_trait::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.print(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn imports(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn settings_alone_are_no_reason_for_wasi() {
        assert!(!is_imported(&imports(&[
            "wasi:config/store@0.2.0-rc.1",
            "fakecloud:elasticache/docker@0.1.0"
        ])));
        assert!(is_imported(&imports(&["wasi:cli/stdout@0.2.0"])));
    }

    #[test]
    fn clocks_and_randomness_are_what_is_not_deterministic() {
        assert!(is_deterministic(&imports(&["wasi:cli/stdout@0.2.0", "wasi:config/store@0.2.0-rc.1"])));
        assert!(!is_deterministic(&imports(&["wasi:clocks/wall-clock@0.2.0"])));
        assert!(!is_deterministic(&imports(&["wasi:random/random@0.2.0"])));
    }

    #[test]
    fn what_may_be_printed_is_counted_over_all_streams() {
        let budget = LogBudget::new(10);
        budget.take(6).unwrap();
        budget.clone().take(4).unwrap();
        let over = budget.take(1).unwrap_err();
        assert_eq!(over.downcast_ref::<Fault>(), Some(&Fault::Logs(10)));
    }
}
