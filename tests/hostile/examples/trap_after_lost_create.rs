//! Breaks off as soon as it hears that it is not known whether its container was made.

use hostile::prelude::*;

struct TrapAfterLostCreate;

impl Policy for TrapAfterLostCreate {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        match decent::create(key, &decent::spec(key)?) {
            Ok(container) => Ok(decent::report(&container, None, false)),
            Err(_) => trap(),
        }
    }
}

hostile::policy!(TrapAfterLostCreate);
