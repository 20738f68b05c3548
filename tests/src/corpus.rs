//! Scenarios as data: what is done to caches, and what must be seen after it.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Every file of `tests/corpus`, by its name. A test holds the list against the folder.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../corpus/", $name, ".toml")))),*];
    };
}

files![
    "a-command-s-error-is-no-success",
    "a-damaged-file-changes-nothing",
    "a-failed-save-is-no-snapshot",
    "a-killed-engine-keeps-every-write",
    "a-look-alike-is-left-alone",
    "a-memcached-keeps-nothing",
    "a-name-that-is-taken-is-a-conflict",
    "a-reap-leaves-the-living",
    "a-reboot-empties",
    "a-reboot-empties-what-was-written",
    "a-reboot-keeps-every-write",
    "a-reboot-keeps-the-endpoint",
    "a-reboot-returns-the-cache",
    "a-reboot-that-cannot-save-loses-nothing",
    "a-restore-never-overwrites-unasked",
    "a-restore-over-a-running-cache-is-asked-for",
    "a-restore-that-fails-keeps-the-old-data",
    "a-second-up-adopts",
    "a-snapshot-of-what-ended-is-refused",
    "a-snapshot-restores-elsewhere",
    "a-stop-keeps-every-write",
    "a-taken-port-is-got-around",
    "an-older-save-is-no-snapshot",
    "another-engine-is-refused",
    "another-host-finds-what-one-started",
    "another-program-s-restart-empties",
    "another-program-s-restart-keeps-the-endpoint",
    "bad-input-changes-nothing",
    "data-goes-only-when-asked",
    "ids-that-look-alike-share-no-data",
    "ids-that-look-alike-share-nothing",
    "nothing-survives-a-stop",
    "operations-at-once-leave-one-cache",
    "operations-at-once-lose-nothing",
    "removal-by-others-keeps-the-data",
    "stop-all-ends-every-cache",
    "stop-all-leaves-nothing-running",
    "the-same-id-in-two-scopes-is-two-caches",
    "what-does-not-exist-is-said",
    "what-ended-is-seen",
    "what-is-in-memory-only-is-kept-too",
    "what-others-removed-is-forgotten",
    "what-was-restored-survives-a-kill",
    "what-was-restored-survives-a-reboot",
];

/// Which engines a scenario is for; it runs once for each that the policy claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engines {
    /// Those with data to keep: redis and valkey.
    Persistent,
    /// Those with none: memcached.
    Volatile,
    /// Every one.
    All,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Bring the cache up; `file` restores it, `replace` over what is there.
    Up,
    /// Reboot it.
    Reboot,
    /// Stop it. `was-there` is what that returns.
    Stop,
    /// Delete its data. `was-there` likewise.
    RemoveData,
    /// Snapshot it to `file`.
    Snapshot,
    /// Run the command `args` in it. `success` is what that returns, `prints` its output.
    Exec,
    /// Look at it: `state` is what is seen, `none` if there is none.
    Find,
    /// List the instance's caches: `caches` are their ids.
    List,
    /// Stop all.
    StopAll,
    /// Reap.
    Reap,
    /// End the host without a word, and go on with a new one of the same instance.
    NewHost,
    /// Write `keys` keys, all acknowledged.
    Write,
    /// See that the last write's keys are all there, each with its value, and nothing else is.
    ExpectData,
    /// See that it holds no key.
    ExpectEmpty,
    /// See that what was written to another cache, `file`, is what it holds.
    ExpectDataOf,
    /// SIGKILL its engine.
    Kill,
    /// Restart its container as the container engine's own tools do.
    RestartByOthers,
    /// Stop and remove its container as the container engine's own tools do.
    RemoveByOthers,
    /// Let a foreign program take the port that it had.
    OccupyPort,
    /// Make its saves fail from now on.
    FailSaves,
    /// Put a container with all its labels under another name.
    LookAlike,
    /// Remove its container as the container engine's own tools do, and put somebody else's under its name.
    Usurp,
    /// See that every look-alike, and whatever took a name, is there as it was.
    ExpectLookAlikes,
    /// Flip one byte in the middle of `file`.
    Damage,
    /// Make `file` an RDB file that passes every check and that no engine can load.
    Forge,
    /// Count what the instance has: `containers` and `volumes`, or pods and claims.
    Count,
    /// See that there is no `file`.
    ExpectNoFile,
    /// Do the steps in `steps` at once; each may end in success or with one of its `errors`.
    AtOnce,
}

/// What the endpoint of a cache must be, against the one seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointIs {
    /// The same address and port.
    Same,
    /// Another one.
    Other,
}

