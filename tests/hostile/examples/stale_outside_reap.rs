//! Asks for dead owners' containers while it makes a cache.

use hostile::prelude::*;

struct StaleOutsideReap;

impl Policy for StaleOutsideReap {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        docker::stale()?;
        decent::ensure(key)
    }
}

hostile::policy!(StaleOutsideReap);
