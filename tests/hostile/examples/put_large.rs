//! Writes a file by hand that is larger than such a file may be.

use hostile::prelude::*;

struct PutLarge;

impl Policy for PutLarge {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        let content = Content::Bytes(vec![0; (64 << 10) + 1]);
        container.put("/data", &[File { path: "x".to_owned(), content }])?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(PutLarge);
