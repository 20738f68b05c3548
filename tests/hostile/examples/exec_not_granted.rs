//! Runs a shell in its container.

use hostile::prelude::*;

struct ExecNotGranted;

impl Policy for ExecNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        container.exec(&["sh", "-c", "redis-cli PING"].map(str::to_owned))?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(ExecNotGranted);
