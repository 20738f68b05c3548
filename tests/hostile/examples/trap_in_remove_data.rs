//! Breaks off when the data is gone and nobody was told.

use hostile::prelude::*;

struct TrapInRemoveData;

impl Policy for TrapInRemoveData {
    fn remove_data(key: &CacheKey) -> Result<bool, Error> {
        decent::remove_data(key)?;
        trap()
    }
}

hostile::policy!(TrapInRemoveData);
