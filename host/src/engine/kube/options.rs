//! Which cluster, and how it is used.

use std::path::PathBuf;

use serde::Deserialize;

use crate::error::InvalidInput;
use crate::policy::limits::{bytes, parse_bytes};
use crate::scheduling::syntax;

const NAMESPACE: &str = "FAKECLOUD_K8S_NAMESPACE";
const PULL_SECRET: &str = "FAKECLOUD_K8S_PULL_SECRET";
const STORAGE_CLASS: &str = "FAKECLOUD_K8S_STORAGE_CLASS";
const CLAIM_SIZE: &str = "FAKECLOUD_K8S_CLAIM_SIZE";
const RESTORE: &str = "FAKECLOUD_K8S_RESTORE";
const SELF_URL: &str = "FAKECLOUD_K8S_SELF_URL";

/// Bytes of a claim when nobody says otherwise: 1 GiB, the least that many kinds of storage give.
const DEFAULT_CLAIM_SIZE: u64 = 1 << 30;

/// The table `[kube]` of a manifest. What is left out is taken from the environment, then from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct KubeOptions {
    /// The file that says how to reach clusters. Default: inside a cluster that one, by the pod's service account;
    /// elsewhere, and if a context is named, the files in `KUBECONFIG` or `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Which of that file's contexts. Default: its current one.
    pub context: Option<String>,
    /// Where all objects lie; it has to exist. Default: `default`, whatever the context says.
    pub namespace: Option<String>,
    /// A Secret of that namespace with which nodes fetch images. Default: none.
    pub pull_secret: Option<String>,
    /// Which kind of storage data lies on. Default: none, and data goes with its pod.
    pub storage_class: Option<String>,
    /// Bytes of a new claim, written like `"1 GiB"` or as a number of bytes. Default: 1 GiB.
    #[serde(deserialize_with = "some_bytes")]
    pub claim_size: Option<u64>,
    /// How the file that a cache is to start from gets into its pod. Default: `stream`. `pull` takes an embedder that
    /// serves such files, which [`crate::ElastiCacheRuntime::new_k8s`] makes.
    pub restore: Option<RestoreBy>,
    /// The embedder's base URL as pods reach it, for `pull`. Default: none.
    pub self_url: Option<String>,
    /// How probes get to a pod. Default: `direct` inside a cluster, `forward` elsewhere.
    pub reach: Option<Reach>,
}

/// How this process gets to the port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// At the pod's IP address: from inside the cluster, or where its network is routed.
    Direct,
    /// Through the API server: from wherever that can be reached.
    Forward,
}

/// How the file that a cache is to start from gets into its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreBy {
    /// Through the API server: no way from the pod to the embedder is needed.
    Stream,
    /// The pod fetches it from the embedder.
    Pull,
}

fn some_bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

