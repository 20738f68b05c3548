//! `durable`, the default policy: no acknowledged write is lost, whatever ends the engine's process or
//! the host's.
//!
//! It decides and never acts: each effect is an import. It has no clock, no randomness and no state of its
//! own, so the same observations always lead to the same calls.
//!
//! - [`names`]: what things are called
//! - [`engines`]: what each engine is run as
//! - [`data`]: how a dataset lies on its volume
//! - [`steps`]: what to do next for what was seen
//! - `cache`, `policy`: these put together with the imports

#![allow(
    missing_docs,
    reason = "the contract's documentation is in wit/; this crate is no library for others"
)]

#[allow(clippy::all, clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "policy",
        generate_all,
        pub_export_macro: false,
    });

    // The exported names are none that a native linker takes.
    #[cfg(target_arch = "wasm32")]
    use super::policy::Durable;

    #[cfg(target_arch = "wasm32")]
    export!(Durable with_types_in self);
}

mod cache;
pub mod data;
pub mod engines;
pub mod names;
mod policy;
pub mod steps;
