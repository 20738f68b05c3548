//! Makes a container while it is to stop one.

use hostile::prelude::*;

struct CreateWhileStopping;

impl Policy for CreateWhileStopping {
    fn stop(key: &CacheKey) -> Result<bool, Error> {
        docker::create(&decent::spec(key)?, &[]).map(|_| true)
    }
}

hostile::policy!(CreateWhileStopping);
