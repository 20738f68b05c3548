//! The shipped policy on an engine that fails, hangs and loses replies: every call of every operation in turn.
//!
//! Clauses: FAIL-1, FAIL-2, FAIL-3, FAIL-5, FAIL-6, FAIL-8, FAIL-9, BOOT-8, OWN-3, OWN-7, HOST-17, HOST-18,
//! HOST-19.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use conformance::sim::{docker::Call, rdb};
use elasticache_host::engine::ContainerEngine;
use elasticache_host::{CacheSpec, CacheState, Engine, Error, Limits, Runtime};

mod sim_support;

use sim_support::{Plan, World, endpoint, key, redis, restored, soon, unavailable};

const IMAGE: &str = "redis:7-alpine";

/// What is done, from which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// There is nothing.
    Ensure,
    /// There is nothing, not even the image.
    EnsurePulled,
    EnsureMemcached,
    /// It runs.
    Adopt,
    /// It ended.
    Start,
    /// It was stopped; its volume is there.
    EnsureStopped,
    /// From a file, where there is nothing.
    Restore,
    /// From a file, in the place of what runs.
    Replace,
    Reboot,
    RebootEnded,
    Snapshot,
    Stop,
    StopEnded,
    RemoveData,
    Exec,
    Find,
    List,
}

impl Course {
    fn spec(self, id: &str) -> CacheSpec {
        let engine = if self == Course::EnsureMemcached { Engine::Memcached } else { Engine::Redis };
        CacheSpec { engine, ..redis(id) }
    }

    /// Whether there is a cache, or the data of one, before it.
    fn has_data(self) -> bool {
        use Course as C;
        !matches!(self, C::Ensure | C::EnsurePulled | C::EnsureMemcached | C::Restore)
    }

    /// Whether the cache's container is there once it has succeeded.
    fn leaves_a_container(self) -> bool {
        !matches!(self, Course::Stop | Course::StopEnded | Course::RemoveData)
    }
}

