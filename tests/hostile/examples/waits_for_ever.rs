//! Waits for its engine for as long as can be said.

use hostile::prelude::*;

struct WaitsForEver;

impl Policy for WaitsForEver {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        let endpoint = probes::wait_ready(&Target::Container(&container), Check::RedisPing, u32::MAX)?;
        Ok(decent::report(&container, Some(endpoint), false))
    }
}

hostile::policy!(WaitsForEver);
