//! Breaks off when it has made a container and has not started it.

use hostile::prelude::*;

struct TrapAfterCreate;

impl Policy for TrapAfterCreate {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let _container = decent::create(key, &decent::spec(key)?)?;
        trap()
    }
}

hostile::policy!(TrapAfterCreate);
