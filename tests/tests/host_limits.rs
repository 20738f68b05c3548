//! Policies that do their worst, one for each way to do so: each operation of theirs ends with an error that says how,
//! soon enough, nothing that it made stays, nothing of anybody else's changes, and the operation after it works.
//!
//! The policies are in `tests/hostile/examples`. One without a test of its name is an error right here.
//!
//! Clauses: HOST-1, HOST-2, HOST-3, HOST-4, HOST-5, HOST-6, HOST-15, HOST-16, FAIL-8, OWN-2.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod limits;
mod sim_support;

use limits::{answers::*, breaking::*, excess::*, grants::*, handles::*, reaching::*, waiting::*};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

macro_rules! has_a_test {
    ($guest:ident) => {
        const _: fn() = $guest;
    };
}

for_each_guest!(has_a_test);

#[test]
fn there_are_hostile_policies_at_all() {
    assert!(GUESTS.len() > 50, "{GUESTS:?}");
}
