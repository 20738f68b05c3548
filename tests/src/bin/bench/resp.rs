//! As much of the redis protocol as the bench needs.

use std::any::Any;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What leads to an engine.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection to an engine.
pub(crate) struct Redis {
    stream: BufReader<Box<dyn Stream>>,
    /// What the stream is part of, and ends with.
    _whole: Option<Box<dyn Any + Send>>,
}

/// A reply: a line, the bytes of a bulk string, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Line(String),
    Bulk(Vec<u8>),
    Nil,
}

impl Redis {
    /// To an engine on this machine.
    pub(crate) async fn connect(port: u16) -> Result<Redis> {
        Redis::at("127.0.0.1", port).await
    }

    pub(crate) async fn at(address: &str, port: u16) -> Result<Redis> {
        let stream = TcpStream::connect((address, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Redis { stream: BufReader::new(Box::new(stream)), _whole: None })
    }

    /// Over a stream that is part of something else.
    pub(crate) fn over(stream: impl Stream + 'static, whole: impl Any + Send) -> Redis {
        Redis { stream: BufReader::new(Box::new(stream)), _whole: Some(Box::new(whole)) }
    }

    /// Sends commands that are encoded already, and counts that many replies off.
    pub(crate) async fn pipeline(&mut self, commands: &[u8], replies: usize) -> Result<()> {
        self.stream.get_mut().write_all(commands).await?;
        for _ in 0..replies {
            self.reply().await?;
        }
        Ok(())
    }

    /// One command and its reply. An error of the server is an error.
    pub(crate) async fn command(&mut self, words: &[&[u8]]) -> Result<Reply> {
        self.stream.get_mut().write_all(&encode(words)).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let line = line.strip_suffix("\r\n").context("the engine hung up")?;
        match line.split_at_checked(1) {
            Some(("-", words)) => bail!("the engine answered with the error {words}"),
            Some(("$", "-1")) => Ok(Reply::Nil),
            Some(("$", length)) => {
                let mut bytes = vec![0; length.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes).await?;
                bytes.truncate(bytes.len() - 2);
                Ok(Reply::Bulk(bytes))
            }
            Some((_, rest)) => Ok(Reply::Line(rest.to_owned())),
            None => bail!("the engine answered with an empty line"),
        }
    }
}

/// One attempt. A proxy may accept and then say nothing.
const ATTEMPT: Duration = Duration::from_secs(1);

/// One attempt: connect, `PING`, a true `PONG`.
pub(crate) async fn is_ready(port: u16) -> bool {
    answers(Redis::connect(port)).await
}

/// The same, however one connects.
pub(crate) async fn answers(connect: impl Future<Output = Result<Redis>>) -> bool {
    let asked = async { connect.await?.command(&[b"PING"]).await };
    matches!(timeout(ATTEMPT, asked).await, Ok(Ok(Reply::Line(word))) if word == "PONG")
}

/// A command as it goes over the wire.
pub(crate) fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Writes `keys` small keys.
pub(crate) async fn fill(mut redis: Redis, keys: usize) -> Result<()> {
    let mut commands = Vec::new();
    for key in 0..keys {
        let (name, value) = (format!("key:{key}"), format!("value:{key}:{}", "x".repeat(40)));
        commands.extend(encode(&[b"SET", name.as_bytes(), value.as_bytes()]));
    }
    redis.pipeline(&commands, keys).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_encoded_as_arrays_of_bulk_strings() {
        assert_eq!(encode(&[b"GET", b"k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
