//! Runs an image that no environment grants to it.

use hostile::prelude::*;

struct ImageNotGranted;

impl Policy for ImageNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        spec.image = "evil/redis:7".to_owned();
        decent::run(key, &spec)
    }
}

hostile::policy!(ImageNotGranted);
