//! What the shipped policies share: names, engines, and the order of steps in each operation. They differ in
//! where data lies and what becomes of it, which is [`storage::Storage`].
//!
//! A policy decides and never acts: each effect is an import. It has no clock, no randomness and no state of its
//! own, so the same observations always lead to the same calls.
//!
//! - [`names`]: what things are called
//! - [`engines`]: what each engine is run as
//! - [`steps`]: what to do next for what was seen
//! - [`storage`]: where data lies
//! - [`volatile`]: data that lies in memory only
//! - [`server`]: a container or a pod, as far as they are alike
//! - [`cache`], [`lifecycle`]: these put together with the imports
//! - [`containers`], [`pods`]: the steps on Docker, and on Kubernetes

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]

#[allow(clippy::all, clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "policy",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "policy_kit::bindings",
    });
}

pub mod cache;
pub mod containers;
pub mod engines;
pub mod lifecycle;
pub mod names;
pub mod pods;
pub mod server;
pub mod steps;
pub mod storage;
pub mod volatile;

/// Makes a [`storage::Storage`] the policy that a component exports.
#[macro_export]
macro_rules! policy {
    ($storage:ty) => {
        #[cfg(target_arch = "wasm32")]
        type Exported = $crate::lifecycle::Lifecycle<$storage>;

        // The exported names are none that a native linker takes.
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_policy!(Exported);
    };
}
