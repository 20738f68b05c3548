//! Has a program print much, again and again, and keeps all of it.

use hostile::prelude::*;

struct OutputHoard;

impl Policy for OutputHoard {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        decent::ready(&container)?;
        let large = ["SET", "large", &"x".repeat(100 << 10)].map(str::to_owned);
        probes::command(&Target::Container(&container), &large, 1_000)?;
        let get = ["redis-cli", "GET", "large"].map(str::to_owned);
        let mut held = Vec::new();
        loop {
            held.push(container.exec(&get)?);
        }
    }
}

hostile::policy!(OutputHoard);
