//! Answers with another cache than the one that it was asked for.

use hostile::prelude::*;

struct OtherKey;

impl Policy for OtherKey {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut cache = decent::ensure(key)?;
        cache.key.id = "another".to_owned();
        Ok(cache)
    }
}

hostile::policy!(OtherKey);
