//! What one operation may use, and who keeps count.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Bounds on one operation of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, at most [`Limits::MAX_MEMORY`].
    pub memory: usize,
    /// Calls of the host.
    pub host_calls: u64,
    /// Computing time, host calls not counted.
    pub guest_time: Duration,
    /// Bytes that one call may hand over.
    pub bytes_per_call: usize,
    /// Fetching one image. It is long and says nothing about the cache, so it does not count towards the
    /// operation's own deadline.
    pub pull: Duration,
    /// Once the operation's deadline has passed, the policy still gets this long to clean up after it;
    /// only calls that stop, remove or look are answered then.
    pub cleanup: Duration,
}

impl Limits {
    /// What the pool of instances sets aside for each.
    pub const MAX_MEMORY: usize = 16 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 8 << 20,
            host_calls: 10_000,
            guest_time: Duration::from_secs(2),
            bytes_per_call: 4 << 20,
            pull: Duration::from_secs(1800),
            cleanup: Duration::from_secs(30),
        }
    }
}

/// Counts memory. A refusal makes the guest trap or fail its allocation; `refused` says which limit it was.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    limit: usize,
    pub(crate) refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.min(Limits::MAX_MEMORY), refused: false }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.limit;
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 100_000)
    }
}
