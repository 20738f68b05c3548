//! One call of any interface, with what was got from earlier ones.

use hostile::bindings::fakecloud::elasticache::docker::{
    self, Container, ContainerSpec, Content, File, Publish, RestartPolicy, Volume,
};
use hostile::bindings::fakecloud::elasticache::exec::Output;
use hostile::bindings::fakecloud::elasticache::kube;
use hostile::bindings::fakecloud::elasticache::logging::{Level, log};
use hostile::bindings::fakecloud::elasticache::probes::{self, Check, Target};
use hostile::bindings::fakecloud::elasticache::snapshots::Snapshot;
use hostile::bindings::wasi::config::store;

use crate::random::Random;

const CHECKS: [Check; 5] =
    [Check::RedisPing, Check::RedisIdle, Check::RedisInSync, Check::RedisPrimary, Check::MemcachedVersion];
const LEVELS: [Level; 4] = [Level::Debug, Level::Info, Level::Warn, Level::Error];
/// What a server understands.
const COMMANDS: [&[&str]; 14] = [
    &["PING"],
    &["SET", "k", "v"],
    &["GET", "k"],
    &["SAVE"],
    &["BGSAVE"],
    &["BGREWRITEAOF"],
    &["INFO"],
    &["FLUSHALL"],
    &["DBSIZE"],
    &["SHUTDOWN", "NOSAVE"],
    &["CONFIG", "SET", "appendonly", "yes"],
    &["CONFIG", "GET", "*"],
    &["DEBUG", "JMAP"],
    &["ECHO"],
];

/// What an operation holds.
pub struct Calls {
    pub random: Random,
    pub snapshots: Vec<Snapshot>,
    pub outputs: Vec<Output>,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
    ports: Vec<u16>,
    /// Handles of each kind that are kept.
    most: usize,
}

/// Keeps a handle, in the place of another one if there are as many as are kept.
fn keep<T>(held: &mut Vec<T>, new: impl IntoIterator<Item = T>, most: usize, random: &mut Random) {
    for handle in new {
        if held.len() >= most {
            drop(held.swap_remove(random.index(held.len())));
        }
        held.push(handle);
    }
}

fn one_of<'a, T>(held: &'a [T], random: &mut Random) -> Option<&'a T> {
    (!held.is_empty()).then(|| &held[random.index(held.len())])
}

impl Calls {
    pub fn new(mut random: Random) -> Self {
        // Now and then more than any environment allows.
        let most = if random.one_in(20) { 5_000 } else { 1 + random.index(20) };
        Self {
            random,
            snapshots: Vec::new(),
            outputs: Vec::new(),
            containers: Vec::new(),
            volumes: Vec::new(),
            ports: Vec::new(),
            most,
        }
    }

    /// Any call. Without a handle to make it with there is none.
    pub fn one(&mut self) {
        match self.random.below(16) {
            0..=2 => drop(self.docker()),
            3..=7 => drop(self.container()),
            8 => drop(self.volume()),
            9..=11 => drop(self.probe()),
            12 => drop(self.snapshot()),
            13 => drop(self.output()),
            14 => self.small(),
            _ => self.drop_some(),
        }
    }

    fn docker(&mut self) -> Option<()> {
        let (random, most) = (&mut self.random, self.most);
        match random.below(10) {
            0..=2 => keep(&mut self.containers, docker::find(&random.name()).ok()?, most, random),
            3 | 4 => self.create()?,
            5 => keep(&mut self.containers, docker::containers().ok()?, most, random),
            6 => keep(&mut self.containers, docker::stale().ok()?, most, random),
            7 => keep(&mut self.volumes, docker::find_volume(&random.name()).ok()?, most, random),
            8 => keep(&mut self.volumes, docker::create_volume(&random.name()).ok(), most, random),
            _ if random.one_in(4) => docker::pull(&random.text()).ok()?,
            _ => keep(&mut self.ports, docker::reserve_port(random.number()).ok(), most, random),
        }
        Some(())
    }

    fn create(&mut self) -> Option<()> {
        let random = &mut self.random;
        let image = random.pick(&["redis:7-alpine", "valkey/valkey:8-alpine", "memcached:1.6-alpine"]);
        let command: &[&str] = random.pick(&[
            &["redis-server"],
            &["redis-server", "--appendonly", "yes"],
            &["valkey-server", "--save", ""],
            &["memcached"],
        ]);
        let odd = random.one_in(8);
        let port = one_of(&self.ports, random).copied().unwrap_or(6_379);
        let publish = |random: &mut Random| Publish {
            container_port: if odd { random.next() as u16 } else { 6_379 },
            host_port: if odd { random.next() as u16 } else { port },
        };
        let spec = ContainerSpec {
            name: random.name(),
            image: if odd { random.text() } else { image.to_owned() },
            command: if odd {
                random.texts(5)
            } else {
                command.iter().map(|word| (*word).to_owned()).collect()
            },
            labels: if odd {
                random.pairs(4)
            } else {
                vec![("fakecloud-policy-x".to_owned(), random.text())]
            },
            publish: (!random.one_in(4)).then(|| publish(random)),
            tmpfs: if odd { random.texts(3) } else { Vec::new() },
            restart: random.pick(&[RestartPolicy::Never, RestartPolicy::UnlessStopped]),
            stop_grace: random.number(),
        };
        let mut mounts = Vec::new();
        while let (Some(volume), false) = (one_of(&self.volumes, random), random.one_in(2)) {
            mounts.push((volume, if odd { random.text() } else { "/data".to_owned() }));
        }
        let made = docker::create(&spec, &mounts).ok();
        keep(&mut self.containers, made, self.most, random);
        Some(())
    }

