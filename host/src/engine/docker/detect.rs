//! Which engine to talk to, and how.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::ClientVersion;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::engine::EngineError;

/// The environment, as a function so that tests need not change the process's own.
pub(super) type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// How long one candidate may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A reply to `/_ping` is a few hundred bytes.
const PING_LIMIT: u64 = 16 * 1024;
const ADVICE: &str =
    "start Docker or Podman, or set DOCKER_HOST to where it listens (unix:///..., tcp://host:port)";

/// Which of the two answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Podman,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        }
    }
}

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    /// Host and port, with brackets around an IPv6 address.
    Tcp(String, u16),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl Address {
    fn parse(text: &str) -> Result<Address, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} has no scheme; unix://, tcp:// and http:// are supported"));
        };
        let default_port = match scheme {
            "unix" if rest.starts_with('/') => return Ok(Address::Unix(PathBuf::from(rest))),
            "unix" => return Err(format!("{text:?} needs an absolute path after unix://")),
            "tcp" => 2375,
            "http" => 80,
            "ssh" => {
                return Err(format!(
                    "{text:?}: ssh:// is not supported; forward the socket with `ssh -L` and use unix:// or tcp://"
                ));
            }
            "https" => {
                return Err(format!("{text:?}: TLS is not supported; use unix://, tcp:// or http://"));
            }
            _ => {
                return Err(format!("{text:?}: only unix://, tcp:// and http:// are supported"));
            }
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(['/', '@', '?', '#']) {
            return Err(format!("{text:?} must be a host and a port, nothing more"));
        }
        // The colons of an IPv6 address are inside the brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("{text:?}: {port:?} is not a port"))?)
            }
            _ => (authority, default_port),
        };
        if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
            return Err(format!("{text:?} names no host"));
        }
        Ok(Address::Tcp(host.to_owned(), port))
    }

    /// The host's name where it is another machine.
    pub(super) fn remote_host(&self) -> Option<&str> {
        let Address::Tcp(host, _) = self else { return None };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback =
            bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        (!loopback).then_some(bare)
    }
}

/// Addresses to try in turn.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    candidates: Vec<Address>,
    /// The variable that decided; then there is one candidate and no other is tried.
    explicit: Option<&'static str>,
    /// What must answer there.
    wanted: Option<Kind>,
}

fn plan(env: Env<'_>, uid: Option<u32>) -> Result<Plan, String> {
    let set = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let given = |name: &'static str, value: &str| -> Result<Plan, String> {
        let address = Address::parse(value).map_err(|problem| format!("{name}: {problem}"))?;
        if matches!(address, Address::Tcp(..)) && name == "DOCKER_HOST" && set("DOCKER_TLS_VERIFY").is_some()
        {
            return Err(format!("{name}={value} with DOCKER_TLS_VERIFY: TLS is not supported"));
        }
        Ok(Plan { candidates: vec![address], explicit: Some(name), wanted: None })
    };
    let docker_host = set("DOCKER_HOST");
    let container_host = set("CONTAINER_HOST");
    let docker = || vec![Address::Unix(PathBuf::from("/var/run/docker.sock"))];
    let podman = || {
        let mut sockets = vec![PathBuf::from("/run/podman/podman.sock")];
        sockets.extend(set("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("podman/podman.sock")));
        sockets.extend(uid.map(|uid| PathBuf::from(format!("/run/user/{uid}/podman/podman.sock"))));
        sockets.dedup();
        sockets.into_iter().map(Address::Unix).collect::<Vec<_>>()
    };
    if let Some(cli) = set("FAKECLOUD_CONTAINER_CLI") {
        // A path is what one would run; its last part says which of the two it is. Each program looks
        // at its own variable only.
        return match cli.rsplit('/').next() {
            Some("docker") => match docker_host {
                Some(value) => given("DOCKER_HOST", &value),
                // Podman under Docker's socket is what the `docker` command would use too.
                None => {
                    let explicit = Some("FAKECLOUD_CONTAINER_CLI");
                    Ok(Plan { candidates: docker(), explicit, wanted: None })
                }
            },
            Some("podman") => {
                let wanted = Some(Kind::Podman);
                match container_host {
                    Some(value) => Ok(Plan { wanted, ..given("CONTAINER_HOST", &value)? }),
                    None => {
                        let explicit = Some("FAKECLOUD_CONTAINER_CLI");
                        Ok(Plan { candidates: podman(), explicit, wanted })
                    }
                }
            }
            _ => Err(format!("FAKECLOUD_CONTAINER_CLI is {cli:?}; it can name `docker` or `podman`")),
        };
    }
    if let Some(value) = docker_host {
        return given("DOCKER_HOST", &value);
    }
    if let Some(value) = container_host {
        return given("CONTAINER_HOST", &value);
    }
    Ok(Plan { candidates: docker().into_iter().chain(podman()).collect(), explicit: None, wanted: None })
}

/// What answered.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) address: Address,
    pub(super) kind: Kind,
    pub(super) version: ClientVersion,
}

