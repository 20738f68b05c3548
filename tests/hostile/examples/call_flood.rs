//! Asks for the same thing without end.

use hostile::prelude::*;

struct CallFlood;

impl Policy for CallFlood {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        loop {
            black_box(container.info());
        }
    }
}

hostile::policy!(CallFlood);
