//! Breaks off when it holds the snapshot.

use hostile::prelude::*;

struct TrapInSnapshot;

impl Policy for TrapInSnapshot {
    fn snapshot(key: &CacheKey) -> Result<Snapshot, Error> {
        let _snapshot = decent::snapshot(key)?;
        trap()
    }
}

hostile::policy!(TrapInSnapshot);
