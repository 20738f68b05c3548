//! Gives its container the name of another one.

use hostile::prelude::*;

struct TakeName;

impl Policy for TakeName {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        spec.name = setting("target");
        decent::run(key, &spec)
    }
}

hostile::policy!(TakeName);