    fn container(&mut self) -> Option<()> {
        let (random, most) = (&mut self.random, self.most);
        let container = one_of(&self.containers, random)?;
        match random.below(24) {
            0 | 1 => drop(container.info()),
            2 | 3 => drop(container.refresh().ok()?),
            4..=9 => container.start().ok()?,
            10 => container.stop(random.number()).ok()?,
            11 => container.restart(random.number()).ok()?,
            12 => container.remove().ok()?,
            13..=15 => {
                let argv = command(random, "redis-cli");
                keep(&mut self.outputs, container.exec(&argv).ok(), most, random);
            }
            16 | 17 => {
                let folder = if random.one_in(4) { random.text() } else { "/data".to_owned() };
                let mut files = Vec::new();
                while !random.one_in(3) {
                    let content = match one_of(&self.snapshots, random) {
                        Some(snapshot) if random.one_in(2) => Content::Snapshot(snapshot),
                        _ => Content::Bytes(random.bytes()),
                    };
                    files.push(File { path: random.text(), content });
                }
                container.put(&folder, &files).ok()?;
            }
            18 | 19 => {
                let path = if random.one_in(4) { random.text() } else { "/data/dump.rdb".to_owned() };
                keep(&mut self.snapshots, container.get(&path).ok(), most, random);
            }
            20 | 21 => drop(container.read(&random.text()).ok()?),
            _ => drop(container.stat(&random.text()).ok()?),
        }
        Some(())
    }

    fn volume(&mut self) -> Option<()> {
        let volume = one_of(&self.volumes, &mut self.random)?;
        match self.random.below(3) {
            0 => volume.remove().ok()?,
            _ => drop(volume.info()),
        }
        Some(())
    }

    fn probe(&mut self) -> Option<()> {
        let random = &mut self.random;
        let container = one_of(&self.containers, random)?;
        match random.below(8) {
            0 => drop(
                probes::wait_ready(&Target::Container(container), random.pick(&CHECKS), random.wait())
                    .ok()?,
            ),
            1 => {
                let count = if random.one_in(100) { 6_000 } else { random.below(10) };
                let mut targets = Vec::new();
                for _ in 0..count {
                    let container = one_of(&self.containers, random)?;
                    targets.push((Target::Container(container), random.pick(&CHECKS)));
                }
                drop(probes::check_now(&targets, random.wait()));
            }
            _ => {
                let args = command(random, "");
                drop(probes::command(&Target::Container(container), &args, 1 + random.wait()).ok()?);
            }
        }
        Some(())
    }

    fn snapshot(&mut self) -> Option<()> {
        let snapshot = one_of(&self.snapshots, &mut self.random)?;
        match self.random.below(3) {
            0 => snapshot.size(),
            1 => snapshot.rdb_version().into(),
            _ => snapshot.engine_version().map_or(0, |version| version.len() as u64),
        };
        Some(())
    }

    fn output(&mut self) -> Option<()> {
        let random = &mut self.random;
        let output = one_of(&self.outputs, random)?;
        match random.below(3) {
            0 => output.exit_code().unsigned_abs() as usize,
            1 => output.stdout(random.next() as u32).len(),
            _ => output.stderr(random.number()).len(),
        };
        Some(())
    }

    /// What needs no handle and gives none.
    fn small(&mut self) {
        let random = &mut self.random;
        match random.below(6) {
            0 => drop(kube::find(&random.text())),
            1 => drop(kube::pods()),
            2 => drop(kube::create_claim(&random.text())),
            3 => log(random.pick(&LEVELS), &random.text()),
            4 => drop(store::get(&random.text())),
            _ => drop(kube::find_claim(&random.name())),
        }
    }

    /// Gives something back, or uses what it does not have, which ends the operation.
    fn drop_some(&mut self) {
        let random = &mut self.random;
        if random.one_in(500) {
            // Safe bindings cannot say this; a component of another making can.
            let forged = unsafe { Container::from_handle(random.next() as u32) };
            drop(forged.info());
        }
        match random.below(4) {
            0 if !self.containers.is_empty() => {
                drop(self.containers.swap_remove(random.index(self.containers.len())));
            }
            1 if !self.volumes.is_empty() => drop(self.volumes.swap_remove(random.index(self.volumes.len()))),
            2 if !self.snapshots.is_empty() => {
                drop(self.snapshots.swap_remove(random.index(self.snapshots.len())));
            }
            3 if !self.outputs.is_empty() => drop(self.outputs.swap_remove(random.index(self.outputs.len()))),
            _ => {}
        }
    }
}

/// A command for a server, by way of its client if one is named; now and then of arbitrary words.
fn command(random: &mut Random, client: &str) -> Vec<String> {
    if random.one_in(8) {
        return random.texts(6);
    }
    let words = random.pick(&COMMANDS).iter().map(|word| (*word).to_owned());
    let mut argv: Vec<String> =
        Some(client.to_owned()).filter(|client| !client.is_empty()).into_iter().collect();
    argv.extend(words);
    if random.one_in(4) {
        argv.push(random.text());
    }
    argv
}
