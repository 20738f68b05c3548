//! The `probes` interface: asking engines, with the repeating and the deadlines that the question needs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};
use wasmtime::component::Resource;

use super::pods::port_of;
use super::{ContainerHandle, OperationState, Outcome, PodHandle, Purpose, to_wit};
use crate::engine::ContainerState;
use crate::engine::cluster::{Pod, PodGoal, PodPhase};
use crate::environment::{DockerEnvironment, KubeEnvironment};
use crate::error::Fault;
use crate::policy::bindings::fakecloud::elasticache::probes as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::probes::{Check, ProbeError, Probes, Reply};
use crate::progress::Progress;
use crate::types::Endpoint;

/// Between the first attempts: an engine answers a few milliseconds after its start.
const EAGER: Duration = Duration::from_millis(1);
/// Between attempts at most. On Kubernetes each may be a new connection through the API server, and an engine that
/// loads gigabytes takes minutes.
const PATIENT: Duration = Duration::from_millis(500);
/// A pause is this part of the time that went by, once it is clear that this engine takes its time: so it is seen at
/// most that much later than it is ready.
const PART: u32 = 50;
/// How long attempts stay eager.
const EAGER_FOR: Duration = Duration::from_secs(2);
/// One attempt. A proxy may accept and then say nothing.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How often the container itself is looked at while its engine does not answer.
const LOOK: Duration = Duration::from_millis(200);
/// At how many looks a container may be found waiting for its restart: one crash is survived, a loop of
/// them is reported.
const RESTARTS: u32 = 10;
/// Engines that are asked at once: each takes a connection.
const AT_ONCE: usize = 256;
/// Bytes of a reply that are kept.
const REPLY_BYTES: usize = 64 << 10;

fn native(check: api::Check) -> Check {
    match check {
        api::Check::RedisPing => Check::RedisPing,
        api::Check::RedisIdle => Check::RedisIdle,
        api::Check::RedisInSync => Check::RedisInSync,
        api::Check::RedisPrimary => Check::RedisPrimary,
        api::Check::MemcachedVersion => Check::MemcachedVersion,
    }
}

fn to_wit_endpoint(endpoint: &Endpoint) -> wit::Endpoint {
    wit::Endpoint { address: endpoint.address.clone(), port: endpoint.port }
}

/// A target that runs.
struct Reached {
    /// Where the probes reach it.
    at: Endpoint,
    /// Where clients do.
    endpoint: Endpoint,
    probes: Arc<dyn Probes>,
}

/// Where a question goes, and by what name it is spoken of.
struct Asked {
    name: String,
    /// Where the probes reach it.
    at: Endpoint,
    probes: Arc<dyn Probes>,
}

impl OperationState {
    fn published(
        &self,
        environment: &DockerEnvironment,
        handle: &Resource<ContainerHandle>,
    ) -> wasmtime::Result<Option<Endpoint>> {
        let observed = &self.table.get(handle)?.observed;
        Ok(observed.published.map(|published| environment.endpoint(published.host_port)))
    }

    async fn wait(
        &mut self,
        handle: &Resource<ContainerHandle>,
        check: Check,
        limit: Duration,
    ) -> Outcome<wit::Endpoint> {
        let environment = match self.docker() {
            Ok(environment) => environment,
            Err(error) => return Ok(Err(error)),
        };
        // Where it is to be reached is looked up now: an endpoint is never remembered.
        let observed = match self.observe(handle).await? {
            Ok(observed) => observed,
            Err(error) => return Ok(Err(error)),
        };
        let name = observed.name.clone();
        let limit = self.with_last_words(limit);
        let work = wait_until_ready(&environment, observed, check, limit);
        Ok(self.bounded("waiting for the engine in", &name, Purpose::Work, limit + ATTEMPT, work).await)
    }

    /// As `wait`, for a pod.
    async fn wait_pod(
        &mut self,
        handle: &Resource<PodHandle>,
        check: Check,
        limit: Duration,
    ) -> Outcome<wit::Endpoint> {
        let environment = match self.kube() {
            Ok(environment) => environment,
            Err(error) => return Ok(Err(error)),
        };
        let observed = match self.observe_pod(handle).await? {
            Ok(observed) => observed,
            Err(error) => return Ok(Err(error)),
        };
        let name = observed.id.name.clone();
        let limit = self.with_last_words(limit);
        let work = wait_until_answering(&environment, observed, check, limit);
        Ok(self.bounded("waiting for the engine in", &name, Purpose::Work, limit + ATTEMPT, work).await)
    }

