//! Publishes a port whether it may or not.

use hostile::prelude::*;

struct PublishNotGranted;

impl Policy for PublishNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let spec = decent::spec(key)?;
        let container = docker::create(&spec, &[])?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(PublishNotGranted);