impl KubeOptions {
    /// Fills what is not given from `FAKECLOUD_K8S_NAMESPACE`, `FAKECLOUD_K8S_PULL_SECRET`,
    /// `FAKECLOUD_K8S_STORAGE_CLASS`, `FAKECLOUD_K8S_CLAIM_SIZE`, `FAKECLOUD_K8S_RESTORE` and
    /// `FAKECLOUD_K8S_SELF_URL`, and checks all. `get` looks a variable up; an
    /// empty one counts as not set.
    ///
    /// # Errors
    /// The variable or option that cannot be used, and why.
    pub fn filled(mut self, get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidInput> {
        let get =
            |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let check = |field: &str, value: &Option<String>, check: fn(&str) -> Result<(), String>| match value {
            Some(value) => check(value).map_err(|reason| InvalidInput::new(field, reason)),
            None => Ok(()),
        };
        for (option, variable, value, checked) in [
            ("kube.namespace", NAMESPACE, &mut self.namespace, syntax::dns_label as fn(&str) -> _),
            ("kube.pull-secret", PULL_SECRET, &mut self.pull_secret, syntax::dns_subdomain),
            ("kube.storage-class", STORAGE_CLASS, &mut self.storage_class, syntax::dns_subdomain),
        ] {
            check(option, value, checked)?;
            if value.is_none() {
                *value = get(variable);
                check(variable, value, checked)?;
            }
        }
        let mut named = "kube.claim-size";
        if self.claim_size.is_none()
            && let Some(text) = get(CLAIM_SIZE)
        {
            named = CLAIM_SIZE;
            self.claim_size = Some(parse_bytes(&text).map_err(|reason| InvalidInput::new(named, reason))?);
        }
        if self.restore.is_none() {
            self.restore = match get(RESTORE).as_deref() {
                None => None,
                Some("stream") => Some(RestoreBy::Stream),
                Some("pull") => Some(RestoreBy::Pull),
                Some(other) => {
                    return Err(InvalidInput::new(RESTORE, format!("is {other:?}; use `stream` or `pull`")));
                }
            };
        }
        if self.self_url.is_none() {
            self.self_url = get(SELF_URL);
        }
        if self.claim_size == Some(0) {
            return Err(InvalidInput::new(named, "is 0; a claim has at least one byte"));
        }
        Ok(self)
    }

    /// The namespace, or its default.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// Bytes of a new claim, or their default.
    pub fn claim_size(&self) -> u64 {
        self.claim_size.unwrap_or(DEFAULT_CLAIM_SIZE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn filled(text: &str, variables: &[(&str, &str)]) -> Result<KubeOptions, InvalidInput> {
        let options: KubeOptions = toml::from_str(text).unwrap();
        options.filled(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_not_given_comes_from_variables_and_then_from_defaults() {
        let none = filled("", &[(NAMESPACE, " ")]).unwrap();
        assert_eq!(none, KubeOptions::default());
        assert_eq!((none.namespace(), none.claim_size()), ("default", 1 << 30));
        let variables = [
            (NAMESPACE, "team-a"),
            (PULL_SECRET, "pull.secret"),
            (STORAGE_CLASS, "fast"),
            (CLAIM_SIZE, "2 GiB"),
        ];
        let all = filled("", &variables).unwrap();
        assert_eq!((all.namespace(), all.claim_size()), ("team-a", 2 << 30));
        assert_eq!(
            (all.pull_secret.as_deref(), all.storage_class.as_deref()),
            (Some("pull.secret"), Some("fast"))
        );
        let text = "namespace = \"b\"\npull-secret = \"p\"\nstorage-class = \"s\"\nclaim-size = 5\nreach = \"direct\"";
        let given = filled(text, &variables).unwrap();
        assert_eq!((given.namespace(), given.claim_size()), ("b", 5));
        assert_eq!((given.pull_secret.as_deref(), given.storage_class.as_deref()), (Some("p"), Some("s")));
        assert_eq!(given.reach, Some(Reach::Direct));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (variable, value, words) in [
            (NAMESPACE, "Team_A", "lower-case"),
            (PULL_SECRET, "a/b", "lower-case"),
            (STORAGE_CLASS, "-", "lower-case"),
            (CLAIM_SIZE, "much", "like \"8 MiB\""),
            (CLAIM_SIZE, "0", "at least"),
            (RESTORE, "push", "`pull`"),
        ] {
            let said = filled("", &[(variable, value)]).unwrap_err();
            assert_eq!(said.field, variable);
            assert!(said.reason.contains(words), "{said}");
        }
        let said = filled("namespace = \"a.b\"", &[(NAMESPACE, "fine")]).unwrap_err();
        assert_eq!(said.field, "kube.namespace");
    }

    #[test]
    fn a_manifest_s_table_is_read_strictly() {
        for (text, words) in [
            ("names = 1", "unknown field `names`"),
            ("reach = \"near\"", "`forward`"),
            ("claim-size = \"much\"", "like \"8 MiB\""),
        ] {
            let said = toml::from_str::<KubeOptions>(text).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
