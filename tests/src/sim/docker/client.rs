//! What asks the servers: probes and clients by published port, programs from inside.

use async_trait::async_trait;

use super::world::World;
use super::{Call, SimDocker};
use crate::sim::client::{self, NOT_UNDERSTOOD};
use crate::sim::options::program;
use crate::sim::server::{Server, Value};
use elasticache_host::engine::ExecOutput;
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};
use elasticache_host::{Endpoint, Engine};

const REFUSED: &str = "connection refused";

/// The container whose server answers at this port of the host, and that server's kind.
fn listener(world: &World, port: u16) -> Result<(usize, Engine), &'static str> {
    let published = |held: &super::world::Held| held.published().is_some_and(|p| p.host_port == port);
    let Some(index) = world.containers.iter().position(published) else {
        return Err(if world.foreign_ports.contains(&port) { NOT_UNDERSTOOD } else { REFUSED });
    };
    let held = &world.containers[index];
    let inside = held.published().map(|published| published.container_port);
    match &held.server {
        // Something in front accepts, finds nobody behind it and hangs up.
        Some(server) if Some(server.port) != inside => Err("connection reset"),
        None => Err("connection reset"),
        Some(_) if world.trouble.hang_ready => Err("no answer"),
        Some(server) => Ok((index, server.engine)),
    }
}

fn redis(world: &mut World, port: u16, args: &[&str]) -> Result<Value, String> {
    match listener(world, port)? {
        (_, Engine::Memcached) => Err(NOT_UNDERSTOOD.into()),
        (index, _) => run(world, index, args).ok_or_else(|| REFUSED.into()),
    }
}

fn run(world: &mut World, index: usize, args: &[&str]) -> Option<Value> {
    let (server, mut disk, _) = world.parts(index);
    let args: Vec<_> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
    Some(server.as_mut()?.command(&mut disk, &args))
}

fn check(world: &mut World, port: u16, wanted: Check) -> Result<(), String> {
    let (index, engine) = listener(world, port)?;
    client::check(wanted, engine, |args| run(world, index, args))
}

fn memcached(world: &mut World, port: u16) -> Result<&mut Server, String> {
    let (index, engine) = listener(world, port)?;
    let server = world.containers[index].server.as_mut();
    server.filter(|_| engine == Engine::Memcached).ok_or_else(|| NOT_UNDERSTOOD.into())
}

#[async_trait]
impl Probes for SimDocker {
    async fn check(&self, endpoint: &Endpoint, wanted: Check) -> Result<(), ProbeError> {
        let rest = format!("{wanted:?}");
        self.ask(Call::Check, endpoint, &rest, |world| check(world, endpoint.port, wanted))
    }

    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        self.ask(Call::Command, endpoint, &args.join(" "), |world| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            redis(world, endpoint.port, &args).map(|value| value.into_reply(max_bytes))
        })
    }
}

/// What a test's own client does. Not traced.
impl SimDocker {
    /// Store in the memcached at this port.
    ///
    /// # Errors
    /// [`ProbeError`] if no memcached answers there.
    pub fn memcached_set(&self, port: u16, key: &str, value: &[u8]) -> Result<(), ProbeError> {
        let mut world = self.world.lock();
        let server = memcached(&mut world, port).map_err(|message| local_error(port, message))?;
        server.keys.insert(key.as_bytes().to_vec(), value.to_vec());
        Ok(())
    }

    /// Read from the memcached at this port.
    ///
    /// # Errors
    /// [`ProbeError`] if no memcached answers there.
    pub fn memcached_get(&self, port: u16, key: &str) -> Result<Option<Vec<u8>>, ProbeError> {
        let mut world = self.world.lock();
        let server = memcached(&mut world, port).map_err(|message| local_error(port, message))?;
        Ok(server.keys.get(key.as_bytes()).cloned())
    }

    fn ask<T>(
        &self,
        call: Call,
        endpoint: &Endpoint,
        rest: &str,
        effect: impl FnOnce(&mut World) -> Result<T, String>,
    ) -> Result<T, ProbeError> {
        let at = endpoint.to_string();
        let error = |message| ProbeError::seen(endpoint, message);
        let late = self.begin(call, &at, rest).map_err(|fault| error(fault.to_string()))?;
        let result = effect(&mut self.world.lock()).map_err(error);
        late.map_or(result, |fault| Err(error(fault.to_string())))
    }
}

fn local_error(port: u16, message: String) -> ProbeError {
    ProbeError::seen(&Endpoint { address: "127.0.0.1".to_owned(), port }, message)
}

/// Run a program in a running container.
pub(super) fn exec(world: &mut World, index: usize, argv: &[String]) -> ExecOutput {
    let spec = &world.containers[index].spec;
    let engine = program(&spec.image, &spec.command).map(|(engine, _)| engine);
    client::exec(engine, argv, |port, args| {
        let hears = |server: &Server| server.port.to_string() == port && !world.trouble.hang_ready;
        world.containers[index].server.as_ref().is_some_and(hears).then(|| run(world, index, args))?
    })
}