/// One course with one cache.
struct Run<'a> {
    world: &'a World,
    course: Course,
    id: String,
    /// Where a snapshot goes; nothing else is in its folder.
    file: PathBuf,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, course: Course, id: String) -> Self {
        let folder = world.path().join(&id);
        std::fs::create_dir(&folder).unwrap();
        Self { world, course, file: folder.join("dump.rdb"), id }
    }

    async fn container(&self) -> String {
        let found = self.world.sim.list_containers(&[("fakecloud-elasticache", &self.id)]).await.unwrap();
        found[0].name.clone()
    }

    /// Brings about what is there before it.
    async fn prepare(&self, runtime: &Runtime) {
        let (sim, key) = (&self.world.sim, key(&self.id));
        if self.course == Course::EnsurePulled {
            sim.remove_image(IMAGE);
            sim.set_pullable(IMAGE, true);
        }
        if !self.course.has_data() {
            return;
        }
        let cache = runtime.ensure(redis(&self.id)).await.unwrap();
        self.world.write(&cache, "k", "v").await;
        match self.course {
            Course::Start | Course::RebootEnded | Course::StopEnded => {
                sim.kill(&self.container().await).unwrap();
            }
            Course::EnsureStopped | Course::RemoveData => assert!(runtime.stop(&key).await.unwrap()),
            _ => {}
        }
    }

    async fn act(&self, runtime: &Runtime) -> Result<(), Error> {
        let key = key(&self.id);
        match self.course {
            Course::Ensure
            | Course::EnsurePulled
            | Course::EnsureMemcached
            | Course::Adopt
            | Course::Start
            | Course::EnsureStopped => {
                let cache = runtime.ensure(self.course.spec(&self.id)).await?;
                assert_eq!(cache.state, CacheState::Available);
            }
            Course::Restore | Course::Replace => {
                let file = self.world.rdb_file("restore.rdb", "r", "from the file");
                runtime.ensure(restored(&self.id, &file, self.course == Course::Replace)).await?;
            }
            Course::Reboot | Course::RebootEnded => {
                assert_eq!(runtime.reboot(&key).await?.state, CacheState::Available);
            }
            Course::Snapshot => {
                runtime.snapshot(&key, &self.file).await?;
            }
            Course::Stop | Course::StopEnded => {
                runtime.stop(&key).await?;
            }
            Course::RemoveData => {
                runtime.remove_data(&key).await?;
            }
            Course::Exec => {
                // A client inside says by its reply whether it could be asked.
                assert!(runtime.exec(&key, &["GET".to_owned(), "k".to_owned()]).await?.success);
            }
            Course::Find => {
                assert!(runtime.find(&key).await?.is_some());
            }
            Course::List => {
                assert_eq!(runtime.list().await?.len(), 1);
            }
        }
        Ok(())
    }

    /// What must hold after a first attempt that met a fault, whatever came of it.
    async fn check_after_fault(&self, outcome: &Result<(), Error>, when: &str) {
        let now = self.world.observe().await;
        match outcome {
            Ok(()) => {}
            Err(
                Error::Unavailable { .. }
                | Error::Timeout { .. }
                | Error::Engine { .. }
                | Error::Conflict { .. },
            ) => {}
            Err(other) => panic!("{when}: not an error of the engine's: {other:?}"),
        }
        if outcome.is_err() && !self.course.has_data() {
            // No container that was not there before, and no volume either.
            self.world.assert_untouched(&now, when);
        } else if outcome.is_err() && self.course == Course::EnsureStopped {
            self.world.assert_has(&now, 0, 1, when);
        } else {
            let volumes = usize::from(self.course != Course::EnsureMemcached);
            assert!(now.containers.len() <= 3 && now.volumes.len() <= 1 + volumes, "{when}: {now:?}");
        }
        let written = std::fs::read_dir(self.file.parent().unwrap()).unwrap().count();
        let wanted = usize::from(self.course == Course::Snapshot && outcome.is_ok());
        assert_eq!(written, wanted, "files, {when}");
    }

    /// The same again, until it is done; then that all is as it should be.
    async fn converge(&self, runtime: &Runtime, first: &Result<(), Error>, when: &str) {
        let restores = matches!(self.course, Course::Restore | Course::Replace);
        // Done once, a restore is not for doing again: there is data now.
        if !restores || first.is_err() {
            let next = self.act(runtime).await;
            assert!(next.is_ok(), "{when}: the next attempt: {next:?}");
        }
        let keeps = self.course != Course::EnsureMemcached;
        let (containers, volumes) = (
            usize::from(self.course.leaves_a_container()),
            usize::from(keeps && self.course != Course::RemoveData),
        );
        self.world.assert_has(&self.world.observe().await, containers, volumes, when);
        if self.course == Course::Snapshot {
            let (keys, _) = rdb::read(&std::fs::read(&self.file).unwrap()).unwrap();
            assert_eq!(keys.get(&b"k"[..]).map(Vec::as_slice), Some(&b"v"[..]), "{when}");
        }
        // Whatever it was, the cache and its data are there for whoever asks.
        let cache = runtime.ensure(self.course.spec(&self.id)).await.unwrap();
        if keeps {
            let (old, new) = (self.world.read(&cache, "k").await, self.world.read(&cache, "r").await);
            let wanted = match self.course {
                Course::Restore | Course::Replace => (None, Some("from the file")),
                Course::RemoveData => (None, None),
                _ if self.course.has_data() => (Some("v"), None),
                _ => (None, None),
            };
            assert_eq!((old.as_deref(), new.as_deref()), wanted, "data, {when}");
        }
        runtime.stop(&key(&self.id)).await.unwrap();
        runtime.remove_data(&key(&self.id)).await.unwrap();
        self.world.assert_untouched(&self.world.observe().await, when);
    }
}

/// The calls of an operation in which nothing fails.
async fn good_run(world: &World, runtime: &Runtime, course: Course) -> Vec<String> {
    let run = Run::new(world, course, "good".to_owned());
    run.prepare(runtime).await;
    world.sim.clear_calls();
    run.act(runtime).await.unwrap();
    let calls = world.sim.calls();
    run.converge(runtime, &Ok(()), "nothing failed").await;
    calls
}

async fn fails_at_every_call(course: Course) {
    let world = World::new().await;
    let runtime = world.durable().await;
    let calls = good_run(&world, &runtime, course).await;
    assert!(!calls.is_empty());
    for (at, call) in calls.iter().enumerate() {
        for after_effect in [false, true] {
            let run = Run::new(&world, course, format!("c{at}-{after_effect}"));
            let when = format!("{course:?}, {call:?} failed, effect: {after_effect}");
            run.prepare(&runtime).await;
            world.engine.follow(Plan::Fail { at, after_effect });
            let outcome = soon(run.act(&runtime)).await;
            assert!(world.engine.count() > at, "{when}: it never came to that");
            assert_eq!(world.sim.faults_left(), 0, "{when}");
            world.engine.unwatch();
            run.check_after_fault(&outcome, &when).await;
            run.converge(&runtime, &outcome, &when).await;
        }
    }
}

