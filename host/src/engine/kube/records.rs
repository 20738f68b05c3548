//! Leases, the shared secret, and the API server's clock.

use std::time::SystemTime;

use http::Request;
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::client::Body;
use kube::{Api, Client};

use super::again::again;
use super::errors::{engine_error, found, gone};
use super::spec::metadata;
use crate::engine::EngineError;
use crate::engine::cluster::Lease;

/// As whom Leases are written, for the API server's record of who set what.
const MANAGER: &str = "fakecloud-elasticache";

fn failed(object: &str, message: impl Into<String>) -> EngineError {
    EngineError::Failed { object: object.to_owned(), message: message.into() }
}

/// Every Lease with these labels.
pub(super) async fn list(
    leases: &Api<coordination::Lease>,
    selector: &str,
) -> Result<Vec<Lease>, EngineError> {
    let params = ListParams::default().labels(selector);
    let listed = again(|| leases.list(&params)).await;
    let listed = listed.map_err(|error| engine_error("the list of leases", error))?;
    listed.items.into_iter().map(observed).collect()
}

fn observed(lease: coordination::Lease) -> Result<Lease, EngineError> {
    let name = lease.metadata.name.unwrap_or_default();
    let spec = lease.spec.unwrap_or_default();
    // One that says nothing of it was never renewed, and holds for no time.
    let renewed = spec.renew_time.map_or(SystemTime::UNIX_EPOCH, |time| SystemTime::from(time.0));
    Ok(Lease {
        labels: lease.metadata.labels.unwrap_or_default(),
        annotations: lease.metadata.annotations.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        seconds: spec.lease_duration_seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0),
        renewed,
        name,
    })
}

/// In whole microseconds, as a Lease keeps it.
fn micro_time(name: &str, time: SystemTime) -> Result<MicroTime, EngineError> {
    let time = Timestamp::try_from(time).map_err(|error| failed(name, error.to_string()))?;
    let micros = Timestamp::from_microsecond(time.as_microsecond());
    micros.map(MicroTime).map_err(|error| failed(name, error.to_string()))
}

fn object(lease: &Lease) -> Result<coordination::Lease, EngineError> {
    Ok(coordination::Lease {
        metadata: metadata(&lease.name, &lease.labels, &lease.annotations),
        spec: Some(coordination::LeaseSpec {
            holder_identity: Some(lease.holder.clone()),
            lease_duration_seconds: Some(i32::try_from(lease.seconds).unwrap_or(i32::MAX)),
            renew_time: Some(micro_time(&lease.name, lease.renewed)?),
            ..coordination::LeaseSpec::default()
        }),
    })
}

/// Whether both say the same of who holds it since when.
fn alike(one: &Lease, other: &Lease) -> Result<bool, EngineError> {
    let renewed = |lease: &Lease| micro_time(&lease.name, lease.renewed).map(|time| time.0);
    Ok(one.holder == other.holder && renewed(one)? == renewed(other)?)
}

/// Makes the Lease, or takes the place of `instead`; otherwise the one that is there.
pub(super) async fn take(
    leases: &Api<coordination::Lease>,
    lease: &Lease,
    instead: Option<&Lease>,
) -> Result<Option<Lease>, EngineError> {
    let name = lease.name.as_str();
    let look =
        || async { found(again(|| leases.get(name)).await.map_err(|error| engine_error(name, error))) };
    let mut wanted = object(lease)?;
    // Either may be tried again although an earlier attempt did it: then what is there is our own.
    let answer = if let Some(instead) = instead {
        let Some(there) = look().await? else { return Err(gone(name)) };
        // With it, nothing is changed that was changed since.
        wanted.metadata.resource_version.clone_from(&there.metadata.resource_version);
        let seen = observed(there)?;
        if !alike(&seen, instead)? {
            return Ok(Some(seen));
        }
        let (params, patch) = (PatchParams::default(), Patch::Merge(&wanted));
        again(|| leases.patch(name, &params, &patch)).await
    } else {
        let params = PostParams::default();
        again(|| leases.create(&params, &wanted)).await
    };
    match answer.map_err(|error| engine_error(name, error)) {
        Ok(_) => Ok(None),
        Err(error @ (EngineError::Conflict { .. } | EngineError::NotFound { .. })) => match look().await? {
            Some(there) => {
                let seen = observed(there)?;
                Ok(if alike(&seen, lease)? { None } else { Some(seen) })
            }
            None => Err(EngineError::Conflict { object: name.to_owned(), message: error.to_string() }),
        },
        Err(error) => Err(error),
    }
}

