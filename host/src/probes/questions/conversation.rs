//! One connection to an engine: what is sent, and replies read with a bound on everything.
//!
//! Arrays nest, and a decoder that follows them into the depth can be made to overflow its stack; a length
//! prefix is a claim, and memory set aside for it can be made to run out. Therefore replies are taken
//! header by header here, and only whole lines are handed to the decoder.

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::encode::extend_encode_borrowed;
use redis_protocol::resp2::types::{BorrowedFrame, FrameKind, OwnedFrame};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::super::Reply;

/// What was seen instead of what was hoped for, in words.
pub(crate) type Seen = String;

/// Errors of a server are cut to this.
const ERROR_BYTES: usize = 4096;
/// Lines are read up to this: the longest error, its first byte and the line's end.
const LINE_BYTES: usize = ERROR_BYTES + 3;
/// Of something not understood, so much is shown.
const SHOWN_BYTES: usize = 200;
/// Set aside at once for a reply; the rest as its bytes arrive.
const FIRST_BYTES: usize = 16 * 1024;

/// A command as a server reads it. Arguments may hold any bytes.
pub(super) fn encode(args: &[impl AsRef<str>]) -> Result<BytesMut, Seen> {
    if args.is_empty() {
        // A server says nothing to an empty command, so that one would wait for ever.
        return Err("no command was given".to_owned());
    }
    let strings: Vec<_> = args.iter().map(|arg| BorrowedFrame::BulkString(arg.as_ref().as_bytes())).collect();
    let mut request = BytesMut::new();
    extend_encode_borrowed(&mut request, &BorrowedFrame::Array(&strings), false)
        .map_err(|error| format!("the command cannot be sent: {error}"))?;
    Ok(request)
}

/// Bytes for a message: printable, and not too many.
pub(super) fn shown(bytes: &[u8]) -> String {
    let cut = bytes.len().min(SHOWN_BYTES);
    let more = if cut < bytes.len() { "..." } else { "" };
    format!("\"{}{more}\"", bytes[..cut].escape_ascii())
}

/// A connection, read with a buffer.
pub(super) struct Conversation<S> {
    stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: BufReader::with_capacity(4096, stream) }
    }

    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(), Seen> {
        let sent = async {
            self.stream.write_all(request).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| format!("broke off while being asked: {error}"))
    }

    /// The next line with its end, or as much of it as [`LINE_BYTES`] allows. Never empty.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, Seen> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(LINE_BYTES as u64);
        bounded.read_until(b'\n', &mut line).await.map_err(|error| broke_off(&error))?;
        if line.is_empty() {
            return Err("closed the connection without a reply".to_owned());
        }
        if !line.ends_with(b"\n") && line.len() < LINE_BYTES {
            return Err(format!("closed the connection in the middle of a reply: {}", shown(&line)));
        }
        Ok(line)
    }

    /// The next reply. After one that was cut, and after an array, the connection is of no more use.
    pub(super) async fn reply(&mut self, max_bytes: usize) -> Result<Reply, Seen> {
        let first = self.stream.fill_buf().await.map_err(|error| broke_off(&error))?;
        let kind = match first.first() {
            None => return Err("closed the connection without a reply".to_owned()),
            // What does not begin like a reply may never come to the end of a line.
            Some(&byte) => FrameKind::from_byte(byte).ok_or_else(|| not_understood(first))?,
        };
        let line = self.line().await?;
        if kind == FrameKind::Error {
            return Ok(Reply::Error(error_text(&line[1..])));
        }
        let Some(header) = line[1..].strip_suffix(b"\r\n") else {
            return Err(not_understood(&line));
        };
        match kind {
            FrameKind::BulkString => match length(header).ok_or_else(|| not_understood(&line))? {
                None => Ok(Reply::Nil),
                Some(length) => self.bulk(length, max_bytes).await,
            },
            FrameKind::Array => match length(header).ok_or_else(|| not_understood(&line))? {
                None => Ok(Reply::Nil),
                Some(elements) => {
                    u32::try_from(elements).map(Reply::Aggregate).map_err(|_| not_understood(&line))
                }
            },
            _ => match decode(&line) {
                Ok(Some((OwnedFrame::SimpleString(status), _))) => {
                    Ok(Reply::Status(String::from_utf8_lossy(&status).into_owned()))
                }
                Ok(Some((OwnedFrame::Integer(number), _))) => Ok(Reply::Integer(number)),
                _ => Err(not_understood(&line)),
            },
        }
    }

    async fn bulk(&mut self, length: u64, max_bytes: usize) -> Result<Reply, Seen> {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(max_bytes);
        let mut bytes = Vec::with_capacity(wanted.min(FIRST_BYTES));
        let mut bounded = (&mut self.stream).take(wanted as u64);
        bounded.read_to_end(&mut bytes).await.map_err(|error| broke_off(&error))?;
        if bytes.len() < wanted {
            return Err(format!("closed the connection after {} of {length} bytes", bytes.len()));
        }
        if wanted as u64 == length {
            let mut end = [0; 2];
            self.stream.read_exact(&mut end).await.map_err(|error| broke_off(&error))?;
            if end != *b"\r\n" {
                return Err(format!("a string of {length} bytes ended with {}", shown(&end)));
            }
        }
        Ok(Reply::Bulk(bytes))
    }
}

/// `None` for anything but digits, or the -1 that stands for nil: `Some(None)`.
fn length(header: &[u8]) -> Option<Option<u64>> {
    if header == b"-1" {
        return Some(None);
    }
    let digits = std::str::from_utf8(header).ok()?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some(Some(number))
}

fn error_text(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
    text.truncate(text.floor_char_boundary(ERROR_BYTES));
    text
}

fn broke_off(error: &std::io::Error) -> Seen {
    format!("broke off while answering: {error}")
}

fn not_understood(bytes: &[u8]) -> Seen {
    format!("replied {}, which is not a reply of redis or valkey", shown(bytes))
}
