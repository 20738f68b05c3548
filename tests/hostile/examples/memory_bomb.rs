//! Allocates until there is no more.

use hostile::prelude::*;

struct MemoryBomb;

impl Policy for MemoryBomb {
    fn anywhere() {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(vec![1; 64 << 10]);
            black_box(&hoard);
        }
    }
}

hostile::policy!(MemoryBomb);
