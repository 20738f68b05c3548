//! Finding the cluster, and that it can be used, before anything is built on it.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Error};

use super::errors::{chain, engine_error, words};
use super::options::{KubeOptions, Reach};
use crate::engine::EngineError;

/// For a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// For everything until the cluster is known to be usable.
const FIRST_CALLS: Duration = Duration::from_secs(10);
/// Where a pod finds what its service account is.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// What is never made.
const TRIAL: &str = "fakecloud-trial";

const OBJECT: &str = "the Kubernetes cluster";

fn failed(message: impl Into<String>) -> EngineError {
    EngineError::Failed { object: OBJECT.to_owned(), message: message.into() }
}

/// A client of the cluster that the options name, and how its pods are reached.
pub(super) async fn connect(options: &KubeOptions) -> Result<(Client, Reach), EngineError> {
    let (mut config, found_as) = configuration(options).await?;
    config.connect_timeout = Some(CONNECT);
    // It would try again what must not be done twice, too: which requests those are is known here.
    config.default_retry = false;
    let host = config.cluster_url.host().unwrap_or_default();
    if matches!(host, "127.0.0.1" | "localhost" | "[::1]") {
        // A proxy from the environment would not find it.
        config.proxy_url = None;
    }
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| failed(format!("{url}: {}", chain(&error))))?;
    let reach = options.reach.unwrap_or(match found_as {
        FoundAs::Inside => Reach::Direct,
        FoundAs::File => Reach::Forward,
    });
    let usable = tokio::time::timeout(FIRST_CALLS, check(&client, options.namespace(), &url)).await;
    usable.unwrap_or_else(|_| {
        let message = format!("{url} gave no answer within {} seconds", FIRST_CALLS.as_secs());
        Err(EngineError::Unavailable { object: OBJECT.to_owned(), message })
    })?;
    Ok((client, reach))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FoundAs {
    /// This process runs in it.
    Inside,
    /// A file says where it is.
    File,
}

async fn configuration(options: &KubeOptions) -> Result<(Config, FoundAs), EngineError> {
    let named = options.kubeconfig.is_some() || options.context.is_some();
    let inside = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(SERVICE_ACCOUNT).exists();
    if !named && inside {
        let config = Config::incluster().map_err(|error| failed(error.to_string()))?;
        return Ok((config, FoundAs::Inside));
    }
    let (read, place) = match &options.kubeconfig {
        Some(path) => (Kubeconfig::read_from(path), path.display().to_string()),
        None => (Kubeconfig::read(), "the default kubeconfig".to_owned()),
    };
    let file = read.map_err(|error| failed(format!("{place} cannot be used: {error}")))?;
    let known: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    match options.context.as_ref().or(file.current_context.as_ref()).filter(|name| !name.is_empty()) {
        None => {
            return Err(failed(format!("{place} has no current context; name one of those it has: {known}")));
        }
        Some(name) if !file.contexts.iter().any(|context| context.name == *name) => {
            return Err(failed(format!("{place} has no context {name:?}; those it has: {known}")));
        }
        Some(_) => {}
    }
    let chosen = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &chosen).await;
    Ok((config.map_err(|error| failed(format!("{place} cannot be used: {error}")))?, FoundAs::File))
}

/// Whether the API server answers, and lets this process use the namespace.
async fn check(client: &Client, namespace: &str, url: &str) -> Result<(), EngineError> {
    client.apiserver_version().await.map_err(|error| refused(url, namespace, error))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.list(&ListParams::default().limit(1)).await.map_err(|error| refused(url, namespace, error))?;
    // Lists of a namespace that is not there are empty, so something is made there, as a trial. Not a pod: a quota that
    // leaves room for no more of them is no reason not to look after those that are there.
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut trial = Lease::default();
    trial.metadata.name = Some(TRIAL.to_owned());
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match leases.create(&params, &trial).await {
        Err(Error::Api(status)) if status.code == 404 => {
            let words = words(&status);
            Err(failed(format!("{url}: {words}; create the namespace, or name another one")))
        }
        // What has no trials, or has one of that name, has the namespace.
        Err(Error::Api(status)) if matches!(status.code, 400 | 409) => Ok(()),
        Err(error) => Err(refused(url, namespace, error)),
        Ok(_) => Ok(()),
    }
}

/// What it takes to mend it, beside the API server's own words.
fn refused(url: &str, namespace: &str, error: Error) -> EngineError {
    match error {
        Error::Api(status) => {
            let advice = match status.code {
                401 => {
                    "; the credentials are not accepted: renew them, or name another kubeconfig or context"
                }
                403 => {
                    "; bind a Role with the verbs that the documentation lists to this user or service account"
                }
                404 => "; is that address a Kubernetes API server?",
                _ => "",
            };
            failed(format!("{url}, namespace {namespace}: {}{advice}", words(&status)))
        }
        other => match engine_error(OBJECT, other) {
            EngineError::Unavailable { object, message } => {
                EngineError::Unavailable { object, message: format!("{url}: {message}") }
            }
            error => error,
        },
    }
}
