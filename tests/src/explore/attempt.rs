//! One schedule from its first step to its last, through whatever crashes are on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use elasticache_host::{CacheKey, CacheSpec, CacheState, Engine};
use tokio::time::timeout;

use super::explained::explains;
use super::owed::Unknown;
use super::subject::quick_folder;
use super::{Invariant, Schedule, Subject, Trial, Violation};
use crate::corpus::{Action, Step};
use crate::faults::{Fault, Planned, Tap};
use crate::runner::{Run, Seen, Setting, WrongEnd, place};
use crate::world::World;

/// No run of all steps takes longer than that on the clock that leaps, unless something waits for ever.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);
/// When every lease has run out.
const LATER: Duration = Duration::from_secs(60 * 60);
/// Enough to tell datasets apart.
const KEYS: u32 = 20;
/// One secret for all data folders.
const SECRET: [u8; 32] = [7; 32];

/// How far a run has come.
#[derive(Default)]
struct Progress {
    next: usize,
    /// Whether the next step was begun by a host that died, or may have been left half done otherwise.
    crashed: bool,
    /// Whose data nobody owes any more.
    unknown: Unknown,
    /// How many calls there were before each step that was begun.
    begun: Vec<usize>,
    /// How many calls the steps took, once they are done: those after them are only to look.
    calls: Option<usize>,
}

#[derive(PartialEq, Eq)]
enum End {
    Finished,
    Crashed,
}

/// Runs a schedule.
///
/// # Errors
/// If the run could not be set up: nothing that the policy or the host is to blame for.
pub fn attempt(subject: &Subject, schedule: &Schedule) -> Result<Trial> {
    let tap = Tap::new(schedule.faults.clone());
    if let Some(seed) = schedule.order {
        tap.interleave(seed);
    }
    let data = tempfile::tempdir_in(quick_folder()).context("making a data folder")?;
    std::fs::write(data.path().join("owner.key"), SECRET)?;
    let world = World::sim_behind(subject.place, &tap)?;
    let run = Run::new(Setting {
        world: world.clone(),
        environment: subject.environment.clone(),
        loaded: Some(subject.loaded.clone()),
        engine: schedule.engine,
        keeps_endpoints: subject.promises("endpoint-survives-reboot"),
        instance: "explored".to_owned(),
        data: data.path().to_owned(),
        keys: KEYS,
    })?;
    let course = Course { run: &run, tap: &tap, schedule, world, subject };
    let mut progress = Progress::default();
    let before = now(course.world.everything())??;
    let violation = loop {
        // All that a host does dies with its runtime.
        let runtime = paused()?;
        let end = runtime.block_on(async { timeout(NEVER, course.go_on(&mut progress, &before)).await });
        drop(runtime);
        match end {
            Ok(Ok(End::Finished)) => break None,
            Ok(Ok(End::Crashed)) => {
                now(run.end_host())?;
                tap.new_host();
            }
            Ok(Err(violation)) => break Some(violation),
            Err(_) => {
                let seen = place_of(schedule, progress.next) + ": it did not end within a day";
                break Some(Violation { invariant: Invariant::Ends, seen, at: Some(progress.next) });
            }
        }
    };
    let mut calls = tap.lines();
    calls.truncate(progress.calls.unwrap_or(usize::MAX));
    Ok(Trial { violation, calls, met: tap.met(), begun: progress.begun })
}

/// A runtime whose clock leaps.
fn paused() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("making an async runtime")
}

/// What is there at once.
fn now<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(paused()?.block_on(work))
}

fn place_of(schedule: &Schedule, at: usize) -> String {
    schedule.scenario.steps.get(at).map_or_else(|| "the end".to_owned(), |step| place(at, step))
}

struct Course<'a> {
    run: &'a Run,
    tap: &'a Tap,
    schedule: &'a Schedule,
    world: World,
    subject: &'a Subject,
}

