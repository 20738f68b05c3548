//! The questions that an engine is asked, over whatever stream leads to it.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Check, Reply};

mod conversation;

use conversation::{Conversation, encode, shown};

pub(crate) use conversation::Seen;

/// More than any server's `INFO persistence`, which has about 2 KiB.
const INFO_BYTES: usize = 1024 * 1024;

/// How an error begins that only asks for credentials: the server is up, and answers those who have them.
const WANTS_CREDENTIALS: [&str; 3] = ["NOAUTH", "WRONGPASS", "NOPERM"];

/// What `INFO persistence` says where no work is under way that a save or a stop would run into.
const IDLE: [(&str, &str); 3] =
    [("rdb_bgsave_in_progress", "0"), ("aof_rewrite_in_progress", "0"), ("aof_rewrite_scheduled", "0")];

/// What `INFO replication` says of a replica that has received its primary's dataset and follows what is written.
const IN_SYNC: [(&str, &str); 3] =
    [("role", "slave"), ("master_link_status", "up"), ("master_sync_in_progress", "0")];

/// What it says of a server that follows nobody, and has handed over to nobody.
const PRIMARY: [(&str, &str); 2] = [("role", "master"), ("master_failover_state", "no-failover")];

/// What leads to an engine.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Whether the check holds; otherwise what was seen instead. The stream is of no more use afterwards.
pub(crate) async fn ask(stream: impl Stream, check: Check) -> Result<(), Seen> {
    let mut engine = Conversation::new(stream);
    match check {
        Check::RedisPing => redis_ping(&mut engine).await,
        Check::RedisIdle => redis_idle(&mut engine).await,
        Check::RedisInSync => redis_says(&mut engine, &IN_SYNC).await,
        Check::RedisPrimary => redis_says(&mut engine, &PRIMARY).await,
        Check::MemcachedVersion => memcached_version(&mut engine).await,
    }
}

/// A command that can be sent: encoded before there is a stream, since what cannot be sent needs none.
pub(crate) struct Command(bytes::BytesMut);

impl Command {
    pub(crate) fn new(args: &[String]) -> Result<Self, Seen> {
        encode(args).map(Self)
    }

    /// The reply; of an array only the header is read. The stream is of no more use afterwards.
    pub(crate) async fn send(self, stream: impl Stream, max_bytes: usize) -> Result<Reply, Seen> {
        let mut engine = Conversation::new(stream);
        engine.send(&self.0).await?;
        engine.reply(max_bytes).await
    }
}

async fn redis_ping<S: Stream>(engine: &mut Conversation<S>) -> Result<(), Seen> {
    engine.send(&encode(&["PING"])?).await?;
    match engine.reply(INFO_BYTES).await? {
        Reply::Error(error) if wants_credentials(&error) => Ok(()),
        reply => expect_pong(&reply),
    }
}

async fn redis_idle<S: Stream>(engine: &mut Conversation<S>) -> Result<(), Seen> {
    let mut request = encode(&["PING"])?;
    request.extend_from_slice(&encode(&["INFO", "persistence"])?);
    engine.send(&request).await?;
    expect_pong(&engine.reply(INFO_BYTES).await?)?;
    match engine.reply(INFO_BYTES).await? {
        Reply::Bulk(info) => expect_idle(&info),
        other => Err(format!("replied to INFO with {}", described(&other))),
    }
}

/// Asks for `INFO replication`, and whether it says all of these.
async fn redis_says<S: Stream>(engine: &mut Conversation<S>, wanted: &[(&str, &str)]) -> Result<(), Seen> {
    engine.send(&encode(&["INFO", "replication"])?).await?;
    match engine.reply(INFO_BYTES).await? {
        Reply::Bulk(info) => expect_fields(&String::from_utf8_lossy(&info), wanted),
        other => Err(format!("replied to INFO with {}", described(&other))),
    }
}

async fn memcached_version<S: Stream>(engine: &mut Conversation<S>) -> Result<(), Seen> {
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
    expect_fields(&String::from_utf8_lossy(info), &IDLE)
}

fn expect_fields(info: &str, wanted: &[(&str, &str)]) -> Result<(), Seen> {
    for (field, wanted) in wanted {
        let value = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(name, value)| (name == *field).then_some(value.trim_end()));
        match value {
            Some(value) if value == *wanted => {}
            Some(value) => return Err(format!("{field} is {}", shown(value.as_bytes()))),
            // Silence is no proof.
            None => return Err(format!("INFO does not say {field}")),
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
