//! Checking RDB files while they pass by: magic, version, end marker and CRC-64, in constant memory.
//!
//! A server that fails to save leaves an old file or none, and a copy that breaks off leaves half of
//! one. Neither may become somebody's snapshot, so every file is checked here before it is believed.
//!
//! # Format
//! `REDIS` and four digits, or since Valkey 9 `VALKEY` and three; then entries, whose contents are not
//! looked at; then the byte `FF`; then, since version 5, the CRC-64 of all that comes before it, least
//! significant byte first. A server run with `rdbchecksum no` writes 0 in its place.
//!
//! # Caveats
//! Without a checksum ([`RdbInfo::checksum`] is `None`) only the two ends of a file vouch for it. Whoever
//! knows that the server writes checksums, or how long the file should be, does well to compare.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use crc::{CRC_64_REDIS, Crc, Digest, Table};
use parking_lot::Mutex;

mod head;
#[cfg(test)]
mod tests;

use head::Head;

/// What stands before the trailer.
const END_MARKER: u8 = 0xff;
/// Bytes of the checksum.
const TRAILER: usize = 8;
/// Large enough that reading costs next to nothing beside the checksum.
const READ_BYTES: usize = 256 * 1024;

/// Sixteen tables keep up with a disk, where one would not; they take 32 KiB.
static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// What a sound RDB file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdbInfo {
    /// Bytes, checksum included.
    pub size: u64,
    /// The version of the format, as in the file's magic.
    pub rdb_version: u32,
    /// The version of the server that wrote the file, where it says so.
    pub engine_version: Option<String>,
    /// The checksum, found to be right; `None` if the file has none, so that damage within it could not
    /// be seen.
    pub checksum: Option<u64>,
}

/// Why something is not a whole RDB file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RdbError {
    /// There are no bytes.
    #[error("the RDB file is empty")]
    Empty,
    /// It breaks off before it could be whole.
    #[error("the RDB file breaks off at offset {size}; the shortest possible has {least} bytes")]
    TooShort {
        /// Bytes that there are.
        size: u64,
        /// Bytes that the smallest file of its version has.
        least: u64,
    },
    /// It begins with something else.
    #[error("not an RDB file: at offset 0 it has \"{found}\" where \"REDIS\" or \"VALKEY\" belongs")]
    BadMagic {
        /// Its first bytes, escaped.
        found: String,
    },
    /// It begins rightly, and goes on with something that is no version.
    #[error("damaged RDB file: \"{found}\" at offset {offset} is not a version of the format")]
    BadVersion {
        /// Where the version begins.
        offset: u64,
        /// What is there, escaped.
        found: String,
    },
    /// It does not end as an RDB file ends.
    #[error("incomplete RDB file: byte {found:#04x} at offset {offset}, where the end marker 0xff belongs")]
    NoEndMarker {
        /// Where the end marker belongs in a file of this size.
        offset: u64,
        /// What is there.
        found: u8,
    },
    /// Its contents are not those that were written.
    #[error(
        "damaged RDB file: its bytes have the checksum {found:016x}, but at offset {offset} it says \
         {expected:016x}"
    )]
    BadChecksum {
        /// Where the checksum is.
        offset: u64,
        /// What the file says.
        expected: u64,
        /// What its bytes give.
        found: u64,
    },
    /// It could not be read.
    #[error("the RDB file could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Checks one RDB file, given to it piece by piece.
///
/// Takes a few hundred bytes of memory, whatever the size of the file.
#[derive(Clone)]
pub struct RdbCheck {
    size: u64,
    head: Head,
    digest: Digest<'static, u64, Table<16>>,
    /// The last byte that went into `digest`.
    last: u8,
    /// The latest bytes. They may be the checksum, so they are not part of `digest` until more follow.
    tail: [u8; TRAILER],
    tail_len: usize,
}

