//! What `--json` prints. Field names, their order and their meaning are what programs rely on.

use std::borrow::Cow;

use elasticache_host::{Cache, Description, Grants, Limits, Manifest, PolicyInfo};
use serde::Serialize;

use crate::commands::Outcome;
use crate::failure::Failure;

/// What a command came to.
#[derive(Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "there is one of them, once")]
pub(crate) enum Document<'a> {
    Cache(CacheDocument<'a>),
    Caches(Vec<CacheDocument<'a>>),
    Exec {
        success: bool,
        stdout: Cow<'a, str>,
        stderr: Cow<'a, str>,
    },
    Snapshot {
        path: Cow<'a, str>,
        size: u64,
        rdb_version: u32,
        engine_version: Option<&'a str>,
    },
    Down {
        scope: &'a str,
        id: &'a str,
        stopped: bool,
        data_deleted: bool,
    },
    Reap {
        removed: &'a [String],
    },
    Policy(PolicyDocument<'a>),
    Environment {
        path: Cow<'a, str>,
        backend: &'static str,
        policy: PolicyDocument<'a>,
        grants: GrantsDocument,
        limits: LimitsDocument,
        /// Their names: values may be nobody else's affair.
        settings: Vec<&'a str>,
    },
    Manifest {
        manifest: &'a str,
    },
    Error {
        error: ErrorDocument<'a>,
    },
}

/// A cache as it is now.
#[derive(Serialize)]
pub(crate) struct CacheDocument<'a> {
    scope: &'a str,
    id: &'a str,
    engine: &'static str,
    state: &'static str,
    handle: &'a str,
    /// Null unless it runs, as is `endpoint`.
    host_port: Option<u16>,
    endpoint: Option<EndpointDocument<'a>>,
    adopted: bool,
}

#[derive(Serialize)]
pub(crate) struct EndpointDocument<'a> {
    address: &'a str,
    port: u16,
}

/// A policy component, and what becomes of its imports.
#[derive(Serialize)]
pub(crate) struct PolicyDocument<'a> {
    path: Cow<'a, str>,
    size: u64,
    sha256: &'a str,
    wit_version: &'a str,
    /// Bytes; null if the component does not tell.
    initial_memory: Option<u64>,
    deterministic: bool,
    imports: &'a [String],
    /// In the order of `imports`: `granted`, `free` or `denied`.
    access: Vec<&'static str>,
    exports: &'a [String],
    description: Option<DescriptionDocument<'a>>,
}

/// What a policy may do.
#[derive(Serialize)]
pub(crate) struct GrantsDocument {
    capabilities: Vec<&'static str>,
    images: Vec<String>,
    volumes: bool,
    exec: Vec<String>,
    publish: Vec<String>,
    namespaces: Vec<String>,
    labels: Vec<String>,
}

/// What an operation may use; times in milliseconds, sizes in bytes.
#[derive(Serialize)]
pub(crate) struct LimitsDocument {
    memory: usize,
    tables: usize,
    instances: usize,
    guest_time: u128,
    host_calls: u64,
    bytes_per_call: usize,
    bytes_total: usize,
    handles: usize,
    log_bytes: usize,
    wall_time: u128,
    pull: u128,
    cleanup: u128,
}

/// What a policy says of itself.
#[derive(Serialize)]
pub(crate) struct DescriptionDocument<'a> {
    name: &'a str,
    version: &'a str,
    summary: &'a str,
    engines: Vec<&'static str>,
    backends: &'a [&'static str],
    promises: &'a [&'static str],
}

/// Why a command failed.
#[derive(Serialize)]
pub(crate) struct ErrorDocument<'a> {
    code: &'static str,
    message: &'a str,
}

impl Document<'_> {
    /// One line, with its end.
    pub(crate) fn line(&self) -> std::io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

