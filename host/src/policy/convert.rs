//! Between the contract's types and the native ones.

use super::bindings::fakecloud::elasticache::types as wit;
use crate::error::{Error, InvalidInput};
use crate::types::{Cache, CacheKey, CacheSpec, CacheState, Description, Endpoint, Engine};

pub(super) fn key_to_wit(key: &CacheKey) -> wit::CacheKey {
    wit::CacheKey { scope: key.scope().to_owned(), id: key.id().to_owned() }
}

pub(super) fn spec_to_wit(spec: &CacheSpec) -> wit::CacheSpec {
    wit::CacheSpec {
        key: key_to_wit(&spec.key),
        engine: match spec.engine {
            Engine::Redis => wit::Engine::Redis,
            Engine::Valkey => wit::Engine::Valkey,
            Engine::Memcached => wit::Engine::Memcached,
        },
        version: spec.version.clone(),
        tags: spec.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

fn engine(engine: wit::Engine) -> Engine {
    match engine {
        wit::Engine::Redis => Engine::Redis,
        wit::Engine::Valkey => Engine::Valkey,
        wit::Engine::Memcached => Engine::Memcached,
    }
}

/// A policy may return anything: a key that cannot be one, or is not the one that was asked for, is its error.
pub(super) fn cache(cache: wit::Cache, asked: Option<&CacheKey>) -> Result<Cache, wit::Error> {
    let key = CacheKey::new(cache.key.scope, cache.key.id)
        .map_err(|error| wit::Error::Other(format!("the policy returned a cache whose {error}")))?;
    if let Some(asked) = asked.filter(|asked| **asked != key) {
        return Err(wit::Error::Other(format!("the policy returned {key} where {asked} was asked for")));
    }
    Ok(Cache {
        key,
        engine: engine(cache.engine),
        version: cache.version,
        state: match cache.state {
            wit::CacheState::Available => CacheState::Available,
            wit::CacheState::Starting => CacheState::Starting,
            wit::CacheState::Stopped => CacheState::Stopped,
        },
        handle: cache.handle,
        endpoint: cache.endpoint.map(|e| Endpoint { address: e.address, port: e.port }),
        adopted: cache.adopted,
    })
}

pub(super) fn description(description: wit::Description) -> Description {
    Description {
        name: description.name,
        version: description.version,
        summary: description.summary,
        engines: description.engines.into_iter().map(engine).collect(),
        backends: description
            .backends
            .into_iter()
            .map(|backend| match backend {
                wit::Backend::Docker => "docker",
                wit::Backend::Kube => "kube",
            })
            .collect(),
        promises: description
            .promises
            .into_iter()
            .map(|promise| match promise {
                wit::Promise::DataSurvivesReboot => "data-survives-reboot",
                wit::Promise::DataSurvivesStop => "data-survives-stop",
                wit::Promise::DataSurvivesRemoval => "data-survives-removal",
                wit::Promise::DataSurvivesKill => "data-survives-kill",
                wit::Promise::Snapshots => "snapshots",
                wit::Promise::RebootEmpties => "reboot-empties",
                wit::Promise::NothingSurvivesStop => "nothing-survives-stop",
                wit::Promise::EndpointSurvivesReboot => "endpoint-survives-reboot",
            })
            .collect(),
    }
}

pub(super) fn error(error: wit::Error) -> Error {
    match error {
        wit::Error::NotFound(what) => Error::NotFound { what },
        wit::Error::Conflict(what) => Error::Conflict { what },
        wit::Error::PortTaken(port) => {
            Error::Conflict { what: format!("every port that was tried is in use, the last one {port}") }
        }
        wit::Error::Denied(denial) => Error::Denied { what: denial.what, grant: denial.grant },
        wit::Error::Unavailable(message) => Error::Unavailable { message },
        wit::Error::Timeout(what) => Error::Timeout { what },
        wit::Error::Invalid(input) => Error::Invalid(InvalidInput::new(input.field, input.reason)),
        wit::Error::EngineError(message) => Error::Engine { message },
        wit::Error::Corrupt(what) => Error::Corrupt { what },
        wit::Error::Other(message) => Error::Other { message },
    }
}
