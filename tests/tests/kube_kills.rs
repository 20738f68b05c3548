//! Whatever ends in the middle of a reboot or a restore, the host or the pod, `up` has the cache back with all that
//! it held: on a real cluster.
//!
//! A disturbance comes at an event of the operation, not after a time: as a request to the API server begins, or as
//! a call of the policy ends. Several caches take turns, so that one is judged while another one is disturbed.
//!
//! Clauses: KUBE-5, KUBE-6, KUBE-7, KUBE-8, KUBE-20, REST-10, TURN-2.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_caches;
mod kube_support;
mod support;

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use kube_caches::{Data, Place};

/// Caches that are disturbed at once.
const LANES: usize = 3;
/// Points of each kind of operation: 50 of both reboots, and more of the restores.
const KILLS: usize = 25;
/// The same where the pod is deleted, where there is no claim to restore to, or where somebody else reboots.
const DELETIONS: usize = 6;
const RIVALS: usize = 6;
/// The same where there have to be two pods at that point.
const SUCCESSORS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reboot,
    /// Into a cache that is not there.
    Restore,
    /// In the place of data that is there.
    Replace,
}

/// Something that happens to one kind of operation, wherever that is.
struct Trial {
    place: Place,
    kind: Kind,
    snapshot: String,
}

impl Trial {
    async fn new(data: Data, kind: Kind) -> Trial {
        let place = Place::new(data).await;
        let snapshot = place.file("all.rdb").to_str().unwrap().to_owned();
        Trial { place, kind, snapshot }
    }

    fn args<'a>(&'a self, id: &'a str) -> Vec<&'a str> {
        match self.kind {
            Kind::Reboot => vec!["reboot", id],
            Kind::Restore => vec!["up", id, "--from", &self.snapshot],
            Kind::Replace => vec!["up", id, "--from", &self.snapshot, "--replace-data"],
        }
    }

    /// A cache of its own for each lane.
    async fn prepare(&self) -> Vec<String> {
        let ids: Vec<String> = (0..LANES).map(|lane| format!("lane{lane}")).collect();
        for id in &ids {
            self.place.begin(id).await;
        }
        if self.kind != Kind::Reboot {
            self.place.done(&["snapshot", &ids[0], &self.snapshot], "before");
        }
        ids
    }

    /// Sets the scene for one run.
    async fn before(&self, id: &str) {
        match self.kind {
            Kind::Reboot => {}
            Kind::Restore => drop(self.place.done(&["down", id, "--delete-data"], "before")),
            Kind::Replace => self.place.make_old(id).await,
        }
    }

    /// Judges what is left of one run.
    async fn after(&self, id: &str, at: usize) {
        let when = format!("{:?} {:?} at event {at}", self.place.data, self.kind);
        match self.kind {
            Kind::Reboot => {}
            Kind::Restore => {
                // Done now, or refused since it was done then.
                let again = self.place.cli(&self.args(id));
                assert!(again.code() == 0 || again.error().0 == "conflict", "{id} {when}: {again:?}");
            }
            Kind::Replace => {
                if at.is_multiple_of(2) {
                    self.place.is_old_or_new(id, &when).await;
                }
                self.place.done(&self.args(id), &when);
            }
        }
        self.place.comes_up_whole(id, &when).await;
    }

