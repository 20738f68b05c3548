//! Uses the handle of a volume as if it were one of a container.

use hostile::prelude::*;

struct MistakenHandle;

impl Policy for MistakenHandle {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let volume = decent::volume(key)?;
        // Safe bindings tell the two apart.
        let mistaken = unsafe { Container::from_handle(volume.handle()) };
        mistaken.start()?;
        decent::ensure(key)
    }
}

hostile::policy!(MistakenHandle);
