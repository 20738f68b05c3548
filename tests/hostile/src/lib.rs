//! What policies that misbehave are made of. Each file in `examples` is one of them and has no other use than to be
//! survived: a test of the same name in `tests/tests/limits` says how. Without that test the tests do not compile.
//!
//! A hostile policy does everything decently but for the one thing that it is named after; and the cache whose id is
//! `good` it always treats well, so that a test can show that the operation after a broken one works.

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
        default_bindings_module: "hostile::bindings",
    });
}

pub mod decent;
mod policy;
pub mod prelude;

pub use policy::{Lifecycle, Policy};

use bindings::fakecloud::elasticache::types::Error;

/// More than any limit under which these run, and less than their own memory.
pub const HUGE: usize = 1 << 20;

/// A setting of the policy's; empty if it has none of that name.
pub fn setting(name: &str) -> String {
    bindings::wasi::config::store::get(name).ok().flatten().unwrap_or_default()
}

/// What calls came to that are all to be denied: the first denial; else the first answer that is none.
pub fn denial<const COUNT: usize>(answers: [Option<Error>; COUNT]) -> Error {
    let other = answers.iter().position(|answer| !matches!(answer, Some(Error::Denied(_))));
    let [first, ..] = &answers[other.unwrap_or(0)..] else { return Error::Other("no call".to_owned()) };
    match (other, first) {
        (None, Some(denial)) => denial.clone(),
        (at, answer) => Error::Other(format!("call {at:?} was answered {answer:?}")),
    }
}

/// Breaks off, as a bug would.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}

/// Makes a [`Policy`] the one that the component exports.
#[macro_export]
macro_rules! policy {
    ($policy:ident) => {
        #[cfg(target_arch = "wasm32")]
        type Exported = $crate::Lifecycle<$policy>;

        // The exported names are none that a native linker takes.
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export_policy!(Exported);

        // Where nothing is exported it is no use to anybody, and that is no mistake.
        const _: $policy = $policy;
    };
}
