//! Lets a policy make arbitrary calls of the host, on a simulated Docker, and holds the host to what must be true
//! whatever a policy does.

mod count;
mod round;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use crate::count::Count;

/// Runs operations of all kinds with a policy that makes arbitrary calls with arbitrary arguments.
///
/// It goes round by round, each on an engine of its own, until enough calls were made or the time is up. What a
/// round does depends on its seed. A panic of the host, an error of a kind that cannot be, anything foreign that
/// was touched or anything that a failed operation left behind ends it, with that seed. Exit code: 0 nothing was
/// found, 1 something was, 2 bad usage.
#[derive(Debug, Parser)]
#[command(name = "fuzz", version)]
struct Args {
    /// Calls of the host after which no further round begins.
    #[arg(long, default_value_t = 10_000_000)]
    calls: u64,
    /// Seed of the first round; the next one has the next number. Default: the time.
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds after which no further round begins.
    #[arg(long, default_value_t = 1_800)]
    seconds: u64,
    /// Rounds at once. Default: as many as there are cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// The folder of `fuzzed.wasm`.
    #[arg(long, env = "HOSTILE_POLICIES", value_name = "FOLDER")]
    policies: PathBuf,
}

/// What the host said when it panicked. It must not.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let count = Count::default();
    count.begin()?;
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(panic.to_string());
        }
    }));
    let jobs =
        args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let first = match args.seed {
        Some(seed) => seed,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
    };
    let fuzzer = round::Fuzzer::new(&args.policies.join("fuzzed.wasm")).await?;
    let (begun, limit, next) = (Instant::now(), Duration::from_secs(args.seconds), AtomicU64::new(first));
    let job = async || {
        let mut operations = 0;
        while count.calls() < args.calls && begun.elapsed() < limit {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let done = fuzzer.round(seed).await;
            let panics = PANICS.lock().map(|mut panics| std::mem::take(&mut *panics)).unwrap_or_default();
            anyhow::ensure!(panics.is_empty(), "seed {seed}: the host panicked: {}", panics.join("; "));
            operations += done.with_context(|| format!("seed {seed}"))?;
        }
        anyhow::Ok(operations)
    };
    let outcome = futures_util::future::try_join_all((0..jobs).map(|_| job())).await;
    let took = begun.elapsed();
    println!("{} calls of the host in {:.1} s, from seed {first} on", count.calls(), took.as_secs_f64());
    Ok(match outcome {
        Ok(operations) => {
            println!(
                "{} operations in {} rounds; nothing was found",
                operations.iter().sum::<u64>(),
                next.into_inner() - first
            );
            ExitCode::SUCCESS
        }
        Err(found) => {
            println!("found: {found:#}");
            println!(
                "once more: `cargo xtask fuzz -- --calls 1 --jobs 1 --seed N` with the seed that is named"
            );
            ExitCode::FAILURE
        }
    })
}
