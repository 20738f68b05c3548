//! What runs the caches.

use std::str::FromStr;

use serde::Deserialize;

use crate::error::InvalidInput;

/// Name the backend, the first one that is set.
const VARIABLES: [&str; 2] = ["FAKECLOUD_ELASTICACHE_BACKEND", "FAKECLOUD_CONTAINER_BACKEND"];

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Backend {
    /// Docker or Podman, whichever is found first.
    #[default]
    Docker,
    /// Podman and nothing else.
    Podman,
    /// Pods of a Kubernetes cluster.
    Kube,
}

impl Backend {
    /// What `FAKECLOUD_ELASTICACHE_BACKEND`, or else `FAKECLOUD_CONTAINER_BACKEND`, names, else Docker: what a
    /// [`RuntimeBuilder`](crate::RuntimeBuilder) takes that is told nothing.
    ///
    /// # Errors
    /// If a word is none of a backend's.
    pub fn of_variables() -> Result<Self, InvalidInput> {
        of_variables(|name| std::env::var(name).ok())
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Docker => "docker",
            Backend::Podman => "podman",
            Backend::Kube => "kube",
        }
    }
}

impl TryFrom<String> for Backend {
    type Error = InvalidInput;

    fn try_from(text: String) -> Result<Self, InvalidInput> {
        text.parse()
    }
}

impl FromStr for Backend {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        match text {
            "docker" => Ok(Backend::Docker),
            "podman" => Ok(Backend::Podman),
            "kube" | "k8s" | "kubernetes" => Ok(Backend::Kube),
            other => {
                let reason = format!("{other:?} is not supplied here; use `docker`, `podman` or `kube`");
                Err(InvalidInput::new("backend", reason))
            }
        }
    }
}

/// The backend that the process's variables name. One that is not supplied is an error: nothing else is silently
/// taken in its place.
fn of_variables(get: impl Fn(&str) -> Option<String>) -> Result<Backend, InvalidInput> {
    let named = VARIABLES.iter().find_map(|name| Some((*name, get(name).filter(|value| !value.is_empty())?)));
    match named {
        None => Ok(Backend::default()),
        Some((name, value)) => value
            .parse::<Backend>()
            .map_err(|error| InvalidInput::new(name, format!("names no backend: {}", error.reason))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_backend_that_is_not_supplied_is_named() {
        assert_eq!("docker".parse::<Backend>().unwrap(), Backend::Docker);
        assert_eq!("k8s".parse::<Backend>().unwrap(), Backend::Kube);
        assert!("nomad".parse::<Backend>().unwrap_err().to_string().contains("nomad"));
        let variables = |named: &'static [(&str, &str)]| {
            of_variables(|name| Some(named.iter().find(|(n, _)| *n == name)?.1.to_owned()))
        };
        assert_eq!(variables(&[]).unwrap(), Backend::Docker);
        assert_eq!(variables(&[(VARIABLES[0], ""), (VARIABLES[1], "podman")]).unwrap(), Backend::Podman);
        let silent = variables(&[(VARIABLES[1], "nomad")]).unwrap_err().to_string();
        assert!(silent.contains(VARIABLES[1]) && silent.contains("nomad"), "{silent}");
    }
}
