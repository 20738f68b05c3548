//! Hands over as much as one call may, in call after call.

use hostile::prelude::*;

struct BytesFlood;

impl Policy for BytesFlood {
    fn anywhere() {
        // No name is that long, so nothing is looked for; but it was handed over.
        let name = "x".repeat(100 << 10);
        loop {
            drop(black_box(docker::find(&name)));
        }
    }
}

hostile::policy!(BytesFlood);
