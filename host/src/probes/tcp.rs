//! Engines asked over TCP.
//!
//! A published port is accepted by a proxy before the engine is there, and a connect to a port on which
//! nobody listens can meet itself. So nothing counts but a reply that was understood.

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::{Check, ProbeError, Probes, Reply};
use crate::types::Endpoint;

mod conversation;
#[cfg(test)]
mod tests;

use conversation::{Conversation, Seen, encode, shown};

/// More than any server's `INFO persistence`, which has about 2 KiB.
const INFO_BYTES: usize = 1024 * 1024;

/// How an error begins that only asks for credentials: the server is up, and answers those who have them.
const WANTS_CREDENTIALS: [&str; 3] = ["NOAUTH", "WRONGPASS", "NOPERM"];

/// What `INFO persistence` calls the work that a save or a stop would run into.
const BACKGROUND_WORK: [&str; 3] =
    ["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"];

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
        let asked = async {
            let mut engine = Conversation::new(connect(endpoint).await?);
            match check {
                Check::RedisPing => redis_ping(&mut engine).await,
                Check::RedisIdle => redis_idle(&mut engine).await,
                Check::MemcachedVersion => memcached_version(&mut engine).await,
            }
        };
        asked.await.map_err(|seen| probe_error(endpoint, seen))
    }

    /// Of an array only the header is read: the connection is closed on its elements.
    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        let asked = async {
            // Encoded first: what cannot be sent needs no connection.
            let request = encode(args)?;
            let mut engine = Conversation::new(connect(endpoint).await?);
            engine.send(&request).await?;
            engine.reply(max_bytes).await
        };
        asked.await.map_err(|seen| probe_error(endpoint, seen))
    }
}

fn probe_error(endpoint: &Endpoint, seen: Seen) -> ProbeError {
    ProbeError { endpoint: endpoint.to_string(), message: seen }
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

async fn redis_ping(engine: &mut Conversation<TcpStream>) -> Result<(), Seen> {
    engine.send(&encode(&["PING"])?).await?;
    match engine.reply(INFO_BYTES).await? {
        Reply::Error(error) if wants_credentials(&error) => Ok(()),
        reply => expect_pong(&reply),
    }
}

async fn redis_idle(engine: &mut Conversation<TcpStream>) -> Result<(), Seen> {
    let mut request = encode(&["PING"])?;
    request.extend_from_slice(&encode(&["INFO", "persistence"])?);
    engine.send(&request).await?;
    expect_pong(&engine.reply(INFO_BYTES).await?)?;
    match engine.reply(INFO_BYTES).await? {
        Reply::Bulk(info) => expect_idle(&info),
        other => Err(format!("replied to INFO with {}", described(&other))),
    }
}

async fn memcached_version(engine: &mut Conversation<TcpStream>) -> Result<(), Seen> {
    engine.send(b"version\r\n").await?;
    let line = engine.line().await?;
    match line.strip_prefix(b"VERSION ").and_then(|rest| rest.strip_suffix(b"\r\n")) {
        Some(version) if !version.is_empty() && version.iter().all(u8::is_ascii_graphic) => Ok(()),
        _ => Err(format!("replied to version with {}", shown(&line))),
    }
}

fn wants_credentials(error: &str) -> bool {
    error.split_whitespace().next().is_some_and(|word| WANTS_CREDENTIALS.contains(&word))
}

fn expect_pong(reply: &Reply) -> Result<(), Seen> {
    match reply {
        Reply::Status(status) if status == "PONG" => Ok(()),
        other => Err(format!("replied to PING with {}", described(other))),
    }
}

fn expect_idle(info: &[u8]) -> Result<(), Seen> {
    let info = String::from_utf8_lossy(info);
    for field in BACKGROUND_WORK {
        let value = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(name, value)| (name == field).then_some(value.trim_end()));
        match value {
            Some("0") => {}
            Some(value) => return Err(format!("{field} is {}", shown(value.as_bytes()))),
            // Silence is no proof that nothing is under way.
            None => return Err(format!("INFO persistence does not say {field}")),
        }
    }
    Ok(())
}

fn described(reply: &Reply) -> String {
    match reply {
        Reply::Status(status) => shown(status.as_bytes()),
        Reply::Error(error) => format!("the error {}", shown(error.as_bytes())),
        Reply::Integer(number) => format!("the number {number}"),
        Reply::Bulk(bytes) => format!("a string of {} bytes", bytes.len()),
        Reply::Nil => "nil".to_owned(),
        Reply::Aggregate(elements) => format!("an array of {elements}"),
    }
}
