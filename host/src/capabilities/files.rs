//! Files on their way into and out of containers and pods.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{OperationKind, OperationState, Outcome, Purpose, invalid};
use crate::engine::{Content, NewFile};
use crate::policy::bindings::fakecloud::elasticache::docker as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::progress::{Progress, SharedProgress};
use crate::snapshot::{Incoming, Snapshot};

/// Bytes that `put` takes for one file, and `read` gives.
pub(super) const FILE_BYTES: usize = 64 << 10;

/// What `put` was given, checked.
pub(super) struct Outgoing {
    pub(super) files: Vec<NewFile>,
    pub(super) purpose: Purpose,
    /// To be told each number of bytes that moved.
    pub(super) moved: Box<dyn Fn(u64) + Send>,
}

/// What is read out of somewhere, and where it goes.
pub(super) struct Receiving(Incoming);

impl OperationState {
    /// Counts and checks what `put` was given.
    pub(super) fn outgoing(&mut self, folder: &str, files: Vec<api::File>) -> Outcome<Outgoing> {
        let bytes = |file: &api::File| match &file.content {
            api::Content::Bytes(bytes) => file.path.len() + bytes.len(),
            api::Content::Snapshot(_) => file.path.len(),
        };
        self.count_with(folder.len() + files.iter().map(bytes).sum::<usize>())?;
        // A few bytes may be what puts things back as they were.
        let mut purpose = Purpose::Cleanup;
        let mut new = Vec::with_capacity(files.len());
        let mut total = 0;
        for file in files {
            let sound = |part: &str| !matches!(part, "" | "." | "..");
            if !folder.starts_with('/') || !file.path.split('/').all(sound) {
                return Ok(Err(invalid("path", format!("{:?} in {folder:?} leads elsewhere", file.path))));
            }
            let content = match file.content {
                api::Content::Bytes(bytes) if bytes.len() > FILE_BYTES => {
                    return Ok(Err(invalid("content", format!("is longer than {FILE_BYTES} bytes"))));
                }
                api::Content::Bytes(bytes) => Content::Bytes(bytes),
                api::Content::Snapshot(snapshot) => {
                    let snapshot = self.table.get(&snapshot)?;
                    purpose = Purpose::Work;
                    total += snapshot.size();
                    match snapshot.reader() {
                        Ok(reader) => Content::File(reader, snapshot.size()),
                        Err(error) => {
                            return Ok(Err(wit::Error::Other(format!("reading the snapshot: {error}"))));
                        }
                    }
                }
            };
            new.push(NewFile { path: file.path, content });
        }
        let progress = self.environment.as_ref().map(|environment| environment.progress().clone());
        let sum = AtomicU64::new(0);
        let moved = Box::new(move |bytes: u64| {
            let current = sum.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if let Some(progress) = &progress {
                progress.report(Progress::Snapshot { current, total });
            }
        });
        Ok(Ok(Outgoing { files: new, purpose, moved }))
    }

    /// Makes room for an RDB file; what is written to the sink is checked as it passes by.
    pub(super) fn incoming(
        &self,
        progress: SharedProgress,
    ) -> Result<(Receiving, Box<dyn Write + Send>), wit::Error> {
        let (incoming, writer) = Incoming::new(&self.scratch)
            .map_err(|error| wit::Error::Other(format!("{}: {error}", self.scratch.display())))?;
        Ok((Receiving(incoming), Box::new(Reporting { inner: writer, written: 0, progress })))
    }

    /// The snapshot that came in, if it is whole.
    pub(super) fn received(&self, what: &str, receiving: Receiving) -> Result<Snapshot, wit::Error> {
        let snapshot =
            receiving.0.finish().map_err(|damage| wit::Error::Corrupt(format!("{what}: {damage}")))?;
        // A file that was cut off after eight zero bytes can look like one that was written without.
        if self.kind == OperationKind::Snapshot && snapshot.info.checksum.is_none() {
            return Err(wit::Error::Corrupt(format!("{what}: it carries no checksum")));
        }
        Ok(snapshot)
    }
}

/// Keeps the bytes of a small file.
#[derive(Clone)]
pub(super) struct Small {
    bytes: Arc<Mutex<Vec<u8>>>,
    limit: usize,
}

impl Small {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Arc::default(), limit }
    }

    pub(super) fn sink(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }

    /// What was read, unless there was more than the limit or reading failed.
    pub(super) fn taken(self, path: &str, read: Result<u64, wit::Error>) -> Result<Vec<u8>, wit::Error> {
        let bytes = std::mem::take(&mut *self.bytes.lock());
        match read {
            Err(_) if bytes.len() > self.limit => {
                Err(invalid("path", format!("{path:?} is larger than {} bytes", self.limit)))
            }
            Err(error) => Err(error),
            Ok(_) => Ok(bytes),
        }
    }
}

/// Takes up to one byte more than the limit, which tells that there was more.
impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut kept = self.bytes.lock();
        let room = (self.limit + 1).saturating_sub(kept.len());
        let count = bytes.len().min(room);
        kept.extend_from_slice(&bytes[..count]);
        if kept.len() > self.limit { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tells the progress of what is written through it.
struct Reporting<W> {
    inner: W,
    written: u64,
    progress: SharedProgress,
}

impl<W: Write> Write for Reporting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.written += count as u64;
        self.progress.report(Progress::Snapshot { current: self.written, total: 0 });
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
