//! Logs without end, a few bytes at a time.

use hostile::prelude::*;

struct LogFloodByLines;

impl Policy for LogFloodByLines {
    fn anywhere() {
        loop {
            log(Level::Debug, "again");
        }
    }
}

hostile::policy!(LogFloodByLines);
