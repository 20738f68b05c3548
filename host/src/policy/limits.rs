//! What one operation may use, and who keeps count.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use wasmtime::ResourceLimiter;

use crate::error::Fault;

/// Bounds on one operation of a policy. In a manifest sizes are written like `"8 MiB"` or as a number of bytes,
/// times like `"2 s"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Bytes of linear memory, all memories of the component together; at most [`Limits::MAX_MEMORY`].
    #[serde(deserialize_with = "memory")]
    pub memory: usize,
    /// Elements of all tables together; at most [`Limits::MAX_TABLES`].
    pub tables: usize,
    /// Core instances that the component consists of.
    pub instances: usize,
    /// Computing time, host calls not counted. Waiting for one of WASI's clocks counts.
    #[serde(deserialize_with = "time")]
    pub guest_time: Duration,
    /// Calls of the host.
    pub host_calls: u64,
    /// Bytes that one call may hand over.
    #[serde(deserialize_with = "size")]
    pub bytes_per_call: usize,
    /// Bytes that all calls together may hand over, and that programs run inside of containers may print.
    #[serde(deserialize_with = "size")]
    pub bytes_total: usize,
    /// Objects held at once: containers, volumes, snapshots, outputs.
    pub handles: usize,
    /// Bytes of log lines, of standard output and of standard error together.
    #[serde(deserialize_with = "size")]
    pub log_bytes: usize,
    /// The whole operation, from begin to end.
    #[serde(deserialize_with = "time")]
    pub wall_time: Duration,
    /// Fetching one image. It is long and says nothing about the cache, so it does not count towards the
    /// operation's own deadline.
    #[serde(deserialize_with = "time")]
    pub pull: Duration,
    /// Once the operation's deadline has passed, the policy still gets this long to clean up after it, but less
    /// than the operation itself had; only calls that stop, remove or look are answered then.
    #[serde(deserialize_with = "time")]
    pub cleanup: Duration,
}

impl Limits {
    /// What the pool of instances can give to one memory.
    pub const MAX_MEMORY: usize = 128 << 20;
    /// What the pool of instances can give to one table.
    pub const MAX_TABLES: usize = 100_000;
    /// As good as without an end, and no clock runs over.
    const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    /// With times that can be added to the present one, and with cleaning up shorter than the operation itself, so
    /// that all of it has ended within twice the operation's time, if that is 10 s or more.
    pub(crate) fn within_a_clock(mut self) -> Self {
        for time in [&mut self.wall_time, &mut self.pull, &mut self.cleanup, &mut self.guest_time] {
            *time = (*time).min(Self::MAX_TIME);
        }
        self.cleanup = self.cleanup.min(self.wall_time * 9 / 10);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 8 << 20,
            tables: Self::MAX_TABLES,
            instances: 100,
            guest_time: Duration::from_secs(2),
            host_calls: 10_000,
            bytes_per_call: 4 << 20,
            bytes_total: 32 << 20,
            handles: 4_096,
            log_bytes: 256 << 10,
            wall_time: Duration::from_secs(600),
            pull: Duration::from_secs(1800),
            cleanup: Duration::from_secs(30),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size is a number of bytes, or written like \"8 MiB\"")]
enum Size {
    Bytes(u64),
    Text(String),
}

/// Bytes, as people write them; what is wrong with it otherwise.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(format!("{text:?} is no size; write it like \"8 MiB\" or as a number of bytes")),
    }
}

/// A size in a manifest.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) => Ok(bytes),
        Size::Text(text) => parse_bytes(&text).map_err(de::Error::custom),
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::try_from(bytes(deserializer)?).map_err(de::Error::custom)
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = size(deserializer)?;
    if bytes > Limits::MAX_MEMORY {
        let most = Limits::MAX_MEMORY >> 20;
        return Err(de::Error::custom(format!("a policy may be given at most {most} MiB of memory")));
    }
    Ok(bytes)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent, expecting = "a time is written like \"2 s\" or \"10 min\"")]
    struct Time(String);

    let wrong = |text: &str| format!("{text} is no time; write it like \"2 s\" or \"10 min\"");
    let Time(text) =
        Time::deserialize(deserializer).map_err(|error| de::Error::custom(wrong(&error.to_string())))?;
    humantime::parse_duration(&text).map_err(|_| de::Error::custom(wrong(&format!("{text:?}"))))
}

/// Counts what instances take of the store. A refusal makes the guest trap or fail its allocation; `refused` says
/// which limit it was.
#[derive(Debug)]
pub(crate) struct StoreLimit {
    memory: usize,
    memory_used: usize,
    tables: usize,
    tables_used: usize,
    instances: usize,
    pub(crate) refused: Option<Fault>,
}

impl StoreLimit {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: limits.memory.min(Limits::MAX_MEMORY),
            memory_used: 0,
            tables: limits.tables,
            tables_used: 0,
            instances: limits.instances,
            refused: None,
        }
    }
}

/// Whether growth from `current` to `desired` keeps the sum of all within `limit`; if so it is added.
fn grow(used: &mut usize, current: usize, desired: usize, limit: usize) -> bool {
    let sum = used.saturating_add(desired.saturating_sub(current));
    let fits = sum <= limit;
    if fits {
        *used = sum;
    }
    fits
}

impl ResourceLimiter for StoreLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = grow(&mut self.memory_used, current, desired, self.memory);
        if !fits {
            self.refused = Some(Fault::Memory(self.memory));
        }
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = grow(&mut self.tables_used, current, desired, self.tables);
        if !fits {
            self.refused = Some(Fault::Tables(self.tables));
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.instances
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn all_memories_and_all_tables_count_together() {
        let limits = Limits { memory: 100, tables: 10, ..Limits::default() };
        let mut store = StoreLimit::new(&limits);
        assert!(store.memory_growing(0, 60, None).unwrap());
        assert!(store.memory_growing(60, 80, None).unwrap());
        assert!(!store.memory_growing(0, 30, None).unwrap(), "a second memory");
        assert_eq!(store.refused, Some(Fault::Memory(100)));
        assert!(store.memory_growing(0, 20, None).unwrap());
        assert!(store.table_growing(0, 10, None).unwrap());
        assert!(!store.table_growing(10, 11, None).unwrap());
        assert_eq!(store.refused, Some(Fault::Tables(10)));
    }
}
