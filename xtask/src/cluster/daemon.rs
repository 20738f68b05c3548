//! Programs that outlive xtask, each known by its process id and the time at which that process began.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::layout::Layout;
use crate::process;

/// A variable in the environment of all that a cluster runs: its value is the cluster's data folder. What
/// some program of the cluster started in its turn is found by it, when that program died without ending it.
pub(super) const MARK: &str = "FAKECLOUD_ELASTICACHE_CLUSTER";

/// How often something is looked at that is waited for.
pub(super) const POLL: Duration = Duration::from_millis(50);

const ANSWER: Duration = Duration::from_secs(30);

/// A process, not to be mistaken for a later one of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// When it began, in ticks since the machine did.
    start: u64,
    /// This run of the machine: ids and ticks begin again with the next one.
    boot: String,
}

impl Identity {
    /// The running process of that id.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start: start_of_living(&stat)?, boot: boot()? })
    }

    pub(super) fn alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    fn written(&self) -> String {
        format!("{} {} {}\n", self.pid, self.start, self.boot)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let start = words.next()?.parse().ok()?;
        Some(Self { pid, start, boot: words.next()?.to_owned() })
    }

    /// Sends a signal, by its name without SIG.
    pub(super) fn signal(&self, name: &str) {
        // It may have ended meanwhile, and whether it did is looked at afterwards anyway.
        let mut kill = process::command("kill");
        drop(process::capture(kill.arg(format!("-{name}")).arg(self.pid.to_string()), ANSWER));
    }

    /// Asks it to end, and ends it when it has not within `grace`.
    pub(super) fn stop(&self, grace: Duration) -> Result<()> {
        self.signal("TERM");
        if !self.ends_within(grace) {
            self.signal("KILL");
            if !self.ends_within(ANSWER) {
                bail!("process {} does not end, not even by SIGKILL", self.pid);
            }
        }
        Ok(())
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.alive() {
            if began.elapsed() > limit {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }
}

/// When a process began, from its `/proc/PID/stat`, unless it has ended and only waits to be collected.
fn start_of_living(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, and may contain anything, parentheses too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // What follows is the 4th field; the number of threads is the 20th, and the start the 22nd.
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    // The first thread ends before the others, and their sockets are open until the last one has ended.
    if matches!(state, "Z" | "X") && threads <= 1 {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned())
}

/// A command whose process leads a session of its own, so that nothing which ends the caller's ends it.
///
/// It is run in the mount namespace of `inside`, if that is given.
pub(super) fn detached(layout: &Layout, program: impl AsRef<Path>, inside: Option<&Identity>) -> Command {
    let mut command = process::command("sh");
    // A file that the caller left open would stay open: a lock that it holds on one would never be released.
    command.args(["-c", "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$@\"", "sh", "setsid"]);
    if let Some(identity) = inside {
        command.args(["nsenter", "--mount", "--target", &identity.pid.to_string()]);
    }
    command.arg(program.as_ref());
    // No proxy stands between programs of one machine.
    command.env(MARK, &layout.data).env("NO_PROXY", "*").env("no_proxy", "*");
    command.current_dir("/");
    command
}

/// A program of the cluster.
pub(super) struct Daemon<'a> {
    layout: &'a Layout,
    pub(super) name: &'static str,
}

impl<'a> Daemon<'a> {
    pub(super) fn new(layout: &'a Layout, name: &'static str) -> Self {
        Self { layout, name }
    }

    /// Its process, while that runs.
    pub(super) fn running(&self) -> Option<Identity> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        Identity::parse(&text).filter(Identity::alive)
    }

    /// Starts it by a command of [`detached`], unless it runs. Returns whether that was necessary.
    pub(super) fn start(&self, command: &mut Command) -> Result<bool> {
        if self.running().is_some() {
            return Ok(false);
        }
        let log = self.layout.log(self.name);
        let out = fs::OpenOptions::new().create(true).append(true).open(&log);
        let out = out.with_context(|| format!("cannot open {}", log.display()))?;
        let err = out.try_clone().context("cannot open a log twice")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        // One that ended at once has nothing to be noted, and is told by whoever waits for it.
        if let Some(identity) = Identity::of(child.id()) {
            fs::write(self.pid_file(), identity.written())
                .with_context(|| format!("cannot note the process of {}", self.name))?;
        }
        Ok(true)
    }

    pub(super) fn stop(&self, grace: Duration) -> Result<()> {
        self.running().map_or(Ok(()), |identity| identity.stop(grace))
    }

    /// An error if it does not run, with the last lines of its log.
    pub(super) fn check(&self) -> Result<()> {
        if self.running().is_some() {
            return Ok(());
        }
        bail!("{} has ended. Its last lines:\n{}", self.name, self.last_lines())
    }

    pub(super) fn last_lines(&self) -> String {
        let path = self.layout.log(self.name);
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        format!("{}\n({} has the rest)", lines[lines.len().saturating_sub(12)..].join("\n"), path.display())
    }

    fn pid_file(&self) -> std::path::PathBuf {
        self.layout.file(format!("{}.pid", self.name))
    }
}

/// Waits until `ready`, as long as all of `daemons` run and `limit` is not over.
pub(super) fn wait(
    what: &str,
    daemons: &[&Daemon<'_>],
    limit: Duration,
    mut ready: impl FnMut() -> bool,
) -> Result<()> {
    let began = Instant::now();
    while !ready() {
        for daemon in daemons {
            daemon.check()?;
        }
        if began.elapsed() > limit {
            let logs: Vec<String> =
                daemons.iter().map(|daemon| format!("{}: {}", daemon.name, daemon.last_lines())).collect();
            bail!("{what} did not come within {} s\n{}", limit.as_secs(), logs.join("\n"));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// An error if somebody listens on a port already.
pub(super) fn port_is_free(address: Ipv4Addr, port: u16, whose: &str) -> Result<()> {
    match TcpListener::bind((address, port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "{whose} needs port {port} of {address}, which cannot be taken: {error}. `ss -ltnp` says who has it"
        ),
    }
}

/// All running processes that carry the cluster's mark.
pub(super) fn marked(layout: &Layout) -> Vec<Identity> {
    let mark = format!("{MARK}={}", layout.data.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .filter_map(Identity::of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_whatever_its_name() {
        let fields = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 18 4711 20";
        assert_eq!(start_of_living(&format!("7 (sh) S {fields}")), Some(4711));
        assert_eq!(start_of_living(&format!("7 (a) b) R 1) S {fields}")), Some(4711));
    }

    #[test]
    fn a_process_that_only_waits_to_be_collected_does_not_live() {
        assert_eq!(start_of_living("7 (sh) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 1 18 4711 20"), None);
    }

    #[test]
    fn a_process_lives_as_long_as_any_of_its_threads() {
        let stat = "7 (sh) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 9 18 4711 20";
        assert_eq!(start_of_living(stat), Some(4711));
    }

    #[test]
    fn this_process_lives_and_a_later_one_of_its_id_is_another() {
        let own = Identity::of(std::process::id()).expect("this process runs");
        assert!(own.alive());
        assert_eq!(Identity::parse(&own.written()), Some(own.clone()));
        assert!(!Identity { start: own.start + 1, ..own.clone() }.alive());
        assert!(!Identity { boot: "another".to_owned(), ..own }.alive());
    }
}
