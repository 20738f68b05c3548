//! Brings a table of 1,024 functions. Rust has no words for making a table grow, so this one is large from the
//! start; the host counts both alike.

use hostile::prelude::*;

struct TableBomb;

impl Policy for TableBomb {
    fn anywhere() {
        let at = black_box(0);
        black_box(FUNCTIONS[at][at](at));
    }
}

fn function<const ROW: usize, const COLUMN: usize>(seed: usize) -> usize {
    black_box(seed) + ROW * 100 + COLUMN
}

macro_rules! row {
    ($row:literal; $($column:literal)*) => {
        [$(function::<$row, $column>),*]
    };
}

macro_rules! rows {
    ($($row:literal)*) => {
        [$(row!($row; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)),*]
    };
}

type Row = [fn(usize) -> usize; 32];

static FUNCTIONS: [Row; 32] =
    rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

hostile::policy!(TableBomb);
