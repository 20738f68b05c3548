//! What an environment lets its policy do. Nothing is allowed but what is said here.
//!
//! Each check gives the [`Denial`] that a refused policy is told, with the line of a manifest that would allow it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use wildmatch::WildMatch;

use crate::error::Error;

/// Labels that this runtime reads begin with this; of these a policy may be granted only those that begin with
/// [`POLICY_LABELS`].
const RUNTIME_LABELS: &str = "fakecloud-";
/// Labels of policies.
const POLICY_LABELS: &str = "fakecloud-policy-";

/// An interface through which a policy reaches something outside. Those that work on what these give, such as
/// probes and snapshots, need no grant of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capability {
    /// Containers, volumes and images of Docker or Podman.
    Docker,
    /// Pods, claims and leases of Kubernetes.
    Kube,
}

impl Capability {
    /// The interface's name in the contract, which is the grant's name too.
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Docker => "docker",
            Capability::Kube => "kube",
        }
    }
}

/// A text with `*` for any number of characters and `?` for one. It has to fit as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        WildMatch::new(&self.0).matches(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a pattern must have at least one character and no blanks; `*` fits everything");
        }
        Ok(Self(text))
    }
}

/// A namespace of Kubernetes: a DNS-1123 label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Namespace(String);

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Namespace {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = !text.is_empty() && text.len() <= 63 && text.chars().all(inside);
        if !fits || text.starts_with('-') || text.ends_with('-') {
            return Err("a namespace has 1 to 63 lower-case letters, digits and `-`, no `-` at its ends");
        }
        Ok(Self(text))
    }
}

/// What a policy may do. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grants {
    /// The interfaces that reach outside.
    pub capabilities: BTreeSet<Capability>,
    /// The images that containers may be made of, and that may be fetched.
    pub images: Vec<Pattern>,
    /// Whether data may be kept on volumes.
    pub volumes: bool,
    /// The programs that may be run inside of containers, by the name that they are called by.
    pub exec: BTreeSet<String>,
    /// The addresses of the engine's host at which ports may be published. The first one is used unless the
    /// embedder names one.
    pub publish: Vec<IpAddr>,
    /// The namespaces of Kubernetes in which there may be pods.
    pub namespaces: BTreeSet<Namespace>,
    /// The labels that may be put on objects. Of those that begin with `fakecloud-` only the ones that begin with
    /// `fakecloud-policy-` are a policy's to have.
    pub labels: Vec<Pattern>,
}

/// Whether a component's import is of use to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The environment grants it.
    Granted,
    /// It needs no grant: nothing outside is reached through it.
    Free,
    /// It is not granted, and answers every call with a denial.
    Denied,
}

impl Access {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Granted => "granted",
            Access::Free => "free",
            Access::Denied => "denied",
        }
    }
}

/// A refusal: what was asked for, and the grant that would allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) what: String,
    pub(crate) grant: String,
}

impl From<Denial> for Error {
    fn from(Denial { what, grant }: Denial) -> Self {
        Self::Denied { what, grant }
    }
}

impl Grants {
    /// What the shipped policies need on Docker: their engines' official images, volumes, the engines' own
    /// clients, ports on loopback, and labels of policies.
    pub fn standard() -> Self {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern((*text).to_owned())).collect();
        Self {
            capabilities: BTreeSet::from([Capability::Docker]),
            images: patterns(&["redis:*", "valkey/valkey:*", "memcached:*"]),
            volumes: true,
            exec: ["redis-cli", "valkey-cli"].map(str::to_owned).into(),
            publish: vec![Ipv4Addr::LOCALHOST.into()],
            namespaces: BTreeSet::new(),
            labels: patterns(&["fakecloud-policy-*"]),
        }
    }

    /// The same on Kubernetes, in one namespace: claims instead of volumes, and nothing to publish.
    ///
    /// # Errors
    /// What is wrong with the namespace's name.
    pub fn standard_kube(namespace: &str) -> Result<Self, crate::InvalidInput> {
        let namespace = Namespace::try_from(namespace.to_owned())
            .map_err(|reason| crate::InvalidInput::new("namespace", reason))?;
        Ok(Self {
            capabilities: BTreeSet::from([Capability::Kube]),
            publish: Vec::new(),
            namespaces: BTreeSet::from([namespace]),
            ..Self::standard()
        })
    }

    /// Allows images that fit a pattern, such as `registry.example/team/redis:*`.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn with_images(mut self, pattern: &str) -> Result<Self, crate::InvalidInput> {
        let pattern = Pattern::try_from(pattern.to_owned())
            .map_err(|reason| crate::InvalidInput::new(format!("image pattern {pattern:?}"), reason))?;
        self.images.push(pattern);
        Ok(self)
    }

    /// What becomes of an import, by its name in the component, such as
    /// `fakecloud:elasticache/docker@0.1.0`.
    pub fn access(&self, import: &str) -> Access {
        let interface = import.split_once('/').map_or(import, |(_, interface)| interface);
        let interface = interface.split_once('@').map_or(interface, |(name, _)| name);
        let capability = [Capability::Docker, Capability::Kube].into_iter().find(|capability| {
            import.starts_with("fakecloud:elasticache/") && capability.as_str() == interface
        });
        match capability {
            None => Access::Free,
            Some(capability) if self.capabilities.contains(&capability) => Access::Granted,
            Some(_) => Access::Denied,
        }
    }

    pub(crate) fn capability(&self, capability: Capability) -> Result<(), Denial> {
        let name = capability.as_str();
        allow(
            self.capabilities.contains(&capability),
            || format!("using the interface {name}"),
            || format!("grants.capabilities = [{name:?}]"),
        )
    }

    pub(crate) fn namespace(&self, name: &str) -> Result<(), Denial> {
        allow(
            self.namespaces.iter().any(|granted| granted.0 == name),
            || format!("using the namespace {}", shown(name)),
            || format!("grants.namespaces = [{}]", shown(name)),
        )
    }

    pub(crate) fn image(&self, image: &str) -> Result<(), Denial> {
        allow(
            self.images.iter().any(|pattern| pattern.fits(image)),
            || format!("using the image {}", shown(image)),
            || format!("grants.images = [{}]", shown(image)),
        )
    }

    pub(crate) fn volume(&self, name: &str) -> Result<(), Denial> {
        allow(self.volumes, || format!("using the volume {name}"), || "grants.volumes = true".to_owned())
    }

    pub(crate) fn program(&self, argv: &[String]) -> Result<(), Denial> {
        let program = argv.first().map(String::as_str).unwrap_or_default();
        allow(
            self.exec.contains(program),
            || format!("running {}", shown(program)),
            || format!("grants.exec = [{}]", shown(program)),
        )
    }

    pub(crate) fn publish(&self, address: IpAddr) -> Result<(), Denial> {
        allow(
            self.publish.contains(&address),
            || format!("publishing a port at {address}"),
            || format!("grants.publish = [\"{address}\"]"),
        )
    }

    pub(crate) fn label(&self, name: &str) -> Result<(), Denial> {
        let what = || format!("setting the label {}", shown(name));
        if name.starts_with(RUNTIME_LABELS) && !name.starts_with(POLICY_LABELS) {
            let grant = format!(
                "no grant: of labels that begin with {RUNTIME_LABELS} a policy's own begin with {POLICY_LABELS}"
            );
            return Err(Denial { what: what(), grant });
        }
        let fits = self.has_label(name);
        allow(fits, what, || format!("grants.labels = [{}]", shown(name)))
    }

    /// Whether a label may be a policy's own.
    pub(crate) fn has_label(&self, name: &str) -> bool {
        (!name.starts_with(RUNTIME_LABELS) || name.starts_with(POLICY_LABELS))
            && self.labels.iter().any(|pattern| pattern.fits(name))
    }
}

