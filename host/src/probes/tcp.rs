//! Engines asked over TCP.
//!
//! A published port is accepted by a proxy before the engine is there, and a connect to a port on which
//! nobody listens can meet itself. So nothing counts but a reply that was understood.

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::questions::{Command, Seen, ask};
use super::{Check, ProbeError, Probes, Reply};
use crate::types::Endpoint;

#[cfg(test)]
mod tests;

/// Asks each question over a TCP connection of its own.
///
/// # Guarantees
/// - Memory is bounded by `max_bytes` and a few KiB, whatever a server announces or sends.
/// - Errors of a server are cut to 4 KiB.
///
/// # Caveats
/// - There is no deadline but the caller's; dropping the future closes the connection.
/// - A server that wants a password may say so while it is still loading its data.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpProbes;

impl TcpProbes {
    /// Keeps nothing: all instances are alike.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Probes for TcpProbes {
    async fn check(&self, endpoint: &Endpoint, check: Check) -> Result<(), ProbeError> {
        let asked = async { ask(connect(endpoint).await?, check).await };
        asked.await.map_err(|seen| ProbeError::seen(endpoint, seen))
    }

    /// Of an array only the header is read: the connection is closed on its elements.
    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        let asked = async {
            let command = Command::new(args)?;
            command.send(connect(endpoint).await?, max_bytes).await
        };
        asked.await.map_err(|seen| ProbeError::seen(endpoint, seen))
    }
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, Seen> {
    let stream = TcpStream::connect((endpoint.address.as_str(), endpoint.port))
        .await
        .map_err(|error| format!("cannot connect: {error}"))?;
    refuse_itself(&stream)?;
    // One small request, one reply: waiting to fill a packet would only add a delay.
    stream.set_nodelay(true).map_err(|error| format!("cannot prepare the connection: {error}"))?;
    Ok(stream)
}

/// A connection to itself holds the very port that the engine wants to listen on, so it is broken off at
/// once, without lingering.
fn refuse_itself(stream: &TcpStream) -> Result<(), Seen> {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) if local == peer => {
            // Best effort: an ordinary close frees the port, too, only later.
            let _ = stream.set_zero_linger();
            Err("nobody listens: the connection came back to itself".to_owned())
        }
        _ => Ok(()),
    }
}
