//! Logs one line that is longer than anything that may be handed over.

use hostile::prelude::*;

struct LogHuge;

impl Policy for LogHuge {
    fn anywhere() {
        log(Level::Info, &"x".repeat(HUGE));
    }
}

hostile::policy!(LogHuge);
