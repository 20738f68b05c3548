//! How many calls of the host were made: each operation traces its number when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The field that carries the number.
const FIELD: &str = "host_calls";

/// Clones count together.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// From here on what is traced anywhere is counted.
    pub fn begin(&self) -> Result<()> {
        Ok(tracing::subscriber::set_global_default(self.clone())?)
    }

    pub fn calls(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Visit for &Count {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == FIELD {
            self.0.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Count {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.fields().field(FIELD).is_some()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut visitor = self;
        event.record(&mut visitor);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