#[tokio::test]
async fn whichever_call_of_a_start_fails_nothing_leaks_and_the_next_attempt_succeeds() {
    for course in [Course::Ensure, Course::EnsurePulled, Course::EnsureMemcached] {
        fails_at_every_call(course).await;
    }
}

#[tokio::test]
async fn whichever_call_of_a_start_on_old_data_fails_no_write_is_lost() {
    for course in [Course::Adopt, Course::Start, Course::EnsureStopped] {
        fails_at_every_call(course).await;
    }
}

#[tokio::test]
async fn whichever_call_of_a_restore_fails_it_can_be_done_again() {
    for course in [Course::Restore, Course::Replace] {
        fails_at_every_call(course).await;
    }
}

#[tokio::test]
async fn whichever_call_of_a_reboot_fails_no_write_is_lost() {
    for course in [Course::Reboot, Course::RebootEnded] {
        fails_at_every_call(course).await;
    }
}

#[tokio::test]
async fn whichever_call_of_a_stop_fails_no_write_is_lost() {
    for course in [Course::Stop, Course::StopEnded] {
        fails_at_every_call(course).await;
    }
}

#[tokio::test]
async fn whichever_call_of_deleting_data_fails_it_can_be_done_again() {
    fails_at_every_call(Course::RemoveData).await;
}

#[tokio::test]
async fn whichever_call_of_a_snapshot_fails_there_is_a_whole_file_or_none() {
    fails_at_every_call(Course::Snapshot).await;
}

#[tokio::test]
async fn whichever_call_of_looking_fails_nothing_changes() {
    for course in [Course::Exec, Course::Find, Course::List] {
        fails_at_every_call(course).await;
    }
}

// Lost replies.

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_adopted_and_not_repeated() {
    let world = World::new().await;
    let runtime = world.durable().await;
    world.sim.fail_next(Call::CreateVolume, unavailable(), true);
    world.sim.fail_next(Call::CreateContainer, unavailable(), true);
    let cache = runtime.ensure(redis("a")).await.unwrap();
    assert!(!cache.adopted, "it was made by this very operation");
    world.assert_has(&world.observe().await, 1, 1, "after the lost replies");
    for call in ["create_volume", "create_container"] {
        assert_eq!(world.sim.calls().iter().filter(|line| line.starts_with(call)).count(), 1, "{call}");
    }
}

/// The names that a cache's container and volume have.
async fn names_of(world: &World, runtime: &Runtime, id: &str) -> (String, String) {
    let before = world.observe().await;
    runtime.ensure(redis(id)).await.unwrap();
    let now = world.observe().await;
    let container = now.containers.iter().find(|c| !before.containers.contains(c)).unwrap().name.clone();
    let volume = now.volumes.iter().find(|v| !before.volumes.contains(v)).unwrap().name.clone();
    (container, volume)
}

#[tokio::test]
async fn whoever_else_holds_the_name_keeps_it_also_when_replies_are_lost() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let (container, _) = names_of(&world, &runtime, "a").await;
    runtime.stop(&key("a")).await.unwrap();
    for running in [true, false] {
        world.sim.insert_foreign_container(&container, &[("of", "somebody")], running).unwrap();
        let before = world.observe().await;
        let error = runtime.ensure(redis("a")).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
        assert_eq!(world.observe().await, before);
        for after_effect in [false, true] {
            world.sim.fail_next(Call::CreateContainer, unavailable(), after_effect);
            let error = runtime.ensure(redis("a")).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert_eq!(world.observe().await, before);
        }
        world.sim.kill(&container).unwrap();
        world.sim.remove_container(&container).await.unwrap();
    }
    runtime.ensure(redis("a")).await.unwrap();
}

#[tokio::test]
async fn a_reboot_that_succeeds_has_restarted_the_engine_even_where_a_call_failed() {
    for after_effect in [false, true] {
        let world = World::new().await;
        let runtime = world.durable().await;
        let spec = CacheSpec { engine: Engine::Memcached, ..redis("a") };
        let port = endpoint(&runtime.ensure(spec).await.unwrap()).port;
        world.sim.memcached_set(port, "k", b"v").unwrap();
        world.sim.fail_next(Call::RestartContainer, unavailable(), after_effect);
        let rebooted = endpoint(&runtime.reboot(&key("a")).await.unwrap()).port;
        assert_eq!(rebooted, port);
        // It keeps nothing, so what is still there was not restarted.
        assert_eq!(world.sim.memcached_get(port, "k").unwrap(), None, "effect: {after_effect}");
    }
}

// Hanging calls.

const SHORT: Duration = Duration::from_millis(250);

