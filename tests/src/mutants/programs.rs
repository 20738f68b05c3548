//! Mutants of the host, each in a process of its own: the test that is to notice it must fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;

use super::schemata::VARIABLE;
use super::{By, Kill, Mutant};

/// Where nothing is broken, what is not done by then has not ended as it should.
const PATIENCE: Duration = Duration::from_secs(180);
/// Where something is, so many times as long as without that, and no less than this.
const SLOWER: u32 = 10;
const AT_LEAST: Duration = Duration::from_secs(30);
/// With which the runner ends that tried one scenario of many, and saw nothing fail.
const PARTIAL: i32 = 3;
const POLL: Duration = Duration::from_millis(10);
/// The runner of the corpus, in which a scenario is a test.
pub const RUNNER: &str = "conformance";

/// Programs of the copy.
#[derive(Debug)]
pub struct Programs {
    by_name: BTreeMap<String, PathBuf>,
    /// How long each test took where nothing is broken.
    took: Mutex<BTreeMap<By, Duration>>,
}

impl By {
    /// The program that has the test.
    pub fn program(&self) -> &str {
        match self.program.as_str() {
            "scenario" => RUNNER,
            name => name,
        }
    }

    fn arguments(&self) -> Vec<&str> {
        match self.program.as_str() {
            "scenario" => vec!["--only", &self.test],
            _ => vec![&self.test],
        }
    }
}

impl Programs {
    /// These.
    pub fn new(by_name: BTreeMap<String, PathBuf>) -> Self {
        Self { by_name, took: Mutex::default() }
    }

    /// Whether a test holds where nothing is broken. Without that its failure says nothing.
    ///
    /// # Errors
    /// If it does not, or there is no such test.
    pub fn holds(&self, by: &By) -> Result<()> {
        let begun = Instant::now();
        let passed = self.passes(by, None, PATIENCE)?;
        ensure!(passed, "{} of {} fails though nothing is broken", by.test, by.program);
        self.took.lock().insert(by.clone(), begun.elapsed());
        Ok(())
    }

    /// What noticed a mutant.
    ///
    /// # Errors
    /// If its test cannot be run.
    pub fn judge(&self, mutant: &Mutant) -> Result<Option<Kill>> {
        let by = mutant.by.as_ref().context("it is none of the host")?;
        let kill = Kill { clauses: vec![by.clause.clone()], test: format!("{} {}", by.program, by.test) };
        let took = self.took.lock().get(by).copied().context("its test was not tried with nothing broken")?;
        let within = AT_LEAST.max(took * SLOWER);
        Ok((!self.passes(by, Some(&mutant.id), within)?).then_some(kill))
    }

    fn passes(&self, by: &By, mutant: Option<&str>, within: Duration) -> Result<bool> {
        let program =
            self.by_name.get(by.program()).with_context(|| format!("no program {}", by.program()))?;
        let mut command = Command::new(program);
        command.args(by.arguments()).env_remove(VARIABLE).envs(mutant.map(|id| (VARIABLE, id)));
        // As cargo runs tests.
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("its output is not there")?;
        let output = thread::spawn(move || std::io::read_to_string(output));
        let passed = succeeded(&mut child, within)?;
        let output = output.join().ok().context("its output cannot be read")??;
        let tried = !output.contains("running 0 tests") && !output.contains("\n0 passed");
        ensure!(!passed || tried, "{} has no test {}", by.program, by.test);
        Ok(passed)
    }
}

/// Whether it ends well, and in time.
fn succeeded(child: &mut Child, within: Duration) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success() || status.code() == Some(PARTIAL));
        }
        thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}
