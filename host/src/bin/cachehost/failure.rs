//! How a command fails: an exit code for shells, a word for programs, a sentence for people.

use std::error::Error as StdError;

use elasticache_host::Error;

/// The operation failed.
const FAILED: u8 = 1;
/// Bad usage or input.
const USAGE: u8 = 2;
/// No engine reachable.
const UNAVAILABLE: u8 = 3;
/// Refused.
const DENIED: u8 = 4;
/// No such cache.
const NOT_FOUND: u8 = 5;

/// What a file that cannot be read or written says of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// The command reads files, so that the input is at fault.
    Input,
    /// It writes one.
    Output,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    pub(crate) code: &'static str,
    /// One line.
    pub(crate) message: String,
    /// What to do, for people: may have several lines.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// The command line is at fault.
    pub(crate) fn usage(message: impl AsRef<str>) -> Self {
        Self::new(USAGE, "usage", message.as_ref())
    }

    /// This program is at fault, or the system.
    pub(crate) fn other(message: impl AsRef<str>) -> Self {
        Self::new(FAILED, "other", message.as_ref())
    }

    /// The runtime said so.
    pub(crate) fn of(error: &Error, files: Files) -> Self {
        let exit = match error {
            Error::Invalid(_) | Error::Policy(_) | Error::Manifest(_) => USAGE,
            Error::File { .. } if files == Files::Input => USAGE,
            Error::Unavailable { .. } => UNAVAILABLE,
            Error::Denied { .. } => DENIED,
            Error::NotFound { .. } => NOT_FOUND,
            _ => FAILED,
        };
        Self::new(exit, error.code(), &with_sources(error))
    }

    /// Adds what to do.
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn new(exit: u8, code: &'static str, message: &str) -> Self {
        Self { exit, code, message: one_line(message), hint: None }
    }
}

/// An error and its sources, each of which is left out if it was quoted already.
fn with_sources(error: &dyn StdError) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}

/// Text that came from elsewhere, made fit for a line of a terminal: a container engine's words may have
/// line ends, and escape sequences that a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c == ' ').filter(|w| !w.is_empty()).collect();
    words.join(" ")
}
