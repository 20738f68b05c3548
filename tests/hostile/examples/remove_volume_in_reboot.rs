//! Deletes the data of a cache that it is to reboot.

use hostile::prelude::*;

struct RemoveVolumeInReboot;

impl Policy for RemoveVolumeInReboot {
    fn reboot(key: &CacheKey) -> Result<Cache, Error> {
        let volume = docker::find_volume(&setting("target"))?;
        volume.ok_or_else(|| Error::NotFound(setting("target")))?.remove()?;
        decent::reboot(key)
    }
}

hostile::policy!(RemoveVolumeInReboot);
