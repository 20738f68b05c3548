//! Files out of containers: a tar archive as a stream, in bounded memory; and what is where.

use std::io::{self, Read, Write};

use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tar::Archive;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::archive::PIECES;
use super::errors::{engine_error, segment};
use crate::engine::{EngineError, FileInfo};

/// `os.ModeDir` of Go, which is how the daemon writes modes.
const GO_MODE_DIR: u32 = 1 << 31;

/// `GET /containers/{id}/archive` of one regular file.
pub(super) async fn get(
    api: &bollard::Docker,
    id: &str,
    path: &str,
    sink: Box<dyn Write + Send>,
) -> Result<u64, EngineError> {
    let object = format!("{path} of {id}");
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let mut body = api.download_from_container(segment(id)?, Some(options));
    // Before a thread is started: this is where a file that does not exist shows.
    let mut next = body.next().await;
    let (sender, receiver) = mpsc::channel(PIECES);
    let reading = spawn_blocking(move || read_archive(receiver, sink));
    loop {
        match next {
            Some(Ok(bytes)) => {
                // A receiver that is gone has a result to tell.
                if sender.send(Some(bytes)).await.is_err() {
                    break;
                }
            }
            Some(Err(error)) => {
                drop(sender);
                let _ = reading.await;
                return Err(engine_error(&object, error));
            }
            None => {
                let _ = sender.send(None).await;
                break;
            }
        }
        next = body.next().await;
    }
    drop(sender);
    match reading.await {
        Ok(Ok(length)) => Ok(length),
        Ok(Err(Unread::Io(error))) => Err(EngineError::Io { object, message: error.to_string() }),
        Ok(Err(Unread::NotAFile(what))) => Err(EngineError::Failed { object, message: what }),
        Err(error) => Err(EngineError::Io { object, message: error.to_string() }),
    }
}

/// Why there is no file to be had from an archive.
enum Unread {
    NotAFile(String),
    Io(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Unread {
        Unread::Io(error)
    }
}

fn read_archive(
    receiver: mpsc::Receiver<Option<Bytes>>,
    mut sink: Box<dyn Write + Send>,
) -> Result<u64, Unread> {
    let mut archive = Archive::new(Received { receiver, piece: Bytes::new(), ended: false });
    let length = {
        let Some(entry) = archive.entries()?.next() else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            return Err(Unread::NotAFile(format!("it is not a regular file but {kind:?}")));
        }
        // Not the header's: an extension before it tells the size of a very large file.
        let length = entry.size();
        let copied = io::copy(&mut entry, &mut sink)?;
        if copied != length {
            let message = format!("the stream ended after {copied} of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message).into());
        }
        length
    };
    sink.flush()?;
    // To the end of the body, so that the daemon is not hung up on.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(length)
}

/// The other end of the channel. `None` in it is the end of the body; a channel that closes without it
/// means that nobody waits for the file any longer, which must not pass for an end.
struct Received {
    receiver: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => {
                    let message = "the transfer was broken off";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, message));
                }
            }
        }
        let count = buffer.len().min(self.piece.len());
        let taken = self.piece.split_to(count);
        if let Some(place) = buffer.get_mut(..count) {
            place.copy_from_slice(&taken);
        }
        Ok(count)
    }
}

/// `HEAD /containers/{id}/archive`.
pub(super) async fn stat(
    api: &bollard::Docker,
    id: &str,
    path: &str,
) -> Result<Option<FileInfo>, EngineError> {
    let object = format!("{path} of {id}");
    let name = segment(id)?;
    let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    match api
        .get_container_archive_info(name, Some(options))
        .await
        .map_err(|error| engine_error(&object, error))
    {
        Ok(found) => {
            let directory = found.file_mode & GO_MODE_DIR != 0;
            let size = if directory { 0 } else { u64::try_from(found.size).unwrap_or(0) };
            Ok(Some(FileInfo { size, directory }))
        }
        // A reply to HEAD has no words: it takes a second call to know that it is not the container
        // itself that is gone, and that must not pass for an empty place.
        Err(EngineError::NotFound { .. }) => {
            api.inspect_container(name, None).await.map_err(|error| engine_error(id, error))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read(pieces: Vec<Option<Bytes>>) -> (Result<u64, Unread>, Vec<u8>) {
        let (sender, receiver) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        let sink = Shared::default();
        let result = read_archive(receiver, Box::new(sink.clone()));
        let bytes = sink.0.lock().unwrap().clone();
        (result, bytes)
    }

    fn archive_of(length: u32) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::from(length));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, "a", io::repeat(7).take(u64::from(length))).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_file_is_read_whatever_the_pieces() {
        let archive = Bytes::from(archive_of(1000));
        let (result, bytes) = read(vec![Some(archive.slice(..700)), Some(archive.slice(700..)), None]);
        assert!(matches!(result, Ok(1000)));
        assert_eq!(bytes, vec![7; 1000]);
    }

    #[test]
    fn an_early_end_is_an_error_whether_announced_or_not() {
        let archive = Bytes::from(archive_of(1000));
        for end in [512 + 10, 512 + 999] {
            assert!(matches!(read(vec![Some(archive.slice(..end)), None]).0, Err(Unread::Io(_))));
            assert!(matches!(read(vec![Some(archive.slice(..end))]).0, Err(Unread::Io(_))));
        }
        assert!(matches!(read(vec![None]).0, Err(Unread::Io(_))));
        assert!(matches!(read(vec![Some(archive)]).0, Err(Unread::Io(_))));
    }
}
