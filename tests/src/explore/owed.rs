//! What data is still owed once the container engine was restarted: none of what a policy kept in engines that ended.

use std::collections::BTreeSet;

use super::Subject;
use crate::corpus::{Action, Step};

/// Of which caches and files nobody knows any more what they hold.
#[derive(Default)]
pub(super) struct Unknown {
    names: BTreeSet<String>,
    restarts: usize,
}

impl Unknown {
    /// The engine was restarted so many times by now, the last time with the caches and files that are `held`. A policy
    /// that promises that data survives a kill owes all of it as before. Returns whether it was not restarted since this
    /// was last said.
    pub(super) fn restarted(
        &mut self,
        subject: &Subject,
        times: usize,
        held: impl FnOnce() -> BTreeSet<String>,
    ) -> bool {
        let none = times == self.restarts;
        if !none && !subject.promises("data-survives-kill") {
            self.names.extend(held());
        }
        self.restarts = times;
        none
    }

    /// A step was done in which it was not restarted.
    pub(super) fn done(&mut self, subject: &Subject, step: &Step) {
        match step.r#do {
            Action::Snapshot if self.names.contains(&step.cache) => {
                self.names.insert(step.file.clone());
            }
            Action::Up if self.names.contains(&step.file) => {
                self.names.insert(step.cache.clone());
            }
            _ if self.is_known_after(subject, step) => {
                self.names.remove(&step.cache);
            }
            _ => {}
        }
    }

    /// Whether what a cache holds after a step does not depend on what it held before.
    fn is_known_after(&self, subject: &Subject, step: &Step) -> bool {
        step.error.is_none()
            && match step.r#do {
                Action::Up => !step.file.is_empty() && !self.names.contains(&step.file),
                Action::RemoveData => true,
                Action::Stop => subject.promises("nothing-survives-stop"),
                Action::Reboot => subject.promises("reboot-empties"),
                _ => false,
            }
    }

    /// Whether a step looks for data that nobody owes.
    pub(super) fn asks_in_vain(&self, step: &Step) -> bool {
        match step.r#do {
            Action::ExpectData => self.names.contains(&step.cache),
            Action::ExpectDataOf => self.names.contains(&step.cache) || self.names.contains(&step.file),
            _ => false,
        }
    }
}
