//! Writes a file that is larger than anything that may be handed over.

use hostile::prelude::*;

struct HugeFile;

impl Policy for HugeFile {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        container.put("/data", &[File { path: "x".to_owned(), content: Content::Bytes(vec![0; HUGE]) }])?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(HugeFile);
