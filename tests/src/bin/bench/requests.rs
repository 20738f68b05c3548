//! Which requests are sent to a Kubernetes API server: its client says so itself, in a span for each.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// How many of each kind: `get`, `list`, `watch`, `create`...
pub(crate) type Requests = BTreeMap<String, u64>;

static SENT: Mutex<Requests> = Mutex::new(Requests::new());

/// Where the client's spans come from, what they are called, and which field has the kind.
const TARGET: &str = "kube_client";
const SPAN: &str = "HTTP";
const KIND: &str = "otel.name";

/// Listens for requests, and for nothing else, so that it slows nothing else down.
struct Listener;

struct Kind(Option<String>);

impl Visit for Kind {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == KIND {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == SPAN && metadata.target().starts_with(TARGET)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut kind = Kind(None);
        span.record(&mut kind);
        if let Ok(mut sent) = SENT.lock() {
            *sent.entry(kind.0.unwrap_or_else(|| "of no kind".to_owned())).or_default() += 1;
        }
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Begins to count, in all threads: the client sends from tasks of its own.
pub(crate) fn listen() -> Result<()> {
    tracing::subscriber::set_global_default(Listener).context("somebody else listens to the log")
}

/// What was sent since the last look.
pub(crate) fn sent() -> Requests {
    SENT.lock().map(|mut sent| std::mem::take(&mut *sent)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_s_own_words_are_counted() {
        tracing::subscriber::with_default(Listener, || {
            tracing::debug_span!(target: "kube_client::client::builder", "HTTP", otel.name = "list");
            tracing::debug_span!(target: "kube_client::client::builder", "HTTP", otel.name = &"list");
            tracing::debug_span!(target: "kube_client::client::builder", "waiting", otel.name = "list");
            tracing::debug_span!(target: "somebody_else", "HTTP", otel.name = "get");
        });
        assert_eq!(sent(), Requests::from([("list".to_owned(), 2)]));
        assert_eq!(sent(), Requests::new());
    }
}
