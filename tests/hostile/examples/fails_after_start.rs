//! Gives up without cleaning up.

use hostile::prelude::*;

struct FailsAfterStart;

impl Policy for FailsAfterStart {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let _container = decent::started(key)?;
        Err(Error::Other("on purpose".to_owned()))
    }
}

hostile::policy!(FailsAfterStart);