/// One step. What an action does not use is an error in the file only where it could be mistaken.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    /// What is done.
    pub r#do: Action,
    /// To which cache: its id, or `SCOPE::ID` of one in another scope than the others.
    #[serde(default = "default_cache")]
    pub cache: String,
    /// A file, or another cache.
    #[serde(default)]
    pub file: String,
    /// Whether a restore may replace data.
    #[serde(default)]
    pub replace: bool,
    /// Asked-for version.
    pub version: Option<String>,
    /// Asked-for engine, in place of the one that the scenario runs with.
    pub engine: Option<String>,
    /// How many keys.
    #[serde(default)]
    pub keys: u32,
    /// Arguments of a command.
    #[serde(default)]
    pub args: Vec<String>,
    /// The code of the error that must come. None: it must succeed.
    pub error: Option<String>,
    /// Codes of errors that may come, at once with others.
    #[serde(default)]
    pub errors: Vec<String>,
    /// What an up must say about whether the cache was there.
    pub adopted: Option<bool>,
    /// What a stop or a removal must say.
    pub was_there: Option<bool>,
    /// What a command must come to.
    pub success: Option<bool>,
    /// What a command must print.
    pub prints: Option<String>,
    /// What must be seen: `available`, `starting`, `stopped`, `not-available`, `none`.
    pub state: Option<String>,
    /// What the endpoint must be; `same` only for a policy that promises that a reboot keeps it.
    pub endpoint: Option<EndpointIs>,
    /// Which caches a list must give.
    pub caches: Option<Vec<String>>,
    /// How many containers there must be.
    pub containers: Option<usize>,
    /// How many volumes there must be.
    pub volumes: Option<usize>,
    /// Steps to be done at once.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The clauses of the scenario that it refutes if it fails; any of them may be, where none are said.
    #[serde(default)]
    pub clauses: Vec<String>,
    /// Which of the hosts that share a data folder does it. Files know of one only.
    #[serde(skip)]
    pub host: usize,
}

impl Scenario {
    /// The clauses of which one at least does not hold if a step fails.
    pub fn refuted_at(&self, step: usize) -> &[String] {
        match self.steps.get(step) {
            Some(step) if !step.clauses.is_empty() => &step.clauses,
            _ => &self.clauses,
        }
    }
}

impl Step {
    /// A step that brings a cache up, whatever there is of it.
    pub fn up(cache: &str) -> Self {
        Self {
            r#do: Action::Up,
            cache: cache.to_owned(),
            file: String::new(),
            replace: false,
            version: None,
            engine: None,
            keys: 0,
            args: Vec::new(),
            error: None,
            errors: Vec::new(),
            adopted: None,
            was_there: None,
            success: None,
            prints: None,
            state: None,
            endpoint: None,
            caches: None,
            containers: None,
            volumes: None,
            steps: Vec::new(),
            clauses: Vec::new(),
            host: 0,
        }
    }
}

fn yes() -> bool {
    true
}

fn default_cache() -> String {
    "a".to_owned()
}

/// A scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// The file's name.
    #[serde(skip)]
    pub name: String,
    /// What holds, as a sentence.
    pub title: String,
    /// The clauses of the specification that it refutes if it fails.
    pub clauses: Vec<String>,
    /// The promises that it is about; it applies only to policies that make all of them.
    #[serde(default)]
    pub promises: Vec<String>,
    /// The only backend that it is about, if it is about one.
    pub backend: Option<String>,
    /// Which engines it is for.
    pub engines: Engines,
    /// Whether the container engine may restart at any moment of it: not where an engine was told to keep nothing.
    #[serde(default = "yes")]
    pub restarts: bool,
    /// What happens.
    pub steps: Vec<Step>,
}

/// All scenarios, by name.
///
/// # Errors
/// If a file does not hold a scenario, with its name, line and column.
pub fn all() -> Result<Vec<Scenario>> {
    FILES.iter().map(|(name, text)| read(name, text)).collect()
}

fn read(name: &str, text: &str) -> Result<Scenario> {
    let mut scenario: Scenario = toml::from_str(text).with_context(|| format!("tests/corpus/{name}.toml"))?;
    ensure!(!scenario.clauses.is_empty(), "tests/corpus/{name}.toml names no clauses");
    ensure!(!scenario.steps.is_empty(), "tests/corpus/{name}.toml has no steps");
    let foreign =
        scenario.steps.iter().flat_map(|step| &step.clauses).find(|id| !scenario.clauses.contains(id));
    ensure!(
        foreign.is_none(),
        "tests/corpus/{name}.toml has a step about {foreign:?}, which it does not name"
    );
    scenario.name = name.to_owned();
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_scenario_in_the_list() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let listed: BTreeSet<String> = all().unwrap().into_iter().map(|scenario| scenario.name).collect();
        assert_eq!(there, listed);
    }

    #[test]
    fn a_scenario_names_clauses_and_has_steps() {
        let error = |text: &str| format!("{:#}", read("x", text).unwrap_err());
        let (some, none) = ("clauses = ['UP-1']", "clauses = []");
        let steps = "steps = [{ do = 'up' }]";
        let with = |clauses, steps| format!("title = 't'\nengines = 'all'\n{clauses}\n{steps}");
        assert!(error(&with("", steps)).contains("missing field `clauses`"));
        assert!(error(&with(none, steps)).contains("tests/corpus/x.toml names no clauses"));
        assert!(error(&with(some, "steps = []")).contains("tests/corpus/x.toml has no steps"));
        let other = "steps = [{ do = 'up', clauses = ['UP-2'] }]";
        assert!(error(&with(some, other)).contains("a step about"));
        assert_eq!(read("x", &with(some, steps)).unwrap().name, "x");
    }

    #[test]
    fn a_misspelt_step_is_an_error() {
        let text = "title = 't'\nclauses = ['UP-1']\nengines = 'all'\n[[steps]]\ndo = 'up'\nadoptd = true\n";
        let error = toml::from_str::<Scenario>(text).unwrap_err().to_string();
        assert!(error.contains("adoptd") && error.contains("line 6"), "{error}");
    }
}
