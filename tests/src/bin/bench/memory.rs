//! Whether a dataset's size shows in the host's memory: the same commands on a small and on a large one,
//! each in a process of its own, whose peak is read from the kernel until it ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::floor::Floor;
use crate::resp::{self, Redis, Reply};
use crate::table::{Cost, Samples};

/// MiB that the peak may grow by.
const TARGET_MIB: f64 = 32.0;
/// Bytes of one value.
const VALUE: usize = 1 << 20;
/// Between two looks at a process. Its peak never falls, so only what it takes in its last moment is missed.
const LOOK: Duration = Duration::from_millis(1);
/// One command; moving a dataset there and back takes minutes on slow disks.
const LIMIT: Duration = Duration::from_secs(1_800);
/// The dataset lies on disk once in the append-only file, once as a snapshot in the container, once outside,
/// and in the restored cache once more; the rest is margin.
const COPIES: u64 = 6;

/// What the commands are called with.
pub(crate) struct Cachehost {
    pub(crate) program: PathBuf,
    pub(crate) instance: String,
    pub(crate) data: PathBuf,
    pub(crate) cache: PathBuf,
}

/// The `cachehost` that was built: `CACHEHOST_BIN`, else the one beside this program.
pub(crate) fn program() -> Result<PathBuf> {
    let program = match std::env::var_os("CACHEHOST_BIN").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => std::env::current_exe()?.with_file_name("cachehost"),
    };
    ensure!(
        program.is_file(),
        "there is no {}; build it, name it in CACHEHOST_BIN, or leave this part out with --skip-memory",
        program.display()
    );
    Ok(program)
}

/// Peaks in MiB, for a snapshot and for a restore.
struct Peaks {
    snapshot: f64,
    restore: f64,
}

/// Snapshot and restore of `mib` MiB of values that do not compress, against those of one.
pub(crate) async fn growth(
    cachehost: &Cachehost,
    floor: &mut Floor,
    prefix: &str,
    folder: &Path,
    mib: usize,
) -> Result<(Vec<Cost>, Vec<String>)> {
    let needed = mib as u64 * COPIES;
    for place in [PathBuf::from(floor.data_root().await?), folder.to_owned()] {
        // A daemon's folder may be out of sight.
        let Ok(free) = free_mib(&place) else { continue };
        ensure!(free >= needed, "{} has {free} MiB free; {needed} are needed", place.display());
    }
    let small = round_trip(cachehost, floor, prefix, folder, 1).await?;
    let large = round_trip(cachehost, floor, prefix, folder, mib).await?;
    let cost =
        |name: String, value: f64, target| Cost { name, unit: "MiB", samples: Samples(vec![value]), target };
    let costs = vec![
        cost(
            format!("memory: growth, snapshot of {mib} MiB"),
            large.snapshot - small.snapshot,
            Some(TARGET_MIB),
        ),
        cost(
            format!("memory: growth, restore of {mib} MiB"),
            large.restore - small.restore,
            Some(TARGET_MIB),
        ),
        cost("memory: peak, snapshot of 1 MiB".to_owned(), small.snapshot, None),
        cost("memory: peak, restore of 1 MiB".to_owned(), small.restore, None),
    ];
    let note = "memory is the peak resident set of a `cachehost` process (VmHWM), read every millisecond";
    Ok((costs, vec![note.to_owned()]))
}