impl<'a> From<&'a Outcome> for Document<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Cache(cache) => Document::Cache(cache.into()),
            Outcome::Caches { caches, .. } => Document::Caches(caches.iter().map(Into::into).collect()),
            Outcome::Exec(exec) => Document::Exec {
                success: exec.success,
                stdout: String::from_utf8_lossy(&exec.stdout),
                stderr: String::from_utf8_lossy(&exec.stderr),
            },
            Outcome::Snapshot(snapshot) => Document::Snapshot {
                path: snapshot.path.to_string_lossy(),
                size: snapshot.size,
                rdb_version: snapshot.rdb_version,
                engine_version: snapshot.engine_version.as_deref(),
            },
            Outcome::Down { key, stopped, data_deleted } => Document::Down {
                scope: key.scope(),
                id: key.id(),
                stopped: *stopped,
                data_deleted: data_deleted.unwrap_or(false),
            },
            Outcome::Reap(removed) => Document::Reap { removed },
            Outcome::Policy(policy, grants) => Document::Policy(policy_document(policy, grants)),
            Outcome::Environment(path, manifest, policy) => {
                let Manifest { backend, grants, limits, config, .. } = manifest.as_ref();
                Document::Environment {
                    path: path.to_string_lossy(),
                    backend: backend.as_str(),
                    policy: policy_document(policy, grants),
                    grants: grants.into(),
                    limits: limits.into(),
                    settings: config.0.keys().map(String::as_str).collect(),
                }
            }
            Outcome::Text(manifest) => Document::Manifest { manifest },
        }
    }
}

fn policy_document<'a>(policy: &'a PolicyInfo, grants: &Grants) -> PolicyDocument<'a> {
    PolicyDocument {
        path: policy.path.to_string_lossy(),
        size: policy.size,
        sha256: &policy.sha256,
        wit_version: &policy.wit_version,
        initial_memory: policy.initial_memory,
        deterministic: policy.deterministic,
        imports: &policy.imports,
        access: policy.imports.iter().map(|import| grants.access(import).as_str()).collect(),
        exports: &policy.exports,
        description: policy.description.as_ref().map(Into::into),
    }
}

impl From<&Grants> for GrantsDocument {
    fn from(grants: &Grants) -> Self {
        Self {
            capabilities: grants.capabilities.iter().map(|capability| capability.as_str()).collect(),
            images: grants.images.iter().map(ToString::to_string).collect(),
            volumes: grants.volumes,
            exec: grants.exec.iter().cloned().collect(),
            publish: grants.publish.iter().map(ToString::to_string).collect(),
            namespaces: grants.namespaces.iter().map(ToString::to_string).collect(),
            labels: grants.labels.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Limits> for LimitsDocument {
    fn from(limits: &Limits) -> Self {
        Self {
            memory: limits.memory,
            tables: limits.tables,
            instances: limits.instances,
            guest_time: limits.guest_time.as_millis(),
            host_calls: limits.host_calls,
            bytes_per_call: limits.bytes_per_call,
            bytes_total: limits.bytes_total,
            handles: limits.handles,
            log_bytes: limits.log_bytes,
            wall_time: limits.wall_time.as_millis(),
            pull: limits.pull.as_millis(),
            cleanup: limits.cleanup.as_millis(),
        }
    }
}

impl<'a> From<&'a Failure> for Document<'a> {
    fn from(failure: &'a Failure) -> Self {
        Document::Error { error: ErrorDocument { code: failure.code, message: &failure.message } }
    }
}

impl<'a> From<&'a Cache> for CacheDocument<'a> {
    fn from(cache: &'a Cache) -> Self {
        let endpoint = cache.endpoint.as_ref();
        Self {
            scope: cache.key.scope(),
            id: cache.key.id(),
            engine: cache.engine.as_str(),
            state: cache.state.as_str(),
            handle: &cache.handle,
            host_port: endpoint.map(|endpoint| endpoint.port),
            endpoint: endpoint
                .map(|endpoint| EndpointDocument { address: &endpoint.address, port: endpoint.port }),
            adopted: cache.adopted,
        }
    }
}

impl<'a> From<&'a Description> for DescriptionDocument<'a> {
    fn from(description: &'a Description) -> Self {
        Self {
            name: &description.name,
            version: &description.version,
            summary: &description.summary,
            engines: description.engines.iter().map(|engine| engine.as_str()).collect(),
            backends: &description.backends,
            promises: &description.promises,
        }
    }
}
