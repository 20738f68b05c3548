//! Looks for its container again and again, and keeps all that it is given.

use hostile::prelude::*;

struct HandleFlood;

impl Policy for HandleFlood {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        drop(decent::started(key)?);
        let mut held = Vec::new();
        loop {
            held.push(decent::existing(key)?);
        }
    }
}

hostile::policy!(HandleFlood);