    /// How long may be asked again and again so that, if it was in vain, there is time to say what was seen last.
    fn with_last_words(&self, limit: Duration) -> Duration {
        let left = self.time_left();
        limit.min(left.saturating_sub(ATTEMPT.min(left / 4)))
    }

    /// Where a target is to be reached, as it was last seen; none where it does not run, or may not be asked.
    fn target_now(&self, target: api::Target) -> wasmtime::Result<Option<Reached>> {
        match target {
            api::Target::Container(handle) => {
                let Ok(environment) = self.docker() else { return Ok(None) };
                let endpoint = self.published(&environment, &handle)?;
                let probes = Arc::clone(&environment.probes);
                Ok(endpoint.map(|endpoint| Reached { at: endpoint.clone(), endpoint, probes }))
            }
            api::Target::Pod(handle) => {
                let Ok(environment) = self.kube() else { return Ok(None) };
                let pod = &self.table.get(&handle)?.observed;
                let running = pod.phase == PodPhase::Running && !pod.terminating;
                let (true, Some(address)) = (running, pod.address.clone()) else { return Ok(None) };
                let port = port_of(pod);
                let Some(at) = environment.cluster.probed_at(pod, port) else { return Ok(None) };
                let probes = Arc::clone(&environment.probes);
                Ok(Some(Reached { at, endpoint: Endpoint { address, port }, probes }))
            }
        }
    }

