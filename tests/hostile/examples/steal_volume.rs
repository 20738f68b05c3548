//! Looks for another cache's volume by its name.

use hostile::prelude::*;

struct StealVolume;

impl Policy for StealVolume {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let seen = docker::find_volume(&setting("target"))?;
        Err(Error::Other(format!("seen: {} of {}", seen.is_some(), decent::name(key))))
    }
}

hostile::policy!(StealVolume);
