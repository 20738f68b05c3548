//! What the host's own memory comes to while policies do their worst. In a process of its own, and one test in it:
//! whatever else ran here would be measured too.
//!
//! Clauses: HOST-7.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use elasticache_host::{Limits, Runtime};

mod sim_support;

use sim_support::{World, hostile, key, redis, soon};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// By how much it may grow.
const GROWTH_KIB: u64 = 64 << 10;

/// Of this process, in KiB: `VmRSS` is what it has now, `VmHWM` the most that it had.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn runtime(world: &World, guest: &str) -> Runtime {
    // Time is no memory, and there is none to be wasted.
    let (guest_time, cleanup) = (Duration::from_millis(300), Duration::from_secs(1));
    let limits = Limits { guest_time, cleanup, ..Limits::default() };
    let builder = world.builder().policy_file(hostile(guest)).setting("target", "bystander-running");
    builder.limits(limits).timeout(Duration::from_secs(10)).build().await.unwrap()
}

/// Every operation that a policy has, however it ends.
async fn all_operations(world: &World, runtime: &Runtime) {
    let (bad, args) = (key("bad"), ["PING".to_owned()]);
    drop(runtime.ensure(redis("bad")).await);
    drop(runtime.reboot(&bad).await);
    drop(runtime.snapshot(&bad, &world.path().join("x.rdb")).await);
    drop(runtime.exec(&bad, &args).await);
    drop(runtime.find(&bad).await);
    drop(runtime.list().await);
    drop(runtime.reap().await);
    drop(runtime.stop(&bad).await);
    drop(runtime.remove_data(&bad).await);
}

/// The shipped limits hold, not those of a test. The engine here is in memory too, and what it keeps is measured with
/// the rest.
#[tokio::test]
async fn the_host_grows_by_64_mib_at_most_whatever_a_policy_does() {
    // Compiling takes memory of its own; from here on it is done.
    for guest in GUESTS {
        let world = World::new().await;
        drop(runtime(&world, guest).await);
    }
    let before = memory("VmRSS:");
    let mut grown = Vec::new();
    for guest in GUESTS {
        let world = World::new().await;
        let runtime = runtime(&world, guest).await;
        // From here on `VmHWM` is the most since now.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        soon(all_operations(&world, &runtime)).await;
        grown.push((memory("VmHWM:").saturating_sub(before), guest));
    }
    grown.sort_unstable_by(|a, b| b.cmp(a));
    println!("grown from {before} KiB by: {:?}", &grown[..10]);
    let (grown, guest) = grown[0];
    assert!(grown <= GROWTH_KIB, "{grown} KiB more than {before} KiB, with {guest}");
}
