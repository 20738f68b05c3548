//! Writes a file into a folder that could be anywhere.

use hostile::prelude::*;

struct PutElsewhere;

impl Policy for PutElsewhere {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let container = decent::started(key)?;
        let content = Content::Bytes(vec![0; 1]);
        container.put("data", &[File { path: "x".to_owned(), content }])?;
        Ok(decent::report(&container, None, false))
    }
}

hostile::policy!(PutElsewhere);
