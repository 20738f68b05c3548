//! Breaks off in the middle of a stop: the engine is stopped, and its container still there.

use hostile::prelude::*;

struct TrapInStop;

impl Policy for TrapInStop {
    fn stop(key: &CacheKey) -> Result<bool, Error> {
        decent::existing(key)?.stop(1)?;
        trap()
    }
}

hostile::policy!(TrapInStop);
