//! Breaks off in the middle of reaping: the first engine is stopped, and its container still there.

use hostile::prelude::*;

struct TrapInReap;

impl Policy for TrapInReap {
    fn reap() -> Result<Vec<String>, Error> {
        match docker::stale()?.first() {
            Some(container) => container.stop(1)?,
            None => return Ok(Vec::new()),
        }
        trap()
    }
}

hostile::policy!(TrapInReap);
