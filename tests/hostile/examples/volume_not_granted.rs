//! Makes a volume whether it may or not, after it was told that it may not look for one.

use hostile::prelude::*;

struct VolumeNotGranted;

impl Policy for VolumeNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        drop(docker::find_volume(&decent::name(key)));
        let _volume = docker::create_volume(&decent::name(key))?;
        decent::ensure(key)
    }
}

hostile::policy!(VolumeNotGranted);
