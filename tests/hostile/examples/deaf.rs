//! Hears that its time is up, each time, and goes on.

use hostile::prelude::*;

struct Deaf;

impl Policy for Deaf {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        loop {
            drop(black_box(probes::wait_ready(&Target::Container(&container), Check::RedisPing, u32::MAX)));
        }
    }
}

hostile::policy!(Deaf);