impl Course<'_> {
    /// One host's part: to the end, or to its death.
    async fn go_on(&self, progress: &mut Progress, before: &[String]) -> Result<End, Violation> {
        while let Some(step) = self.schedule.scenario.steps.get(progress.next) {
            let mut again = progress.crashed;
            if progress.begun.len() == progress.next {
                progress.begun.push(self.tap.count());
            }
            self.note_restarts(progress);
            if progress.unknown.asks_in_vain(step) {
                progress.next += 1;
                continue;
            }
            if progress.crashed && self.replaces(step) && self.is_whole(step, progress).await? == End::Crashed
            {
                return Ok(End::Crashed);
            }
            loop {
                if self.bring_up_fallen(step, progress.next).await? == End::Crashed {
                    return Ok(End::Crashed);
                }
                let met = self.tap.met().len();
                let there = if step.r#do == Action::Up { self.everything().await? } else { Vec::new() };
                let asked = if again { self.relaxed(step, progress.crashed) } else { step.clone() };
                let Some(outcome) = self.unless_crashed(&asked).await else {
                    progress.crashed = true;
                    return Ok(End::Crashed);
                };
                let met = self.tap.met().split_off(met);
                let failed = match &outcome {
                    Ok(()) => step.error.is_some(),
                    Err(error) => matches!(seen_in(error), Some(Seen::Error(_))),
                };
                if failed && step.r#do == Action::Up && self.tap.met().len() <= 1 {
                    self.leaves_it(&there, step, progress.next, &met).await?;
                }
                let Err(error) = outcome else {
                    self.stay_ended(step);
                    // What was told that there is nothing to end has ended nothing: that is true of what it was told.
                    if met.iter().any(|met| met.fault == Fault::Stale) && ends(step) {
                        again = true;
                        continue;
                    }
                    break;
                };
                self.judge(&error, step, progress.next, &met)?;
                again = true;
                // What was done may have ended with its node before it was looked at.
                let ended = met.iter().any(|met| met.fault == Fault::EngineRestart);
                progress.crashed |= self.may_be_gone(step) || ended && self.world.backend() == "kube";
            }
            if progress.crashed && !self.may_be_refused(step).is_empty() {
                let (up, met) = (Step::up(&step.cache), self.tap.met().len());
                let Some(outcome) = self.unless_crashed(&up).await else { return Ok(End::Crashed) };
                if let Err(error) = outcome {
                    // Disturbed once more, it is begun once more.
                    self.judge(&error, step, progress.next, &self.tap.met().split_off(met))?;
                    continue;
                }
            }
            if self.note_restarts(progress) {
                progress.unknown.done(self.subject, step);
            }
            (progress.next, progress.crashed) = (progress.next + 1, false);
        }
        progress.calls = Some(self.tap.count());
        self.tap.disarm();
        self.finish(before).await
    }

    /// Notes restarts of the container engine up to now, and says whether there was none that had not been noted.
    fn note_restarts(&self, progress: &mut Progress) -> bool {
        let times = self.tap.met().iter().filter(|met| met.fault == Fault::EngineRestart).count();
        let steps = self.schedule.scenario.steps.get(..=progress.next).unwrap_or_default();
        progress.unknown.restarted(self.subject, times, || {
            let mut held = caches(steps);
            // A snapshot in the middle of which it restarted may have come too late.
            let snapshot = steps.last().filter(|step| step.r#do == Action::Snapshot);
            held.extend(snapshot.map(|step| step.file.clone()));
            held
        })
    }

    /// Does a step; none if the host dies in it.
    async fn unless_crashed(&self, step: &Step) -> Option<Result<()>> {
        tokio::select! {
            biased;
            outcome = self.run.step(step, true) => Some(outcome),
            () = self.tap.crashed() => None,
        }
    }

    /// Whether it restores in the place of what is there, and a policy promises that this is kept until then. On Docker
    /// what is kept in a container goes with it.
    fn replaces(&self, step: &Step) -> bool {
        let promise =
            if self.world.backend() == "kube" { "data-survives-reboot" } else { "data-survives-kill" };
        step.r#do == Action::Up && step.replace && !step.file.is_empty() && self.subject.promises(promise)
    }

    /// That a restore in the place of data which a host began and did not end left what was there, or all of the new:
    /// that is seen before it is done again, since then all may be well by that.
    async fn is_whole(&self, step: &Step, progress: &Progress) -> Result<End, Violation> {
        let (up, at) = (Step::up(&step.cache), progress.next);
        loop {
            if self.bring_up_fallen(&up, at).await? == End::Crashed {
                return Ok(End::Crashed);
            }
            let met = self.tap.met().len();
            let Some(outcome) = self.unless_crashed(&up).await else { return Ok(End::Crashed) };
            match outcome {
                Ok(()) => break,
                Err(error) => self.judge(&error, step, at, &self.tap.met().split_off(met))?,
            }
        }
        let done = self.schedule.scenario.steps.get(..at).unwrap_or_default();
        let snapshots = done.iter().filter(|done| done.r#do == Action::Snapshot).map(|of| of.cache.as_str());
        let looks = |action, file: &str| Step { r#do: action, file: file.to_owned(), ..up.clone() };
        let mut whole = vec![looks(Action::ExpectData, "")];
        whole.extend(snapshots.map(|of| looks(Action::ExpectDataOf, of)));
        if !done.iter().any(|done| done.r#do == Action::Write && done.cache == step.cache) {
            whole.push(looks(Action::ExpectEmpty, ""));
        }
        let mut seen = String::new();
        for look in &whole {
            if progress.unknown.asks_in_vain(look) {
                return Ok(End::Finished);
            }
            match self.run.step(look, true).await {
                Ok(()) => return Ok(End::Finished),
                Err(error) => seen = format!("{error:#}"),
            }
        }
        let seen = format!(
            "{}: the host died, and neither the old data is there nor the new: {seen}",
            place(at, step)
        );
        Err(Violation { invariant: Invariant::Data, seen, at: Some(at) })
    }

    /// A pod that ended with its node is not started again: whoever had a cache there brings it up.
    async fn bring_up_fallen(&self, before: &Step, at: usize) -> Result<End, Violation> {
        while let Some(cache) = self.world.fallen() {
            if before.cache == cache && brings_up(before) {
                // That is what comes next, with what it restores perhaps.
                self.world.risen(&cache);
                continue;
            }
            let (up, met) = (Step::up(&cache), self.tap.met().len());
            let Some(outcome) = self.unless_crashed(&up).await else { return Ok(End::Crashed) };
            match outcome {
                Ok(()) => {
                    self.world.risen(&cache);
                    self.fail_saves_again(&cache, before, at).await?;
                }
                Err(error) => self.judge(&error, before, at, &self.tap.met().split_off(met))?,
            }
        }
        Ok(End::Finished)
    }

    /// What other hands had done to the engine of a cache has ended with it.
    async fn fail_saves_again(&self, cache: &str, before: &Step, at: usize) -> Result<(), Violation> {
        let done = self.schedule.scenario.steps.iter().take(at);
        for step in done.filter(|step| step.r#do == Action::FailSaves && step.cache == cache) {
            let outcome = self.run.step(step, false).await;
            outcome.or_else(|error| self.judge(&error, before, at, &[]))?;
        }
        Ok(())
    }

    /// What was ended on purpose is not to be brought up.
    fn stay_ended(&self, step: &Step) {
        step.steps.iter().for_each(|inner| self.stay_ended(inner));
        match step.r#do {
            Action::StopAll if ends(step) => {
                while let Some(cache) = self.world.fallen() {
                    self.world.risen(&cache);
                }
            }
            _ if ends(step) || gave_up(step) => self.world.risen(&step.cache),
            _ => {}
        }
    }

    /// A step that was done before, wholly or in part: what it says of the state that it found is not known.
    fn relaxed(&self, step: &Step, crashed: bool) -> Step {
        let mut step = step.clone();
        step.adopted = None;
        step.was_there = None;
        // By a host that died it may have been done, and the next one does not know.
        if crashed {
            let refused = self.may_be_refused(&step);
            step.errors.extend(refused.iter().map(|&code| code.to_owned()));
        }
        step.steps = step.steps.iter().map(|inner| self.relaxed(inner, crashed)).collect();
        step
    }

    /// How doing it again may fail for no other reason than that it was done before, or half done. Only pods are made and
    /// deleted by a reboot.
    fn may_be_refused(&self, step: &Step) -> &'static [&'static str] {
        match step.r#do {
            Action::Reboot if step.error.is_none() && self.world.backend() == "kube" => {
                &["conflict", "not-found"]
            }
            Action::Up if step.error.is_none() && !step.file.is_empty() => &["conflict"],
            _ => &[],
        }
    }

    /// A reboot of pods gets around one call that goes wrong. Of more, the last may come when its old pod is gone and the
    /// new one not there: then there is no cache until the next up, for what runs at once with it neither.
    fn may_be_gone(&self, step: &Step) -> bool {
        let reboots = matches!(step.r#do, Action::Reboot | Action::AtOnce);
        reboots && self.tap.met().len() > 1 && self.world.backend() == "kube"
    }

    /// Whether a step may have ended so, with these faults at its calls.
    fn judge(&self, error: &anyhow::Error, step: &Step, at: usize, met: &[Planned]) -> Result<(), Violation> {
        let seen = seen_in(error);
        let on_kube = self.world.backend() == "kube";
        let keeps = self.subject.promises("data-survives-kill");
        if seen.is_some_and(|seen| met.iter().any(|met| explains(met.fault, seen, on_kube, keeps))) {
            return Ok(());
        }
        let not_there = matches!(seen, Some(Seen::Error("conflict" | "not-found")));
        if not_there && !met.is_empty() && self.may_be_gone(step) {
            return Ok(());
        }
        let invariant = match seen {
            Some(Seen::Silence) => Invariant::Endpoint,
            _ if !met.is_empty() => Invariant::Errors,
            _ => Invariant::of(step.r#do),
        };
        Err(Violation { invariant, seen: format!("{}: {error:#}", place(at, step)), at: Some(at) })
    }

    /// That an up which failed, as it was to or by a fault, left no container behind, and removed no volume; where there
    /// was one fault at most, since another one may have befallen its clean-up.
    async fn leaves_it(
        &self,
        before: &[String],
        step: &Step,
        at: usize,
        met: &[Planned],
    ) -> Result<(), Violation> {
        // Told that it is not there, whoever cleans up leaves it.
        if met.iter().any(|met| met.fault == Fault::Stale) {
            return Ok(());
        }
        let now = self.everything().await?;
        let (was, is) = (names(before), names(&now));
        let made = is.difference(&was).filter(|(kind, _)| matches!(*kind, "container" | "pod"));
        let gone = was.difference(&is).filter(|(kind, _)| matches!(*kind, "volume" | "claim"));
        let (made, gone): (Vec<_>, Vec<_>) = (made.collect(), gone.collect());
        if made.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let seen = format!("{}: it failed, and left {made:?}, and removed {gone:?}", place(at, step));
        Err(Violation { invariant: Invariant::LeavesIt, seen, at: Some(at) })
    }

    /// What must hold in the end.
    async fn finish(&self, before: &[String]) -> Result<End, Violation> {
        let fails = |invariant: Invariant| {
            move |error: anyhow::Error| Violation {
                invariant,
                seen: format!("in the end: {error:#}"),
                at: None,
            }
        };
        let runtime = self.run.runtime(0).await.map_err(fails(Invariant::Converges))?;
        let listed = runtime.list().await.map_err(|error| fails(Invariant::Converges)(error.into()))?;
        for cache in listed.into_iter().filter(|cache| cache.state == CacheState::Available) {
            if cache.engine != Engine::Memcached
                && let Some(endpoint) = &cache.endpoint
            {
                let answer = self.world.ask(endpoint, &["PING".to_owned()]).await;
                answer.map_err(fails(Invariant::Endpoint))?;
            }
            let then = self.but_leases().await?;
            let spec = CacheSpec::new(cache.key.clone(), cache.engine);
            let again =
                runtime.ensure(spec).await.map_err(|error| fails(Invariant::Converges)(error.into()))?;
            let same = again.adopted && again.endpoint == cache.endpoint && then == self.but_leases().await?;
            if !same {
                let seen =
                    format!("in the end: an up of {} that runs changed something: {again:?}", cache.key);
                return Err(Violation { invariant: Invariant::NothingChanges, seen, at: None });
            }
        }
        for cache in caches(&self.schedule.scenario.steps) {
            let key = self.run.key(&cache).map_err(fails(Invariant::Converges))?;
            self.remove(&runtime, &key).await.map_err(fails(Invariant::Converges))?;
        }
        // A lease that a reap took and did not give back is for the next one, once it has run out.
        self.world.advance(LATER).map_err(fails(Invariant::Ends))?;
        runtime.reap().await.map_err(|error| fails(Invariant::Converges)(error.into()))?;
        self.run.expect_strangers().await.map_err(fails(Invariant::NothingForeign))?;
        let left = self.everything().await?;
        let strangers = self.run.strangers().await;
        let ours = |line: &&String| !strangers.iter().any(|id| line.contains(id.as_str()));
        let left: Vec<&String> = left.iter().filter(ours).collect();
        let leaked: Vec<_> = left.iter().filter(|line| !before.contains(line)).collect();
        if !leaked.is_empty() {
            let seen = format!("in the end, with all caches and their data removed, there is {leaked:?}");
            return Err(Violation { invariant: Invariant::NothingLeaks, seen, at: None });
        }
        if left.len() != before.len() {
            let seen = format!("in the end, of what others had, there is only {left:?}");
            return Err(Violation { invariant: Invariant::NothingForeign, seen, at: None });
        }
        Ok(End::Finished)
    }

    async fn remove(&self, runtime: &elasticache_host::Runtime, key: &CacheKey) -> Result<()> {
        runtime.stop(key).await?;
        runtime.remove_data(key).await?;
        Ok(())
    }

    /// A Lease that an operation could not give back is the next one's to take, and to give back.
    async fn but_leases(&self) -> Result<Vec<String>, Violation> {
        let mut there = self.everything().await?;
        there.retain(|line| !line.starts_with("lease "));
        Ok(there)
    }

    async fn everything(&self) -> Result<Vec<String>, Violation> {
        let seen = |error: anyhow::Error| Violation {
            invariant: Invariant::Ends,
            seen: format!("{error:#}"),
            at: None,
        };
        self.world.everything().await.map_err(seen)
    }
}

/// What was seen of an operation; `None` where what was seen is a wrong answer.
fn seen_in(error: &anyhow::Error) -> Option<Seen> {
    error.downcast_ref::<WrongEnd>().map(|end| end.seen)
}

/// By kind and name.
fn names(everything: &[String]) -> BTreeSet<(&str, &str)> {
    let mut names = BTreeSet::new();
    for line in everything {
        let mut words = line.split(' ');
        names.extend(words.next().zip(words.next()));
    }
    names
}

/// Whether it ends what it finds, and succeeds where it finds nothing.
fn ends(step: &Step) -> bool {
    step.error.is_none() && matches!(step.r#do, Action::Stop | Action::StopAll | Action::RemoveData)
}

/// Whether it brings a cache up, and need not find it there.
fn brings_up(step: &Step) -> bool {
    step.r#do == Action::Up && step.error.is_none() && step.errors.is_empty() && step.adopted != Some(true)
}

/// Whether it gave up what was there for what no engine could load, and so left no pod.
fn gave_up(step: &Step) -> bool {
    step.r#do == Action::Up && step.replace && step.error.as_deref() == Some("engine-error")
}

/// Every cache that steps name.
fn caches(steps: &[Step]) -> BTreeSet<String> {
    steps.iter().flat_map(|step| std::iter::once(step.cache.clone()).chain(caches(&step.steps))).collect()
}
