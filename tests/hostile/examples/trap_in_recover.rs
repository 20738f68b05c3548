//! Breaks off when it has all caches in hand.

use hostile::prelude::*;

struct TrapInRecover;

impl Policy for TrapInRecover {
    fn recover() -> Result<Vec<Cache>, Error> {
        let _containers = docker::containers()?;
        trap()
    }
}

hostile::policy!(TrapInRecover);
