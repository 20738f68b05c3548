//! Uses a handle that it was never given.

use hostile::prelude::*;

struct ForgedHandle;

impl Policy for ForgedHandle {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        // Safe bindings cannot say this; a component of another making can.
        let forged = unsafe { Container::from_handle(12_345) };
        decent::run(key, &decent::spec(key)?)?;
        forged.remove()?;
        decent::ensure(key)
    }
}

hostile::policy!(ForgedHandle);
