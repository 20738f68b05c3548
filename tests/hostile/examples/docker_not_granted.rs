//! Uses Docker whether it may or not: everything that needs no handle.

use hostile::prelude::*;

struct DockerNotGranted;

impl Policy for DockerNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let name = decent::name(key);
        let answers = [
            docker::find(&name).err(),
            docker::find_volume(&name).err(),
            docker::create_volume(&name).err(),
            docker::containers().err(),
            docker::pull("redis:7-alpine").err(),
            docker::reserve_port(1).err(),
        ];
        Err(denial(answers))
    }
}

hostile::policy!(DockerNotGranted);