    /// Has it happen at so many points at most, spread over all of the operation.
    async fn run(data: Data, kind: Kind, most: usize, disturb: impl Disturb) {
        let began = Instant::now();
        let trial = Arc::new(Trial::new(data, kind).await);
        let ids = trial.prepare().await;
        trial.before(&ids[0]).await;
        let events = block_in_place(|| trial.place.events(&trial.args(&ids[0])));
        trial.place.comes_up_whole(&ids[0], "undisturbed").await;
        let points = Arc::new(Points::new(events, most));
        let disturb = Arc::new(disturb);
        let mut lanes = tokio::task::JoinSet::new();
        for id in ids {
            let (trial, points, disturb) = (Arc::clone(&trial), Arc::clone(&points), Arc::clone(&disturb));
            lanes.spawn(async move {
                while let Some(at) = points.next() {
                    trial.before(&id).await;
                    if !block_in_place(|| disturb.at(&trial, &id, at)) {
                        points.missed(at);
                    }
                    trial.after(&id, at).await;
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.unwrap();
        }
        let reached = points.reached();
        println!("{data:?} {kind:?}: {reached} points in {events} events, {:?}", began.elapsed());
        assert_eq!(reached, most, "different points that were reached, of {events} events");
        trial.place.nothing_is_left_over(LANES).await;
    }
}

/// The points of an operation at which something is to happen, each once: so many, spread over all of it.
struct Points(Mutex<Wanted>);

struct Wanted {
    events: usize,
    open: Vec<usize>,
    begun: BTreeSet<usize>,
    missed: usize,
}

impl Points {
    fn new(events: usize, most: usize) -> Points {
        assert!(events >= most, "an operation of {events} events has no {most} points");
        let open = (0..most).rev().map(|point| point * events / most).collect();
        Points(Mutex::new(Wanted { events, open, begun: BTreeSet::new(), missed: 0 }))
    }

    fn next(&self) -> Option<usize> {
        let mut wanted = self.0.lock().unwrap();
        let at = wanted.open.pop()?;
        wanted.begun.insert(at);
        Some(at)
    }

    /// No two runs have quite the same events. In the place of one at which it was over, or could not happen, the last one
    /// before it is taken that is neither begun nor to come; else the next one.
    fn missed(&self, at: usize) {
        let mut wanted = self.0.lock().unwrap();
        wanted.missed += 1;
        let mut others = (0..at).rev().chain(at + 1..wanted.events);
        let other = others.find(|point| !wanted.begun.contains(point) && !wanted.open.contains(point));
        wanted.open.extend(other);
    }

    fn reached(&self) -> usize {
        let wanted = self.0.lock().unwrap();
        wanted.begun.len() - wanted.missed
    }
}

/// What happens to an operation.
trait Disturb: Send + Sync + 'static {
    /// Runs the operation until it ends; whether it came so far.
    fn at(&self, trial: &Trial, id: &str, at: usize) -> bool;
}

struct Killed;

impl Disturb for Killed {
    fn at(&self, trial: &Trial, id: &str, at: usize) -> bool {
        trial.place.killed_at(&trial.args(id), at)
    }
}

/// The host is killed, and then the pod ends that was to take over, or did, as long as the other one is there.
struct SuccessorEnded;

impl Disturb for SuccessorEnded {
    fn at(&self, trial: &Trial, id: &str, at: usize) -> bool {
        trial.place.killed_at(&trial.args(id), at)
            && Handle::current().block_on(trial.place.end_successor(id))
    }
}

struct PodsDeleted;

impl Disturb for PodsDeleted {
    fn at(&self, trial: &Trial, id: &str, at: usize) -> bool {
        let mut reached = false;
        let done = trial.place.disturbed(&trial.args(id), at, |_| {
            reached = true;
            Handle::current().block_on(trial.place.delete_pods(id));
        });
        // It mends what it can; what it cannot it says.
        assert!(matches!(done.code, Some(0 | 1)), "{id} at {at}: {done:?}");
        reached
    }
}

/// Another reboot begins in the middle of this one.
struct Rival(fn(&Place, &[&str]) -> Child);

impl Disturb for Rival {
    fn at(&self, trial: &Trial, id: &str, at: usize) -> bool {
        let mut rival = None;
        let done = trial.place.disturbed(&trial.args(id), at, |_| {
            rival = Some((self.0)(&trial.place, &["reboot", id]));
        });
        let Some(rival) = rival else { return false };
        let other = rival.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&other.stderr).into_owned();
        println!(
            "{:?} at {at}: {:?} {}; {:?} {said}",
            trial.place.data,
            done.code,
            done.stderr,
            other.status.code()
        );
        // One after the other, wherever they come from.
        for (code, said) in [(done.code, &done.stderr), (other.status.code(), &said)] {
            assert_eq!(code, Some(0), "{id} at {at}: {said}");
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sigkill_of_the_host_at_any_moment_of_a_reboot_on_a_claim_loses_nothing() {
    Trial::run(Data::OnClaim, Kind::Reboot, KILLS, Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sigkill_of_the_host_at_any_moment_of_a_hand_over_loses_nothing() {
    Trial::run(Data::InPod, Kind::Reboot, KILLS, Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pod_that_took_over_and_ended_leaves_all_to_the_one_before_it() {
    Trial::run(Data::InPod, Kind::Reboot, SUCCESSORS, SuccessorEnded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sigkill_of_the_host_at_any_moment_of_a_replacement_in_a_pod_leaves_the_old_or_the_new() {
    Trial::run(Data::InPod, Kind::Replace, DELETIONS, Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sigkill_of_the_host_at_any_moment_of_a_restore_leaves_what_ends_whole() {
    Trial::run(Data::OnClaim, Kind::Restore, KILLS, Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sigkill_of_the_host_during_a_restore_on_no_claim_leaves_what_ends_whole() {
    Trial::run(Data::InPod, Kind::Restore, DELETIONS, Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sigkill_of_the_host_at_any_moment_of_a_replacement_leaves_the_old_or_the_new() {
    Trial::run(Data::OnClaim, Kind::Replace, KILLS, Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pod_that_is_deleted_under_a_reboot_on_a_claim_loses_nothing() {
    Trial::run(Data::OnClaim, Kind::Reboot, DELETIONS, PodsDeleted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pod_that_is_deleted_under_a_restore_leaves_what_ends_whole() {
    Trial::run(Data::OnClaim, Kind::Restore, DELETIONS, PodsDeleted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pod_that_is_deleted_under_a_replacement_leaves_the_old_or_the_new() {
    Trial::run(Data::OnClaim, Kind::Replace, DELETIONS, PodsDeleted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_reboots_at_once_on_a_claim_lose_nothing() {
    Trial::run(Data::OnClaim, Kind::Reboot, RIVALS, Rival(Place::beside)).await;
    Trial::run(Data::OnClaim, Kind::Reboot, RIVALS, Rival(Place::elsewhere)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hand_overs_at_once_lose_nothing() {
    Trial::run(Data::InPod, Kind::Reboot, RIVALS, Rival(Place::beside)).await;
    Trial::run(Data::InPod, Kind::Reboot, RIVALS, Rival(Place::elsewhere)).await;
}
