//! Restores that a pod fetches from the embedder, for embedders that serve the files themselves.
//!
//! The pod gets a token in a Secret of its own, good for its own file only: an HMAC over its name. The Secret is there
//! from the pod's creation until its file has come, or until the pod is deleted.

use std::io::Read as _;

use hmac::{Hmac, Mac as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use sha2::Sha256;

use super::again::again;
use super::errors::engine_error;
use super::programs::{self, Program};
use super::spec::metadata;
use super::stage;
use crate::compat::PendingRdb;
use crate::engine::cluster::{ObjectId, PodSpec};
use crate::engine::{Content, EngineError, NewFile};
use crate::ownership::{hex, unhex};

/// Where the stage finds its token.
pub(super) const FOLDER: &str = "/fakecloud-restore";
const TOKEN: &str = "token";

/// Fetches the URL `$2` to `$1`, under another name first, and sees that it has `$3` bytes. The token never stands in
/// the arguments of a program: those of `wget` are seen by whoever may list processes, so it gets them from a shell
/// that reads the file, inside of the pod.
const FETCH: &str = r#"set -e
umask 0
mkdir -p "${1%/*}"
part="$1.part.$$"
trap 'rm -f "$part"' EXIT
wget -q -O "$part" --header "Authorization: Bearer $(cat /fakecloud-restore/token)" "$2"
[ "$(stat -c %s "$part")" = "$3" ] || { echo "only $(stat -c %s "$part") of $3 bytes came" >&2; exit 5; }
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

    /// Gives the pod that is going to be created its token.
    pub(super) async fn prepare(&self, secrets: &Api<Secret>, spec: &PodSpec) -> Result<(), EngineError> {
        let secret = Secret {
            metadata: metadata(&spec.name, &spec.labels, &Default::default()),
            data: Some([(TOKEN.to_owned(), ByteString(self.token(&spec.name).into_bytes()))].into()),
            ..Secret::default()
        };
        let params = PostParams::default();
        match again(|| secrets.create(&params, &secret)).await {
            // Left by a pod of that name whose creation broke off: its token is the same.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            made => made.map(drop).map_err(|error| engine_error(&spec.name, error)),
        }
    }

    /// Takes the token away, if there is one.
    pub(super) async fn forget(&self, secrets: &Api<Secret>, pod: &str) {
        self.pending.write().remove(pod);
        let params = DeleteParams::default();
        match again(|| secrets.delete(pod, &params)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::warn!(pod, %error, "the Secret for its restore was left"),
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
        self.pending.write().insert(pod.name.clone(), bytes);
        let url = format!("{}/_fakecloud/elasticache/_internal/rdb/{}", self.base, pod.name);
        let path = format!("{}/{}", folder.trim_end_matches('/'), file.path);
        let argv = ["sh", "-c", FETCH, "sh", &path, &url, &length].map(str::to_owned);
        let program = Program { pods, pod, container: stage::NAME, object: &object, argv: &argv };
        let ran = programs::run(&program, true, programs::WORDS).await;
        self.pending.write().remove(&pod.name);
        let output = ran?;
        if output.exit_code == 0 {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let message = format!("the pod could not fetch it from {}: {}", self.base, words.trim());
        Err(EngineError::Failed { object, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
