//! Breaks off when it has found what it looked for.

use hostile::prelude::*;

struct TrapInFind;

impl Policy for TrapInFind {
    fn find(key: &CacheKey) -> Result<Option<Cache>, Error> {
        decent::find(key)?;
        trap()
    }
}

hostile::policy!(TrapInFind);
