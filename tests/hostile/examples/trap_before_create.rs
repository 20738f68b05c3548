//! Breaks off before it has made anything.

use hostile::prelude::*;

struct TrapBeforeCreate;

impl Policy for TrapBeforeCreate {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        drop(docker::find(&decent::name(key))?);
        trap()
    }
}

hostile::policy!(TrapBeforeCreate);
