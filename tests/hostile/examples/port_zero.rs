//! Publishes a port that the engine is to choose.

use hostile::prelude::*;

struct PortZero;

impl Policy for PortZero {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        if let Some(publish) = &mut spec.publish {
            publish.host_port = 0;
        }
        decent::run(key, &spec)
    }
}

hostile::policy!(PortZero);
