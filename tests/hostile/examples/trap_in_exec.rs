//! Breaks off when it holds what a command printed.

use hostile::prelude::*;

struct TrapInExec;

impl Policy for TrapInExec {
    fn exec(key: &CacheKey, args: Vec<String>) -> Result<ExecResult, Error> {
        let _result = decent::exec(key, args)?;
        trap()
    }
}

hostile::policy!(TrapInExec);
