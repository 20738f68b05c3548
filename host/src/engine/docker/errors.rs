//! What the daemon said, as [`EngineError`].

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr};

use bollard::errors::Error;

use crate::engine::EngineError;

/// For an object that the request was about.
pub(super) fn engine_error(object: &str, error: Error) -> EngineError {
    let object = object.to_owned();
    match error {
        Error::DockerResponseServerError { status_code, message } => refusal(object, status_code, message),
        Error::DockerStreamError { error } => EngineError::Failed { object, message: error },
        Error::IOError { .. }
        | Error::HyperResponseError { .. }
        | Error::HyperLegacyError { .. }
        | Error::RequestTimeoutError
        | Error::SocketNotFoundError(_) => EngineError::Unavailable { object, message: chain(&error) },
        other => EngineError::Failed { object, message: chain(&other) },
    }
}

/// Podman answers 500 where Docker answers 409, so its words decide too.
fn refusal(object: String, status: u16, message: String) -> EngineError {
    let lower = message.to_ascii_lowercase();
    let conflict = status == 409
        || status == 500
            && (lower.contains("container state improper")
                || lower.contains("is already in use") && lower.contains("name")
                || lower.contains("volume is being used"));
    match status {
        404 => EngineError::NotFound { object, message },
        _ if conflict => EngineError::Conflict { object, message },
        _ if message.is_empty() => EngineError::Failed { object, message: format!("status {status}") },
        _ => EngineError::Failed { object, message },
    }
}

/// The cause is what helps: "client error (Connect)" alone says nothing.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whether the daemon says that a port to be published is in use.
pub(super) fn is_port_taken(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    lower.contains("port is already allocated")
        || lower.contains("address already in use")
        || lower.contains("ports are not available")
}

/// The host port that such a message names.
///
/// Docker: `Bind for 127.0.0.1:20001 failed: port is already allocated`, `listen tcp4 127.0.0.1:20001:
/// bind: address already in use`, and since 28 `failed to bind host port for
/// 127.0.0.1:20001:172.17.0.2:6379/tcp`. Podman: `listen tcp4 :20001: bind: ...`. The host's address
/// comes first in each.
pub(super) fn port_in(message: &str) -> Option<u16> {
    message
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')' | ','))
        .find_map(port_of_address)
}

fn port_of_address(word: &str) -> Option<u16> {
    let rest = if let Some(v6) = word.strip_prefix('[') {
        let (address, rest) = v6.split_once(']')?;
        address.parse::<IpAddr>().ok()?;
        rest.strip_prefix(':')?
    } else if let Some(any) = word.strip_prefix(":::") {
        any
    } else {
        let (address, rest) = word.split_once(':')?;
        if !address.is_empty() {
            address.parse::<Ipv4Addr>().ok()?;
        }
        rest
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok().filter(|port| *port != 0)
}

/// Names and ids go into the path of a URL: one with a slash or dots would ask about another object.
pub(super) fn segment(name: &str) -> Result<&str, EngineError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if starts && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(EngineError::Failed {
        object: name.escape_default().to_string(),
        message: "names start with a letter or digit and go on with these, `_`, `.` and `-`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_port_is_found_in_each_engines_words() {
        for message in [
            "driver failed programming external connectivity on endpoint x (0f:1): Bind for 127.0.0.1:20001 \
             failed: port is already allocated",
            "Error starting userland proxy: listen tcp4 127.0.0.1:20001: bind: address already in use",
            "Bind for :::20001 failed: port is already allocated",
            "listen tcp6 [::1]:20001: bind: address already in use",
            "failed to bind host port for 127.0.0.1:20001:172.17.0.2:6379/tcp: address already in use",
            "failed to bind host port 0.0.0.0:20001/tcp: address already in use",
            "rootlessport listen tcp 127.0.0.1:20001: bind: address already in use",
            "cannot listen on the TCP port: listen tcp4 :20001: bind: address already in use",
            "Ports are not available: exposing port TCP 127.0.0.1:20001 -> 0.0.0.0:0: listen tcp",
        ] {
            assert!(is_port_taken(message), "{message}");
            assert_eq!(port_in(message), Some(20001), "{message}");
        }
        assert_eq!(port_in("port is already allocated"), None);
    }

    #[test]
    fn a_name_that_leaves_its_place_in_the_path_is_refused() {
        for name in ["", "..", "a/b", "a?b", "-a", "a b", "a%2f", "/a"] {
            assert!(segment(name).is_err(), "{name}");
        }
        assert_eq!(segment("fakecloud-a_1.b").unwrap(), "fakecloud-a_1.b");
    }

    #[test]
    fn podmans_conflicts_are_conflicts() {
        let said = |status, message: &str| refusal("x".into(), status, message.into());
        let running = "cannot remove container x as it is running: container state improper";
        assert!(matches!(said(500, running), EngineError::Conflict { .. }));
        let taken = "the container name \"x\" is already in use by 12";
        assert!(matches!(said(500, taken), EngineError::Conflict { .. }));
        assert!(matches!(said(500, "no space left on device"), EngineError::Failed { .. }));
    }
}
