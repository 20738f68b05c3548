//! Running other programs: with their output shown, captured, or watched under a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a child under a deadline is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What a program printed and how it ended.
pub(crate) struct Captured {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// How a watched program ended.
pub(crate) enum Watched {
    /// It exited with success.
    Done,
    /// It exited with failure; the text is the last line that it printed.
    Failed(String),
    /// It was stopped; the text says why.
    Stopped(String),
}

/// The command as a reader would type it, for messages: without the folder of its program.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    std::iter::once(program.file_name().unwrap_or(program.as_os_str()))
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.is_empty() || word.contains([' ', '\n', '"']) {
                format!("'{word}'")
            } else {
                word.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// A command that inherits no variable which `cargo run` set for xtask itself.
///
/// Those name xtask's own package and library folders. Build scripts of other packages would see them change
/// between `cargo xtask test` and `cargo test` and rebuild, and another toolchain's compiler would load the
/// wrong libraries.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_BIN_")
            || matches!(&*text, "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH" | "CARGO_PRIMARY_PACKAGE");
        if own {
            command.env_remove(&name);
        }
    }
    // `cargo run` puts the toolchain's and the target folder's libraries in front of the user's own.
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        let kept: Vec<PathBuf> = std::env::split_paths(&paths)
            .filter(|path| !path.join("rustlib").is_dir())
            .filter(|path| !path.ancestors().any(|folder| folder.join(".fingerprint").is_dir()))
            .collect();
        match std::env::join_paths(&kept) {
            Ok(joined) if !joined.is_empty() => command.env("LD_LIBRARY_PATH", joined),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

/// Runs with the output streamed to the reader; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed with {status}");
    }
    Ok(())
}

/// Runs silently until `limit`, then kills. Whatever the exit code, the output is returned.
pub(crate) fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    capture_with_input(command, Vec::new(), limit)
}

/// Like [`capture`], with `input` as the program's standard input.
pub(crate) fn capture_with_input(command: &mut Command, input: Vec<u8>, limit: Duration) -> Result<Captured> {
    let line = shown(command);
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program may end without reading all of its input; its exit code tells what that meant.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let Some(status) = wait_until(&mut child, limit)? else {
        bail!("`{line}` did not end within {} s and was stopped", limit.as_secs());
    };
    Ok(Captured { status, stdout: joined(stdout), stderr: joined(stderr) })
}

/// [`capture`] for programs whose failure is an error: returns standard output.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let line = shown(command);
    let captured = capture(command, limit)?;
    if !captured.status.success() {
        bail!("`{line}` failed with {}: {}", captured.status, last_words(&captured));
    }
    Ok(captured.stdout)
}

/// Runs with both outputs captured line by line. It is stopped after `limit`, and earlier when it has printed
/// fewer than `lines` lines within `quiet`: a transfer that never begins is told from one that is slow.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    lines: usize,
    quiet: Duration,
) -> Result<Watched> {
    let line = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (sender, receiver) = mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);

    let began = Instant::now();
    let mut seen = 0;
    let mut last = String::new();
    loop {
        match receiver.recv_timeout(POLL) {
            Ok(text) => {
                seen += 1;
                last = text;
            }
            // Both streams are closed, so the exit code is all that is left.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let reason = if began.elapsed() > limit {
            format!("not done after {} s", limit.as_secs())
        } else if seen < lines && began.elapsed() > quiet {
            format!("nothing arrived for {} s", quiet.as_secs())
        } else {
            continue;
        };
        stop(&mut child);
        return Ok(Watched::Stopped(reason));
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    Ok(if status.success() { Watched::Done } else { Watched::Failed(last) })
}

/// The part of a failed program's output that most likely says why.
pub(crate) fn last_words(captured: &Captured) -> String {
    let text = if captured.stderr.trim().is_empty() { &captured.stdout } else { &captured.stderr };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// The first executable of that name on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn wait_until(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let began = Instant::now();
    // A program that takes a few milliseconds must not cost a whole poll interval.
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            stop(child);
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(POLL);
    }
}

/// Ends a child that overran. It may have ended by itself meanwhile, which is just as well.
fn stop(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

type Collector = Option<thread::JoinHandle<Vec<u8>>>;

fn collect(stream: Option<impl Read + Send + 'static>) -> Collector {
    stream.map(|mut stream| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before a failure is still worth showing.
            drop(stream.read_to_end(&mut bytes));
            bytes
        })
    })
}

fn joined(collector: Collector) -> String {
    let bytes = collector.and_then(|thread| thread.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
