//! The Docker API by hand: HTTP/1.1 over the daemon's socket, and nothing else in between.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Where Docker listens, unless the environment says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// A tar archive is made of blocks of this size; the first is the file's header.
const BLOCK: usize = 512;

/// Where to call, and in which version of the API.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    socket: PathBuf,
    version: String,
    /// `Server.Version`, for the record.
    pub(crate) release: String,
}

impl Daemon {
    /// Asks the daemon for the newest version of the API that it speaks, which is what others take too.
    pub(crate) async fn find() -> Result<Daemon> {
        let socket = match std::env::var("DOCKER_HOST") {
            Ok(address) if !address.is_empty() => {
                address.strip_prefix("unix://").map(PathBuf::from).with_context(|| {
                    format!("DOCKER_HOST is {address}; the bench calls a unix:// socket only")
                })?
            }
            _ => PathBuf::from(SOCKET),
        };
        let mut daemon = Daemon { socket, version: String::new(), release: String::new() };
        let answer = daemon.connect().await?.json(Method::GET, "/version", None).await?;
        daemon.version =
            format!("/v{}", answer["ApiVersion"].as_str().context("a daemon without a version")?);
        daemon.release = answer["Version"].as_str().unwrap_or("unknown").to_owned();
        Ok(daemon)
    }

    /// A connection of its own, kept alive.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.with_context(|| format!("no Docker Engine at {}", self.socket.display()))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends when the sender is dropped. What goes wrong on it shows at the request.
        tokio::spawn(connection);
        Ok(Connection { sender, version: self.version.clone() })
    }
}

/// One connection: one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    version: String,
}

impl Connection {
    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.version));
        request = request.header(header::HOST, "docker");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(Bytes::from(bytes)))?).await?)
    }

    /// One call; its answer as bytes, whatever the daemon thinks of it.
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// One call that must go well; its answer as JSON, `null` if it is empty.
    pub(crate) async fn json(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, bytes) = self.call(method.clone(), path, body).await?;
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&bytes).trim());
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{method} {path} was not answered with JSON"))
    }

    /// Removes an object; one that is gone, or on its way out, is as good as removed.
    pub(crate) async fn remove(&mut self, path: &str) -> Result<()> {
        let (status, bytes) = self.call(Method::DELETE, path, None).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        bail!("DELETE {path}: {status}: {}", String::from_utf8_lossy(&bytes).trim())
    }

    /// Starts an exec and reads what it writes to its end, which ends the connection too.
    pub(crate) async fn attached(mut self, path: &str, body: &Value) -> Result<Bytes> {
        let (status, bytes) = self.call(Method::POST, path, Some(body)).await?;
        if !status.is_success() {
            bail!("POST {path}: {status}: {}", String::from_utf8_lossy(&bytes).trim());
        }
        Ok(bytes)
    }

    /// Streams the one file of an archive into `file`; returns its length.
    pub(crate) async fn download(&mut self, path: &str, file: &Path) -> Result<u64> {
        let response = self.send(Method::GET, path, None).await?;
        if !response.status().is_success() {
            bail!("GET {path}: {}", response.status());
        }
        let mut body = response.into_body();
        let mut sink = std::fs::File::create(file).with_context(|| format!("writing {}", file.display()))?;
        let mut head = Vec::with_capacity(BLOCK);
        let (mut size, mut left) = (0, None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let mut data = data.as_ref();
            if left.is_none() {
                let (taken, rest) = data.split_at(data.len().min(BLOCK - head.len()));
                head.extend_from_slice(taken);
                data = rest;
                if head.len() < BLOCK {
                    continue;
                }
                size = size_in(&head)?;
                left = Some(size);
            }
            if let Some(left) = &mut left {
                // Past the file come only the archive's own end blocks.
                let count = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                sink.write_all(data.get(..count).unwrap_or_default())?;
                *left -= count as u64;
            }
        }
        if left != Some(0) {
            bail!("GET {path}: the archive ended early");
        }
        sink.sync_all()?;
        Ok(size)
    }
}

/// The size in a tar header: octal digits.
fn size_in(header: &[u8]) -> Result<u64> {
    let digits = header.get(124..136).context("a tar header is longer")?;
    let text = String::from_utf8_lossy(digits);
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).context("a tar header with a size in octal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_out_of_a_tar_header() -> Result<()> {
        let mut header = vec![0; BLOCK];
        header[124..135].copy_from_slice(b"00000001750");
        assert_eq!(size_in(&header)?, 1000);
        assert!(size_in(&header[..100]).is_err());
        Ok(())
    }
}
