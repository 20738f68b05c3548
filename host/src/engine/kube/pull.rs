//! Restores that a pod fetches from the embedder, for embedders that serve the files themselves.
//!
//! The pod gets a token in a Secret of its own, good for its own file only: an HMAC over its name. The Secret is made
//! before the pod and goes once the file has come, or with the pod. A host that is killed between the two, or a pod that
//! somebody else deletes before it fetches, leaves it: to find it again would take the right to list, and so to read, all
//! Secrets of the namespace. Its token opens nothing unless a pod of that name is fetching.

use std::io::Read as _;

use hmac::{Hmac, Mac as _};
use http::Uri;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use sha2::Sha256;

use super::again::again;
use super::errors::engine_error;
use super::programs::{self, Program};
use super::spec::{RESTORE, metadata};
use super::stage;
use crate::compat::PendingRdb;
use crate::engine::cluster::{ObjectId, PodSpec};
use crate::engine::{Content, EngineError, NewFile};
use crate::ownership::{hex, unhex};

/// Where the stage finds its token.
pub(super) const FOLDER: &str = "/fakecloud-restore";
const TOKEN: &str = "token";
/// Before the random part of a Secret's name: no two pods share one, and nobody else's is met.
const PREFIX: &str = "fakecloud-ec-restore-";

/// Fetches `$4` from the host `$2`, named `$6`, at port `$3` to `$1`, under another name first, and sees that
/// it has `$5` bytes.
///
/// Not `wget`: busybox's takes a header as an argument only, and all arguments are seen by whoever may list the node's
/// processes. The shell's `printf` is no process. What `nc` reads stays open until the answer is whole: to some servers
/// its end means that nobody waits for one.
const FETCH: &str = r#"set -e
umask 0
mkdir -p "${1%/*}"
part="$1.part.$$"
ask="/fakecloud-stage/ask.$$"
trap 'rm -f "$part" "$ask"' EXIT
mkfifo "$ask"
end=$(printf '\r')
nc "$2" "$3" <"$ask" | {
  exec 3>"$ask"
  printf 'GET %s HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer ' "$4" "$6" >&3
  cat /fakecloud-restore/token >&3
  printf '\r\n\r\n' >&3
  read -r _ status _ || { echo "no answer came" >&2; exit 4; }
  [ "$status" = 200 ] || { echo "the answer is status $status" >&2; exit 4; }
  while IFS= read -r line && [ "$line" != "$end" ]; do :; done
  cat >"$part"
}
[ "$(stat -c %s "$part")" = "$5" ] || { echo "only $(stat -c %s "$part") of $5 bytes came" >&2; exit 5; }
chmod 0644 "$part"
mv -f "$part" "$1""#;

