//! Questions to engines behind a tap.

use async_trait::async_trait;
use elasticache_host::Endpoint;
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};

use super::engine::{change, look};
use super::{Call, Nature, Tapped};

#[async_trait]
impl<S: Probes + ?Sized> Probes for Tapped<S> {
    async fn check(&self, endpoint: &Endpoint, check: Check) -> Result<(), ProbeError> {
        look!(self, "check", &endpoint.to_string(), format!("{check:?}"), check(endpoint, check))
    }

    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        let object = format!("{endpoint} {}", args.join(" "));
        change!(self, "command", &object, command(endpoint, args, max_bytes))
    }
}
