//! Caches in pods, of several instances and with and without a storage class: on a simulated namespace.
//!
//! Clauses: KUBE-6, KUBE-7, KUBE-10, KUBE-17, KUBE-20, KUBE-21, KUBE-22, DATA-2, FAIL-2, FAIL-5, OWN-2, OWN-5, REAP-1, REAP-2, REAP-3.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance::faults::{Fault, Planned, Tap, Tapped};
use conformance::sim::kube::{STORAGE_CLASS, SimKube};
use elasticache_host::engine::cluster::{Cluster as _, Lease, Pod};
use elasticache_host::{Cache, Error, Runtime, RuntimeBuilder};
use tempfile::TempDir;
use tokio::time::Instant;

mod sim_support;

use sim_support::{PATIENCE, key, redis, restored};

/// Orders in which the calls of two hosts are made: each one that could end badly is among them.
const ORDERS: u64 = 24;
/// Of owners, and enough for it to have ended.
const LEASE: Duration = Duration::from_secs(30);
const PAST_IT: Duration = Duration::from_secs(60);

/// A namespace, and a folder for each host.
struct World {
    sim: SimKube,
    tap: Tap,
    folder: TempDir,
    /// Has the policy for all others.
    loaded: Runtime,
}

impl World {
    async fn new() -> Self {
        let loaded = sim_support::World::new().await.durable().await;
        Self { sim: SimKube::new(), tap: Tap::default(), folder: TempDir::new().unwrap(), loaded }
    }

    /// An embedder on a machine of its own.
    async fn host(&self, instance: &str, on_claims: bool) -> Runtime {
        self.builder(instance, on_claims).build().await.unwrap()
    }

    /// One that holds a lease.
    async fn owner(&self, instance: &str) -> Runtime {
        self.builder(instance, false).lease(LEASE).build().await.unwrap()
    }

    fn builder(&self, instance: &str, on_claims: bool) -> RuntimeBuilder {
        let sim = Arc::new(Tapped::new(Arc::new(self.sim.clone()), self.tap.clone()));
        let storage = on_claims.then(|| (STORAGE_CLASS.to_owned(), 1 << 30));
        Runtime::builder()
            .cluster(sim.clone(), sim, storage)
            .policy_of(&self.loaded)
            .instance(instance)
            .data_dir(self.folder.path().join(instance))
            .cache_dir(self.folder.path().join("cache"))
            .timeout(PATIENCE)
    }

