//! `durable`, the default policy: no acknowledged write is lost, whatever ends the engine's process or
//! the host's.
//!
//! On Docker the data lies on a volume, on Kubernetes on a claim if the environment has a storage class: a pod never
//! starts again, so a reboot ends it and gives its claim to the next one. Without a class the data lies in the pod, and a
//! reboot has a second pod take over from the first before that one ends; `policy_kit::pods` says how, and why so.
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