impl Default for RdbCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl RdbCheck {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            size: 0,
            head: Head::default(),
            digest: CRC.digest(),
            last: 0,
            tail: [0; TRAILER],
            tail_len: 0,
        }
    }

    /// The file goes on with these bytes. How a file is cut into pieces makes no difference.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.head.update(bytes);

        // All but the latest eight of (tail + bytes) go into the digest.
        let ready = (self.tail_len + bytes.len()).saturating_sub(TRAILER);
        let from_tail = ready.min(self.tail_len);
        let (now, later) = bytes.split_at(ready - from_tail);
        self.digest.update(&self.tail[..from_tail]);
        self.digest.update(now);
        if let Some(&last) = now.last().or(self.tail[..from_tail].last()) {
            self.last = last;
        }
        self.tail.copy_within(from_tail..self.tail_len, 0);
        let kept = self.tail_len - from_tail;
        self.tail[kept..kept + later.len()].copy_from_slice(later);
        self.tail_len = kept + later.len();
    }

    /// Whether what was seen so far can still become a sound file: lets a caller give up on a large file
    /// that begins wrongly.
    ///
    /// # Errors
    /// [`RdbError::BadMagic`] or [`RdbError::BadVersion`].
    pub fn plausible(&self) -> Result<(), RdbError> {
        self.head.version().map(|_| ())
    }

    /// The file ends here.
    ///
    /// # Errors
    /// Any [`RdbError`] but [`RdbError::Io`]: whatever makes it not a whole RDB file.
    pub fn finish(self) -> Result<RdbInfo, RdbError> {
        if self.size == 0 {
            return Err(RdbError::Empty);
        }
        let Some(version) = self.head.version()? else {
            let least = (head::MAGIC_BYTES + 1) as u64;
            return Err(RdbError::TooShort { size: self.size, least });
        };
        let trailer = if version.has_checksum() { TRAILER } else { 0 };
        let least = (head::MAGIC_BYTES + 1 + trailer) as u64;
        if self.size < least {
            return Err(RdbError::TooShort { size: self.size, least });
        }
        let offset = self.size - trailer as u64 - 1;
        let found = if version.has_checksum() { self.last } else { self.tail[TRAILER - 1] };
        if found != END_MARKER {
            return Err(RdbError::NoEndMarker { offset, found });
        }
        let checksum = match u64::from_le_bytes(self.tail) {
            _ if !version.has_checksum() => None,
            0 => None,
            expected => {
                let found = self.digest.finalize();
                if expected != found {
                    return Err(RdbError::BadChecksum { offset: offset + 1, expected, found });
                }
                Some(found)
            }
        };
        Ok(RdbInfo {
            size: self.size,
            rdb_version: version.number(),
            engine_version: self.head.engine_version(),
            checksum,
        })
    }
}

/// Checks a file from its start, wherever its position is, and leaves the position at the start.
///
/// # Errors
/// [`RdbError`]; a file that begins wrongly is not read to its end.
pub fn check_file(file: &File) -> Result<RdbInfo, RdbError> {
    let mut reader = file;
    reader.seek(SeekFrom::Start(0))?;
    let checked = check_reader(&mut reader);
    reader.seek(SeekFrom::Start(0))?;
    checked
}

fn check_reader(reader: &mut impl Read) -> Result<RdbInfo, RdbError> {
    let mut check = RdbCheck::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return check.finish(),
            Ok(count) => {
                check.update(&buffer[..count]);
                check.plausible()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Passes on what is written to it, and shows it to an [`RdbCheck`].
///
/// The check is shared, so that it can be finished wherever the writer has gone to:
/// `std::mem::take(&mut *check.lock()).finish()`.
pub struct CheckedWriter<W: Write> {
    inner: W,
    check: Arc<Mutex<RdbCheck>>,
}

impl<W: Write> CheckedWriter<W> {
    /// Writes to `inner`, and shows `check` each byte that `inner` took.
    pub fn new(inner: W, check: Arc<Mutex<RdbCheck>>) -> Self {
        Self { inner, check }
    }

    /// The writer within, to sync or close it.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for CheckedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        // A writer may take fewer bytes than it was given; the rest will come again.
        self.check.lock().update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
