//! What calls hand over and take away, alike for containers and pods: files, logs, and labels to choose by.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};

use elasticache_host::engine::{Content, EngineError, NewFile};

use super::disk::{self, Disk};
use super::errors::{failed, io_error, not_found};

/// How many bytes are moved, and reported, at once.
const CHUNK: usize = 64 * 1024;
const LOG_TAIL_BYTES: usize = 4096;

pub(super) fn has_all(labels: &BTreeMap<String, String>, wanted: &[(&str, &str)]) -> bool {
    wanted.iter().all(|(key, value)| labels.get(*key).is_some_and(|has| value.is_empty() || has == value))
}

pub(super) fn normal(path: &str) -> Result<String, EngineError> {
    disk::normal(path).ok_or_else(|| failed(path, "the path leaves the container"))
}

/// All of a file's bytes, read here since nothing of an engine may wait while others are locked out.
pub(super) fn bytes_of(file: NewFile, moved: &(dyn Fn(u64) + Send)) -> Result<Vec<u8>, EngineError> {
    let (mut source, length) = match file.content {
        Content::Bytes(bytes) => {
            moved(bytes.len() as u64);
            return Ok(bytes);
        }
        Content::File(source, length) => (source, length),
    };
    let fail = |error: std::io::Error| io_error(&file.path, &error);
    source.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut source = source.take(length);
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        match source.read(&mut chunk).map_err(fail)? {
            0 if (bytes.len() as u64) < length => return Err(fail(std::io::ErrorKind::UnexpectedEof.into())),
            0 => return Ok(bytes),
            count => {
                bytes.extend_from_slice(&chunk[..count]);
                moved(count as u64);
            }
        }
    }
}

/// A regular file's bytes, by a normal path.
pub(super) fn read(disk: &mut Disk<'_>, path: &str) -> Result<Vec<u8>, EngineError> {
    match disk.stat(path) {
        Some(info) if info.directory => Err(failed(path, "is a folder")),
        _ => disk.read(path).ok_or_else(|| not_found(path, "no such file in the container")),
    }
}

/// Hands a file's bytes over; returns how many.
pub(super) fn send(path: &str, bytes: &[u8], mut sink: Box<dyn Write + Send>) -> Result<u64, EngineError> {
    for chunk in bytes.chunks(CHUNK) {
        sink.write_all(chunk).map_err(|error| io_error(path, &error))?;
    }
    sink.flush().map_err(|error| io_error(path, &error))?;
    Ok(bytes.len() as u64)
}

/// The last lines, as many as there is room for.
pub(super) fn tail(log: &[String], lines: u32) -> String {
    let mut room = LOG_TAIL_BYTES;
    let fits = |line: &&String| {
        let rest = room.checked_sub(line.len() + 1);
        room = rest.unwrap_or(0);
        rest.is_some()
    };
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    let count = log.iter().rev().take(lines).take_while(fits).count();
    log[log.len() - count..].iter().map(|line| format!("{line}\n")).collect()
}
