//! Makes a volume while it is to stop a container.

use hostile::prelude::*;

struct CreateVolumeWhileStopping;

impl Policy for CreateVolumeWhileStopping {
    fn stop(key: &CacheKey) -> Result<bool, Error> {
        docker::create_volume(&decent::name(key)).map(|_| true)
    }
}

hostile::policy!(CreateVolumeWhileStopping);
