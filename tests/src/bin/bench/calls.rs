//! How often an operation calls the host: the host says so itself, in its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Calls of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    /// All that the host counts.
    pub(crate) all: u64,
    /// Those that wait for an engine.
    pub(crate) engine: u64,
}

#[derive(Default)]
struct Counts {
    all: AtomicU64,
    engine: AtomicU64,
}

/// Listens for the two events that the host writes of its calls.
struct Listener(Arc<Counts>);

struct Fields<'c>(&'c Counts);

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "host_calls" {
            self.0.all.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn record_f64(&mut self, field: &Field, _: f64) {
        // How long one call took.
        if field.name() == "ms" {
            self.0.engine.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("elasticache_host")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(&self.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Does something in this thread, and counts the calls that it leads to here.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, Calls) {
    let counts = Arc::new(Counts::default());
    let outcome = tracing::subscriber::with_default(Listener(Arc::clone(&counts)), work);
    let calls =
        Calls { all: counts.all.load(Ordering::Relaxed), engine: counts.engine.load(Ordering::Relaxed) };
    (outcome, calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_own_words_are_counted() {
        let ((), calls) = counted(|| {
            tracing::debug!(target: "elasticache_host::capabilities", ms = 1.5, "host call");
            tracing::debug!(target: "elasticache_host::capabilities", ms = 0.5, "host call");
            tracing::debug!(target: "elasticache_host::policy", host_calls = 9u64, "operation ended");
            tracing::debug!(target: "somebody_else", ms = 0.5, "another call");
        });
        assert_eq!(calls, Calls { all: 9, engine: 2 });
    }
}
