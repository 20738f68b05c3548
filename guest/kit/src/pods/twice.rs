//! What is asked of the cluster more than once, where nothing came back: watches, creates and deletions.

use crate::bindings::fakecloud::elasticache::kube::{Pod, PodInfo};
use crate::bindings::fakecloud::elasticache::types::Error;

/// Milliseconds for a pod to be scheduled, its image fetched and its container started.
const RUNNING_WITHIN: u32 = 600_000;
/// Milliseconds after which a watch from which nothing was heard is taken anew.
const WATCHED_WITHIN: u32 = 120_000;

/// Wait, by one watch after another: from one that broke off unnoticed nothing comes. The host's supplier takes a watch
/// again that it sees break off; a call to it from which nothing comes back, whoever supplies the cluster, is for whoever
/// made it to give up.
pub(super) fn watched(wait: impl Fn(u32) -> Result<PodInfo, Error>) -> Result<PodInfo, Error> {
    for _ in 1..RUNNING_WITHIN / WATCHED_WITHIN {
        match wait(WATCHED_WITHIN) {
            Err(Error::Timeout(_)) => {}
            other => return other,
        }
    }
    wait(WATCHED_WITHIN)
}

/// Create an object, once more where the first attempt had no answer and nothing is there. Whether what is there is what
/// was wanted, its mark says.
pub(super) fn made<T>(
    create: impl Fn() -> Result<T, Error>,
    find: impl Fn() -> Result<Option<T>, Error>,
    is_ours: impl Fn(&T) -> bool,
) -> Result<T, Error> {
    let mut again = true;
    loop {
        let error = match create() {
            Err(error @ (Error::Timeout(_) | Error::Unavailable(_) | Error::Conflict(_))) => error,
            other => return other,
        };
        match find()? {
            Some(found) if is_ours(&found) => return Ok(found),
            // Should the first attempt be carried out after all, this one finds the name taken, by ourselves.
            None if again && !matches!(error, Error::Conflict(_)) => again = false,
            _ => return Err(error),
        }
    }
}

/// Delete a pod, once more where the request did not get there. One that is on its way out, and that nothing more was
/// heard of, is not waited for any longer.
pub(super) fn delete(pod: &Pod, grace: u32) -> Result<(), Error> {
    match pod.delete(grace) {
        Err(error @ (Error::Timeout(_) | Error::Unavailable(_))) => match pod.refresh() {
            Err(Error::NotFound(_)) => Ok(()),
            Ok(info) if !info.terminating => pod.delete(grace),
            _ => Err(error),
        },
        other => other,
    }
}
