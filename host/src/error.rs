//! What can go wrong, in the words of whoever has to mend it.

use std::path::PathBuf;
use std::time::Duration;

/// Input that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidInput {
    /// Which part of the input.
    pub field: String,
    /// What is wrong with it and what would be right, as the rest of a sentence that begins with the
    /// field's name.
    pub reason: String,
}

impl InvalidInput {
    /// Joins the two.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Why an operation on a cache did not succeed.
///
/// Each says what happened, to which object, and where it can be told, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's input is at fault; nothing was changed.
    #[error("{0}")]
    Invalid(#[from] InvalidInput),
    /// There is no such cache.
    #[error("{what}: not found")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The name is taken, or the object is in a state that does not allow the operation.
    #[error("{what}")]
    Conflict {
        /// What is in the way.
        what: String,
    },
    /// No container engine, or one that stopped answering.
    #[error("{message}")]
    Unavailable {
        /// What was tried and what came of it.
        message: String,
    },
    /// The host refused what the policy asked for.
    #[error("refused: {what} (allowed only by: {grant})")]
    Denied {
        /// What was refused, on which object.
        what: String,
        /// What would allow it.
        grant: String,
    },
    /// No answer in time.
    #[error("no answer in time: {what}")]
    Timeout {
        /// What was waited for.
        what: String,
    },
    /// The container engine, or the cache's engine, replied with an error.
    #[error("{message}")]
    Engine {
        /// Its own words.
        message: String,
    },
    /// Data failed its check.
    #[error("damaged data: {what}")]
    Corrupt {
        /// What, and where.
        what: String,
    },
    /// A file of the caller's could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The policy component cannot be used.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    /// The environment's manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] crate::manifest::ManifestError),
    /// The policy broke off, or had to be stopped.
    #[error("policy {policy}: {fault}")]
    Fault {
        /// Its file.
        policy: String,
        /// How it ended.
        fault: Fault,
    },
    /// Anything else.
    #[error("{message}")]
    Other {
        /// What happened.
        message: String,
    },
}

/// How a policy's call ended when it did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// It computed for too long without returning.
    #[error("used up its {0:?} of computing time")]
    GuestTime(Duration),
    /// It asked the host for too much.
    #[error("made more than {0} calls of the host")]
    HostCalls(u64),
    /// It wanted more memory than it may have.
    #[error("wanted more than its {0} bytes of memory")]
    Memory(usize),
    /// It wanted larger tables than it may have.
    #[error("wanted more than its {0} elements of tables")]
    Tables(usize),
    /// It consists of more core modules than it may.
    #[error("consists of more than {0} core instances")]
    Instances(usize),
    /// It held on to too many objects.
    #[error("held more than {0} handles at once")]
    Handles(usize),
    /// It logged or printed too much.
    #[error("logged or printed more than {0} bytes")]
    Logs(usize),
    /// It handed over more than the host takes.
    #[error("handed over more than the {limit} bytes that {what} may have")]
    Oversized {
        /// What it was that handed over too much: one call, or all of them.
        what: String,
        /// Bytes.
        limit: usize,
    },
    /// It did not come to an end within the operation's deadline and the time for cleaning up after it.
    #[error("did not end within {0:?}")]
    Deadline(Duration),
}

impl Error {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Invalid(_) => "invalid",
            Error::NotFound { .. } => "not-found",
            Error::Conflict { .. } => "conflict",
            Error::Unavailable { .. } => "unavailable",
            Error::Denied { .. } => "denied",
            Error::Timeout { .. } => "timeout",
            Error::Engine { .. } => "engine-error",
            Error::Corrupt { .. } => "corrupt",
            Error::File { .. } => "file",
            Error::Policy(_) => "policy",
            Error::Manifest(_) => "environment",
            Error::Fault { .. } => "policy-fault",
            Error::Other { .. } => "other",
        }
    }
}
