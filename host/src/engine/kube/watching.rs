//! Waiting is watching: until a pod has come far enough, or an object is gone.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1 as k8s;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Error as WatchError, ExponentialBackoff, watch_object};
use kube::{Api, Error, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::again::{passes, pauses};
use super::errors::{gone, watch_error};
use super::observed::{self, Outlook};
use super::programs;
use crate::engine::EngineError;
use crate::engine::cluster::{ObjectId, PodGoal};

/// Lines of its log that a server's end is reported with.
const WORDS_LINES: u32 = 5;
/// How long those are waited for: what is known is worth more.
const WORDS_WITHIN: Duration = Duration::from_secs(5);

/// What an observer makes of an object: `None` goes on watching.
type Verdict<T> = Option<Result<T, EngineError>>;

/// Watches until `judge` comes to a verdict. It is asked about each observation, with `None` for an object that is
/// gone, and once more when the time has come that it named, with the last observation.
async fn watch<K, T>(
    api: &Api<K>,
    id: &ObjectId,
    mut judge: impl FnMut(Option<K>, &mut Option<Instant>) -> Verdict<T>,
) -> Result<T, EngineError>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut last: Option<K> = None;
    let mut alarm: Option<Instant> = None;
    loop {
        let mut objects =
            pin!(watch_object(api.clone(), &id.name).backoff(ExponentialBackoff::from(pauses())));
        loop {
            let next = match alarm {
                Some(at) => timeout_at(at, objects.next()).await,
                None => Ok(objects.next().await),
            };
            let seen = match next {
                Ok(Some(Ok(seen))) => seen.filter(|one| one.meta().uid.as_ref() == Some(&id.uid)),
                Ok(Some(Err(error))) if goes_on(&error) => continue,
                // Too old to go on from, said in a way that the watcher does not take for it: it starts anew.
                Ok(Some(Err(WatchError::WatchStartFailed(Error::Api(status))))) if status.code == 410 => {
                    break;
                }
                Ok(Some(Err(error))) => return Err(watch_error(&id.name, error)),
                Ok(None) => break,
                Err(_) => last.clone(),
            };
            last.clone_from(&seen);
            if let Some(verdict) = judge(seen, &mut alarm) {
                return verdict;
            }
        }
        tokio::time::sleep(pause()).await;
    }
}

/// Before a watch is begun anew.
fn pause() -> Duration {
    use backon::BackoffBuilder as _;
    pauses().build().next().unwrap_or_default()
}

/// Whether the watcher, after a pause, can go on where it was.
fn goes_on(error: &WatchError) -> bool {
    match error {
        WatchError::InitialListFailed(error)
        | WatchError::WatchStartFailed(error)
        | WatchError::WatchFailed(error) => passes(error),
        // Also that what it had seen is too old: then it lists again by itself.
        WatchError::WatchError(status) => !matches!(status.code, 401 | 403 | 404),
        WatchError::NoResourceVersion => false,
    }
}

/// Until the pod has come that far.
pub(super) async fn until(
    pods: &Api<k8s::Pod>,
    id: &ObjectId,
    goal: PodGoal,
) -> Result<k8s::Pod, EngineError> {
    let failed = |message: String| Some(Err(EngineError::Failed { object: id.name.clone(), message }));
    let (mut doubt, mut spoke) = (None, false);
    let came = watch(pods, id, |seen, alarm| {
        let Some(pod) = seen else { return Some(Err(gone(&id.name))) };
        if goal == PodGoal::Ended {
            return observed::has_ended(&pod).then_some(Ok(pod));
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return failed("it is being deleted".to_owned());
        }
        let there = match goal {
            PodGoal::Staging => observed::is_staging(&pod),
            PodGoal::Running => observed::is_running(&pod),
            PodGoal::Ended => observed::has_ended(&pod),
        };
        if there {
            return Some(Ok(pod));
        }
        match observed::outlook(&pod) {
            Outlook::Hopeless(message) => {
                spoke = observed::server_has_ended(&pod);
                failed(message)
            }
            Outlook::Doubtful(message, patience) => {
                // Another doubt has a time of its own.
                if doubt.replace(patience) != Some(patience) {
                    *alarm = None;
                }
                let at = *alarm.get_or_insert_with(|| Instant::now() + patience);
                if Instant::now() >= at { failed(message) } else { None }
            }
            Outlook::Open if goal == PodGoal::Staging && observed::is_released(&pod) => {
                failed("its server was let go already".to_owned())
            }
            Outlook::Open => {
                (*alarm, doubt) = (None, None);
                None
            }
        }
    })
    .await;
    match came {
        Err(EngineError::Failed { object, message }) if spoke => {
            let message = format!("{message}{}", last_words(pods, id).await);
            Err(EngineError::Failed { object, message })
        }
        came => came,
    }
}

/// What a server that ended wrote at last, as the end of a sentence; nothing if that cannot be had soon.
async fn last_words(pods: &Api<k8s::Pod>, id: &ObjectId) -> String {
    let read = tokio::time::timeout(WORDS_WITHIN, programs::log_tail(pods, id, WORDS_LINES)).await;
    match read.ok().and_then(Result::ok).as_deref().map(str::trim) {
        None | Some("") => String::new(),
        Some(words) => format!("; its last words: {}", words.replace('\n', " | ")),
    }
}

/// Until the pod's server has been let go; false if its stage ended otherwise or does not end within that time.
pub(super) async fn until_released(pods: &Api<k8s::Pod>, id: &ObjectId, within: Duration) -> bool {
    let released = watch(pods, id, |seen, _| match seen {
        Some(pod) if observed::is_released(&pod) => Some(Ok(true)),
        Some(pod) if observed::outlook(&pod) == Outlook::Open => None,
        _ => Some(Ok(false)),
    });
    matches!(tokio::time::timeout(within, released).await, Ok(Ok(true)))
}

/// Until no object of that uid is there.
pub(super) async fn until_gone<K>(api: &Api<K>, id: &ObjectId) -> Result<(), EngineError>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch(api, id, |seen, _| seen.is_none().then_some(Ok(()))).await
}
