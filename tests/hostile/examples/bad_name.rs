//! Gives its container a name that leads elsewhere.

use hostile::prelude::*;

struct BadName;

impl Policy for BadName {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        spec.name = "../hostile".to_owned();
        decent::run(key, &spec)
    }
}

hostile::policy!(BadName);
