//! What the tests of the report share: reports made up for them, and a browser.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod browser;
pub mod sample;
