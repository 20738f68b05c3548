//! What is logged, and where to.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::progress::Bars;

const VARIABLE: &str = "CACHEHOST_LOG";

/// Logs to stderr. With `--json` only if asked to: what reads stderr then looks for a document there.
pub(crate) fn start(json: bool, bars: Option<Arc<Bars>>) -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let directives = match wanted.as_str() {
        "" if json => "off",
        // What the client of Kubernetes has to say of a failure is in the error, in better words.
        "" => "warn,kube_client=off",
        wanted => wanted,
    };
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| Failure::usage(format!("{VARIABLE}={directives:?} is no log filter: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(move || BesideBars { bars: bars.clone() })
        .try_init()
        .map_err(|error| Failure::other(format!("cannot log: {error}")))
}

/// Writes to stderr so that lines and a progress bar do not run into each other.
struct BesideBars {
    bars: Option<Arc<Bars>>,
}

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.bars {
            Some(bars) => bars.suspended(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
