//! Fetches an image that no environment grants to it.

use hostile::prelude::*;

struct PullNotGranted;

impl Policy for PullNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        docker::pull("evil/redis:7")?;
        decent::ensure(key)
    }
}

hostile::policy!(PullNotGranted);
