//! Scenarios and faults by a seed: caches come and go, some at once, and much goes wrong.
//!
//! The steps know what each cache must hold, by what the policy promises, and ask for it; what it does not promise they
//! do not ask for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use elasticache_host::Engine;
use fastrand::Rng;

use super::{Invariant, Schedule, Subject};
use crate::corpus::{Action, Engines, Scenario, Step};
use crate::faults::{Fault, Planned};

const CACHES: [&str; 3] = ["a", "b", "c"];
const HOSTS: usize = 2;
/// About as many calls as a step makes.
const CALLS_A_STEP: usize = 10;
/// Faults in one schedule, at most.
const FAULTS: usize = 4;

/// What a cache must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Keys of its own, so many of them; none if 0.
    Own(u32),
    /// What was snapshotted of another.
    Of(usize),
    /// Nobody promised anything.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Model {
    up: bool,
    held: Held,
}

struct Author<'a> {
    subject: &'a Subject,
    random: Rng,
    caches: [Model; 3],
    steps: Vec<Step>,
    snapshots: usize,
}

/// What such a scenario is called: by its seed, and the steps of it that are left out, from 0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) seed: u64,
    pub(super) left_out: Vec<usize>,
}

/// What names of such scenarios begin with.
const PREFIX: &str = "random-";
/// Why there is no such scenario for a policy.
pub const NO_ENGINE: &str = "no engine that keeps data";
/// What comes before each step that is left out.
const WITHOUT: char = '-';

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.seed)?;
        self.left_out.iter().try_for_each(|step| write!(f, "{WITHOUT}{step}"))
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.strip_prefix(PREFIX).context("it is no scenario of a seed")?.split(WITHOUT);
        let seed = parts.next().unwrap_or_default();
        let seed = seed.parse().with_context(|| format!("{seed:?} is no seed"))?;
        let step = |step: &str| step.parse().with_context(|| format!("{step:?} is no number of a step"));
        Ok(Self { seed, left_out: parts.map(step).collect::<Result<_>>()? })
    }
}

