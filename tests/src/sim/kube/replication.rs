//! Servers that follow one another, across pods.

use crate::sim::rdb::Keys;
use crate::sim::server::{Primary, Server, Value};

use super::world::{State, World};

/// Longer than any chain of replicas; those that follow each other in a circle never come to its end.
const CHAIN: usize = 8;

impl World {
    /// A command to the server in a pod, as a client sends it; no answer if none is there.
    pub(super) fn command(&mut self, name: &str, args: &[&str]) -> Option<Value> {
        self.replicate();
        let answer = match args {
            [verb, rest @ ..] if verb.eq_ignore_ascii_case("FAILOVER") => self.failover(name, rest)?,
            _ => {
                let args: Vec<_> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
                let (server, mut disk, _) = self.parts(name).ok()?;
                server.as_mut()?.command(&mut disk, &args)
            }
        };
        self.replicate();
        Some(answer)
    }

    /// The pod that has that address, if its server listens at that port.
    pub(super) fn listener(&self, address: &str, port: u16) -> Option<&str> {
        let listens = |server: &Server| server.port == port;
        self.pods
            .values()
            .find(|pod| pod.address.as_deref() == Some(address) && pod.state == State::Running)
            .filter(|pod| pod.server.as_ref().is_some_and(listens))
            .map(|pod| pod.id.name.as_str())
    }

    fn server(&self, name: &str) -> Option<&Server> {
        self.pods.get(name)?.server.as_ref()
    }

    fn server_mut(&mut self, name: &str) -> Option<&mut Server> {
        self.pods.get_mut(name)?.server.as_mut()
    }

    /// What the server has that a replica follows, over others perhaps.
    fn source(&self, primary: &Primary) -> Option<&Keys> {
        let mut primary = primary;
        for _ in 0..CHAIN {
            let server = self.server(self.listener(&primary.address, primary.port)?)?;
            match &server.primary {
                None => return Some(&server.keys),
                Some(next) => primary = next,
            }
        }
        None
    }

    /// Each replica that hears from its primary has all that there is. One that does not keeps what it has.
    fn replicate(&mut self) {
        let primary = |name: &String| Some((name.clone(), self.server(name)?.primary.clone()?));
        let replicas: Vec<(String, Primary)> = self.pods.keys().filter_map(primary).collect();
        for (name, primary) in replicas {
            let keys = self.source(&primary).cloned();
            let Some(replica) = self.server_mut(&name) else { continue };
            replica.primary = Some(Primary { is_up: keys.is_some(), ..primary });
            replica.keys = keys.unwrap_or_else(|| std::mem::take(&mut replica.keys));
        }
    }

    /// `FAILOVER`: the primary and its replica change places, which takes no time.
    fn failover(&mut self, name: &str, args: &[&str]) -> Option<Value> {
        let refusal = |words: &str| Some(Value::Error(format!("ERR {words}")));
        let is_replica = self.server(name)?.primary.is_some();
        let (address, port) = match args {
            [verb] if verb.eq_ignore_ascii_case("ABORT") => return refusal("No failover in progress."),
            ["TO", address, port, "TIMEOUT", _] => (*address, port.parse().unwrap_or_default()),
            _ => return refusal("syntax error"),
        };
        if is_replica {
            return refusal("FAILOVER is not valid when server is a replica.");
        }
        let own = self.pods.get(name)?.address.clone()?;
        let own = Primary { address: own, port: self.server(name)?.port, is_up: true };
        let target = self.listener(address, port).map(str::to_owned);
        let follows = |server: &Server| server.primary.as_ref() == Some(&own);
        let target = target.filter(|target| self.server(target).is_some_and(follows));
        let Some(target) = target else { return refusal("FAILOVER target HOST and PORT is not a replica.") };
        self.server_mut(&target)?.primary = None;
        self.server_mut(name)?.primary = Some(Primary { address: address.to_owned(), port, is_up: true });
        Some(Value::Status("OK".to_owned()))
    }
}
