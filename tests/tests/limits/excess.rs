//! Too much of something.

use elasticache_host::{Error, Fault};

use super::{failing, fault, limits, misbehaving, still_works, survived};
use crate::sim_support::{World, key};

#[tokio::test]
pub async fn endless_loop() {
    assert_eq!(fault(survived("endless_loop").await), Fault::GuestTime(limits().guest_time));
}

#[tokio::test]
pub async fn settings_flood() {
    assert_eq!(fault(survived("settings_flood").await), Fault::GuestTime(limits().guest_time));
}

#[tokio::test]
pub async fn memory_bomb() {
    assert_eq!(fault(survived("memory_bomb").await), Fault::Memory(limits().memory));
}

#[tokio::test]
pub async fn table_bomb() {
    // It never comes into being, so there is no operation of it that could work; a neighbour's does.
    let world = World::new().await;
    let (runtime, neighbour) =
        (misbehaving(&world, "table_bomb").await, misbehaving(&world, "call_flood").await);
    for id in ["bad", "good"] {
        assert_eq!(fault(failing(runtime.find(&key(id))).await), Fault::Tables(limits().tables));
    }
    world.assert_untouched(&world.observe().await, "after a broken operation");
    still_works(&world, &neighbour).await;
}

#[tokio::test]
pub async fn endless_recursion() {
    assert!(matches!(fault(survived("endless_recursion").await), Fault::Trap(_)));
}

#[tokio::test]
pub async fn call_flood() {
    assert_eq!(fault(survived("call_flood").await), Fault::HostCalls(limits().host_calls));
}

#[tokio::test]
pub async fn handle_flood() {
    assert_eq!(fault(survived("handle_flood").await), Fault::Handles(limits().handles));
}

#[tokio::test]
pub async fn log_flood_by_lines() {
    assert_eq!(fault(survived("log_flood_by_lines").await), Fault::HostCalls(limits().host_calls));
}

#[tokio::test]
pub async fn log_flood_by_bytes() {
    assert_eq!(fault(survived("log_flood_by_bytes").await), Fault::Logs(limits().log_bytes));
}

#[tokio::test]
pub async fn bytes_flood() {
    let all = Fault::Oversized { what: "all calls".to_owned(), limit: limits().bytes_total };
    assert_eq!(fault(survived("bytes_flood").await), all);
}

#[tokio::test]
pub async fn output_hoard() {
    // A program that prints more than there is room for is no fault of the policy's, which is told.
    let error = survived("output_hoard").await;
    assert!(matches!(&error, Error::Engine { message } if message.contains("wrote more than")), "{error:?}");
}

/// Refused before the host keeps it.
async fn too_large_for_one_call(guest: &str) {
    let one = Fault::Oversized { what: "one call".to_owned(), limit: limits().bytes_per_call };
    assert_eq!(fault(survived(guest).await), one);
}

#[tokio::test]
pub async fn log_huge() {
    too_large_for_one_call("log_huge").await;
}

#[tokio::test]
pub async fn huge_string() {
    too_large_for_one_call("huge_string").await;
}

#[tokio::test]
pub async fn huge_list() {
    too_large_for_one_call("huge_list").await;
}

#[tokio::test]
pub async fn huge_file() {
    too_large_for_one_call("huge_file").await;
}

#[tokio::test]
async fn every_operation_is_bounded_not_only_the_making_of_a_cache() {
    let world = World::new().await;
    let runtime = misbehaving(&world, "log_flood_by_lines").await;
    let path = world.path().join("x.rdb");
    let args = ["PING".to_owned()];
    let errors = [
        failing(runtime.reboot(&key("bad"))).await,
        failing(runtime.snapshot(&key("bad"), &path)).await,
        failing(runtime.stop(&key("bad"))).await,
        failing(runtime.remove_data(&key("bad"))).await,
        failing(runtime.exec(&key("bad"), &args)).await,
        failing(runtime.find(&key("bad"))).await,
        failing(runtime.list()).await,
        failing(runtime.reap()).await,
        failing(runtime.stop_all()).await,
    ];
    for error in errors {
        assert_eq!(fault(error), Fault::HostCalls(limits().host_calls));
    }
    assert!(!path.exists());
    still_works(&world, &runtime).await;
}
