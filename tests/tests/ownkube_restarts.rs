//! The kubelet or the container engine of the cluster's one node starts again, while a cache runs and in the middle
//! of its reboot or of a restore: `up` has it back with all that it held.
//!
//! Only who runs a cluster can do that to it, so these tests are left out with a cluster of somebody else's. They
//! disturb whatever else runs on the node.
//!
//! Clauses: KUBE-9.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_caches;
mod kube_support;
mod support;

use std::process::Command;
use std::time::Instant;

use kube_caches::{Data, Place};

/// To which the part is added that is to start again. It returns once pods can be made.
const RESTART: &str = "KUBE_TEST_RESTART";
const ID: &str = "restarted";
/// Points of a reboot at which it happens, for each part, and of a restore in the place of data.
const REBOOTS: usize = 4;
const RESTORES: usize = 2;

fn command() -> String {
    std::env::var(RESTART).unwrap_or_else(|_| {
        panic!(
            "{RESTART} is not set: these tests need a command that restarts a part of the cluster, to which `kubelet` \
             or `engine` is added"
        )
    })
}

fn restart(part: &str) {
    let began = Instant::now();
    let output = Command::new("sh").args(["-c", &format!("{} {part}", command())]).output().unwrap();
    assert!(output.status.success(), "{RESTART} {part}: {output:?}");
    println!("{part} restarted in {:?}", began.elapsed());
}

/// One test, since two would restart things under each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_of_the_kubelet_or_of_the_engine_loses_nothing() {
    command();
    let place = Place::new(Data::OnClaim).await;
    place.begin(ID).await;
    let file = place.file("all.rdb").to_str().unwrap().to_owned();
    place.done(&["snapshot", ID, &file], "before");
    let reboot: &[&str] = &["reboot", ID];
    let replace: &[&str] = &["up", ID, "--from", &file, "--replace-data"];
    let (reboots, restores) = (place.events(reboot), place.events(replace));
    for part in ["kubelet", "engine"] {
        restart(part);
        place.comes_up_whole(ID, &format!("after a restart of the {part}")).await;
        for point in 0..REBOOTS {
            let when = meanwhile(&place, part, reboot, point * reboots / REBOOTS);
            place.comes_up_whole(ID, &when).await;
        }
        for point in 1..=RESTORES {
            place.make_old(ID).await;
            let when = meanwhile(&place, part, replace, point * restores / (RESTORES + 1));
            place.is_old_or_new(ID, &when).await;
            place.done(replace, &when);
            place.comes_up_whole(ID, &when).await;
        }
    }
    place.nothing_is_left_over(1).await;
}

/// Restarts a part in the middle of an operation, and waits for both. Returns when that was, in words.
fn meanwhile(place: &Place, part: &'static str, operation: &[&str], at: usize) -> String {
    let when = format!("after a restart of the {part} at event {at} of {operation:?}");
    let began = Instant::now();
    let mut restarting = None;
    let done = place.disturbed(operation, at, |_| {
        restarting = Some(std::thread::spawn(move || restart(part)));
    });
    println!("{when}: {:?} {} after {:?}", done.code, done.stderr, began.elapsed());
    // It waits it out, or says what went wrong.
    assert!(matches!(done.code, Some(0 | 1 | 3)), "{when}: {done:?}");
    restarting.expect("it comes so far").join().unwrap();
    when
}
