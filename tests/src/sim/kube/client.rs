//! What asks the servers: probes and clients at the pods' addresses, programs from inside.

use async_trait::async_trait;
use elasticache_host::Endpoint;
use elasticache_host::engine::ExecOutput;
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};
use elasticache_host::{Engine, engine::EngineError};

use super::SimKube;
use super::world::{State, World};
use crate::sim::client::{self, NOT_UNDERSTOOD};
use crate::sim::errors::conflict;
use crate::sim::options::program;
use crate::sim::server::Server;

/// The pod whose server answers there, and that server's kind.
fn answering(world: &World, at: &Endpoint) -> Result<(String, Engine), &'static str> {
    let name = world.listener(&at.address, at.port).ok_or("no answer: nobody listens there")?;
    if world.trouble.hang_ready {
        return Err("no answer");
    }
    let server = world.pods.get(name).and_then(|pod| pod.server.as_ref());
    server.map(|server| (name.to_owned(), server.engine)).ok_or("connection refused")
}

#[async_trait]
impl Probes for SimKube {
    async fn check(&self, endpoint: &Endpoint, wanted: Check) -> Result<(), ProbeError> {
        let mut world = self.world.lock();
        let asked = answering(&world, endpoint).map_err(str::to_owned);
        let checked =
            asked.and_then(|(name, engine)| client::check(wanted, engine, |args| world.command(&name, args)));
        checked.map_err(|message| ProbeError::seen(endpoint, message))
    }

    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut world = self.world.lock();
        let answer = match answering(&world, endpoint) {
            Ok((_, Engine::Memcached)) => Err(NOT_UNDERSTOOD),
            Ok((name, _)) => world.command(&name, &args).ok_or("the connection broke"),
            Err(message) => Err(message),
        };
        let answer = answer.map_err(|message| ProbeError::seen(endpoint, message.to_owned()))?;
        Ok(answer.into_reply(max_bytes))
    }
}

/// Runs a program in the container of a pod's server.
pub(super) fn exec(world: &mut World, name: &str, argv: &[String]) -> Result<ExecOutput, EngineError> {
    let pod = world.named(name)?;
    if pod.state != State::Running {
        return Err(conflict(name, "container not found (\"cache\")"));
    }
    let engine = program(&pod.spec.image, &pod.spec.args).map(|(engine, _)| engine);
    Ok(client::exec(engine, argv, |port, args| {
        let hears = |server: &Server| server.port.to_string() == port;
        let server = world.pods.get(name)?.server.as_ref()?;
        if world.trouble.hang_ready || !hears(server) {
            return None;
        }
        world.command(name, args)
    }))
}
