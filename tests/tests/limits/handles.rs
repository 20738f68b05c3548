//! Handles that a policy was not given, or has no longer.

use elasticache_host::Fault;

use super::{fault, survived};

/// No other container, volume or output is ever reached: the component's own table of handles does not have it.
async fn is_no_handle(guest: &str, words: &str) {
    let broken = fault(survived(guest).await);
    assert!(matches!(&broken, Fault::Trap(said) if said.contains(words)), "{broken:?}");
}

#[tokio::test]
pub async fn forged_handle() {
    is_no_handle("forged_handle", "unknown handle index").await;
}

#[tokio::test]
pub async fn stale_handle() {
    is_no_handle("stale_handle", "unknown handle index").await;
}

#[tokio::test]
pub async fn mistaken_handle() {
    is_no_handle("mistaken_handle", "wrong type").await;
}
