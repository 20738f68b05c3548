//! The clauses of `docs/specification.md`, which is where they are written, and nowhere else.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The document.
pub(crate) const TEXT: &str = include_str!("../../docs/specification.md");

/// The head of every table of clauses.
const HEAD: &str = "| ID | profile | sentence |";

/// Every promise that a policy can make, as the contract spells it.
pub const PROMISES: [&str; 8] = [
    "data-survives-reboot",
    "data-survives-stop",
    "data-survives-removal",
    "data-survives-kill",
    "snapshots",
    "reboot-empties",
    "nothing-survives-stop",
    "endpoint-survives-reboot",
];

/// Under what a clause is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Every policy, everywhere, where the clause speaks of no promise.
    Core,
    /// Policies that keep data.
    Durable,
    /// Policies that keep it until a stop.
    Ephemeral,
    /// Policies that lose it as ElastiCache does.
    Aws,
    /// Every policy on Docker or Podman.
    Docker,
    /// Every policy on Kubernetes.
    Kube,
}

impl Profile {
    /// All of them, in the order in which a clause is listed under the first that fits.
    pub const ALL: [Profile; 6] =
        [Profile::Core, Profile::Durable, Profile::Ephemeral, Profile::Aws, Profile::Docker, Profile::Kube];

    /// As the specification writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Core => "core",
            Profile::Durable => "durable",
            Profile::Ephemeral => "ephemeral",
            Profile::Aws => "aws",
            Profile::Docker => "docker",
            Profile::Kube => "kube",
        }
    }

    /// The promises that a policy makes which is held to this profile. None for those that are not about promises.
    pub fn promises(self) -> &'static [&'static str] {
        match self {
            Profile::Core | Profile::Docker | Profile::Kube => &[],
            Profile::Durable => &[
                "data-survives-reboot",
                "data-survives-stop",
                "data-survives-removal",
                "data-survives-kill",
                "snapshots",
            ],
            Profile::Ephemeral => &["data-survives-reboot", "nothing-survives-stop", "snapshots"],
            Profile::Aws => &["reboot-empties", "nothing-survives-stop", "snapshots"],
        }
    }

    /// Whether every policy that is held to this profile owes a clause.
    pub fn owes(self, clause: &Clause) -> bool {
        match clause.profile {
            Profile::Docker | Profile::Kube => clause.profile == self,
            _ => clause.promises().iter().all(|promise| self.promises().contains(promise)),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Profile::ALL.into_iter().find(|profile| profile.as_str() == text) {
            Some(profile) => Ok(profile),
            None => {
                bail!("{text:?} is no profile; there are {}", Profile::ALL.map(Profile::as_str).join(", "))
            }
        }
    }
}

/// One sentence that a test can refute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its chapter's word, and a number: `BOOT-2`.
    pub id: &'static str,
    /// Under what it is listed.
    pub profile: Profile,
    /// The sentence, in Markdown.
    pub text: &'static str,
}

impl Clause {
    /// The promises by which a policy comes to owe it, in the contract's order. A policy owes it that makes them all.
    pub fn promises(&self) -> Vec<&'static str> {
        let named = |promise: &&str| self.text.contains(&format!("`{promise}`"));
        PROMISES.into_iter().filter(named).collect()
    }
}

/// All clauses, in the order of the specification.
///
/// # Errors
/// If a table of it cannot be read, with the line.
pub fn all() -> Result<Vec<Clause>> {
    let mut clauses = Vec::new();
    let mut chapter = None;
    let mut in_table = false;
    for line in TEXT.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            chapter = heading.split_once(':').map(|(word, _)| word);
        }
        in_table = line == HEAD || (in_table && line.starts_with('|'));
        if in_table && line != HEAD && !line.starts_with("| ---") {
            clauses.push(row(line, chapter).with_context(|| format!("docs/specification.md: {line}"))?);
        }
    }
    Ok(clauses)
}

/// One clause.
///
/// # Errors
/// If there is none of that id.
pub fn find(id: &str) -> Result<Clause> {
    let found = all()?.into_iter().find(|clause| clause.id == id);
    found.with_context(|| format!("there is no clause {id:?} in docs/specification.md"))
}

fn row(line: &'static str, chapter: Option<&str>) -> Result<Clause> {
    let cells: Vec<&'static str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let &[id, profile, text] = cells.as_slice() else {
        bail!("it has {} cells and not 3", cells.len());
    };
    let chapter = chapter.context("it is in no chapter")?;
    let number = id.strip_prefix(chapter).and_then(|rest| rest.strip_prefix('-'));
    let is_number = number.is_some_and(|number| number.parse::<u8>().is_ok_and(|n| n.to_string() == number));
    ensure!(is_number, "the id is not {chapter}- and a number");
    Ok(Clause { id, profile: profile.parse()?, text })
}

#[cfg(test)]
pub(crate) mod tests;
