//! Calls itself until its stack ends.

use hostile::prelude::*;

struct EndlessRecursion;

impl Policy for EndlessRecursion {
    fn anywhere() {
        black_box(descend(0));
    }
}

#[allow(unconditional_recursion, reason = "it ends where the stack does")]
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    descend(depth + 1).wrapping_add(frame[0])
}

hostile::policy!(EndlessRecursion);
