//! Conformance: scenarios that name neither a container engine nor a policy, and what runs them.
//!
//! - [`corpus`]: the scenarios, read from the files in `tests/corpus`
//! - [`world`]: where they run, in memory or on a real engine, and what other hands do there
//! - [`runner`]: one scenario, step by step
//! - [`verdict`]: what came of all of them

pub mod corpus;
pub mod runner;
pub mod verdict;
pub mod world;
