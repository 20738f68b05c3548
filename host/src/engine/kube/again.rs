//! What is asked again while the API server is busy or the connection breaks, and what is not.

use std::future::Future;
use std::io;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use kube::Error;
use kube::client::AuthError;

/// How long asking again goes on, all pauses together: a restart of an API server is over by then. The caller's
/// deadline may come sooner.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

pub(super) fn pauses() -> ExponentialBuilder {
    let (first, most) = PAUSES;
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(most)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
}

/// For a request that has no effect if it is made twice.
pub(super) async fn again<T, C, F>(call: C) -> Result<T, Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Error>>,
{
    again_if(call, passes).await
}

/// For a request that must not be made twice: repeated only where it certainly did nothing.
pub(super) async fn once<T, C, F>(call: C) -> Result<T, Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Error>>,
{
    again_if(call, did_nothing).await
}

/// Repeated, with pauses, for as long as its error is such a one.
pub(super) async fn again_if<T, C, F>(call: C, such: fn(&Error) -> bool) -> Result<T, Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Error>>,
{
    call.retry(pauses().with_total_delay(Some(PATIENCE))).when(such).adjust(longer_if_told).await
}

/// The server says that it is too busy to look at the request, or nobody is there to take it.
pub(super) fn did_nothing(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code == 429,
        Error::Service(cause) => {
            let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&**cause);
            while let Some(cause) = source {
                if cause
                    .downcast_ref::<io::Error>()
                    .is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
                {
                    return true;
                }
                source = cause.source();
            }
            false
        }
        _ => false,
    }
}

/// Whether the error may well be over at the next attempt.
pub(super) fn passes(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code == 429 || status.code >= 500,
        Error::Service(cause) => !cause.is::<AuthError>(),
        Error::HyperError(_) | Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// A server that says when to come again is not asked sooner. An end of the pauses stays one.
fn longer_if_told(error: &Error, pause: Option<Duration>) -> Option<Duration> {
    let told = match error {
        Error::Api(status) => status.details.as_ref().map(|details| u64::from(details.retry_after_seconds)),
        _ => None,
    };
    let told = told.map(Duration::from_secs).unwrap_or_default().min(PATIENCE);
    pause.map(|pause| pause.max(told))
}