    /// Where a container is asked: as it was last seen to publish, or else as it does now.
    async fn asked_container(&mut self, handle: &Resource<ContainerHandle>) -> Outcome<Asked> {
        let environment = match self.docker() {
            Ok(environment) => environment,
            Err(error) => return Ok(Err(error)),
        };
        let name = self.table.get(handle)?.observed.name.clone();
        let mut at = self.published(&environment, handle)?;
        if at.is_none() {
            match self.observe(handle).await? {
                Ok(observed) => at = observed.published.map(|p| environment.endpoint(p.host_port)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(match at {
            Some(at) => Ok(Asked { name, at, probes: Arc::clone(&environment.probes) }),
            None => Err(wit::Error::Unavailable(format!("container {name} publishes no port now"))),
        })
    }

    /// Where a pod is asked, likewise.
    async fn asked_pod(&mut self, handle: &Resource<PodHandle>) -> Outcome<Asked> {
        let environment = match self.kube() {
            Ok(environment) => environment,
            Err(error) => return Ok(Err(error)),
        };
        let seen = &self.table.get(handle)?.observed;
        let name = seen.id.name.clone();
        let mut at = environment.cluster.probed_at(seen, port_of(seen));
        if at.is_none() {
            match self.observe_pod(handle).await? {
                Ok(now) => at = environment.cluster.probed_at(&now, port_of(&now)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(match at {
            Some(at) => Ok(Asked { name, at, probes: Arc::clone(&environment.probes) }),
            None => Err(wit::Error::Unavailable(format!("pod {name} has no address now"))),
        })
    }
}

/// Asks until the check holds, the pod's server has ended, or the time is up.
async fn wait_until_answering(
    environment: &KubeEnvironment,
    pod: Pod,
    check: Check,
    limit: Duration,
) -> Result<wit::Endpoint, wit::Error> {
    let name = pod.id.name.clone();
    if pod.phase != PodPhase::Running {
        return Err(ended_pod(environment, &pod).await);
    }
    let port = port_of(&pod);
    let (Some(at), Some(address)) = (environment.cluster.probed_at(&pod, port), &pod.address) else {
        return Err(wit::Error::Unavailable(format!("pod {name} has no address")));
    };
    let endpoint = wit::Endpoint { address: address.clone(), port };
    // The cluster tells when its server ends; nobody tells when it begins to answer.
    let over = environment.cluster.wait_for_pod(&pod.id, PodGoal::Ended);
    let asking = ask_until_ready(environment, &at, check, limit);
    // Which of the two comes first is not left to chance: the same operation makes the same calls.
    tokio::select! {
        biased;
        asked = asking => match asked {
            Ok(()) => Ok(endpoint),
            Err(Unready::Late(seen)) => Err(wit::Error::Timeout(format!(
                "the engine in pod {name} did not get ready within {limit:.1?}; last seen: {seen}"
            ))),
            Err(Unready::Refused(error)) => Err(asking_failed(&name, &error)),
        },
        over = over => match over {
            Ok(now) => Err(ended_pod(environment, &now).await),
            Err(error) => Err(to_wit(error)),
        },
    }
}

/// Why an engine is not known to be ready.
enum Unready {
    /// It was not in time; what was seen last.
    Late(String),
    /// It cannot be asked from here.
    Refused(ProbeError),
}

/// Until the next attempt, after so long a time of them.
fn pause(waited: Duration) -> Duration {
    if waited < EAGER_FOR { EAGER } else { (waited / PART).min(PATIENT) }
}

/// An engine that could not be asked.
fn asking_failed(name: &str, error: &ProbeError) -> wit::Error {
    let words = format!("the engine in {name}: {error}");
    if error.refused { wit::Error::EngineError(words) } else { wit::Error::Unavailable(words) }
}

/// Asks again and again, until it is ready, it is late or nobody may ask.
async fn ask_until_ready(
    environment: &KubeEnvironment,
    at: &Endpoint,
    check: Check,
    limit: Duration,
) -> Result<(), Unready> {
    let start = Instant::now();
    let mut reported = false;
    loop {
        let seen = match tokio::time::timeout(ATTEMPT, environment.probes.check(at, check)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.refused => return Err(Unready::Refused(error)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{at}: no reply within {ATTEMPT:?}"),
        };
        if start.elapsed() >= limit {
            return Err(Unready::Late(seen));
        }
        if !reported && start.elapsed() > LOOK {
            reported = true;
            environment.progress.report(Progress::Waiting { what: format!("the engine in {at}") });
        }
        sleep(pause(start.elapsed())).await;
    }
}

async fn ended_pod(environment: &KubeEnvironment, pod: &Pod) -> wit::Error {
    let words = environment.cluster.pod_log(&pod.id, 5).await.unwrap_or_default();
    let state = pod.message.clone().unwrap_or_else(|| format!("{:?}", pod.phase).to_lowercase());
    wit::Error::EngineError(format!(
        "the engine in pod {} does not run: {state}; its last words: {}",
        pod.id.name,
        words.trim().replace('\n', " | ")
    ))
}

/// Asks until the check holds, the container has ended, or the time is up.
async fn wait_until_ready(
    environment: &DockerEnvironment,
    mut observed: crate::engine::Container,
    check: Check,
    limit: Duration,
) -> Result<wit::Endpoint, wit::Error> {
    let start = Instant::now();
    let (mut last_look, mut restarts) = (start, u32::from(observed.state == ContainerState::Restarting));
    let mut seen = "it was never asked".to_owned();
    let mut reported = false;
    loop {
        match observed.state {
            ContainerState::Running => {}
            ContainerState::Restarting if restarts < RESTARTS => {}
            ContainerState::Paused => {
                return Err(wit::Error::Conflict(format!("container {} is paused", observed.name)));
            }
            _ => return Err(ended(environment, &observed).await),
        }
        if let Some(published) = observed.published {
            let endpoint = environment.endpoint(published.host_port);
            match tokio::time::timeout(ATTEMPT, environment.probes.check(&endpoint, check)).await {
                Ok(Ok(())) => return Ok(to_wit_endpoint(&endpoint)),
                Ok(Err(error)) => seen = error.to_string(),
                Err(_) => seen = format!("{endpoint}: no reply within {ATTEMPT:?}"),
            }
        }
        if start.elapsed() >= limit {
            return Err(wit::Error::Timeout(format!(
                "the engine in container {} did not get ready within {limit:.1?}; last seen: {seen}",
                observed.name
            )));
        }
        if !reported && start.elapsed() > LOOK {
            reported = true;
            environment
                .progress
                .report(Progress::Waiting { what: format!("the engine in {}", observed.name) });
        }
        // While it waits for its restart there is nothing to hurry for; the container engine takes its time, too.
        let unseen = observed.published.is_none() && observed.state != ContainerState::Restarting;
        if last_look.elapsed() >= LOOK || unseen {
            match environment.engine.inspect_container(&observed.id).await.map_err(to_wit)? {
                Some(now) => observed = now,
                None => return Err(wit::Error::NotFound(format!("container {} is gone", observed.name))),
            }
            last_look = Instant::now();
            restarts += u32::from(observed.state == ContainerState::Restarting);
        }
        sleep(pause(start.elapsed())).await;
    }
}

async fn ended(environment: &DockerEnvironment, observed: &crate::engine::Container) -> wit::Error {
    let words = environment.engine.log_tail(&observed.id, 5).await.unwrap_or_default();
    let code = observed.exit_code.map_or("an unknown code".to_owned(), |code| format!("code {code}"));
    wit::Error::EngineError(format!(
        "the engine in container {} ended with {code}; its last words: {}",
        observed.name,
        words.trim().replace('\n', " | ")
    ))
}

impl api::Host for OperationState {
    async fn wait_ready(
        &mut self,
        target: api::Target,
        check: api::Check,
        within: u32,
    ) -> Outcome<wit::Endpoint> {
        self.count()?;
        let limit = Duration::from_millis(within.into());
        match target {
            api::Target::Container(handle) => self.wait(&handle, native(check), limit).await,
            api::Target::Pod(handle) => self.wait_pod(&handle, native(check), limit).await,
        }
    }

    async fn check_now(
        &mut self,
        targets: Vec<(api::Target, api::Check)>,
        within: u32,
    ) -> wasmtime::Result<Vec<api::Finding>> {
        self.count()?;
        // One handle may be named any number of times, and each time is a connection.
        let limit = self.limits().handles;
        if targets.len() > limit {
            return Err(Fault::Oversized { what: "one check-now, in targets,".to_owned(), limit }.into());
        }
        let limit = Duration::from_millis(within.into());
        let mut asked = Vec::with_capacity(targets.len());
        for (target, check) in targets {
            asked.push((self.target_now(target)?, native(check)));
        }
        let work = async {
            let ask = async |(target, check): &(Option<Reached>, Check)| {
                let Some(Reached { at, probes, .. }) = target else { return false };
                let answer = tokio::time::timeout(limit, probes.check(at, *check)).await;
                matches!(answer, Ok(Ok(())))
            };
            Ok(stream::iter(&asked).map(ask).buffered(AT_ONCE).collect::<Vec<bool>>().await)
        };
        let answers = self
            .bounded("asking", "the engines", Purpose::Cleanup, limit + ATTEMPT, work)
            .await
            .unwrap_or_default();
        Ok(asked
            .iter()
            .enumerate()
            .map(|(at, (target, _))| api::Finding {
                ready: answers.get(at).copied().unwrap_or(false),
                endpoint: target.as_ref().map(|target| to_wit_endpoint(&target.endpoint)),
            })
            .collect())
    }

    async fn command(&mut self, target: api::Target, args: Vec<String>, within: u32) -> Outcome<api::Reply> {
        self.count_with(args.iter().map(String::len).sum())?;
        let asked = match target {
            api::Target::Container(handle) => self.asked_container(&handle).await?,
            api::Target::Pod(handle) => self.asked_pod(&handle).await?,
        };
        let Asked { name, at, probes } = match asked {
            Ok(asked) => asked,
            Err(error) => return Ok(Err(error)),
        };
        // Whether a command changes something, only its engine knows.
        if let Err(error) = self.has_turn(&format!("the engine in {name}")).await {
            return Ok(Err(error));
        }
        let asked = name.clone();
        let work = async move {
            probes.command(&at, &args, REPLY_BYTES).await.map_err(|error| asking_failed(&asked, &error))
        };
        let limit = Duration::from_millis(within.into());
        Ok(self.bounded("asking the engine in", &name, Purpose::Work, limit, work).await.map(|reply| {
            match reply {
                Reply::Status(text) => api::Reply::Status(text),
                Reply::Error(text) => api::Reply::Error(text),
                Reply::Integer(number) => api::Reply::Integer(number),
                Reply::Bulk(bytes) => api::Reply::Bulk(bytes),
                Reply::Nil => api::Reply::Nil,
                Reply::Aggregate(count) => api::Reply::Aggregate(count),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_time_that_went_by_and_not_for_ever() {
        let after = |seconds| pause(Duration::from_secs(seconds));
        assert_eq!(after(1), EAGER);
        assert_eq!(after(2), Duration::from_millis(40));
        assert_eq!(after(10), Duration::from_millis(200));
        assert_eq!(after(600), Duration::from_millis(500));
    }
}
