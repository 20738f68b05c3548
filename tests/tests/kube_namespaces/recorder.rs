//! An address in front of the API server's that notes what is asked, in the words of a Role.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use kube::Config;
use kube::client::ConfigExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// API group, resource, verb.
pub type Permission = (String, String, String);

pub struct Recorder {
    /// Where it listens, without TLS.
    pub url: String,
    seen: Arc<Mutex<BTreeSet<Permission>>>,
}

impl Recorder {
    /// In front of the API server of this configuration, whose credentials it does not use.
    pub async fn start(config: &Config) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tls = TlsConnector::from(Arc::new(config.rustls_client_config().unwrap()));
        let host = config.cluster_url.host().unwrap().to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).unwrap();
        let seen = Arc::new(Mutex::default());
        let noting = Arc::clone(&seen);
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (tls, host, name, seen) = (tls.clone(), host.clone(), name.clone(), Arc::clone(&noting));
                tokio::spawn(async move {
                    let server = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
                    pass(client, tls.connect(name, server).await?, &seen).await
                });
            }
        });
        Recorder { url, seen }
    }

    /// All that was asked so far.
    pub fn seen(&self) -> BTreeSet<Permission> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    client: TcpStream,
    server: tokio_rustls::client::TlsStream<TcpStream>,
    seen: &Mutex<BTreeSet<Permission>>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = split(server);
    let asking = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from_client.read(&mut buffer).await?;
            if count == 0 {
                return to_server.shutdown().await;
            }
            if let Some(permission) = asked(&buffer[..count]) {
                seen.lock().unwrap().insert(permission);
            }
            to_server.write_all(&buffer[..count]).await?;
            to_server.flush().await?;
        }
    };
    let answering = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(asking, answering).map(drop)
}

/// A client sends its next request once the last is answered, so that each begins a piece of its own.
fn asked(bytes: &[u8]) -> Option<Permission> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_suffix(" HTTP/1.1")?;
    let (method, target) = line.split_once(' ')?;
    permission(method, target)
}

/// As the API server's authorizer reads a request. `None` for `/version`, which is no resource.
fn permission(method: &str, target: &str) -> Option<Permission> {
    // A client that was given a URL of a server may send its whole.
    let target = target.strip_prefix("http://").map_or(target, |rest| &rest[rest.find('/').unwrap_or(0)..]);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path == "/version" {
        return None;
    }
    let odd = || ("odd".to_owned(), path.to_owned(), method.to_owned());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", "namespaces", _, rest @ ..] => ("", rest),
        ["apis", group, _, "namespaces", _, rest @ ..] => (*group, rest),
        _ => return Some(odd()),
    };
    let (resource, named) = match rest {
        [resource] => ((*resource).to_owned(), false),
        [resource, _] => ((*resource).to_owned(), true),
        [resource, _, sub] => (format!("{resource}/{sub}"), true),
        _ => return Some(odd()),
    };
    let watches = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"));
    let verb = match (method, named) {
        ("GET", _) if watches => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Some(odd()),
    };
    Some((group.to_owned(), resource, verb.to_owned()))
}

#[test]
fn requests_are_read_as_an_authorizer_reads_them() {
    for (method, target, expected) in [
        ("GET", "/api/v1/namespaces/n/pods?&limit=1", ("", "pods", "list")),
        ("GET", "/api/v1/namespaces/n/pods?&watch=true&fieldSelector=x", ("", "pods", "watch")),
        ("GET", "/api/v1/namespaces/n/pods/a", ("", "pods", "get")),
        ("GET", "/api/v1/namespaces/n/pods/a/exec?&command=x", ("", "pods/exec", "get")),
        ("PATCH", "/apis/g.io/v1/namespaces/n/leases/a?", ("g.io", "leases", "patch")),
        ("DELETE", "/api/v1/namespaces/n/secrets", ("", "secrets", "deletecollection")),
        ("GET", "/api/v1/nodes", ("odd", "/api/v1/nodes", "GET")),
    ] {
        let (group, resource, verb) = permission(method, target).unwrap();
        assert_eq!((group.as_str(), resource.as_str(), verb.as_str()), expected, "{target}");
    }
    assert_eq!(permission("GET", "/version"), None);
}
