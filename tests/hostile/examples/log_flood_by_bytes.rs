//! Logs without end, as much at a time as a line may have.

use hostile::prelude::*;

struct LogFloodByBytes;

impl Policy for LogFloodByBytes {
    fn anywhere() {
        let line = "x".repeat(4 << 10);
        loop {
            log(Level::Debug, &line);
        }
    }
}

hostile::policy!(LogFloodByBytes);
