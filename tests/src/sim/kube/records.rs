//! Leases and secrets.

use std::time::SystemTime;

use elasticache_host::engine::EngineError;
use elasticache_host::engine::cluster::Lease;

use super::world::{World, gone};
use crate::sim::errors::{conflict, failed};

/// Whether both say the same of who holds it since when.
fn alike(one: &Lease, other: &Lease) -> bool {
    one.holder == other.holder && one.renewed == other.renewed
}

impl World {
    pub(super) fn take_lease(
        &mut self,
        lease: &Lease,
        instead: Option<&Lease>,
    ) -> Result<Option<Lease>, EngineError> {
        match (self.leases.get(&lease.name), instead) {
            (None, Some(_)) => return Err(gone(&lease.name)),
            // Without one it is a create: the name is taken, by an earlier attempt of the same perhaps.
            (Some(there), instead) if !alike(there, instead.unwrap_or(lease)) => {
                return Ok(Some(there.clone()));
            }
            _ => {}
        }
        self.leases.insert(lease.name.clone(), lease.clone());
        Ok(None)
    }

    pub(super) fn delete_lease(&mut self, name: &str, renewed: SystemTime) -> Result<(), EngineError> {
        match self.leases.get(name) {
            None => Err(gone(name)),
            Some(there) if there.renewed != renewed => Err(conflict(name, "it was renewed meanwhile")),
            Some(_) => {
                self.leases.remove(name);
                Ok(())
            }
        }
    }

    pub(super) fn shared_secret(
        &mut self,
        name: &str,
        key: &str,
        make: &[u8],
    ) -> Result<Vec<u8>, EngineError> {
        let secret =
            self.secrets.entry(name.to_owned()).or_insert_with(|| [(key.to_owned(), make.to_vec())].into());
        secret.get(key).cloned().ok_or_else(|| failed(name, format!("it has nothing under {key:?}")))
    }
}
