//! `durable`, the default policy: no acknowledged write is lost, whatever ends the engine's process or
//! the host's.
//!
//! - [`data`]: how a dataset lies on its volume
//! - [`storage`]: what is done for it
//!
//! The rest is the library's that all shipped policies share, `policy-kit`.

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]

pub mod data;
pub mod storage;

policy_kit::policy!(storage::Durable);
