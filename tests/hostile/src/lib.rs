//! `hostile`: a policy that misbehaves, in the way that its setting `behaviour` names. It has no other use
//! than to be survived: `tests/tests/host_limits.rs` has a test for each behaviour.
//!
//! The cache whose id is `good` is always treated well, so that a test can show that the operation after a
//! broken one works.

#![allow(missing_docs, reason = "the contract's documentation is in wit/")]
#![allow(clippy::panic, reason = "breaking off is what it is for")]
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "exported to WebAssembly hosts only"))]

#[allow(clippy::all, clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "policy",
        generate_all,
        pub_export_macro: false,
    });

    // The exported names are none that a native linker takes.
    #[cfg(target_arch = "wasm32")]
    use super::policy::Hostile;

    #[cfg(target_arch = "wasm32")]
    export!(Hostile with_types_in self);
}

mod excess;
mod policy;