async fn hangs_at_every_call(course: Course) {
    let world = World::new().await;
    let calls = good_run(&world, &world.durable().await, course).await;
    let mut runs = tokio::task::JoinSet::new();
    for (at, call) in calls.into_iter().enumerate() {
        for after_effect in [false, true] {
            let when = format!("{course:?}, {call:?} hung, effect: {after_effect}");
            runs.spawn(async move {
                let world = World::new().await;
                let patient = world.durable().await;
                let limits = Limits { cleanup: SHORT, ..Limits::default() };
                let hasty = world.builder().policy_file(sim_support::durable());
                let hasty = hasty.timeout(SHORT).limits(limits).build().await.unwrap();
                let run = Run::new(&world, course, "a".to_owned());
                run.prepare(&patient).await;
                world.engine.follow(Plan::Hang { at, after_effect });
                let outcome = soon(run.act(&hasty)).await;
                world.engine.unwatch();
                assert!(matches!(outcome, Ok(()) | Err(Error::Timeout { .. })), "{when}: {outcome:?}");
                run.check_after_fault(&outcome, &when).await;
                run.converge(&patient, &outcome, &when).await;
                outcome.is_err()
            });
        }
    }
    let timeouts = runs.join_all().await.into_iter().filter(|timed_out| *timed_out).count();
    assert!(timeouts > 0, "{course:?} noticed none of it");
}

#[tokio::test]
async fn a_start_in_which_a_call_hangs_ends_in_time_and_the_next_one_works() {
    hangs_at_every_call(Course::Ensure).await;
}

#[tokio::test]
async fn a_restore_in_which_a_call_hangs_ends_in_time_and_the_next_one_works() {
    hangs_at_every_call(Course::Replace).await;
}

#[tokio::test]
async fn a_reboot_in_which_a_call_hangs_ends_in_time_and_the_next_one_works() {
    hangs_at_every_call(Course::Reboot).await;
}

#[tokio::test]
async fn a_snapshot_in_which_a_call_hangs_ends_in_time_and_leaves_no_file() {
    hangs_at_every_call(Course::Snapshot).await;
}

#[tokio::test]
async fn a_stop_in_which_a_call_hangs_ends_in_time_and_the_next_one_works() {
    hangs_at_every_call(Course::Stop).await;
    hangs_at_every_call(Course::RemoveData).await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_taken_in_time_ends_the_operation() {
    let world = World::new().await;
    let hasty = world.builder().policy_file(sim_support::durable()).timeout(SHORT);
    let hasty = hasty.lease(Duration::from_secs(60)).build().await.unwrap();
    let gate = Plan::gate(Call::CreateVolume);
    world.engine.follow(gate.clone());
    let error = soon(hasty.ensure(redis("a"))).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { what } if what.contains("lease")), "{error:?}");
    // Nothing holds the gate.
    world.engine.unwatch();
    soon(hasty.stop_all()).await.unwrap();
}

#[tokio::test]
async fn a_pull_that_hangs_ends_in_time() {
    let world = World::new().await;
    // It has a deadline of its own, apart from the operation's.
    let limits = Limits { pull: SHORT, ..Limits::default() };
    let hasty = world.builder().policy_file(sim_support::durable()).limits(limits).build().await.unwrap();
    world.sim.remove_image(IMAGE);
    world.sim.set_pullable(IMAGE, true);
    let gate = Plan::gate(Call::PullImage);
    world.engine.follow(gate.clone());
    let error = soon(hasty.ensure(redis("a"))).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { what } if what.contains(IMAGE)), "{error:?}");
    soon(gate.reached()).await;
    world.assert_untouched(&world.observe().await, "after a pull that hung");
}

/// A signal that comes before an engine listens is lost, and the container engine waits for all of the grace.
#[tokio::test]
async fn an_engine_that_does_not_answer_yet_is_waited_for_before_it_is_told_to_end() {
    let world = World::new().await;
    let runtime = world.durable().await;
    for end in ["restart_container", "stop_container"] {
        runtime.ensure(redis("a")).await.unwrap();
        world.sim.clear_calls();
        world.sim.fail_next(Call::Command, unavailable(), false);
        match end {
            "stop_container" => drop(runtime.stop(&key("a")).await.unwrap()),
            _ => drop(runtime.reboot(&key("a")).await.unwrap()),
        }
        let calls = world.sim.calls();
        let names: Vec<&str> = calls.iter().filter_map(|call| call.split(' ').next()).collect();
        let before = names.split(|name| *name == end).next().unwrap();
        let asked: Vec<_> = before.iter().filter(|name| ["command", "check"].contains(name)).collect();
        assert_eq!(asked, [&"command", &"check", &"command"], "{calls:?}");
    }
}