    /// The same with nothing in it, and its calls in another order.
    fn anew(&mut self, order: u64) {
        self.sim = SimKube::new();
        self.tap = Tap::default();
        self.tap.interleave(order);
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

async fn set(runtime: &Runtime, id: &str, value: &str) {
    assert!(runtime.exec(&key(id), &words(&format!("SET k {value}"))).await.unwrap().success);
}

async fn get(runtime: &Runtime, id: &str) -> String {
    let got = runtime.exec(&key(id), &words("GET k")).await.unwrap();
    String::from_utf8(got.stdout).unwrap().trim().to_owned()
}

/// Whether it came up; refused because the other one has it, it did not.
fn is_up(outcome: Result<Cache, Error>, other: &str) -> bool {
    match outcome {
        Ok(_) => true,
        Err(Error::Conflict { what }) if what.contains(other) => false,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn of_two_instances_that_bring_up_one_cache_at_once_one_has_it() {
    let mut world = World::new().await;
    tokio::time::pause();
    for order in 0..ORDERS {
        world.anew(order);
        let (one, two) = (world.host("first", true).await, world.host("second", true).await);
        let (a, b) = tokio::join!(one.ensure(redis("a")), two.ensure(redis("a")));
        let up = [is_up(a, "instance second"), is_up(b, "instance first")];
        assert_eq!(up.iter().filter(|up| **up).count(), 1, "in the order {order}: {up:?}");
    }
}

#[tokio::test]
async fn a_claim_that_one_instance_deletes_is_not_taken_by_another_meanwhile() {
    let mut world = World::new().await;
    tokio::time::pause();
    let mut ends = [false; 2];
    for order in 0..ORDERS {
        world.anew(order);
        let (one, two) = (world.host("first", true).await, world.host("second", true).await);
        one.ensure(redis("a")).await.unwrap();
        set(&one, "a", "old").await;
        one.stop(&key("a")).await.unwrap();
        let a = key("a");
        let (removed, up) = tokio::join!(one.remove_data(&a), two.ensure(redis("a")));
        up.unwrap();
        // Before it or after it, and never under it.
        let deleted = match removed {
            Ok(true) => true,
            Err(Error::Conflict { .. }) => false,
            other => panic!("in the order {order}: {other:?}"),
        };
        assert_eq!(get(&two, "a").await, if deleted { "" } else { "old" }, "in the order {order}");
        ends[usize::from(deleted)] = true;
    }
    assert_eq!(ends, [true; 2], "there are orders for either");
}

/// A tap for one call, the first of that name in such a run.
async fn befalls(world: &mut World, on_claims: bool, call: &str, fault: Fault) {
    world.tap = Tap::default();
    world.sim = SimKube::new();
    world.host("measured", on_claims).await.ensure(redis("a")).await.unwrap();
    let number = world.tap.lines().iter().position(|line| line.call == call).unwrap();
    world.tap = Tap::new(vec![Planned { call: number, fault }]);
    world.sim = SimKube::new();
}

#[tokio::test]
async fn what_was_not_made_for_a_lost_connection_is_made_at_the_second_attempt() {
    let mut world = World::new().await;
    tokio::time::pause();
    for (call, on_claims) in [("create_pod", false), ("create_pod", true), ("create_claim", true)] {
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            befalls(&mut world, on_claims, call, fault).await;
            let runtime = world.host("measured", on_claims).await;
            let cache = runtime.ensure(redis("a")).await.unwrap();
            assert!(!cache.adopted, "{call} {fault}");
            assert_eq!(world.tap.met().len(), 1, "{call} {fault}");
            let made = world.tap.lines().iter().filter(|line| line.call == call).count();
            assert_eq!(made, if fault == Fault::FailBefore { 2 } else { 1 }, "{call} {fault}");
        }
    }
}

#[tokio::test]
async fn a_cache_that_has_a_claim_uses_it_where_no_class_is_named_any_more() {
    let world = World::new().await;
    let (with, without) = (world.host("same", true).await, world.host("same", false).await);
    with.ensure(redis("a")).await.unwrap();
    set(&with, "a", "v").await;
    with.stop(&key("a")).await.unwrap();
    let cache = without.ensure(redis("a")).await.unwrap();
    assert_eq!(get(&without, "a").await, "v");
    // Likewise where its pod ended by itself.
    world.sim.kill(&cache.handle).unwrap();
    without.ensure(redis("a")).await.unwrap();
    assert_eq!(get(&without, "a").await, "v");
    // What has none gets none.
    without.ensure(redis("b")).await.unwrap();
    assert_eq!(world.sim.claims().len(), 1);
    without.stop(&key("a")).await.unwrap();
    assert!(without.remove_data(&key("a")).await.unwrap());
    without.ensure(redis("a")).await.unwrap();
    assert_eq!(get(&without, "a").await, "");
    assert_eq!(world.sim.claims(), []);
}

#[tokio::test]
async fn the_lease_of_an_operation_ends_with_it() {
    let world = World::new().await;
    let host = world.host("one", true).await;
    host.ensure(redis("a")).await.unwrap();
    host.reboot(&key("a")).await.unwrap();
    host.stop(&key("a")).await.unwrap();
    assert!(world.tap.lines().iter().any(|line| line.call == "take_lease"));
    assert_eq!(world.sim.leases(), []);
}

#[tokio::test]
async fn the_lease_of_an_operation_is_renewed_for_as_long_as_that_lasts() {
    let world = World::new().await;
    let (one, two) = (world.host("first", true).await, world.host("second", true).await);
    tokio::time::pause();
    world.sim.set_hang_ready(true);
    let begun = world.sim.now().await.unwrap();
    // Both clocks go on together, a step at a time.
    let passes = async || {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.sim.advance(Duration::from_secs(1));
        }
        let leases = world.sim.leases();
        assert_eq!(leases.len(), 1);
        let age = world.sim.now().await.unwrap().duration_since(leases[0].renewed).unwrap();
        let lived = world.sim.now().await.unwrap().duration_since(begun).unwrap();
        assert!(lived > Duration::from_secs(15) && age < Duration::from_secs(10), "{lived:?}, {age:?}");
        let pods = world.sim.list_pods(&[]).await.unwrap();
        assert!(pods.iter().all(|pod| pod.annotations["fakecloud-instance"] == "first"), "{pods:?}");
    };
    let at_once = async {
        tokio::select! {
            biased;
            ended = one.ensure(redis("a")) => panic!("{ended:?}"),
            ended = two.ensure(redis("a")) => panic!("{ended:?}"),
            () = passes() => {}
        }
    };
    at_once.await;
    world.sim.set_hang_ready(false);
}

/// Has a host do something, and die in the middle of it: all that it does goes with its async runtime. Whether it died.
fn dies<F: Future<Output = ()>>(
    world: &World,
    instance: &str,
    work: impl FnOnce(Runtime) -> F + Send,
) -> bool {
    let tap = world.tap.clone();
    let died = std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().start_paused(true).build().unwrap().block_on(async {
                let host = world.host(instance, false).await;
                tokio::select! {
                    () = work(host) => false,
                    () = tap.crashed() => true,
                }
            })
        });
        host.join().unwrap()
    });
    world.tap.new_host();
    died
}