/// A cache with that much in it, through a file, into another cache.
async fn round_trip(
    cachehost: &Cachehost,
    floor: &mut Floor,
    prefix: &str,
    folder: &Path,
    mib: usize,
) -> Result<Peaks> {
    let (source, copy) = (format!("{prefix}memory-{mib}"), format!("{prefix}memory-{mib}-copy"));
    let file = folder.join(format!("memory-{mib}.rdb"));
    let path = file.display().to_string();
    eprintln!("{mib} MiB: writing keys");
    let (cache, _) = cachehost.run(&["up", &source]).await?;
    fill(port(&cache)?, mib).await?;
    eprintln!("{mib} MiB: snapshot");
    let (_, snapshot) = cachehost.run(&["snapshot", &source, &path]).await?;
    let size = file.metadata()?.len();
    ensure!(size >= (mib * VALUE) as u64, "the snapshot has {size} bytes only: its values were compressed");
    // Its memory and its disk are needed for the copy.
    floor.sweep(&source).await?;
    eprintln!("{mib} MiB: restore");
    let (cache, restore) = cachehost.run(&["up", &copy, "--from", &path]).await?;
    let size = Redis::connect(port(&cache)?).await?.command(&[b"DBSIZE"]).await?;
    ensure!(size == Reply::Line(mib.to_string()), "the restored cache's DBSIZE is {size:?}, not {mib}");
    floor.sweep(&copy).await?;
    std::fs::remove_file(&file)?;
    Ok(Peaks { snapshot, restore })
}

fn port(cache: &Value) -> Result<u16> {
    let port = cache["endpoint"]["port"].as_u64().context("a cache without an endpoint")?;
    Ok(u16::try_from(port)?)
}

/// Writes values of one MiB each.
async fn fill(port: u16, count: usize) -> Result<()> {
    let mut redis = Redis::connect(port).await?;
    // A rewrite of the append-only file in the background would only take disk and time.
    redis.command(&[b"CONFIG", b"SET", b"auto-aof-rewrite-percentage", b"0"]).await?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = vec![0; VALUE];
    for number in 0..count {
        for word in value.chunks_exact_mut(8) {
            // xorshift64: no pattern that a compressor would find.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let name = format!("value:{number}");
        redis.pipeline(&resp::encode(&[b"SET", name.as_bytes(), &value]), 1).await?;
    }
    Ok(())
}

impl Cachehost {
    /// Runs one command; returns its document and the peak of its memory in MiB.
    async fn run(&self, arguments: &[&str]) -> Result<(Value, f64)> {
        let mut command = Command::new(&self.program);
        command
            .args(["--json", "--instance", &self.instance, "--timeout", &LIMIT.as_secs().to_string()])
            .args(arguments)
            .env("FAKECLOUD_ELASTICACHE_DATA_DIR", &self.data)
            .env("FAKECLOUD_ELASTICACHE_CACHE_DIR", &self.cache)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let line = arguments.join(" ");
        let child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let child = Guarded(Some(child));
        tokio::task::spawn_blocking(move || watch(child, &OsString::from(line))).await?
    }
}

/// A child that does not outlive the bench.
struct Guarded(Option<Child>);

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Follows a child to its end.
fn watch(mut guarded: Guarded, line: &OsString) -> Result<(Value, f64)> {
    let line = line.display();
    let child = guarded.0.as_mut().context("a child that was started")?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let (began, mut peak) = (Instant::now(), None);
    while child.try_wait()?.is_none() {
        peak = peak_in(&std::fs::read_to_string(&status).unwrap_or_default()).or(peak);
        ensure!(began.elapsed() < LIMIT, "`cachehost {line}` did not end");
        std::thread::sleep(LOOK);
    }
    // What it prints is a line or two: it never waits for us to read.
    let output = guarded.0.take().context("a child that was started")?.wait_with_output()?;
    if !output.status.success() {
        bail!("`cachehost {line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let kib = peak.with_context(|| format!("`cachehost {line}` ended before its memory was read"))?;
    Ok((document, kib / 1024.0))
}

/// `VmHWM`, in KiB. Not what the kernel gives at a child's end: that begins with its parent's memory.
fn peak_in(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn free_mib(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_kernel_s_words() {
        assert_eq!(peak_in("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t  4096 kB\nVmRSS:\t 1 kB\n"), Some(4096.0));
        assert_eq!(peak_in("State:\tZ (zombie)\n"), None);
    }
}
