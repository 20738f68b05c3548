//! The `probes` capability in native types: asking an engine itself, in its own protocol.

use async_trait::async_trait;

use crate::types::Endpoint;

mod questions;
pub mod tcp;

#[cfg(feature = "kube")]
pub(crate) use questions::{Command, Seen, ask};

/// What counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// `PING` is answered with `PONG`, or with a demand for a password.
    RedisPing,
    /// `PING` is answered, and no save or rewrite is under way or scheduled.
    RedisIdle,
    /// It is a replica whose link is up and which has all that its primary has.
    RedisInSync,
    /// It is no replica, and no hand-over is under way.
    RedisPrimary,
    /// `version` is answered with `VERSION`.
    MemcachedVersion,
}

/// A redis or valkey server's answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A simple string.
    Status(String),
    /// What the server calls an error.
    Error(String),
    /// A number.
    Integer(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// Nil.
    Nil,
    /// An array, with its number of elements.
    Aggregate(u32),
}

/// Why an engine could not be asked, or did not answer in its protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: {message}")]
pub struct ProbeError {
    /// Where.
    pub endpoint: String,
    /// What was seen.
    pub message: String,
    /// That whoever stands between does not let this process ask: asking again changes nothing.
    pub refused: bool,
}

impl ProbeError {
    /// Another attempt may go better.
    pub fn seen(endpoint: &Endpoint, message: String) -> Self {
        Self { endpoint: endpoint.to_string(), message, refused: false }
    }

    /// No other attempt will go better.
    pub fn refused(endpoint: &Endpoint, message: String) -> Self {
        Self { refused: true, ..Self::seen(endpoint, message) }
    }
}

/// One question to one engine. A supplier asks once; repeating and deadlines are the caller's.
#[async_trait]
pub trait Probes: Send + Sync + 'static {
    /// Whether the check holds now; otherwise what was seen instead.
    async fn check(&self, endpoint: &Endpoint, check: Check) -> Result<(), ProbeError>;

    /// Send one command to a redis or valkey and return its reply. Bulk replies larger than
    /// `max_bytes` are cut to it.
    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError>;
}
