//! What interrupts a guest that computes without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// Between two epochs: how late an endless loop is noticed.
const EPOCH: Duration = Duration::from_millis(10);

/// Advances an engine's epochs while operations run. A thread of its own, since a guest that computes may
/// hold every worker of an async runtime; asleep while nothing runs.
pub(super) struct Ticker {
    running: Arc<AtomicUsize>,
    thread: Option<Thread>,
}

/// While it lives, epochs advance.
pub(super) struct Ticking<'a>(&'a Ticker);

impl Ticker {
    pub(super) fn start(engine: &Engine) -> Self {
        let running = Arc::new(AtomicUsize::new(0));
        // Weak both: the thread ends once nobody holds the ticker.
        let (weak_engine, weak_running) = (engine.weak(), Arc::downgrade(&running));
        let spawned = thread::Builder::new().name("policy-epochs".to_owned()).spawn(move || {
            while let (Some(running), Some(engine)) = (weak_running.upgrade(), weak_engine.upgrade()) {
                let idle = running.load(Ordering::Acquire) == 0;
                engine.increment_epoch();
                drop((running, engine));
                if idle {
                    thread::park();
                } else {
                    thread::sleep(EPOCH);
                }
            }
        });
        match spawned {
            Ok(handle) => Self { running, thread: Some(handle.thread().clone()) },
            Err(error) => {
                tracing::error!(%error, "no thread for epochs: a policy that loops is not interrupted");
                Self { running, thread: None }
            }
        }
    }

    pub(super) fn tick(&self) -> Ticking<'_> {
        if self.running.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
        Ticking(self)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // It upgrades nothing any more once this is gone, and then ends.
        self.running = Arc::new(AtomicUsize::new(0));
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}
