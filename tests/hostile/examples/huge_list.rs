//! Sends a command of very many empty arguments: nothing in it but its length.

use hostile::prelude::*;

struct HugeList;

impl Policy for HugeList {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        let target = Target::Container(&container);
        probes::command(&target, &vec![String::new(); HUGE / 8], 1_000)?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(HugeList);
