//! Breakages of the policies and of the host, small and plausible, each of which some clause has to notice: what shows
//! that the suite can fail.
//!
//! They are in `tests/mutants`, as a piece of the source and what takes its place. All of them are built at once, into a
//! copy of the sources, where one is chosen as it runs.
//!
//! - [`schemata`]: the copy
//! - [`policies`]: those of policies, against scenarios and faults
//! - [`programs`]: those of the host, against its tests

pub mod policies;
pub mod programs;
pub mod schemata;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::report::model;
use crate::world::Place;

/// The files, by what they are about. The host's tests wait more than they compute, so they come first.
const FILES: [(&str, &str); 2] = [
    ("host.toml", include_str!("../mutants/host.toml")),
    ("policy.toml", include_str!("../mutants/policy.toml")),
];

/// A breakage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// By which it is chosen.
    pub id: String,
    /// The file that is broken, below the workspace.
    pub file: String,
    /// What is broken, as a sentence.
    pub what: String,
    /// The source that is replaced: an expression, or statements up to a semicolon. It occurs once in the file.
    pub find: String,
    /// What takes its place.
    pub replace: String,
    /// Where `find` occurs more than once: a text that occurs once, and has one of them in it.
    pub r#in: Option<String>,
    /// Where it shows: `docker`, unless this is `kube`, or `kube-claims`, where the data lies on claims.
    #[serde(default)]
    pub place: Place,
    /// Whether what it breaks makes something wait for ever: of any other one the host's tests have to end.
    #[serde(default)]
    pub hangs: bool,
    /// Of one of a policy: the policy that is judged. `durable`, unless the file is another's.
    pub policy: Option<String>,
    /// Of one of a policy: the scenario that is to notice it. Where it does not, all others are tried.
    pub scenario: Option<String>,
    /// Of one of a policy: the scenario in which single faults show it, where no scenario does without them.
    pub faults: Option<String>,
    /// Of one of the host: what notices it.
    pub by: Option<By>,
}

/// The test that is to notice a breakage of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// A file of `tests/tests`; `scenario` for the corpus, `faults` for the corpus with single faults.
    pub program: String,
    /// The test, or the scenario.
    pub test: String,
    /// The clause that does not hold.
    pub clause: String,
}

/// How a mutant was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The clauses that it refuted: one of them at least does not hold.
    pub clauses: Vec<String>,
    /// What noticed it.
    pub test: String,
}

#[derive(Deserialize)]
struct File {
    mutant: Vec<Mutant>,
}

impl Mutant {
    /// Whether it breaks the host.
    pub fn is_of_host(&self) -> bool {
        self.file.starts_with("host/")
    }

    /// The policy that is judged.
    pub fn policy(&self) -> &str {
        let of_file = self.file.strip_prefix("guest/").and_then(|rest| rest.split('/').next());
        match (&self.policy, of_file) {
            (Some(policy), _) => policy,
            (None, Some(package)) if package != "kit" => package,
            (None, _) => "durable",
        }
    }

    /// In the words of the report.
    pub fn reported(&self, kill: Option<&Kill>) -> model::Mutant {
        model::Mutant {
            id: self.id.clone(),
            file: self.file.clone(),
            what: self.what.clone(),
            killed_by: kill.map(|kill| kill.clauses.clone()).unwrap_or_default(),
            test: kill.map(|kill| kill.test.clone()),
        }
    }
}

/// All mutants.
///
/// # Errors
/// If a file does not hold mutants, or two have one id.
pub fn all() -> Result<Vec<Mutant>> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for (name, text) in FILES {
        let file: File = toml::from_str(text).with_context(|| format!("tests/mutants/{name}"))?;
        for mutant in file.mutant {
            let fits = mutant.is_of_host() == mutant.by.is_some()
                && mutant.is_of_host() == (name == "host.toml")
                && !(mutant.is_of_host()
                    && (mutant.policy.is_some() || mutant.scenario.is_some() || mutant.faults.is_some()))
                && (mutant.is_of_host() || !mutant.hangs);
            ensure!(
                fits,
                "tests/mutants/{name}: {}: `by` and `hangs` are for those of the host, and they are in host.toml",
                mutant.id
            );
            mutants.push(mutant);
        }
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = mutants.iter().find(|mutant| !ids.insert(mutant.id.as_str())) {
        anyhow::bail!("tests/mutants: there are two of the id {}", twice.id);
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::Invariant;
    use crate::{corpus, spec};

    #[test]
    fn there_are_as_many_as_are_claimed_and_each_has_an_id_of_its_own() {
        let (host, policy): (Vec<Mutant>, Vec<Mutant>) =
            all().unwrap().into_iter().partition(Mutant::is_of_host);
        assert!(policy.len() >= 100, "{}", policy.len());
        assert!(host.len() >= 25, "{}", host.len());
        let in_pods = |all: &[Mutant]| all.iter().filter(|mutant| mutant.place != Place::Docker).count();
        assert!(in_pods(&policy) >= 25, "{}", in_pods(&policy));
        assert!(in_pods(&host) >= 10, "{}", in_pods(&host));
    }

    #[test]
    fn what_is_to_notice_a_mutant_is_there_and_names_the_clause() {
        let scenarios = corpus::all().unwrap();
        for mutant in all().unwrap() {
            for name in mutant.scenario.iter().chain(&mutant.faults) {
                assert!(scenarios.iter().any(|scenario| scenario.name == *name), "{}: {name}", mutant.id);
            }
            let Some(by) = mutant.by else { continue };
            spec::find(&by.clause).unwrap();
            let scenario = || scenarios.iter().find(|scenario| scenario.name == by.test).unwrap();
            let named = match by.program.as_str() {
                "scenario" => scenario().clauses.clone(),
                "faults" => Invariant::ALL.map(|invariant| invariant.clause().to_owned()).into(),
                program => {
                    let file = format!("{}/tests/{program}.rs", env!("CARGO_MANIFEST_DIR"));
                    spec::tests::named(&std::fs::read_to_string(file).unwrap())
                }
            };
            assert!(named.contains(&by.clause), "{}: {:?} does not name {}", mutant.id, by.test, by.clause);
        }
    }

    #[test]
    fn a_policy_is_judged_that_has_what_is_broken() {
        let of = |file: &str| {
            let text = format!("id = 'i'\nfile = '{file}'\nwhat = 'w'\nfind = 'f'\nreplace = ''");
            toml::from_str::<Mutant>(&text).unwrap().policy().to_owned()
        };
        assert_eq!(of("guest/kit/src/steps.rs"), "durable");
        assert_eq!(of("guest/aws/src/lib.rs"), "aws");
    }
}
