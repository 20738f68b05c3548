//! Whose an object is: labels that say it, and a mark that proves it.
//!
//! Labels can be copied by anybody, so each object also carries an HMAC-SHA-256 over its kind, its name and
//! all of this runtime's labels, under a key that only the embedder's data folder holds. A look-alike has
//! another name, or other labels, and fails.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use crate::types::CacheKey;

/// The id of the cache. Its name is fixed by what embedders already filter for.
pub(crate) const ID: &str = "fakecloud-elasticache";
/// The instance that owns a container. Fixed likewise.
pub(crate) const INSTANCE: &str = "fakecloud-instance";
pub(crate) const SCOPE: &str = "fakecloud-elasticache-scope";
pub(crate) const OPERATION: &str = "fakecloud-elasticache-operation";
/// The volume that a container's engine writes to, if it has one.
pub(crate) const VOLUME: &str = "fakecloud-elasticache-volume";
/// The port that a container publishes whenever it runs. It is its own while it does not, too.
pub(crate) const PORT: &str = "fakecloud-elasticache-port";
/// Whether the owner holds a lease, `yes` or `no`: without one it is never taken for dead.
pub(crate) const LEASED: &str = "fakecloud-elasticache-leased";
/// On a lease: the instance that it vouches for, and for how many seconds.
pub(crate) const LEASE_OF: &str = "fakecloud-elasticache-lease-of";
pub(crate) const LEASE_SECONDS: &str = "fakecloud-elasticache-lease-seconds";
const MARK: &str = "fakecloud-elasticache-mark";
/// Labels that the mark covers begin with this; images and people may add others.
const OURS: &str = "fakecloud-";

pub(crate) const KEY_BYTES: usize = 32;

/// By what Kubernetes selects the objects of this runtime, and of one cache. Labels there take no more than 63
/// characters of few kinds: these only find objects, and what is marked stands in their annotations.
pub(crate) fn selectors(of: Option<(&str, &CacheKey)>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("fakecloud-managed-by".to_owned(), "fakecloud".to_owned()),
        ("fakecloud-service".to_owned(), "elasticache".to_owned()),
    ]);
    if let Some((instance, key)) = of {
        labels.insert(INSTANCE.to_owned(), label_value(instance));
        labels.insert(ID.to_owned(), label_value(key.id()));
    }
    labels
}

/// A text as the value of a Kubernetes label: as it is if that is allowed, else with a part of its hash.
pub(crate) fn label_value(text: &str) -> String {
    const LENGTH: usize = 63;
    const HASH_MARK: &str = ".h-";
    const HASH_BYTES: usize = 16;
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let allowed = text.len() <= LENGTH && text.chars().all(inside);
    if allowed && ends(text.chars().next()) && ends(text.chars().last()) && !text.contains(HASH_MARK) {
        return text.to_owned();
    }
    let room = LENGTH - HASH_MARK.len() - 2 * HASH_BYTES;
    let slug: String = text.chars().filter(char::is_ascii_alphanumeric).take(room).collect();
    let hash = hex(&Sha256::digest(text.as_bytes())[..HASH_BYTES]);
    if slug.is_empty() { hash } else { format!("{slug}{HASH_MARK}{hash}") }
}

/// What an object is, so that a mark of one kind is worth nothing on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Volume,
    Pod,
    Claim,
    Lease,
    /// A compiled component in the cache folder.
    Code,
}

impl Kind {
    fn tag(self) -> &'static [u8] {
        match self {
            Kind::Container => b"container",
            Kind::Volume => b"volume",
            Kind::Pod => b"pod",
            Kind::Claim => b"claim",
            Kind::Lease => b"lease",
            Kind::Code => b"code",
        }
    }
}