/// Has a host die in the middle of bringing up a cache.
fn die_while_making(world: &World, id: &'static str) {
    let died = dies(world, "dying", async |host| drop(host.ensure(redis(id)).await));
    assert!(died);
}

/// Does something undisturbed, and then once for each of its calls, at which the host dies. `work` says when it begins
/// with what it is about, and `judge` looks at what it left.
async fn dying_at_each_call(
    work: impl AsyncFn(&Runtime, &dyn Fn()) + Sync,
    mut judge: impl AsyncFnMut(&World, &Runtime, usize),
) {
    let mut world = World::new().await;
    let begins = AtomicUsize::new(0);
    let run = |world: &World| {
        let begin = || begins.store(world.tap.count(), Ordering::Relaxed);
        dies(world, "same", async |host| work(&host, &begin).await)
    };
    assert!(!run(&world));
    let calls = begins.load(Ordering::Relaxed)..world.tap.count();
    tokio::time::pause();
    for call in calls {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            (world.sim, world.tap) = (SimKube::new(), Tap::new(vec![Planned { call, fault }]));
            run(&world);
            judge(&world, &world.host("same", false).await, call).await;
        }
    }
}

#[tokio::test]
async fn the_lease_of_an_operation_whose_host_died_is_removed_once_it_has_ended() {
    let mut world = World::new().await;
    befalls(&mut world, false, "create_pod", Fault::CrashAfter).await;
    die_while_making(&world, "a");
    let left = world.sim.leases();
    assert_eq!(left.len(), 1);
    let ours = [("fakecloud-managed-by", "fakecloud"), ("fakecloud-service", "elasticache")];
    world.sim.insert_foreign("somebody", &ours).unwrap();
    let reaper = world.host("reaper", false).await;
    // Whoever held it may be at it still.
    reaper.reap().await.unwrap();
    assert_eq!(world.sim.leases().len(), 2);
    world.sim.advance(Duration::from_secs(60));
    reaper.reap().await.unwrap();
    let names: Vec<String> = world.sim.leases().into_iter().map(|lease| lease.name).collect();
    assert_eq!(names, ["somebody"]);
}

