//! Environment manifests: which policy runs, on what, with which grants, limits and settings.
//!
//! A manifest is a TOML file. What it does not say is not granted; what it misspells is an error with its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::backend::Backend;
#[cfg(feature = "kube")]
use crate::engine::kube::KubeOptions;
use crate::grants::Grants;
use crate::policy::Limits;

/// The manifest of the default environment, as it could be written by hand.
const STANDARD: &str = include_str!("manifest/standard.toml");

/// An environment: a policy and all that it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Manifest {
    /// The component.
    pub policy: PolicySource,
    /// What runs the containers.
    pub backend: Backend,
    /// Which cluster, and what of it is used; of use with the backend `kube`.
    #[cfg(feature = "kube")]
    pub kube: KubeOptions,
    /// What the policy may do.
    pub grants: Grants,
    /// What an operation may use.
    pub limits: Limits,
    /// The policy's settings, which it reads through `wasi:config`.
    pub config: Settings,
}

/// Which component is the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PolicySource {
    /// The file; in a manifest relative to the manifest's folder. Default: as
    /// [`crate::RuntimeBuilder::policy_file`] says.
    pub component: Option<PathBuf>,
    /// What the file's SHA-256 must be.
    pub sha256: Option<Sha256Hex>,
}

impl PolicySource {
    /// A file, whatever it holds.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { component: Some(path.into()), sha256: None }
    }
}

/// A SHA-256, in 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // As `sha256sum` and the OCI tools write it.
        let digits = text.strip_prefix("sha256:").unwrap_or(&text);
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a SHA-256 has 64 hexadecimal digits");
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }
}

