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
use crate::sim::kube::STORAGE_CLASS;
use crate::world::Place;

/// Where nothing is broken, what is not done by then has not ended as it should.
const PATIENCE: Duration = Duration::from_secs(180);
/// Where something is, so many times as long as without that, and no less than this.
const SLOWER: u32 = 10;
const AT_LEAST: Duration = Duration::from_secs(30);
/// With which the runner ends that tried one scenario of many, and saw nothing fail.
const PARTIAL: i32 = 3;
const POLL: Duration = Duration::from_millis(10);
/// The corpus with single faults, in which a failure names the clause.
const FAULTS: &str = "faults";
/// The runner of the corpus, in which a scenario is a test.
pub const RUNNER: &str = "conformance";

/// Programs of the copy.
#[derive(Debug)]
pub struct Programs {
    by_name: BTreeMap<String, PathBuf>,
    /// How long each test took where nothing is broken.
    took: Mutex<BTreeMap<(By, Place), Duration>>,
}

/// How a test came out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    /// It was still at it when its time was up.
    Never,
}

impl By {
    /// The program that has the test.
    pub fn program(&self) -> &str {
        match self.program.as_str() {
            "scenario" | FAULTS => RUNNER,
            name => name,
        }
    }

    fn arguments(&self, place: Place) -> Vec<&str> {
        let mut arguments = match self.program.as_str() {
            "scenario" => vec!["--only", &self.test],
            FAULTS => vec!["--only", &self.test, "--faults", "single"],
            _ => return vec![&self.test],
        };
        if let Place::Kube { claims } = place {
            arguments.extend(["--profile", "kube"]);
            arguments.extend(claims.then_some(["--storage-class", STORAGE_CLASS]).into_iter().flatten());
        }
        arguments
    }
}

impl Programs {
    /// These.
    pub fn new(by_name: BTreeMap<String, PathBuf>) -> Self {
        Self { by_name, took: Mutex::default() }
    }

    /// Whether the test of a mutant holds where nothing is broken. Without that its failure says nothing.
    ///
    /// # Errors
    /// If it does not, or there is no such test.
    pub fn holds(&self, by: &By, place: Place) -> Result<()> {
        let begun = Instant::now();
        let (end, _) = self.run(by, place, None, PATIENCE)?;
        ensure!(end == End::Passed, "{} of {} fails though nothing is broken", by.test, by.program);
        self.took.lock().insert((by.clone(), place), begun.elapsed());
        Ok(())
    }

    /// What noticed a mutant.
    ///
    /// # Errors
    /// If its test cannot be run.
    pub fn judge(&self, mutant: &Mutant) -> Result<Option<Kill>> {
        let by = mutant.by.as_ref().context("it is none of the host")?;
        let kill = Kill { clauses: vec![by.clause.clone()], test: format!("{} {}", by.program, by.test) };
        let took = self.took.lock().get(&(by.clone(), mutant.place)).copied();
        let within = AT_LEAST.max(took.context("its test was not tried with nothing broken")? * SLOWER);
        let (end, output) = self.run(by, mutant.place, Some(&mutant.id), within)?;
        match end {
            End::Passed => Ok(None),
            End::Failed => {
                let says = by.program != FAULTS || output.contains(&format!("FAIL  {}: ", by.clause));
                ensure!(says, "{}: {} fails, and not by {}: {output}", mutant.id, by.test, by.clause);
                Ok(Some(kill))
            }
            End::Never if mutant.hangs => Ok(Some(kill)),
            End::Never => {
                // A machine that is busy, perhaps: that is nothing noticed.
                eprintln!(
                    "{}: {} did not end within {within:?}, as only one that hangs may",
                    mutant.id, by.test
                );
                Ok(None)
            }
        }
    }

    /// How a test ends, with what it prints.
    fn run(&self, by: &By, place: Place, mutant: Option<&str>, within: Duration) -> Result<(End, String)> {
        let program =
            self.by_name.get(by.program()).with_context(|| format!("no program {}", by.program()))?;
        let mut command = Command::new(program);
        command.args(by.arguments(place)).env_remove(VARIABLE).envs(mutant.map(|id| (VARIABLE, id)));
        // As cargo runs tests.
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("its output is not there")?;
        let output = thread::spawn(move || std::io::read_to_string(output));
        let end = ended(&mut child, within)?;
        let output = output.join().ok().context("its output cannot be read")??;
        let tried =
            ["running 0 tests", "\n0 passed", "\n0 schedules"].iter().all(|none| !output.contains(none));
        ensure!(end != End::Passed || tried, "{} has no test {}", by.program, by.test);
        Ok((end, output))
    }
}

/// How it ends, if it does in time.
fn ended(child: &mut Child, within: Duration) -> Result<End> {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if let Some(status) = child.try_wait()? {
            let passed = status.success() || status.code() == Some(PARTIAL);
            return Ok(if passed { End::Passed } else { End::Failed });
        }
        thread::sleep(POLL);
    }
    child.kill()?;
    child.wait()?;
    Ok(End::Never)
}
