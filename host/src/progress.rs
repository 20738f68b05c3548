//! How long work reports what it is doing.

use std::sync::Arc;

/// Something that takes long enough for a person to wonder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// An image is being fetched. Bytes so far and in all, over the layers known by now.
    Pull {
        /// Its name.
        image: String,
        /// Bytes fetched.
        current: u64,
        /// Bytes in all, 0 while unknown.
        total: u64,
    },
    /// Waiting for an engine to answer.
    Waiting {
        /// What for.
        what: String,
    },
    /// A snapshot is being read out of a cache or put into one.
    Snapshot {
        /// Bytes moved.
        current: u64,
        /// Bytes in all, 0 while unknown.
        total: u64,
    },
}

/// Receives [`Progress`], from any task, often: return quickly.
pub trait ProgressSink: Send + Sync {
    /// Called at each step.
    fn report(&self, progress: Progress);
}

/// A shared sink; [`silent`] for none.
pub type SharedProgress = Arc<dyn ProgressSink>;

struct Silent;

impl ProgressSink for Silent {
    fn report(&self, _: Progress) {}
}

/// A sink that drops everything.
pub fn silent() -> SharedProgress {
    Arc::new(Silent)
}