/// The secret of a data folder. Never shown: it has no `Debug` output of its own.
#[derive(Clone)]
pub(crate) struct Secret([u8; KEY_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Reads the secret of a data folder, making it on first use, readable by its owner only.
    pub(crate) fn of_folder(folder: &Path) -> io::Result<Self> {
        let path = folder.join("owner.key");
        match read_secret(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        create_private_folder(folder)?;
        // Written whole under another name first, so that nobody ever reads half of it; then linked, so
        // that of two processes which start at once, one wins and both use that one's.
        let mut file = tempfile::Builder::new().prefix(".owner.key").tempfile_in(folder)?;
        file.write_all(&new_secret())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
        read_secret(&path)
    }

    /// A secret of bytes that were kept somewhere; none if they are too few or too many.
    #[cfg(feature = "kube")]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A secret that only this process knows.
    #[cfg(test)]
    pub(crate) fn of_test(byte: u8) -> Self {
        Self([byte; KEY_BYTES])
    }

    fn mac(&self, kind: Kind) -> Hmac<Sha256> {
        // An HMAC takes a key of any length; ours is one block at most.
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        mac.update(kind.tag());
        mac.update(&[0]);
        mac
    }

    fn object_mac(&self, kind: Kind, name: &str, labels: &BTreeMap<String, String>) -> Hmac<Sha256> {
        let mut mac = self.mac(kind);
        // Each part with its length before it: no two lists of parts make the same bytes.
        let mut part = |text: &str| {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        };
        part(name);
        for (key, value) in labels.iter().filter(|(key, _)| key.starts_with(OURS) && *key != MARK) {
            part(key);
            part(value);
        }
        mac
    }

    /// Adds the mark to an object's labels. None of this runtime's may be added after it.
    pub(crate) fn mark(&self, kind: Kind, name: &str, labels: &mut BTreeMap<String, String>) {
        let tag = self.object_mac(kind, name, labels).finalize().into_bytes();
        labels.insert(MARK.to_owned(), hex(&tag));
    }

    /// Whether an object of that name and with these labels was made under this secret.
    pub(crate) fn verify(&self, kind: Kind, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let Some(mark) = labels.get(MARK).and_then(|mark| unhex(mark)) else { return false };
        self.object_mac(kind, name, labels).verify_slice(&mark).is_ok()
    }

    /// The seal of some bytes that belong to `name`.
    pub(crate) fn seal(&self, name: &str, bytes: &[u8]) -> [u8; 32] {
        self.seal_mac(name, bytes).finalize().into_bytes().into()
    }

    /// Whether these bytes were sealed under that name.
    pub(crate) fn verify_seal(&self, name: &str, bytes: &[u8], seal: &[u8]) -> bool {
        self.seal_mac(name, bytes).verify_slice(seal).is_ok()
    }

    fn seal_mac(&self, name: &str, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac(Kind::Code);
        mac.update(&(name.len() as u64).to_be_bytes());
        mac.update(name.as_bytes());
        mac.update(bytes);
        mac
    }
}

/// Bytes that nobody can guess.
pub(crate) fn new_secret() -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes
}

fn read_secret(path: &Path) -> io::Result<Secret> {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    fs::File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    <[u8; KEY_BYTES]>::try_from(bytes).map(Secret).map_err(|bytes| {
        let message = format!("has {} bytes instead of {KEY_BYTES}; restore it from a backup", bytes.len());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// Makes a folder that nobody else can look into.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Who owns what this runtime makes.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) secret: Secret,
    /// Stable across restarts if the embedder says so.
    pub(crate) instance: String,
    /// Whether this owner holds a lease.
    pub(crate) leased: bool,
}

/// What the labels of an object made under our secret say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) key: CacheKey,
    pub(crate) instance: String,
    pub(crate) operation: String,
    pub(crate) leased: bool,
}

impl Owner {
    /// The labels for a new object: the policy's, the cache's, the owner's and the operation's, marked.
    pub(crate) fn labels(
        &self,
        kind: Kind,
        name: &str,
        key: &CacheKey,
        operation: &str,
        policy: impl IntoIterator<Item = (String, String)>,
    ) -> BTreeMap<String, String> {
        let mut labels: BTreeMap<String, String> = policy.into_iter().collect();
        for (label, value) in [
            (ID, key.id()),
            (SCOPE, key.scope()),
            (INSTANCE, &self.instance),
            (OPERATION, operation),
            (LEASED, if self.leased { "yes" } else { "no" }),
        ] {
            labels.insert(label.to_owned(), value.to_owned());
        }
        self.secret.mark(kind, name, &mut labels);
        labels
    }

    /// Where an object comes from, if it was made under this owner's secret.
    pub(crate) fn provenance(
        &self,
        kind: Kind,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Provenance> {
        if !self.secret.verify(kind, name, labels) {
            return None;
        }
        let get = |label: &str| labels.get(label).cloned();
        Some(Provenance {
            key: CacheKey::new(get(SCOPE)?, get(ID)?).ok()?,
            instance: get(INSTANCE)?,
            operation: get(OPERATION)?,
            leased: get(LEASED)? == "yes",
        })
    }
}

/// The data folder: `FAKECLOUD_ELASTICACHE_DATA_DIR`, else the user's.
pub(crate) fn default_data_dir() -> Result<PathBuf, String> {
    user_folder("FAKECLOUD_ELASTICACHE_DATA_DIR", etcetera::BaseStrategy::data_dir)
}

/// The cache folder: `FAKECLOUD_ELASTICACHE_CACHE_DIR`, else the user's.
pub(crate) fn default_cache_dir() -> Result<PathBuf, String> {
    user_folder("FAKECLOUD_ELASTICACHE_CACHE_DIR", etcetera::BaseStrategy::cache_dir)
}

fn user_folder(
    variable: &str,
    pick: impl Fn(&etcetera::base_strategy::Xdg) -> PathBuf,
) -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let strategy = etcetera::base_strategy::Xdg::new()
        .map_err(|error| format!("no home folder ({error}); set {variable} to a folder"))?;
    Ok(pick(&strategy).join("fakecloud-elasticache"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn owner() -> Owner {
        Owner { secret: Secret::of_test(7), instance: "one".into(), leased: true }
    }

    fn key() -> CacheKey {
        CacheKey::new("s", "a").unwrap()
    }

    #[test]
    fn what_was_marked_is_recognized_with_all_that_it_says() {
        let labels =
            owner().labels(Kind::Container, "n", &key(), "op", [("fakecloud-policy-x".into(), "1".into())]);
        let provenance = owner().provenance(Kind::Container, "n", &labels).unwrap();
        assert_eq!(provenance.key, key());
        assert_eq!((provenance.instance.as_str(), provenance.operation.as_str()), ("one", "op"));
    }

    #[test]
    fn copied_labels_prove_nothing_under_another_name_or_kind() {
        let labels = owner().labels(Kind::Container, "n", &key(), "op", []);
        assert!(owner().provenance(Kind::Container, "m", &labels).is_none());
        assert!(owner().provenance(Kind::Volume, "n", &labels).is_none());
    }

    #[test]
    fn a_changed_added_or_missing_label_breaks_the_mark() {
        let labels = owner().labels(Kind::Container, "n", &key(), "op", []);
        for change in [INSTANCE, ID, SCOPE, OPERATION, LEASED, MARK] {
            let mut changed = labels.clone();
            changed.insert(change.to_owned(), "00".to_owned());
            assert!(owner().provenance(Kind::Container, "n", &changed).is_none(), "{change} changed");
            changed.remove(change);
            assert!(owner().provenance(Kind::Container, "n", &changed).is_none(), "{change} missing");
        }
        let mut added = labels.clone();
        added.insert("fakecloud-policy-more".into(), String::new());
        assert!(owner().provenance(Kind::Container, "n", &added).is_none());
        let mut foreign = labels;
        foreign.insert("maintainer".into(), "an image's label".into());
        assert!(owner().provenance(Kind::Container, "n", &foreign).is_some());
    }

    #[test]
    fn another_secret_recognizes_nothing() {
        let labels = owner().labels(Kind::Volume, "n", &key(), "op", []);
        let other = Owner { secret: Secret::of_test(8), ..owner() };
        assert!(other.provenance(Kind::Volume, "n", &labels).is_none());
    }

    #[test]
    fn two_processes_that_start_at_once_agree_on_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Secret::of_folder(&path).unwrap().0)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| secret == &secrets[0]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(path.join("owner.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_secret_is_reported_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("owner.key"), b"short").unwrap();
        let error = Secret::of_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains("5 bytes"), "{error}");
    }

    #[test]
    fn label_values_are_allowed_by_kubernetes_and_differ_where_their_texts_do() {
        assert_eq!(label_value("my-cache_1.a"), "my-cache_1.a");
        let texts =
            ["", "-", "a/b", "a-b", "a_", &"k".repeat(64), &"k".repeat(65), "weird/id:1", "ü", "x.h-00"];
        let mut seen = std::collections::HashSet::new();
        for text in texts {
            let value = label_value(text);
            let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            assert!(value.len() <= 63 && value.chars().all(inside), "{value}");
            assert!(value.starts_with(|c: char| c.is_ascii_alphanumeric()), "{value}");
            assert!(value.ends_with(|c: char| c.is_ascii_alphanumeric()), "{value}");
            assert!(seen.insert(value), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::of_test(7)), "Secret(..)");
    }
}
