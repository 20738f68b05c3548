//! Answers with a cache whose key is none.

use hostile::prelude::*;

struct BadKey;

impl Policy for BadKey {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut cache = decent::ensure(key)?;
        cache.key.id = String::new();
        Ok(cache)
    }
}

hostile::policy!(BadKey);
