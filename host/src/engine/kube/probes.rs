//! Engines asked through the API server: from wherever that can be reached.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use tokio::io::DuplexStream;

use super::errors::engine_error;
use crate::probes::{Check, Command, ProbeError, Probes, Reply, Seen, ask};
use crate::types::Endpoint;

/// Asks each question through a forwarded port of its own. An endpoint's address is a pod's name.
///
/// # Guarantees
/// - A port on which nobody listens is an error as soon as the kubelet says so.
/// - Memory is bounded by `max_bytes` and a few MiB.
///
/// # Caveats
/// - There is no deadline but the caller's; dropping the future closes the connection.
#[derive(Clone)]
pub(super) struct ForwardProbes {
    pub(super) pods: Api<Pod>,
}

/// Ends with what it is about.
struct Forward(Portforwarder);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ForwardProbes {
    async fn open(&self, endpoint: &Endpoint) -> Result<(Forward, DuplexStream), ProbeError> {
        let seen = |message| ProbeError::seen(endpoint, message);
        crate::scheduling::syntax::dns_subdomain(&endpoint.address).map_err(seen)?;
        let opened = self.pods.portforward(&endpoint.address, &[endpoint.port]).await;
        let opened = opened.map_err(|error| {
            let refused = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
            let message = format!("cannot connect: {}", engine_error(&endpoint.address, error));
            if refused { ProbeError::refused(endpoint, message) } else { seen(message) }
        })?;
        let mut forward = Forward(opened);
        let stream = forward.0.take_stream(endpoint.port);
        stream
            .map(|stream| (forward, stream))
            .ok_or_else(|| seen("cannot connect: no stream came".to_owned()))
    }

    /// Holds a conversation, unless the kubelet says first that there is nobody to hold it with.
    async fn hold<T, F: Future<Output = Result<T, Seen>>>(
        &self,
        endpoint: &Endpoint,
        conversation: impl FnOnce(DuplexStream) -> F,
    ) -> Result<T, ProbeError> {
        let seen = |message| ProbeError::seen(endpoint, message);
        let (mut forward, stream) = self.open(endpoint).await?;
        let trouble = forward.0.take_error(endpoint.port);
        let trouble = async {
            let said = match trouble {
                Some(trouble) => trouble.await,
                None => None,
            };
            match said {
                Some(message) => format!("cannot connect: {}", message.trim()),
                // The connection is over, which shows in the stream, too.
                None => std::future::pending().await,
            }
        };
        tokio::pin!(trouble);
        let held = tokio::select! {
            biased;
            said = &mut trouble => return Err(seen(said)),
            held = conversation(stream) => held,
        };
        match held {
            Ok(held) => Ok(held),
            // The stream may end a moment before the reason is told.
            Err(message) => {
                let reason = tokio::time::timeout(std::time::Duration::from_millis(100), trouble).await;
                Err(seen(reason.unwrap_or(message)))
            }
        }
    }
}

#[async_trait]
impl Probes for ForwardProbes {
    async fn check(&self, endpoint: &Endpoint, check: Check) -> Result<(), ProbeError> {
        self.hold(endpoint, |stream| ask(stream, check)).await
    }

    async fn command(
        &self,
        endpoint: &Endpoint,
        args: &[String],
        max_bytes: usize,
    ) -> Result<Reply, ProbeError> {
        let command = Command::new(args).map_err(|message| ProbeError::seen(endpoint, message))?;
        self.hold(endpoint, |stream| command.send(stream, max_bytes)).await
    }
}
