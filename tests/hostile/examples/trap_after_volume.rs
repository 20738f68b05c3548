//! Breaks off when it has made a volume and nothing else.

use hostile::prelude::*;

struct TrapAfterVolume;

impl Policy for TrapAfterVolume {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let _volume = decent::volume(key)?;
        trap()
    }
}

hostile::policy!(TrapAfterVolume);
