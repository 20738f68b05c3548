//! Conformance: scenarios that name neither a container engine nor a policy, and what runs them.
//!
//! - [`spec`]: the clauses of the specification, which all of it is about
//! - [`certificate`]: from what was run to what is reported
//! - [`corpus`]: the scenarios, read from the files in `tests/corpus`
//! - [`faults`]: what goes wrong between a host and its world
//! - [`explore`]: scenarios in a simulated world, with every fault at every call
//! - [`mutants`]: what has to be noticed
//! - [`world`]: where they run, in memory or on a real engine, and what other hands do there
//! - [`sim`]: the world that is simulated
//! - [`runner`]: one scenario, step by step
//! - [`trace`]: what was done, to be compared
//! - [`verdict`]: what came of all of them
//! - [`report`]: the same as files, for people and for machines

pub mod certificate;
pub mod corpus;
pub mod explore;
pub mod faults;
pub mod mutants;
pub mod report;
pub mod runner;
mod scopes;
pub mod sim;
#[cfg(test)]
mod sources;
pub mod spec;
pub mod trace;
pub mod verdict;
pub mod world;
