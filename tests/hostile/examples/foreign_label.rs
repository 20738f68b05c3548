//! Puts a label on its container that is the host's own.

use hostile::prelude::*;

struct ForeignLabel;

impl Policy for ForeignLabel {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        spec.labels.push(("fakecloud-instance".to_owned(), "somebody".to_owned()));
        decent::run(key, &spec)
    }
}

hostile::policy!(ForeignLabel);
