//! Errors of engines and clusters, in few words.

use elasticache_host::engine::EngineError;

pub(super) fn not_found(object: &str, message: impl Into<String>) -> EngineError {
    EngineError::NotFound { object: object.to_owned(), message: message.into() }
}

pub(super) fn conflict(object: &str, message: impl Into<String>) -> EngineError {
    EngineError::Conflict { object: object.to_owned(), message: message.into() }
}

pub(super) fn failed(object: &str, message: impl Into<String>) -> EngineError {
    EngineError::Failed { object: object.to_owned(), message: message.into() }
}

pub(super) fn io_error(object: &str, error: &std::io::Error) -> EngineError {
    EngineError::Io { object: object.to_owned(), message: error.to_string() }
}
