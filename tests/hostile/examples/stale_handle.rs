//! Uses a handle that it has given back.

use hostile::prelude::*;

struct StaleHandle;

impl Policy for StaleHandle {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        // A second owner of the same handle, which safe bindings rule out.
        let stale = unsafe { Container::from_handle(container.handle()) };
        drop(container);
        stale.stop(1)?;
        decent::ensure(key)
    }
}

hostile::policy!(StaleHandle);
