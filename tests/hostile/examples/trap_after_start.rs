//! Breaks off when its container runs.

use hostile::prelude::*;

struct TrapAfterStart;

impl Policy for TrapAfterStart {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let _container = decent::started(key)?;
        trap()
    }
}

hostile::policy!(TrapAfterStart);