/// Try what the environment says, or else the usual places.
pub(super) async fn find(env: Env<'_>) -> Result<Found, EngineError> {
    let unavailable =
        |message: String| EngineError::Unavailable { object: "any container".to_owned(), message };
    let plan = plan(env, own_uid()).map_err(&unavailable)?;
    let mut tried = Vec::new();
    for address in plan.candidates {
        let answer = match tokio::time::timeout(PATIENCE, probe(&address)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match answer {
            Ok((kind, _)) if plan.wanted.is_some_and(|wanted| wanted != kind) => {
                tried.push(format!("{address}: {} answers there", kind.name()));
            }
            Ok((kind, version)) => {
                return Ok(Found { address, kind, version });
            }
            Err(problem) => tried.push(format!("{address}: {problem}")),
        }
    }
    let because = plan.explicit.map(|name| format!(" (because {name} is set)")).unwrap_or_default();
    Err(unavailable(format!("tried{because} {}. {ADVICE}", tried.join("; "))))
}

/// Of this process, without a dependency for one call.
fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").ok().map(|meta| meta.uid())
}

/// One `GET /_ping`, by hand: its headers say all that is needed. Bollard drops them, and the `/version`
/// that it would ask instead takes Docker 7 to 20 ms, as it runs three programs to answer.
async fn probe(address: &Address) -> Result<(Kind, ClientVersion), String> {
    let reply = match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
            ping(stream, "localhost").await
        }
        Address::Tcp(host, port) => {
            let target = format!("{host}:{port}");
            let stream = TcpStream::connect(&target).await.map_err(|error| error.to_string())?;
            ping(stream, &target).await
        }
    };
    read_ping(&reply.map_err(|error| error.to_string())?)
}

async fn ping(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> std::io::Result<Vec<u8>> {
    // 1.0, so that the daemon closes after the reply.
    let request = format!("GET /_ping HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(PING_LIMIT).read_to_end(&mut reply).await?;
    Ok(reply)
}

/// Docker and Podman both send `Api-Version`; Podman alone sends `Libpod-Api-Version`.
fn read_ping(reply: &[u8]) -> Result<(Kind, ClientVersion), String> {
    let text = String::from_utf8_lossy(reply);
    let mut lines = text.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.") || status.split(' ').nth(1) != Some("200") {
        let shown: String = status.chars().take(80).collect();
        return Err(format!("not a container engine, or not well: it says {shown:?}"));
    }
    let (mut kind, mut version) = (Kind::Docker, None);
    for (name, value) in lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("libpod-api-version") {
            kind = Kind::Podman;
        } else if name.eq_ignore_ascii_case("api-version") {
            version = parse_version(value.trim());
        }
    }
    let Some(version) = version else {
        return Err("not a container engine: its reply to /_ping names no API version".to_owned());
    };
    Ok((kind, version))
}

