//! Sends a command with one huge argument.

use hostile::prelude::*;

struct HugeString;

impl Policy for HugeString {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        let target = Target::Container(&container);
        probes::command(&target, &["ECHO".to_owned(), "x".repeat(HUGE)], 1_000)?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(HugeString);