/// A policy's text in a message: quoted, and not longer than a message should be.
fn shown(text: &str) -> String {
    const LENGTH: usize = 120;
    let short: String = text.chars().take(LENGTH).collect();
    if short.len() < text.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

fn allow(allowed: bool, what: impl FnOnce() -> String, grant: impl FnOnce() -> String) -> Result<(), Denial> {
    if allowed { Ok(()) } else { Err(Denial { what: what(), grant: grant() }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nothing_is_allowed_by_default() {
        let none = Grants::default();
        let argv = ["redis-cli".to_owned()];
        let refusals = [
            none.capability(Capability::Docker),
            none.image("redis:7-alpine"),
            none.volume("v"),
            none.program(&argv),
            none.publish(Ipv4Addr::LOCALHOST.into()),
            none.label("fakecloud-policy-engine"),
            none.namespace("team-a"),
        ];
        for (refusal, grant) in refusals.into_iter().zip([
            "grants.capabilities = [\"docker\"]",
            "grants.images = [\"redis:7-alpine\"]",
            "grants.volumes = true",
            "grants.exec = [\"redis-cli\"]",
            "grants.publish = [\"127.0.0.1\"]",
            "grants.labels = [\"fakecloud-policy-engine\"]",
            "grants.namespaces = [\"team-a\"]",
        ]) {
            assert_eq!(refusal.unwrap_err().grant, grant);
        }
    }

    #[test]
    fn an_import_is_granted_free_or_denied() {
        let grants = Grants::standard();
        assert_eq!(grants.access("fakecloud:elasticache/docker@0.1.0"), Access::Granted);
        assert_eq!(grants.access("fakecloud:elasticache/kube@0.1.0"), Access::Denied);
        assert_eq!(grants.access("fakecloud:elasticache/probes@0.1.0"), Access::Free);
        assert_eq!(grants.access("wasi:cli/stdout@0.2.0"), Access::Free);
    }

    #[test]
    fn a_pattern_fits_as_a_whole_or_not_at_all() {
        let grants = Grants::standard();
        grants.image("redis:7-alpine").unwrap();
        grants.image("valkey/valkey:8-alpine").unwrap();
        for other in ["redis", "evil/redis:7", "redis-evil:7", "docker.io/evil", "valkey:8", ""] {
            assert!(grants.image(other).is_err(), "{other}");
        }
        Grants::standard()
            .with_images("registry.example/team/*")
            .unwrap()
            .image("registry.example/team/r:1")
            .unwrap();
        assert!(Grants::standard().with_images("two words").is_err());
    }

    #[test]
    fn a_program_is_known_by_its_whole_name() {
        let grants = Grants::standard();
        let run = |words: &[&str]| grants.program(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        run(&["redis-cli", "PING"]).unwrap();
        for other in [&["sh", "-c", "redis-cli"][..], &["/tmp/redis-cli"], &["redis-cli "], &[]] {
            assert!(run(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn the_runtime_s_own_labels_cannot_be_granted() {
        let all = Grants { labels: vec![Pattern("*".to_owned())], ..Grants::default() };
        all.label("com.example.team").unwrap();
        all.label("fakecloud-policy-x").unwrap();
        for own in ["fakecloud-instance", "fakecloud-elasticache", "fakecloud-elasticache-mark"] {
            assert!(all.label(own).unwrap_err().grant.contains("fakecloud-policy-"), "{own}");
            assert!(!all.has_label(own));
        }
    }
}