/// How pods fetch.
#[derive(Clone)]
pub struct Pull {
    /// The embedder's base URL as pods reach it.
    base: String,
    /// What pods may be given, by pod name.
    pending: PendingRdb,
    key: Vec<u8>,
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Pull {
    /// From an embedder that pods reach at `base`, such as `http://emulator.default:4566`, and whose internal routes
    /// know `secret`. It never leaves this process: pods get tokens that are made of it.
    pub fn new(base: impl Into<String>, secret: &str, pending: PendingRdb) -> Self {
        let base = base.into().trim_end_matches('/').to_owned();
        Self { base, pending, key: secret.as_bytes().to_vec() }
    }

    fn mac(&self, pod: &str) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.key).ok()?;
        mac.update(b"fakecloud-elasticache rdb ");
        mac.update(pod.as_bytes());
        Some(mac)
    }

    fn token(&self, pod: &str) -> String {
        self.mac(pod).map(|mac| hex(&mac.finalize().into_bytes())).unwrap_or_default()
    }

    /// Whether a bearer token is the one of this pod.
    pub fn admits(&self, pod: &str, token: &str) -> bool {
        let (Some(mac), Some(token)) = (self.mac(pod), unhex(token)) else { return false };
        mac.verify_slice(&token).is_ok()
    }

    /// Host, as a URL has it, port and path of the base URL.
    fn place(&self) -> Result<(String, u16, String), String> {
        let uri: Uri = self.base.parse().map_err(|error| format!("is {:?}: {error}", self.base))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => {
                let path = uri.path().trim_end_matches('/').to_owned();
                Ok((host.to_owned(), uri.port_u16().unwrap_or(80), path))
            }
            _ => {
                Err(format!("is {:?}; pods fetch from a URL that begins with http:// and a host", self.base))
            }
        }
    }

    /// Whether pods can fetch from such a URL; what is wrong with it, as the rest of a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.place().map(drop)
    }

    /// Makes the Secret with the token of the pod that is going to be created; returns its name.
    pub(super) async fn prepare(&self, secrets: &Api<Secret>, spec: &PodSpec) -> Result<String, EngineError> {
        let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let secret = Secret {
            metadata: metadata(&name, &spec.labels, &Default::default()),
            data: Some([(TOKEN.to_owned(), ByteString(self.token(&spec.name).into_bytes()))].into()),
            ..Secret::default()
        };
        let params = PostParams::default();
        let mut tries = 0;
        let made = again(|| {
            tries += 1;
            secrets.create(&params, &secret)
        })
        .await;
        match made {
            Ok(_) => Ok(name),
            // The attempt before this one had an answer that was lost.
            Err(kube::Error::Api(status)) if status.code == 409 && tries > 1 => Ok(name),
            Err(error) => Err(engine_error(&name, error)),
        }
    }

    /// Has the stage of a pod fetch a file. Other contents are not for this.
    pub(super) async fn fetch(
        &self,
        pods: &Api<Pod>,
        pod: &ObjectId,
        folder: &str,
        file: NewFile,
    ) -> Result<(), EngineError> {
        let object = format!("{folder}/{} of {}", file.path, pod.name);
        let io =
            |error: std::io::Error| EngineError::Io { object: object.clone(), message: error.to_string() };
        let bytes = match file.content {
            Content::Bytes(bytes) => bytes,
            // The embedder's map holds whole files; that is the price of this way.
            Content::File(mut reader, length) => tokio::task::spawn_blocking(move || {
                std::io::Seek::rewind(&mut reader)?;
                let mut bytes = Vec::new();
                reader.take(length).read_to_end(&mut bytes).map(|_| bytes)
            })
            .await
            .map_err(|error| io(std::io::Error::other(error)))?
            .map_err(io)?,
        };
        let length = bytes.len().to_string();
        let (host, port, base) =
            self.place().map_err(|message| EngineError::Failed { object: self.base.clone(), message })?;
        let target = format!("{base}/_fakecloud/elasticache/_internal/rdb/{}", pod.name);
        let path = format!("{}/{}", folder.trim_end_matches('/'), file.path);
        let (at, named) = (host.trim_matches(['[', ']']), format!("{host}:{port}"));
        let argv = ["sh", "-c", FETCH, "sh", &path, at, &port.to_string(), &target, &length, &named];
        let argv = argv.map(str::to_owned);
        let program = Program { pods, pod, container: stage::NAME, object: &object, argv: &argv };
        let _served = Served::new(&self.pending, &pod.name, bytes);
        let output = programs::run(&program, true, programs::WORDS).await?;
        if output.exit_code == 0 {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let message = format!("the pod could not fetch it from {}: {}", self.base, words.trim());
        Err(EngineError::Failed { object, message })
    }
}

/// What a pod may fetch, for as long as somebody waits for that.
struct Served<'a> {
    pending: &'a PendingRdb,
    pod: &'a str,
}

impl<'a> Served<'a> {
    fn new(pending: &'a PendingRdb, pod: &'a str, bytes: Vec<u8>) -> Self {
        pending.write().insert(pod.to_owned(), bytes);
        Self { pending, pod }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.pending.write().remove(self.pod);
    }
}

/// The Secret that was made for a pod to fetch with; it may be gone by now.
pub(super) fn secret_of(pod: &Pod) -> Option<&str> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == RESTORE)?;
    volume.secret.as_ref()?.secret_name.as_deref().filter(|name| name.starts_with(PREFIX))
}

/// Takes a pod's token away, if it is still there.
pub(super) async fn forget(secrets: &Api<Secret>, secret: &str) {
    let params = DeleteParams::default();
    match again(|| secrets.delete(secret, &params)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => tracing::warn!(secret, %error, "the Secret of a restore may be left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart_and_what_cannot_be_fetched_from_is_refused() {
        let place = |base: &str| Pull::new(base, "internal", PendingRdb::default()).place();
        let named = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(place("http://emulator.default:4566/"), named("emulator.default", 4566, ""));
        assert_eq!(place("http://[fd00::1]/a/b/"), named("[fd00::1]", 80, "/a/b"));
        for bad in ["https://emulator:1", "emulator:4566", "/a", "", "http://a b"] {
            assert!(place(bad).is_err_and(|said| said.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn a_token_is_worth_nothing_for_another_pod() {
        let pull = Pull::new("http://e:1/", "internal", PendingRdb::default());
        let token = pull.token("a");
        assert!(pull.admits("a", &token));
        assert!(!pull.admits("b", &token));
        assert!(!pull.admits("a", ""));
        assert!(!pull.admits("a", "internal"));
        assert!(!Pull::new("http://e:1", "other", PendingRdb::default()).admits("a", &token));
        assert!(!token.contains("internal") && !format!("{pull:?}").contains("internal"));
    }
}
