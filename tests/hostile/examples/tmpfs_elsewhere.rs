//! Keeps a folder in memory whose path says more than where it is.

use hostile::prelude::*;

struct TmpfsElsewhere;

impl Policy for TmpfsElsewhere {
    fn ensure(key: &CacheKey) -> Result<Cache, Error> {
        let mut spec = decent::spec(key)?;
        spec.tmpfs.push("/data:exec,mode=4777".to_owned());
        decent::run(key, &spec)
    }
}

hostile::policy!(TmpfsElsewhere);
