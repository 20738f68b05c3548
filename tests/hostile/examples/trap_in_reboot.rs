//! Breaks off in the middle of a reboot: the engine is stopped.

use hostile::prelude::*;

struct TrapInReboot;

impl Policy for TrapInReboot {
    fn reboot(key: &CacheKey) -> Result<Cache, Error> {
        decent::existing(key)?.stop(1)?;
        trap()
    }
}

hostile::policy!(TrapInReboot);
