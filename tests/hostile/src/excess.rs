//! Taking more than there is: time, memory, stack, calls, bytes.

use std::hint::black_box;

use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::wasi::config::store;

/// More than any limit under which this runs, and less than its own memory.
pub const HUGE: usize = 1 << 20;

/// What can be done in any operation. Returns if the behaviour is none of these.
pub fn anywhere(behaviour: &str) {
    match behaviour {
        "loop" => loop {
            black_box(());
        },
        "memory" => hoard(),
        "recursion" => {
            black_box(descend(0));
        }
        "panic" => panic!("on purpose"),
        "log-huge" => log(Level::Info, &"x".repeat(HUGE)),
        "log-flood" => loop {
            log(Level::Debug, "again");
        },
        // Settings are read without a word to the engine, so nothing but computing time ends this.
        "settings-flood" => loop {
            drop(black_box(store::get("behaviour")));
        },
        _ => {}
    }
}

fn hoard() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 64 << 10]);
        black_box(&hoard);
    }
}

#[allow(unconditional_recursion, reason = "it ends where the stack does")]
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    descend(depth + 1).wrapping_add(frame[0])
}
