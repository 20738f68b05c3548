//! The `probes` interface: asking engines, with the repeating and the deadlines that the question needs.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};
use wasmtime::component::Resource;

use super::{ContainerHandle, OperationState, Outcome, Purpose, to_wit};
use crate::engine::ContainerState;
use crate::environment::Environment;
use crate::error::Fault;
use crate::policy::bindings::fakecloud::elasticache::probes as api;
use crate::policy::bindings::fakecloud::elasticache::types as wit;
use crate::probes::{Check, Reply};
use crate::progress::Progress;
use crate::types::Endpoint;

/// Between the first attempts: an engine answers a few milliseconds after its start.
const EAGER: Duration = Duration::from_millis(1);
/// Between attempts once it is clear that this one takes its time.
const PATIENT: Duration = Duration::from_millis(20);
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
        api::Check::MemcachedVersion => Check::MemcachedVersion,
    }
}

fn to_wit_endpoint(endpoint: &Endpoint) -> wit::Endpoint {
    wit::Endpoint { address: endpoint.address.clone(), port: endpoint.port }
}

/// Whom a probe is for. Pods do not exist here, so their case cannot arise.
fn container(target: api::Target) -> Result<Resource<ContainerHandle>, wit::Error> {
    match target {
        api::Target::Container(container) => Ok(container),
        api::Target::Pod(_) => Err(super::kube::not_supplied()),
    }
}

impl OperationState {
    fn published(
        &self,
        environment: &Environment,
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
        let work = wait_until_ready(&environment, observed, check, limit);
        Ok(self.bounded("waiting for the engine in", &name, Purpose::Work, limit + ATTEMPT, work).await)
    }
}

/// Asks until the check holds, the container has ended, or the time is up.
async fn wait_until_ready(
    environment: &Environment,
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
                "the engine in container {} did not get ready within {limit:?}; last seen: {seen}",
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
        sleep(if start.elapsed() < EAGER_FOR { EAGER } else { PATIENT }).await;
    }
}

async fn ended(environment: &Environment, observed: &crate::engine::Container) -> wit::Error {
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
        match container(target) {
            Ok(handle) => self.wait(&handle, native(check), Duration::from_millis(within.into())).await,
            Err(error) => Ok(Err(error)),
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
        let Ok(environment) = self.docker() else {
            return Ok(targets.iter().map(|_| api::Finding { ready: false, endpoint: None }).collect());
        };
        let limit = Duration::from_millis(within.into());
        let mut asked = Vec::with_capacity(targets.len());
        for (target, check) in targets {
            let endpoint = match container(target) {
                Ok(handle) => self.published(&environment, &handle)?,
                Err(_) => None,
            };
            asked.push((endpoint, native(check)));
        }
        let work = async {
            let ask = async |(endpoint, check): &(Option<Endpoint>, Check)| {
                let Some(endpoint) = endpoint else { return false };
                let answer = tokio::time::timeout(limit, environment.probes.check(endpoint, *check)).await;
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
            .map(|(at, (endpoint, _))| api::Finding {
                ready: answers.get(at).copied().unwrap_or(false),
                endpoint: endpoint.as_ref().map(to_wit_endpoint),
            })
            .collect())
    }

    async fn command(&mut self, target: api::Target, args: Vec<String>, within: u32) -> Outcome<api::Reply> {
        self.count_with(args.iter().map(String::len).sum())?;
        let handle = match container(target) {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        let environment = match self.docker() {
            Ok(environment) => environment,
            Err(error) => return Ok(Err(error)),
        };
        let name = self.table.get(&handle)?.observed.name.clone();
        let endpoint = match self.published(&environment, &handle)? {
            Some(endpoint) => endpoint,
            None => match self.observe(&handle).await? {
                Ok(observed) => match observed.published {
                    Some(published) => environment.endpoint(published.host_port),
                    None => {
                        return Ok(Err(wit::Error::Unavailable(format!(
                            "container {name} publishes no port now"
                        ))));
                    }
                },
                Err(error) => return Ok(Err(error)),
            },
        };
        let work = async move {
            environment
                .probes
                .command(&endpoint, &args, REPLY_BYTES)
                .await
                .map_err(|error| wit::Error::Unavailable(error.to_string()))
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
