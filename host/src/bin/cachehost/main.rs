//! `cachehost`: emulated ElastiCache caches from the command line.
//!
//! Keeps no state of its own: what one invocation starts, the next one finds.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use elasticache_host::SharedProgress;

mod args;
mod commands;
mod documents;
mod explain;
mod failure;
mod logging;
mod output;
mod progress;
#[cfg(test)]
mod tests;

use args::{Cli, Parsed};
use commands::Outcome;
use failure::Failure;
use output::Printer;
use progress::Bars;

/// An operation, and a progress bar or a signal to look after beside it.
const WORKERS: usize = 2;
/// What shells report of a program that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;
const FINISHING: &str = "finishing this operation cleanly; press Ctrl-C again to break it off";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(match args::parse(&args) {
        Ok(Parsed::Told(text)) => Printer::new(false).told(&text),
        Ok(Parsed::Run(cli)) => {
            let printer = Printer::new(cli.json);
            match run(*cli, &printer) {
                Ok(outcome) => printer.outcome(&outcome),
                Err(failure) => printer.failure(&failure),
            }
        }
        Err(failure) => Printer::new(args::wants_json(&args)).failure(&failure),
    })
}

fn run(cli: Cli, printer: &Printer) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start the threads: {error}")))?;
    let bars = Bars::on_terminal(runtime.handle(), cli.json).map(Arc::new);
    logging::start(cli.json, bars.clone())?;
    let done = runtime.block_on(to_the_end(cli, bars.clone(), printer));
    if let Some(bars) = bars {
        bars.clear();
    }
    // Nothing is left to wait for: the operation has ended.
    runtime.shutdown_background();
    done
}

/// Runs a command apart from the signals, so that one that arrives does not break it off halfway: that
/// could leave a container behind, or data unsaved.
async fn to_the_end(cli: Cli, bars: Option<Arc<Bars>>, printer: &Printer) -> Result<Outcome, Failure> {
    let sink: SharedProgress = match &bars {
        Some(bars) => Arc::clone(bars) as SharedProgress,
        None => elasticache_host::silent(),
    };
    let mut work = tokio::spawn(commands::run(cli, sink));
    let mut interrupted = false;
    loop {
        tokio::select! {
            done = &mut work => {
                return done.unwrap_or_else(|error| Err(Failure::other(format!("internal error: {error}"))));
            }
            () = asked_to_end() => {
                if interrupted {
                    std::process::exit(EXIT_INTERRUPTED);
                }
                interrupted = true;
                let say = || printer.note(FINISHING);
                bars.as_ref().map_or_else(say, |bars| bars.suspended(say));
            }
        }
    }
}

/// Ctrl-C, or the signal by which service managers and `kill` ask for an end.
async fn asked_to_end() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            Ok(()) = tokio::signal::ctrl_c() => {}
            Some(()) = terminate.recv() => {}
            else => std::future::pending().await,
        }
        return;
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
