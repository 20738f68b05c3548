//! Files into containers: a tar archive as a stream, in bounded memory.
//!
//! The `tar` crate writes blockingly, so it runs on a thread of its own, and a short channel stands
//! between it and the connection.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::errors::{engine_error, segment};
use crate::engine::{Content, EngineError, NewFile, check_new_path};

/// Bytes of one piece and how many may wait: 2 MiB in all, whatever the size of the file.
const PIECE: usize = 256 * 1024;
pub(super) const PIECES: usize = 8;

/// `PUT /containers/{id}/archive`.
pub(super) async fn put(
    api: &bollard::Docker,
    id: &str,
    folder: &str,
    files: Vec<NewFile>,
    moved: Box<dyn Fn(u64) + Send>,
) -> Result<(), EngineError> {
    let object = format!("{folder} of {id}");
    let id = segment(id)?;
    for file in &files {
        check_new_path(&file.path).map_err(|message| EngineError::Failed {
            object: format!("{:?} for {object}", file.path),
            message,
        })?;
    }
    let (sender, receiver) = mpsc::channel(PIECES);
    let writing = spawn_blocking(move || write_archive(files, moved, sender));
    // A body that ends in an error makes the connection break off in the middle of a chunk: the daemon
    // sees an archive that is cut, not one that is shorter.
    let body = stream::unfold(receiver, |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let options = UploadToContainerOptionsBuilder::new().path(folder).build();
    let answer = api.upload_to_container(id, Some(options), bollard::body_try_stream(body)).await;
    match writing.await {
        // Our own trouble is why the daemon's answer, if any, is what it is.
        Ok(Err(Trouble::Read(error))) => Err(EngineError::Io { object, message: error.to_string() }),
        Err(error) => Err(EngineError::Io { object, message: error.to_string() }),
        Ok(Ok(()) | Err(Trouble::HungUp)) => answer.map_err(|error| engine_error(&object, error)),
    }
}

/// Why an archive was not written to its end.
enum Trouble {
    /// On this side.
    Read(io::Error),
    /// The request is over: the daemon answered before the end, or nobody waits any longer.
    HungUp,
}

fn write_archive(
    files: Vec<NewFile>,
    moved: Box<dyn Fn(u64) + Send>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Trouble> {
    // The time of writing, as for any new file: nothing compares it, and 1970 would look like a mistake.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or(0);
    let mut builder = Builder::new(Pieces { sender, filling: BytesMut::new(), state: State::Open });
    let mut written = append_all(&mut builder, files, now, &*moved);
    if written.is_ok() {
        written = builder.finish().and_then(|()| builder.get_mut().send_rest());
    }
    let hung_up = matches!(builder.get_mut().state, State::HungUp);
    // `Builder` writes the end of the archive when dropped: from here on it must not.
    builder.get_mut().state = State::HungUp;
    let Err(error) = written else { return Ok(()) };
    if hung_up {
        return Err(Trouble::HungUp);
    }
    let copy = io::Error::new(error.kind(), error.to_string());
    let _ = builder.get_mut().sender.blocking_send(Err(copy));
    Err(Trouble::Read(error))
}

fn append_all(
    builder: &mut Builder<Pieces>,
    files: Vec<NewFile>,
    now: u64,
    moved: &(dyn Fn(u64) + Send),
) -> io::Result<()> {
    let mut made = BTreeSet::new();
    for file in files {
        let parents: Vec<PathBuf> = Path::new(&file.path).ancestors().skip(1).map(PathBuf::from).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if made.insert(parent.clone()) {
                let mut header = header(EntryType::Directory, 0o777, 0, now);
                builder.append_data(&mut header, parent, io::empty())?;
            }
        }
        let (source, length): (Box<dyn Read>, u64) = match file.content {
            Content::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (Box::new(io::Cursor::new(bytes)), length)
            }
            Content::File(mut file, length) => {
                file.rewind()?;
                (Box::new(file), length)
            }
        };
        let mut header = header(EntryType::Regular, 0o644, length, now);
        builder.append_data(&mut header, &file.path, Exactly { source, left: length, moved })?;
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64, mtime: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(mtime);
    header
}

/// As many bytes as the header announces: fewer would shift all that follows, and `tar` does not check.
struct Exactly<'a> {
    source: Box<dyn Read>,
    left: u64,
    moved: &'a (dyn Fn(u64) + Send),
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(place) = buffer.get_mut(..most).filter(|place| !place.is_empty()) else {
            return Ok(0);
        };
        let count = self.source.read(place)?;
        if count == 0 {
            let message = format!("the file is {} bytes shorter than announced", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.left -= count as u64;
        (self.moved)(count as u64);
        Ok(count)
    }
}

enum State {
    Open,
    HungUp,
}

/// Gathers what is written and sends it in pieces.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    filling: BytesMut,
    state: State,
}

impl Pieces {
    fn send_rest(&mut self) -> io::Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let piece = self.filling.split().freeze();
        self.sender.blocking_send(Ok(piece)).map_err(|_| {
            self.state = State::HungUp;
            io::ErrorKind::BrokenPipe.into()
        })
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.state, State::HungUp) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.filling.extend_from_slice(bytes);
        if self.filling.len() >= PIECE {
            self.send_rest()?;
        }
        Ok(bytes.len())
    }

    /// Nothing: pieces go when they are full, and the last one at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use tar::Archive;

    use super::*;

    /// All pieces of an archive, and how its writing ended.
    fn written(files: Vec<NewFile>) -> (Vec<io::Result<Bytes>>, Result<(), Trouble>) {
        let (sender, mut receiver) = mpsc::channel(PIECES);
        let thread = std::thread::spawn(move || write_archive(files, Box::new(|_| ()), sender));
        let mut pieces = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            pieces.push(piece);
        }
        (pieces, thread.join().unwrap())
    }

    #[test]
    fn folders_come_once_and_before_their_files() {
        let file = |path: &str| NewFile { path: path.into(), content: Content::Bytes(b"x".to_vec()) };
        let (pieces, result) = written(vec![file("a/b/1"), file("a/2"), file("3")]);
        assert!(result.is_ok());
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        let mut archive = Archive::new(&bytes[..]);
        let seen: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
            })
            .collect();
        let expected = [("a", 0o777), ("a/b", 0o777), ("a/b/1", 0o644), ("a/2", 0o644), ("3", 0o644)];
        assert_eq!(seen, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn a_file_shorter_than_announced_breaks_the_archive_off() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1000).unwrap();
        let (pieces, result) =
            written(vec![NewFile { path: "a".into(), content: Content::File(file, 1001) }]);
        assert!(matches!(result, Err(Trouble::Read(_))));
        assert!(pieces.last().unwrap().is_err());
        assert_eq!(pieces.len(), 1, "no end of archive follows");
    }
}
