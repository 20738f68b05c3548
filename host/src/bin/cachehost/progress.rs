//! Progress on a terminal: a bar where bytes are counted, a spinner where there is only waiting.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use elasticache_host::{Progress, ProgressSink};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::Handle;

use crate::failure::one_line;

/// What is over sooner is not worth a flicker.
const SHOWN_AFTER: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

const COUNTING: &str = "{msg} [{bar:30}] {bytes}/{total_bytes}";
const COUNTING_WITHOUT_END: &str = "{spinner} {msg} {bytes}";
const WAITING: &str = "{spinner} {msg}";

/// Draws on stderr whatever was reported last.
pub(crate) struct Bars {
    handle: Handle,
    current: Arc<Mutex<Current>>,
}

#[derive(Default)]
struct Current {
    /// Counts activities, so that one is not shown after it has ended.
    activity: u64,
    latest: Option<Progress>,
    bar: Option<ProgressBar>,
    template: &'static str,
}

impl Bars {
    /// `None` if stderr is not a terminal, or is read by a program.
    pub(crate) fn on_terminal(handle: &Handle, json: bool) -> Option<Self> {
        (!json && io::stderr().is_terminal())
            .then(|| Self { handle: handle.clone(), current: Arc::default() })
    }

    /// Takes away what is shown.
    pub(crate) fn clear(&self) {
        lock(&self.current).end();
    }

    /// Runs `print` with the terminal free for it.
    pub(crate) fn suspended<T>(&self, print: impl FnOnce() -> T) -> T {
        let bar = lock(&self.current).bar.clone();
        match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl ProgressSink for Bars {
    fn report(&self, progress: Progress) {
        let mut current = lock(&self.current);
        if !current.latest.as_ref().is_some_and(|latest| same_activity(latest, &progress)) {
            current.end();
            let activity = current.activity;
            let shared = Arc::clone(&self.current);
            self.handle.spawn(async move {
                tokio::time::sleep(SHOWN_AFTER).await;
                lock(&shared).show(activity);
            });
        }
        current.latest = Some(progress);
        current.draw();
    }
}

impl Current {
    fn end(&mut self) {
        self.activity += 1;
        self.latest = None;
        self.template = "";
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, activity: u64) {
        if self.activity == activity && self.latest.is_some() && self.bar.is_none() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            self.bar = Some(bar);
            self.draw();
        }
    }

    fn draw(&mut self) {
        let (Some(bar), Some(latest)) = (&self.bar, &self.latest) else {
            return;
        };
        let (message, template) = match latest {
            Progress::Pull { image, total, .. } => (format!("fetching {image}"), counting(*total)),
            Progress::Snapshot { total, .. } => ("moving the snapshot".to_owned(), counting(*total)),
            Progress::Waiting { what } => (format!("waiting for {what}"), WAITING),
            // A kind of a later version of the library.
            _ => ("working".to_owned(), WAITING),
        };
        if self.template != template {
            self.template = template;
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
        }
        if let Progress::Pull { current, total, .. } | Progress::Snapshot { current, total } = latest {
            if *total > 0 {
                bar.set_length(*total);
            }
            bar.set_position(*current);
        }
        bar.set_message(one_line(&message));
    }
}

fn counting(total: u64) -> &'static str {
    if total > 0 { COUNTING } else { COUNTING_WITHOUT_END }
}

fn same_activity(one: &Progress, other: &Progress) -> bool {
    match (one, other) {
        (Progress::Pull { image: one, .. }, Progress::Pull { image: other, .. }) => one == other,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

/// A panic elsewhere is no reason to stop drawing.
fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
