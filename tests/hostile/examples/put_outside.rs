//! Writes a file outside of the folder that it names.

use hostile::prelude::*;

struct PutOutside;

impl Policy for PutOutside {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        let content = Content::Bytes(vec![0; 1]);
        container.put("/data", &[File { path: "../etc/passwd".to_owned(), content }])?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(PutOutside);
