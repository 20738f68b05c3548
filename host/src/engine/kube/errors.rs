//! What the API server said, or why it said nothing, as [`EngineError`].

use std::error::Error as _;

use kube::client::AuthError;
use kube::core::Status;
use kube::{Error, runtime};

use crate::engine::EngineError;

/// For an object that the request was about.
pub(super) fn engine_error(object: &str, error: Error) -> EngineError {
    let object = object.to_owned();
    match error {
        Error::Api(status) => refusal(object, &status),
        Error::Service(ref cause) if cause.is::<AuthError>() => {
            EngineError::Failed { object, message: chain(&error) }
        }
        Error::Service(_) | Error::HyperError(_) | Error::ReadEvents(_) | Error::UpgradeConnection(_) => {
            EngineError::Unavailable { object, message: chain(&error) }
        }
        other => EngineError::Failed { object, message: chain(&other) },
    }
}

/// For an object that was to be created. A server in trouble with its store says 500, and may have written all the same.
pub(super) fn create_error(object: &str, error: Error) -> EngineError {
    match error {
        Error::Api(status) if status.code >= 500 => {
            EngineError::Unavailable { object: object.to_owned(), message: words(&status) }
        }
        other => engine_error(object, other),
    }
}

/// For an object that was watched.
pub(super) fn watch_error(object: &str, error: runtime::watcher::Error) -> EngineError {
    use runtime::watcher::Error as Watch;
    match error {
        Watch::InitialListFailed(error) | Watch::WatchStartFailed(error) | Watch::WatchFailed(error) => {
            engine_error(object, error)
        }
        Watch::WatchError(status) => refusal(object.to_owned(), &status),
        Watch::NoResourceVersion => {
            EngineError::Failed { object: object.to_owned(), message: error.to_string() }
        }
    }
}

fn refusal(object: String, status: &Status) -> EngineError {
    let message = words(status);
    match status.code {
        404 => EngineError::NotFound { object, message },
        409 => EngineError::Conflict { object, message },
        // Whether it did anything, it did not say.
        429 | 502..=504 => EngineError::Unavailable { object, message },
        _ => EngineError::Failed { object, message },
    }
}

/// The API server's own words.
pub(super) fn words(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("status {}", status.code),
        ("", reason) => reason.to_owned(),
        (message, _) => message.to_owned(),
    }
}

/// The cause is what helps: "service error" alone says nothing.
pub(super) fn chain(error: &Error) -> String {
    let mut text = match error {
        Error::Service(cause) => cause.to_string(),
        Error::HyperError(cause) => cause.to_string(),
        other => other.to_string(),
    };
    let mut source = match error {
        Error::Service(cause) => cause.source(),
        Error::HyperError(cause) => cause.source(),
        other => other.source(),
    };
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// `None` for an object that does not exist.
pub(super) fn found<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// That an object under that name is another one, or none.
pub(super) fn gone(object: &str) -> EngineError {
    EngineError::NotFound { object: object.to_owned(), message: "it is gone".to_owned() }
}