/// Whether a scenario of that name follows from a seed.
pub fn is_random(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The schedule that a name says, with other faults.
///
/// # Errors
/// If it is no such name, or there is no schedule of a seed for the policy.
pub fn named(subject: &Subject, name: &str, faults: Vec<Planned>) -> Result<Schedule> {
    let Name { seed, left_out } = name.parse()?;
    let schedule = random(subject, seed, &left_out);
    let schedule = schedule.with_context(|| format!("{name}: the policy claims {NO_ENGINE}"))?;
    Ok(Schedule { faults, ..schedule })
}

/// The engines that such schedules are for, of those that a policy claims. Their steps ask for what was written.
pub fn persistent(engines: &[Engine]) -> Vec<Engine> {
    engines.iter().copied().filter(|engine| *engine != Engine::Memcached).collect()
}

/// The schedule of a seed, without some of its steps; none for a policy without an engine that keeps data.
pub fn random(subject: &Subject, seed: u64, left_out: &[usize]) -> Option<Schedule> {
    let mut random = Rng::with_seed(seed);
    let engine = random.choice(&persistent(&subject.description.engines)).copied()?;
    let mut author = Author {
        subject,
        random,
        caches: [Model { up: false, held: Held::Own(0) }; 3],
        steps: Vec::new(),
        snapshots: 0,
    };
    for _ in 0..author.random.usize(4..12) {
        author.one();
    }
    for at in 0..CACHES.len() {
        author.bring_up(at);
        author.look(at);
    }
    let faults = author.faults();
    let mut at = 0..;
    author.steps.retain(|_| at.next().is_none_or(|at| !left_out.contains(&at)));
    let scenario = Scenario {
        name: Name { seed, left_out: left_out.to_vec() }.to_string(),
        title: "what holds for every sequence of operations".to_owned(),
        clauses: Invariant::ALL.map(|invariant| invariant.clause().to_owned()).into(),
        promises: Vec::new(),
        backend: None,
        engines: Engines::Persistent,
        restarts: true,
        steps: author.steps,
    };
    Some(Schedule { scenario: Arc::new(scenario), engine, faults, order: Some(seed) })
}

impl Author<'_> {
    fn promises(&self, promise: &str) -> bool {
        self.subject.promises(promise)
    }

    /// By one host or the other: both are of one instance, and share a data folder.
    fn step(&mut self, action: Action, at: usize) -> &mut Step {
        let host = self.random.usize(..HOSTS);
        self.steps.push(Step { r#do: action, host, ..Step::up(CACHES[at]) });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    fn bring_up(&mut self, at: usize) {
        if !self.caches[at].up {
            self.step(Action::Up, at);
            self.caches[at].up = true;
        }
    }

    /// What is kept, or nothing, or nobody knows.
    fn after(&self, at: usize, keeps: &str, empties: &str) -> Held {
        if self.promises(keeps) {
            self.caches[at].held
        } else if self.promises(empties) {
            Held::Own(0)
        } else {
            Held::Unknown
        }
    }

    fn look(&mut self, at: usize) {
        match self.caches[at].held {
            Held::Own(0) => drop(self.step(Action::ExpectEmpty, at)),
            Held::Own(_) => drop(self.step(Action::ExpectData, at)),
            Held::Of(other) => self.step(Action::ExpectDataOf, at).file = CACHES[other].to_owned(),
            Held::Unknown => {}
        }
    }

    /// One thing that somebody does.
    fn one(&mut self) {
        let at = self.random.usize(..CACHES.len());
        match self.random.u32(..15) {
            0 | 1 => self.write(at),
            2 => {
                self.bring_up(at);
                self.look(at);
            }
            3 | 4 => {
                self.bring_up(at);
                self.step(Action::Reboot, at);
                self.caches[at].held = self.after(at, "data-survives-reboot", "reboot-empties");
                self.look(at);
            }
            5 | 6 => self.stop(at),
            7 => {
                self.bring_up(at);
                self.step(Action::Kill, at);
                self.caches[at] = Model { up: false, held: self.after(at, "data-survives-kill", "") };
            }
            8 => drop(self.step(Action::NewHost, at)),
            9 => {
                self.stop(at);
                self.step(Action::RemoveData, at);
                self.caches[at].held = Held::Own(0);
            }
            10 => self.carry(at),
            11 => self.stop_all(),
            // Neither may change anything.
            12 => drop(self.step(Action::Reap, at)),
            13 => {
                let action = if self.random.bool() { Action::List } else { Action::Find };
                self.step(action, at);
            }
            _ => self.at_once(at),
        }
    }

    fn write(&mut self, at: usize) {
        let before = match self.caches[at].held {
            Held::Own(keys) => keys,
            // Its keys would lie among others.
            Held::Of(_) | Held::Unknown => return,
        };
        self.bring_up(at);
        let keys = before + self.random.u32(1..20);
        self.step(Action::Write, at).keys = keys;
        self.caches[at].held = Held::Own(keys);
    }

    fn stop(&mut self, at: usize) {
        self.step(Action::Stop, at);
        self.stopped(at);
    }

    fn stop_all(&mut self) {
        self.step(Action::StopAll, 0);
        for at in 0..CACHES.len() {
            // What had ended before is none of those that are stopped.
            if self.caches[at].up {
                self.stopped(at);
            }
        }
    }

    fn stopped(&mut self, at: usize) {
        if self.caches[at].up || self.promises("nothing-survives-stop") {
            self.caches[at].held = self.after(at, "data-survives-stop", "nothing-survives-stop");
        }
        self.caches[at].up = false;
    }

    /// A snapshot of one becomes the start of another.
    fn carry(&mut self, at: usize) {
        let to = (at + 1) % CACHES.len();
        let Held::Own(1..) = self.caches[at].held else { return };
        if !self.promises("snapshots") {
            return;
        }
        self.bring_up(at);
        // Ended since, it may hold less than it did; what is asked for is what it holds now.
        if self.caches[at].held == Held::Unknown {
            return;
        }
        self.snapshots += 1;
        let file = format!("{}.rdb", self.snapshots);
        self.step(Action::Snapshot, at).file.clone_from(&file);
        self.stop(to);
        self.step(Action::RemoveData, to);
        self.step(Action::Up, to).file = file;
        self.caches[to] = Model { up: true, held: Held::Of(at) };
        self.look(to);
        // What the one holds from now on is its own affair.
        self.stop(to);
        self.step(Action::RemoveData, to);
        self.caches[to].held = Held::Own(0);
    }

    /// Operations at once, on one cache and on another.
    fn at_once(&mut self, at: usize) {
        let other = (at + 1) % CACHES.len();
        self.bring_up(at);
        self.bring_up(other);
        let mut steps = Vec::new();
        for _ in 0..self.random.usize(2..5) {
            let cache = if self.random.bool() { at } else { other };
            let action = match self.random.u32(..8) {
                0 => Action::List,
                1 => Action::Find,
                2..5 => Action::Up,
                _ => Action::Reboot,
            };
            if action == Action::Reboot {
                self.caches[cache].held = self.after(cache, "data-survives-reboot", "reboot-empties");
            }
            let host = self.random.usize(..HOSTS);
            steps.push(Step { r#do: action, host, ..Step::up(CACHES[cache]) });
        }
        self.step(Action::AtOnce, at).steps = steps;
        // Which of them returned last is chance, and its endpoint with it.
        self.step(Action::Up, at);
        self.step(Action::Up, other);
        self.look(at);
        self.look(other);
    }

    fn faults(&mut self) -> Vec<Planned> {
        let calls = self.steps.len() * CALLS_A_STEP;
        let mut planned: Vec<Planned> = Vec::new();
        for _ in 0..self.random.usize(..=FAULTS) {
            let call = self.random.usize(..calls);
            if let Some(fault) = self.random.choice(Fault::ALL)
                && planned.iter().all(|planned| planned.call != call)
            {
                planned.push(Planned { call, fault });
            }
        }
        planned.sort_unstable();
        planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claims_only_memcached_is_asked_for_no_other_engine() {
        assert_eq!(persistent(&[Engine::Memcached]), []);
        assert_eq!(persistent(&[Engine::Memcached, Engine::Valkey]), [Engine::Valkey]);
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for left_out in [vec![], vec![3], vec![11, 0]] {
            let name = Name { seed: u64::MAX, left_out };
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
            assert!(is_random(&name.to_string()));
        }
        for wrong in ["random", "random-", "random-x", "random-1-", "random-1-x", "a-reboot"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }
}