/// Settings of a policy by name. In a manifest `image.redis = "..."` and `"image.redis" = "..."` are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, Setting>")]
pub struct Settings(pub BTreeMap<String, String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a setting is a string, an integer, a boolean or a table of these")]
enum Setting {
    Text(String),
    Number(i64),
    Flag(bool),
    Table(BTreeMap<String, Setting>),
}

impl From<BTreeMap<String, Setting>> for Settings {
    fn from(table: BTreeMap<String, Setting>) -> Self {
        let mut flat = BTreeMap::new();
        flatten("", table, &mut flat);
        Self(flat)
    }
}

fn flatten(above: &str, table: BTreeMap<String, Setting>, flat: &mut BTreeMap<String, String>) {
    for (name, setting) in table {
        let name = if above.is_empty() { name } else { format!("{above}.{name}") };
        match setting {
            Setting::Text(text) => drop(flat.insert(name, text)),
            Setting::Number(number) => drop(flat.insert(name, number.to_string())),
            Setting::Flag(flag) => drop(flat.insert(name, flag.to_string())),
            Setting::Table(table) => flatten(&name, table, flat),
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("environment {}: cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something that cannot be.
    #[error("environment {}:{line}:{column}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
}

impl Manifest {
    /// The environment in which `cachehost` runs when none is named: the default policy, with what it needs on
    /// Docker or Podman and nothing else.
    pub fn standard() -> Self {
        Self { grants: Grants::standard(), ..Self::default() }
    }

    /// The text of the manifest that says what [`Manifest::standard`] is, to begin one's own with.
    pub fn standard_text() -> &'static str {
        STANDARD
    }

    /// The policy's settings, with what the host says about where caches are.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.config.0.clone();
        settings.insert("backend".to_owned(), self.backend.as_str().to_owned());
        settings.remove("storage-class");
        #[cfg(feature = "kube")]
        if let (Backend::Kube, Some(class)) = (self.backend, &self.kube.storage_class) {
            settings.insert("storage-class".to_owned(), class.clone());
        }
        settings
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`], with the place in the file and what would be valid there.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        let mut manifest = Self::parse(path, &text)?;
        if let (Some(component), Some(folder)) = (&mut manifest.policy.component, path.parent()) {
            *component = folder.join(&component);
        }
        Ok(manifest)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ManifestError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            ManifestError::Invalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: error.message().replace('\n', "; "),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Path::new("ci.toml"), text)
    }

    #[track_caller]
    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_manifest_grants_nothing() {
        let manifest = parse("").unwrap();
        assert_eq!(manifest.grants, Grants::default());
        assert_eq!(manifest.limits, Limits::default());
    }

    #[test]
    fn the_standard_environment_is_what_its_text_says() {
        assert_eq!(parse(STANDARD).unwrap(), Manifest::standard());
    }

    #[test]
    fn what_is_misspelt_is_placed_and_told_what_would_be_valid() {
        let text = refusal("[policy]\n\n[grants]\nvolumes = true\n  exce = [\"redis-cli\"]\n");
        assert!(text.starts_with("environment ci.toml:5:3: "), "{text}");
        assert!(text.contains("`exce`") && text.contains("`exec`") && text.contains("`images`"), "{text}");
        let text = refusal("[grants]\ncapabilities = [\"docker\", \"dokcer\"]\n");
        assert!(text.starts_with("environment ci.toml:2:27: "), "{text}");
        assert!(text.contains("`dokcer`") && text.contains("`docker`") && text.contains("`kube`"), "{text}");
        let text = refusal("backend = \"dockr\"\n");
        assert!(text.contains(":1:11: ") && text.contains("docker"), "{text}");
        let text = refusal("[limit]\n");
        assert!(text.contains(":1:2: ") && text.contains("`limits`"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_placed_and_told_what_was_expected() {
        for (text, place, words) in [
            ("[grants]\nvolumes = \"yes\"\n", ":2:11: ", "a boolean"),
            ("[grants]\nimages = \"redis:*\"\n", ":2:10: ", "a sequence"),
            ("[grants]\npublish = [\"everywhere\"]\n", ":2:12: ", "IP address"),
            ("[grants]\nnamespaces = [\"Team_A\"]\n", ":2:14: ", "lower-case"),
            ("[grants]\nimages = [\"\"]\n", ":2:10: ", "pattern"),
            ("[limits]\nguest-time = 2\n", ":2:14: ", "like \"2 s\""),
            ("[limits]\nguest-time = \"soon\"\n", ":2:14: ", "like \"2 s\""),
            ("[limits]\nmemory = \"much\"\n", ":2:10: ", "like \"8 MiB\""),
            ("[limits]\nmemory = \"1 TiB\"\n", ":2:10: ", "at most"),
            ("[limits]\nhost-calls = -1\n", ":2:14: ", "-1"),
            ("[policy]\nsha256 = \"12\"\n", ":2:10: ", "64"),
            ("[config]\nx = [1]\n", ":2:5: ", "a setting is"),
            ("[config\n", ":1:", "expected"),
        ] {
            let said = refusal(text);
            assert!(said.contains(place) && said.contains(words), "{text:?}: {said}");
        }
    }

    #[test]
    fn settings_are_flat_however_they_are_written() {
        let manifest =
            parse("[config]\n\"image.redis\" = \"a\"\nimage.valkey = \"b\"\n[config.x]\nn = 1\nf = true\n")
                .unwrap();
        let settings: Vec<_> = manifest.config.0.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(settings, ["image.redis=a", "image.valkey=b", "x.f=true", "x.n=1"]);
    }

    #[test]
    fn limits_are_read_in_the_units_that_people_write() {
        let manifest =
            parse("[limits]\nmemory = \"16 MiB\"\nguest-time = \"1500ms\"\nlog-bytes = 100\n").unwrap();
        assert_eq!(manifest.limits.memory, 16 << 20);
        assert_eq!(manifest.limits.guest_time, Duration::from_millis(1500));
        assert_eq!(manifest.limits.log_bytes, 100);
        assert_eq!(manifest.limits.host_calls, Limits::default().host_calls);
    }

    #[test]
    fn the_component_lies_beside_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ci.toml");
        std::fs::write(&path, "[policy]\ncomponent = \"p.wasm\"\n").unwrap();
        let manifest = Manifest::read(&path).unwrap();
        assert_eq!(manifest.policy.component.unwrap(), folder.path().join("p.wasm"));
        let missing = Manifest::read(&folder.path().join("no.toml")).unwrap_err();
        assert!(missing.to_string().contains("no.toml"));
    }
}
