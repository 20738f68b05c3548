//! Where pods may run: what the environment says, and over it what a cache's tags say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::cluster::Toleration;
use crate::error::InvalidInput;

pub(crate) mod syntax;
#[cfg(test)]
mod tests;

/// Before which variables are looked for, the lower level first.
const LEVELS: [&str; 2] = ["FAKECLOUD_K8S_", "FAKECLOUD_ELASTICACHE_K8S_"];
/// Before which tags of a cache are looked for.
const TAGS: &str = "fakecloud-k8s/";
/// As Kubernetes bounds the annotations of one object.
const ANNOTATION_BYTES: usize = 256 * 1024;

/// What a pod gets beside what its policy asks for, so that the cluster's scheduler puts it where it may run.
///
/// # Guarantees
/// - What is held has been checked by Kubernetes' own rules: no API server refuses it for its form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", try_from = "Unchecked")]
#[non_exhaustive]
pub struct Scheduling {
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Labels that the pod's node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod's node may have.
    pub tolerations: Vec<Toleration>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Unchecked {
    annotations: BTreeMap<String, String>,
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
}

impl TryFrom<Unchecked> for Scheduling {
    type Error = String;

    fn try_from(unchecked: Unchecked) -> Result<Self, String> {
        let Unchecked { annotations, node_selector, tolerations } = unchecked;
        check_annotations(&annotations).map_err(|reason| format!("annotations {reason}"))?;
        check_labels(&node_selector).map_err(|reason| format!("node-selector {reason}"))?;
        tolerations
            .iter()
            .try_for_each(check_toleration)
            .map_err(|reason| format!("tolerations {reason}"))?;
        Ok(Self { annotations, node_selector, tolerations })
    }
}

impl Scheduling {
    /// What the environment says: `NODE_SELECTOR` and `ANNOTATIONS` (`k=v,k=v`) and `TOLERATIONS` (a JSON array, as in
    /// a pod's manifest), each after `FAKECLOUD_K8S_` and after `FAKECLOUD_ELASTICACHE_K8S_`. The latter wins key by
    /// key; tolerations add up. `get` looks a variable up.
    ///
    /// # Errors
    /// A value that cannot be used, with the variable's name and what is wrong.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidInput> {
        let mut all = Self::default();
        for level in LEVELS {
            for part in Part::ALL {
                let name = format!("{level}{}", part.variable());
                if let Some(value) = get(&name) {
                    all.add(part, &value).map_err(|reason| InvalidInput::new(name, reason))?;
                }
            }
        }
        Ok(all)
    }

    /// The same with what lies over it: its maps win key by key, its tolerations are added.
    pub fn overlaid(mut self, over: &Scheduling) -> Self {
        self.annotations.extend(over.annotations.clone());
        self.node_selector.extend(over.node_selector.clone());
        self.add_tolerations(over.tolerations.clone());
        self
    }

    /// The same with what a cache's tags `fakecloud-k8s/node-selector`, `fakecloud-k8s/tolerations` and
    /// `fakecloud-k8s/annotations` say over it, and a warning for each tag that is ignored because it cannot be used.
    pub fn with_tags(&self, tags: &BTreeMap<String, String>) -> (Scheduling, Vec<String>) {
        let (mut all, mut warnings) = (self.clone(), Vec::new());
        for part in Part::ALL {
            let name = format!("{TAGS}{}", part.tag());
            if let Some(value) = tags.get(&name)
                && let Err(reason) = all.add(part, value)
            {
                warnings.push(format!("the tag {name} is ignored: it {reason}"));
            }
        }
        (all, warnings)
    }

    /// All of the value or nothing.
    fn add(&mut self, part: Part, value: &str) -> Result<(), String> {
        match part {
            Part::NodeSelector => {
                let labels = pairs(value)?;
                check_labels(&labels)?;
                self.node_selector.extend(labels);
            }
            Part::Annotations => {
                let mut annotations = self.annotations.clone();
                annotations.extend(pairs(value)?);
                check_annotations(&annotations)?;
                self.annotations = annotations;
            }
            Part::Tolerations => self.add_tolerations(tolerations(value)?),
        }
        Ok(())
    }

    fn add_tolerations(&mut self, more: Vec<Toleration>) {
        for toleration in more {
            if !self.tolerations.contains(&toleration) {
                self.tolerations.push(toleration);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    NodeSelector,
    Tolerations,
    Annotations,
}

impl Part {
    const ALL: [Part; 3] = [Part::NodeSelector, Part::Tolerations, Part::Annotations];

    fn variable(self) -> &'static str {
        match self {
            Part::NodeSelector => "NODE_SELECTOR",
            Part::Tolerations => "TOLERATIONS",
            Part::Annotations => "ANNOTATIONS",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Part::NodeSelector => "node-selector",
            Part::Tolerations => "tolerations",
            Part::Annotations => "annotations",
        }
    }
}

/// `k=v,k=v`; blanks around keys and values do not count, and a comma at the end is no pair.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!("has {pair:?}, which is not like `key=value`; write `key=value,key=value`"));
        };
        let (key, value) = (key.trim(), value.trim());
        if all.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("has the key {key:?} twice"));
        }
    }
    Ok(all)
}

fn tolerations(text: &str) -> Result<Vec<Toleration>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<Toleration> = serde_json::from_str(text).map_err(|error| {
        format!("is not a JSON array of tolerations ({error}); write it like [{{\"key\":\"k\",\"operator\":\"Exists\"}}]")
    })?;
    all.iter().try_for_each(check_toleration)?;
    Ok(all)
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    labels.iter().try_for_each(|(key, value)| {
        syntax::key(key)?;
        syntax::label_value(value)
    })
}

fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), String> {
    // Of an annotation's key the case does not matter.
    annotations.keys().try_for_each(|key| syntax::key(&key.to_ascii_lowercase()))?;
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATION_BYTES {
        return Err(format!("has {bytes} bytes in all; {ANNOTATION_BYTES} are allowed"));
    }
    Ok(())
}

fn check_toleration(toleration: &Toleration) -> Result<(), String> {
    let Toleration { key, operator, value, effect, toleration_seconds } = toleration;
    let set = |part: &Option<String>| part.clone().filter(|text| !text.is_empty());
    let (key, value) = (set(key), set(value));
    if let Some(key) = &key {
        syntax::key(key)?;
    }
    match (set(operator).as_deref(), &key, &value) {
        (Some("Exists"), _, Some(value)) => {
            return Err(format!("has the operator Exists with the value {value:?}; leave one of them out"));
        }
        (Some("Exists"), _, None) => {}
        (None | Some("Equal"), None, _) => {
            return Err("has a toleration without a key; that takes the operator Exists".to_owned());
        }
        (None | Some("Equal"), Some(_), value) => {
            syntax::label_value(value.as_deref().unwrap_or_default())?;
        }
        (Some(other), ..) => return Err(format!("has the operator {other:?}; there are Equal and Exists")),
    }
    match (set(effect).as_deref(), toleration_seconds) {
        (Some("NoExecute"), _) | (None | Some("NoSchedule" | "PreferNoSchedule"), None) => Ok(()),
        (None | Some("NoSchedule" | "PreferNoSchedule"), Some(_)) => {
            Err("has tolerationSeconds without the effect NoExecute".to_owned())
        }
        (Some(other), _) => {
            Err(format!("has the effect {other:?}; there are NoSchedule, PreferNoSchedule and NoExecute"))
        }
    }
}
