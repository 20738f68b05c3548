//! RDB files in the host's keeping: to restore from, or just read out of a cache.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::NamedTempFile;

use crate::error::{Error, InvalidInput};
use crate::rdb::{self, CheckedWriter, RdbCheck, RdbError, RdbInfo};
use crate::types::SnapshotInfo;

/// An RDB file that passed its check.
#[derive(Debug)]
pub struct Snapshot {
    source: Source,
    pub(crate) info: RdbInfo,
}

#[derive(Debug)]
enum Source {
    /// The caller's own.
    Caller(File),
    /// Ours until it is published under its final name.
    Temporary(NamedTempFile),
}

impl Snapshot {
    /// Opens and checks a file to restore from.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Invalid`] if it is no whole RDB file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::File { path: path.to_owned(), source };
        let file = open_regular(path)?;
        match rdb::check_file(&file) {
            Ok(info) => Ok(Self { source: Source::Caller(file), info }),
            Err(RdbError::Io(source)) => Err(unreadable(source)),
            Err(damage) => Err(InvalidInput::new(
                path.display().to_string(),
                format!("is no whole RDB file: {damage}; nothing was changed"),
            )
            .into()),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.info.size
    }

    /// Another handle on its bytes, at their start.
    pub(crate) fn reader(&self) -> io::Result<File> {
        use std::io::Seek;
        let mut file = match &self.source {
            Source::Caller(file) => file.try_clone()?,
            // Opened again: a clone would share its position with the one that writes.
            Source::Temporary(file) => file.reopen()?,
        };
        file.rewind()?;
        Ok(file)
    }

    /// Gives it its final name, in one step, on disk before this returns.
    pub(crate) fn publish(self, path: &Path) -> Result<SnapshotInfo, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let Source::Temporary(file) = self.source else {
            return Err(Error::Other {
                message: format!("{}: the policy returned the caller's own file", path.display()),
            });
        };
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        // The name too must survive a crash of the machine.
        File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(SnapshotInfo {
            path: path.to_owned(),
            size: self.info.size,
            rdb_version: self.info.rdb_version,
            engine_version: self.info.engine_version,
        })
    }
}

/// Opens a regular file. Anything else could be without an end, or wait for somebody to write to it.
pub(crate) fn open_regular(path: &Path) -> Result<File, Error> {
    let unreadable = |source| Error::File { path: path.to_owned(), source };
    let kind = path.metadata().map_err(unreadable)?;
    if kind.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    if !kind.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file")));
    }
    File::open(path).map_err(unreadable)
}

/// The folder in which a file of that name lies.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// How the names of temporary files begin and end.
const TEMPORARY: (&str, &str) = (".snapshot-", ".tmp");

/// Makes a temporary file that is locked for as long as anybody has it open: that tells it from one whose
/// process was killed and could not remove it.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new().prefix(TEMPORARY.0).suffix(TEMPORARY.1).tempfile_in(folder)?;
        match file.as_file().try_lock() {
            // Not every file system has locks. Where this one has none, nothing is ever taken for left.
            Err(fs::TryLockError::Error(_)) => return Ok(file),
            // Between its making and its locking somebody may have taken it for left behind.
            Ok(()) if is_at(file.as_file(), file.path()) => return Ok(file),
            Ok(()) | Err(fs::TryLockError::WouldBlock) => {}
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|m| (m.dev(), m.ino()));
    let opened = identity(file.metadata());
    opened.is_some() && opened == identity(path.symlink_metadata())
}

/// Removes temporary files of processes that were killed. What cannot be removed is left for the next time.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours =
            name.to_str().is_some_and(|name| name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
            && is_at(&file, &entry.path())
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "a temporary file was left");
        }
    }
}

/// A snapshot being received: a temporary file beside its future name, checked as it is written.
pub(crate) struct Incoming {
    file: NamedTempFile,
    check: Arc<Mutex<RdbCheck>>,
}

impl Incoming {
    /// In `folder`, so that the last step can be a rename.
    pub(crate) fn new(folder: &Path) -> io::Result<(Self, CheckedWriter<File>)> {
        remove_abandoned(folder);
        let file = temporary(folder)?;
        let check = Arc::new(Mutex::new(RdbCheck::new()));
        let writer = CheckedWriter::new(file.as_file().try_clone()?, Arc::clone(&check));
        Ok((Self { file, check }, writer))
    }

    /// What was received, if all of it is sound.
    pub(crate) fn finish(self) -> Result<Snapshot, RdbError> {
        let check = std::mem::take(&mut *self.check.lock());
        let info = check.finish()?;
        Ok(Snapshot { source: Source::Temporary(self.file), info })
    }
}