/// Applies the Lease: one request that makes it or takes its place, and the same however often it is sent.
pub(super) async fn write(leases: &Api<coordination::Lease>, lease: &Lease) -> Result<(), EngineError> {
    let wanted = object(lease)?;
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&wanted);
    let answer = again(|| leases.patch(&lease.name, &params, &patch)).await;
    answer.map(drop).map_err(|error| engine_error(&lease.name, error))
}

/// Deletes the Lease as it was when it said that it was renewed then: not if it says more by now.
pub(super) async fn delete(
    leases: &Api<coordination::Lease>,
    name: &str,
    renewed: SystemTime,
) -> Result<(), EngineError> {
    let answer = again(|| leases.get(name)).await;
    let seen = answer.map_err(|error| engine_error(name, error))?;
    let says = seen.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let says = says.map_or(Ok(Timestamp::UNIX_EPOCH), |time| Ok(time.0))?;
    if says != micro_time(name, renewed)?.0 {
        let message = "it was renewed meanwhile".to_owned();
        return Err(EngineError::Conflict { object: name.to_owned(), message });
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: seen.metadata.uid.clone(),
            resource_version: seen.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    let mut tries = 0;
    let answer = again(|| {
        tries += 1;
        leases.delete(name, &params)
    })
    .await;
    match answer.map_err(|error| engine_error(name, error)) {
        Ok(_) => Ok(()),
        // The attempt before this one had an answer that was lost.
        Err(EngineError::NotFound { .. }) if tries > 1 => Ok(()),
        Err(EngineError::NotFound { .. }) => Err(gone(name)),
        Err(error) => Err(error),
    }
}

/// What the Secret keeps under that key, made if there is no such Secret.
pub(super) async fn shared_secret(
    secrets: &Api<Secret>,
    name: &str,
    key: &str,
    make: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let look =
        || async { found(again(|| secrets.get(name)).await.map_err(|error| engine_error(name, error))) };
    if let Some(secret) = look().await? {
        return kept(secret, name, key);
    }
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some([(key.to_owned(), ByteString(make.to_vec()))].into()),
        // Whoever asks later gets the same bytes.
        immutable: Some(true),
        ..Secret::default()
    };
    // May be tried again although an earlier attempt made it: then the name is taken, and what is there counts.
    let params = PostParams::default();
    let made = again(|| secrets.create(&params, &secret)).await;
    match made.map_err(|error| engine_error(name, error)) {
        Ok(secret) => kept(secret, name, key),
        Err(EngineError::Conflict { .. }) => match look().await? {
            Some(secret) => kept(secret, name, key),
            None => Err(failed(name, "it came and went while it was being made")),
        },
        Err(error) => Err(error),
    }
}

fn kept(secret: Secret, name: &str, key: &str) -> Result<Vec<u8>, EngineError> {
    let bytes = secret.data.and_then(|mut data| data.remove(key));
    bytes.map(|bytes| bytes.0).ok_or_else(|| {
        failed(name, format!("the Secret is there, but nothing under {key:?} in it; delete it or add that"))
    })
}

/// From the date of an answer: any answer has one, a refusal too.
pub(super) async fn now(client: &Client) -> Result<SystemTime, EngineError> {
    const OBJECT: &str = "the API server's clock";
    let ask = || async {
        let request = Request::get("/version").body(Body::empty()).map_err(kube::Error::HttpError)?;
        client.send(request).await
    };
    let answer = again(ask).await.map_err(|error| engine_error(OBJECT, error))?;
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.ok_or_else(|| failed(OBJECT, "its answer has no date"))?;
    let read = k8s_openapi::jiff::fmt::rfc2822::parse(date);
    read.map(|date| SystemTime::from(date.timestamp()))
        .map_err(|error| failed(OBJECT, format!("{date:?} is no date: {error}")))
}
