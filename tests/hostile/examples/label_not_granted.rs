//! Puts a label on its container that is somebody else's.

use hostile::prelude::*;

struct LabelNotGranted;

impl Policy for LabelNotGranted {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        spec.labels.push(("com.example.team".to_owned(), "us".to_owned()));
        decent::run(key, &spec)
    }
}

hostile::policy!(LabelNotGranted);
