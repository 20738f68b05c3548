//! Computes and never comes to an end.

use hostile::prelude::*;

struct EndlessLoop;

impl Policy for EndlessLoop {
    fn anywhere() {
        loop {
            black_box(());
        }
    }
}

hostile::policy!(EndlessLoop);