#[tokio::test]
async fn who_lives_is_not_reaped_for_a_lease_that_nobody_could_renew() {
    let world = World::new().await;
    tokio::time::pause();
    let (living, dying) = (world.owner("living").await, world.owner("dying").await);
    let reaper = world.owner("reaper").await;
    let kept = living.ensure(redis("a")).await.unwrap();
    set(&living, "a", "v").await;
    let left = dying.ensure(redis("b")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(reaper.reap().await.unwrap(), [""; 0]);
    assert_eq!(begun.elapsed(), Duration::ZERO, "nothing is there to be waited for");
    drop(dying);
    // The API server was away for longer than a lease: its clock went on, and nobody reached it.
    world.sim.advance(2 * LEASE);
    assert_eq!(reaper.reap().await.unwrap(), [left.handle]);
    assert_eq!(living.find(&key("a")).await.unwrap().unwrap().handle, kept.handle);
    assert_eq!(get(&living, "a").await, "v");
    // Of those whose lease has ended now nobody has left anything.
    world.owner("gone").await.list().await.unwrap();
    world.sim.advance(2 * LEASE);
    living.stop(&key("a")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(reaper.reap().await.unwrap(), [""; 0]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// Another machine takes the turn of whatever operation is under way, and may have given it back.
async fn take_the_turn(world: &World, given_back: bool) {
    let leases = world.sim.leases();
    let [there] = &leases[..] else { panic!("{leases:?}") };
    let renewed = there.renewed + Duration::from_secs(1);
    world.sim.write_lease(&Lease { holder: "another".to_owned(), renewed, ..there.clone() }).await.unwrap();
    if given_back {
        world.sim.delete_lease(&there.name, renewed).await.unwrap();
    }
}

#[tokio::test]
async fn an_operation_whose_turn_another_machine_has_taken_changes_nothing_more() {
    let mut world = World::new().await;
    tokio::time::pause();
    for (on_claims, given_back) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut hangs = None;
        // The first time to see by which number the new pod is waited for.
        for _ in 0..2 {
            let plan = hangs.map(|call| Planned { call, fault: Fault::HangBefore });
            (world.sim, world.tap) = (SimKube::new(), Tap::new(plan.into_iter().collect()));
            // It has more time than the call that hangs, so that nothing else keeps it from changing things after that.
            let host = world.builder("same", on_claims).timeout(10 * PATIENCE).build().await.unwrap();
            host.ensure(redis("a")).await.unwrap();
            set(&host, "a", "v").await;
            let before = world.tap.count();
            let rebooting = tokio::spawn(async move { host.reboot(&key("a")).await });
            if hangs.is_none() {
                rebooting.await.unwrap().unwrap();
                let lines = world.tap.lines();
                let waits = lines.iter().skip(before).position(|line| line.call == "wait_for_pod").unwrap();
                hangs = Some(before + waits);
                continue;
            }
            while world.tap.met().is_empty() {
                tokio::task::yield_now().await;
            }
            take_the_turn(&world, given_back).await;
            let (taken, pods) = (world.tap.count(), world.sim.list_pods(&[]).await.unwrap());
            let error = rebooting.await.unwrap().unwrap_err();
            assert!(matches!(&error, Error::Conflict { what } if what.contains("turn")), "{error:?}");
            let looks = ["now", "take_lease", "find_pod", "wait_for_pod"];
            for line in world.tap.lines().split_off(taken) {
                assert!(looks.contains(&line.call.as_str()), "{line:?}");
            }
            assert_eq!(world.sim.list_pods(&[]).await.unwrap(), pods);
        }
        // Whoever has the next turn finds all that there was.
        world.sim.advance(LEASE);
        let host = world.host("same", on_claims).await;
        host.ensure(redis("a")).await.unwrap();
        assert_eq!(get(&host, "a").await, "v");
        assert_eq!(world.sim.list_pods(&[]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_operation_waits_for_one_whose_host_died_elsewhere_until_its_lease_has_ended() {
    let mut world = World::new().await;
    befalls(&mut world, false, "create_pod", Fault::CrashAfter).await;
    die_while_making(&world, "a");
    let host = world.host("elsewhere", false).await;
    tokio::time::pause();
    let up = host.ensure(redis("a"));
    tokio::pin!(up);
    let early = tokio::time::timeout(Duration::from_secs(10), &mut up).await;
    assert!(early.is_err(), "whoever held it may be at it still: {early:?}");
    world.sim.advance(PAST_IT);
    assert!(!up.await.unwrap().adopted);
}

/// Whoever has the folder's lock knows that nobody else lives there.
#[tokio::test]
async fn an_operation_does_not_wait_for_one_whose_host_died_in_its_own_data_folder() {
    let mut world = World::new().await;
    befalls(&mut world, false, "create_pod", Fault::CrashAfter).await;
    die_while_making(&world, "a");
    world.sim.advance(Duration::from_secs(1));
    let host = world.host("dying", false).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    host.ensure(redis("a")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn reap_takes_the_pods_of_a_dead_owner_and_nobody_else_s() {
    let world = World::new().await;
    let pod_of = async |host: &Runtime, id: &str| host.ensure(redis(id)).await.unwrap().handle;
    // One that held no lease, and another one of the same instance that does.
    let bare = pod_of(&world.host("dying", false).await, "bare").await;
    let dead = pod_of(&world.owner("dying").await, "dead").await;
    // Whose Lease somebody deleted.
    let lost = pod_of(&world.owner("lost").await, "lost").await;
    let lease = world.sim.leases().into_iter().find(|lease| lease.holder == "lost").unwrap();
    world.sim.delete_lease(&lease.name, lease.renewed).await.unwrap();
    let reaper = world.owner("reaper").await;
    assert_eq!(reaper.reap().await.unwrap(), [""; 0], "nobody is dead yet");
    drop(reaper);

    world.sim.advance(PAST_IT);
    let living = world.owner("living").await;
    let kept = pod_of(&living, "kept").await;
    let reaper = world.host("reaper", false).await;
    // It gives whoever may live the time to say so.
    tokio::time::pause();
    assert_eq!(reaper.reap().await.unwrap(), [dead]);
    let there: Vec<String> =
        world.sim.list_pods(&[]).await.unwrap().into_iter().map(|pod| pod.id.name).collect();
    assert!([&bare, &lost, &kept].iter().all(|name| there.contains(name)) && there.len() == 3, "{there:?}");
}

/// The pod that is to take over, or did.
async fn follower(world: &World) -> Option<String> {
    let pods = world.sim.list_pods(&[]).await.unwrap();
    let follows = |pod: &&Pod| pod.annotations.contains_key("fakecloud-policy-follows");
    let [_, _] = &pods[..] else { return None };
    pods.iter().find(follows).map(|pod| pod.id.name.clone())
}

#[tokio::test]
async fn what_took_over_and_ended_leaves_its_data_to_the_pod_that_it_took_over_from() {
    let mut judged = 0;
    let reboot = async |host: &Runtime, begin: &dyn Fn()| {
        host.ensure(redis("a")).await.unwrap();
        set(host, "a", "v").await;
        begin();
        host.reboot(&key("a")).await.unwrap();
    };
    dying_at_each_call(reboot, async |world, host, call| {
        let Some(follower) = follower(world).await else { return };
        if world.sim.kill(&follower).is_ok() {
            judged += 1;
        }
        host.ensure(redis("a")).await.unwrap();
        assert_eq!(get(host, "a").await, "v", "its host died at call {call}");
        set(host, "a", "written").await;
    })
    .await;
    assert!(judged > 5, "{judged}");
}

#[tokio::test]
async fn of_two_pods_the_one_in_charge_is_listed_and_asked() {
    let mut taken_over = 0;
    let reboot = async |host: &Runtime, begin: &dyn Fn()| {
        host.ensure(redis("a")).await.unwrap();
        begin();
        host.reboot(&key("a")).await.unwrap();
    };
    dying_at_each_call(reboot, async |world, host, call| {
        let two = follower(world).await;
        set(host, "a", "v").await;
        let listed = host.list().await.unwrap();
        assert_eq!(listed.len(), 1, "its host died at call {call}: {listed:?}");
        taken_over += usize::from(two.is_some_and(|name| name == listed[0].handle));
        assert_eq!(host.find(&key("a")).await.unwrap().unwrap().handle, listed[0].handle);
        host.ensure(redis("a")).await.unwrap();
        assert_eq!(get(host, "a").await, "v", "its host died at call {call}");
    })
    .await;
    assert!(taken_over > 0);
}

#[tokio::test]
async fn a_restore_in_the_place_of_what_lies_in_a_pod_leaves_the_old_or_the_new() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("s.rdb");
    let replace = async |host: &Runtime, begin: &dyn Fn()| {
        host.ensure(redis("a")).await.unwrap();
        set(host, "a", "new").await;
        host.snapshot(&key("a"), &file).await.unwrap();
        set(host, "a", "old").await;
        begin();
        host.ensure(restored("a", &file, true)).await.unwrap();
        assert_eq!(get(host, "a").await, "new");
    };
    let mut ends = BTreeSet::new();
    dying_at_each_call(replace, async |world, host, call| {
        host.ensure(redis("a")).await.unwrap();
        let there = get(host, "a").await;
        assert!(["old", "new"].contains(&there.as_str()), "its host died at call {call}: {there}");
        ends.insert(there);
        assert_eq!(world.sim.list_pods(&[]).await.unwrap().len(), 1);
    })
    .await;
    assert_eq!(ends.len(), 2);
    // Or it cannot be done at all.
    let world = World::new().await;
    let host = world.host("same", false).await;
    host.ensure(redis("a")).await.unwrap();
    set(&host, "a", "old").await;
    world.sim.remove_image("redis:7-alpine");
    host.ensure(restored("a", &file, true)).await.unwrap_err();
    assert_eq!(get(&host, "a").await, "old");
    assert_eq!(world.sim.list_pods(&[]).await.unwrap().len(), 1);
}