/// No newer than what bollard was written for.
fn parse_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    let theirs = ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? };
    let ours = *bollard::API_DEFAULT_VERSION;
    Some(if theirs < ours { theirs } else { ours })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn planned(pairs: &[(&str, &str)]) -> Result<Plan, String> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        plan(&|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.clone()), Some(7))
    }

    fn addresses(pairs: &[(&str, &str)]) -> Vec<String> {
        planned(pairs).unwrap().candidates.iter().map(ToString::to_string).collect()
    }

    const DOCKER: &str = "unix:///var/run/docker.sock";
    const ROOTFUL: &str = "unix:///run/podman/podman.sock";
    const ROOTLESS: &str = "unix:///run/user/7/podman/podman.sock";

    #[test]
    fn without_a_setting_docker_comes_first_then_podman_with_root_then_without() {
        assert_eq!(addresses(&[]), [DOCKER, ROOTFUL, ROOTLESS]);
        let elsewhere = addresses(&[("XDG_RUNTIME_DIR", "/x"), ("DOCKER_HOST", " ")]);
        assert_eq!(elsewhere, [DOCKER, ROOTFUL, "unix:///x/podman/podman.sock", ROOTLESS]);
        assert_eq!(addresses(&[("XDG_RUNTIME_DIR", "/run/user/7")]), [DOCKER, ROOTFUL, ROOTLESS]);
    }

    #[test]
    fn an_explicit_setting_leaves_no_other_candidate() {
        let both = [("DOCKER_HOST", "tcp://10.0.0.1"), ("CONTAINER_HOST", "unix:///p.sock")];
        assert_eq!(addresses(&both), ["tcp://10.0.0.1:2375"]);
        assert_eq!(addresses(&both[1..]), ["unix:///p.sock"]);
        let podman = planned(&[("FAKECLOUD_CONTAINER_CLI", "podman"), both[0], both[1]]).unwrap();
        assert_eq!(podman.candidates, [Address::Unix("/p.sock".into())]);
        assert_eq!(podman.wanted, Some(Kind::Podman));
        assert_eq!(addresses(&[("FAKECLOUD_CONTAINER_CLI", "/usr/bin/docker")]), [DOCKER]);
        assert_eq!(addresses(&[("FAKECLOUD_CONTAINER_CLI", "podman")]), [ROOTFUL, ROOTLESS]);
    }

    #[test]
    fn a_program_that_is_neither_is_refused_with_both_names() {
        let problem = planned(&[("FAKECLOUD_CONTAINER_CLI", "nerdctl")]).unwrap_err();
        assert!(problem.contains("`docker`") && problem.contains("`podman`"), "{problem}");
    }

    #[test]
    fn schemes_that_are_not_supported_are_refused_by_name() {
        for (value, part) in [
            ("ssh://me@host", "ssh://"),
            ("https://host", "TLS"),
            ("npipe:////./pipe/docker_engine", "only unix://"),
            ("/var/run/docker.sock", "no scheme"),
            ("unix://docker.sock", "absolute"),
            ("tcp://host:0x7", "not a port"),
            ("tcp://:2375", "no host"),
            ("tcp://::1", "no host"),
            ("http://host:1/path", "nothing more"),
        ] {
            let problem = planned(&[("DOCKER_HOST", value)]).unwrap_err();
            assert!(problem.contains(part) && problem.contains("DOCKER_HOST"), "{problem}");
        }
        let tls = planned(&[("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")]);
        assert!(tls.unwrap_err().contains("TLS"));
    }

    #[test]
    fn a_loopback_daemon_is_not_remote() {
        let remote = |text: &str| Address::parse(text).unwrap().remote_host().map(str::to_owned);
        assert_eq!(remote("unix:///x"), None);
        for near in
            ["tcp://127.0.0.1:1", "tcp://localhost", "tcp://[::1]:1", "tcp://[::1]", "http://127.3.3.3"]
        {
            assert_eq!(remote(near), None, "{near}");
        }
        assert_eq!(remote("tcp://dind:2375/").as_deref(), Some("dind"));
        assert_eq!(remote("tcp://[fd00::2]:2375").as_deref(), Some("fd00::2"));
    }

    #[test]
    fn the_headers_of_a_ping_tell_docker_from_podman() {
        let docker = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10\r\n\r\nOK";
        let (kind, version) = read_ping(docker.as_bytes()).unwrap();
        assert_eq!((kind, version.to_string()), (Kind::Docker, "1.41".to_owned()));
        let podman = "HTTP/1.0 200 OK\r\nApi-Version: 1.99\r\nLibpod-Api-Version: 4.3.1\r\n\r\nOK";
        let (kind, version) = read_ping(podman.as_bytes()).unwrap();
        assert_eq!((kind, version), (Kind::Podman, *bollard::API_DEFAULT_VERSION));
        for strange in ["", "SSH-2.0-x", "HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nhello"] {
            assert!(read_ping(strange.as_bytes()).is_err(), "{strange}");
        }
    }
}
