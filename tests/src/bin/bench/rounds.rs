//! What rounds have in common, whatever caches are: the steps, their order, and whether each did what it was to do.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::table::{Pair, Samples};

/// Keys in the cache that is snapshotted.
pub(crate) const KEYS: usize = 1_000;
/// Between two measurements, for what the last one left to do in the background.
pub(crate) const REST: Duration = Duration::from_millis(100);

/// What is measured in each round, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Up,
    Exec,
    Snapshot,
    Reboot,
    Stop,
}

impl Step {
    pub(crate) const ALL: [Step; 5] = [Step::Up, Step::Exec, Step::Snapshot, Step::Reboot, Step::Stop];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Step::Up => "up",
            Step::Exec => "exec",
            Step::Snapshot => "snapshot",
            Step::Reboot => "reboot",
            Step::Stop => "stop",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Floor,
}

/// Which of the two goes first.
pub(crate) fn order(round: usize) -> [Side; 2] {
    if round.is_multiple_of(2) { [Side::Ours, Side::Floor] } else { [Side::Floor, Side::Ours] }
}

/// Nothing measured yet.
pub(crate) fn pair(name: &str, (target_p50, target_p99): (f64, Option<f64>)) -> Pair {
    let (ours, floor) = (Samples::default(), Samples::default());
    Pair { name: name.to_owned(), ours, floor, target_p50, target_p99 }
}

/// Keeps a measurement if it was asked for. The first round does not count.
pub(crate) fn record(
    steps: &[Step],
    pairs: &mut [Pair],
    round: usize,
    step: Step,
    side: Side,
    took: Duration,
) {
    let pair = steps.iter().position(|wanted| *wanted == step).and_then(|at| pairs.get_mut(at));
    if let Some(pair) = pair.filter(|_| round > 0) {
        samples(pair, side).push(took.as_secs_f64() * 1e3);
    }
}

pub(crate) fn samples(pair: &mut Pair, side: Side) -> &mut Samples {
    match side {
        Side::Ours => &mut pair.ours,
        Side::Floor => &mut pair.floor,
    }
}

/// On a terminal only: elsewhere each would stay.
pub(crate) fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{text:<40}\r{text}");
    }
}

pub(crate) fn check_value(stdout: &[u8]) -> Result<()> {
    ensure!(stdout.starts_with(b"value:7:"), "GET gave {:?}", String::from_utf8_lossy(stdout));
    Ok(())
}

pub(crate) fn check_rdb(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file)?;
    // Each value has more than 40 bytes, of which the format keeps at least a tenth.
    ensure!(bytes.starts_with(b"REDIS") && bytes.len() > KEYS * 10, "{} is no snapshot", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_goes_first_as_often() {
        assert_eq!(order(1), [Side::Floor, Side::Ours]);
        assert_eq!(order(2), [Side::Ours, Side::Floor]);
    }
}
