//! One cache during one operation, in words that fit containers and pods.

use crate::bindings::fakecloud::elasticache::logging::{Level, log};
use crate::bindings::fakecloud::elasticache::probes::{self, Check, Reply};
use crate::bindings::fakecloud::elasticache::types::{
    Backend, CacheKey, CacheSpec, Engine, Error, InvalidInput,
};
use crate::bindings::wasi::config::store;
use crate::engines::{self, Kind};
use crate::server::{About, Server};
use crate::steps;

/// The policy's labels: what `recover` needs to know about a cache without asking anybody.
pub const ENGINE_LABEL: &str = "fakecloud-policy-engine";
pub const VERSION_LABEL: &str = "fakecloud-policy-version";
/// Where its dataset lies in the container; policies differ, and one may take over from another.
pub const FOLDER_LABEL: &str = "fakecloud-policy-folder";

/// Milliseconds for an engine to answer after a start. Loading gigabytes takes its time.
pub const READY_WITHIN: u32 = 300_000;
/// Seconds where nothing can be lost: the engine never answered, or holds nothing.
pub const SHORT_GRACE: u32 = 2;
/// Milliseconds for all engines of a listing to answer.
pub const LISTING_WITHIN: u32 = 1_000;
/// Milliseconds for a SAVE. The engine serves nobody meanwhile; gigabytes take minutes on slow disks.
const SAVE_WITHIN: u32 = 600_000;
/// How often another save may be in the way of ours.
const SAVE_ATTEMPTS: u32 = 5;
/// The name of the file that `SAVE` writes.
pub const DUMP: &str = "dump.rdb";
/// Where a volume or a claim goes.
pub const DATA: &str = "/data";

/// Where caches run, as the host says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Docker,
    /// On Kubernetes, where data may be kept on claims or not.
    Kube {
        claims: bool,
    },
}

impl Place {
    pub fn now() -> Self {
        let given = |name| store::get(name).ok().flatten();
        match given("backend").as_deref() {
            Some("kube") => Place::Kube { claims: given("storage-class").is_some() },
            // A host that says nothing is one of before there was a choice.
            _ => Place::Docker,
        }
    }
}

/// The engines that the shipped policies drive.
pub const BACKENDS: [Backend; 2] = [Backend::Docker, Backend::Kube];

/// Names a cache in an error.
pub fn about(key: &CacheKey) -> String {
    if key.scope.is_empty() {
        format!("cache {:?}", key.id)
    } else {
        format!("cache {:?} in scope {:?}", key.id, key.scope)
    }
}

pub fn no_such_cache(key: &CacheKey) -> Error {
    Error::NotFound(about(key))
}

pub fn refuse(key: &CacheKey, why: &str) -> Error {
    Error::Conflict(format!("{}: {why}", about(key)))
}

pub fn invalid(field: &str, reason: String) -> Error {
    Error::Invalid(InvalidInput { field: field.to_owned(), reason })
}

pub fn kind_of(engine: Engine) -> Kind {
    match engine {
        Engine::Redis => Kind::Redis,
        Engine::Valkey => Kind::Valkey,
        Engine::Memcached => Kind::Memcached,
    }
}

pub fn engine_of(kind: Kind) -> Engine {
    match kind {
        Kind::Redis => Engine::Redis,
        Kind::Valkey => Engine::Valkey,
        Kind::Memcached => Engine::Memcached,
    }
}

/// What runs in a container or pod of this policy's.
pub fn kind(about: &About) -> Result<Kind, Error> {
    about
        .label(ENGINE_LABEL)
        .and_then(Kind::from_label)
        .ok_or_else(|| refuse(&about.key, "its container does not say which engine it runs"))
}

/// The file that `SAVE` writes and that a snapshot is read from.
pub fn dump(about: &About) -> String {
    // One without this label was made when there was one policy, which kept all data there.
    format!("{}/{DUMP}", about.label(FOLDER_LABEL).unwrap_or(DATA))
}

pub fn ready_check(kind: Kind) -> Check {
    match kind {
        Kind::Redis | Kind::Valkey => Check::RedisPing,
        Kind::Memcached => Check::MemcachedVersion,
    }
}

/// The image for what is asked. A setting replaces the default image, never one asked for by version.
pub fn image(spec: &CacheSpec) -> Result<String, Error> {
    let kind = kind_of(spec.engine);
    let image = engines::image(kind, spec.version.as_deref()).map_err(|reason| invalid("version", reason))?;
    if spec.version.is_some() {
        return Ok(image);
    }
    match store::get(kind.image_setting()) {
        Ok(setting) => Ok(setting.unwrap_or(image)),
        Err(store::Error::Upstream(why) | store::Error::Io(why)) => {
            Err(Error::Other(format!("reading the setting {}: {why}", kind.image_setting())))
        }
    }
}

/// Whether a cache that is there is the one asked for.
pub fn check_same(spec: &CacheSpec, about: &About) -> Result<(), Error> {
    let (wanted, found) = (kind_of(spec.engine), kind(about)?);
    if wanted != found {
        let why = format!("it is a {}; stop it before starting a {}", found.as_str(), wanted.as_str());
        return Err(refuse(&spec.key, &why));
    }
    let there = about.label(VERSION_LABEL);
    match &spec.version {
        Some(version) if there != Some(version) => {
            let why = format!(
                "it runs {}; stop it before starting version {version}",
                there.map_or("the default version".to_owned(), |v| format!("version {v}"))
            );
            Err(refuse(&spec.key, &why))
        }
        _ => Ok(()),
    }
}

/// The labels of a new container or pod.
pub fn labels(spec: &CacheSpec, folder: Option<&str>) -> Vec<(String, String)> {
    let kind = kind_of(spec.engine);
    let mut labels = vec![(ENGINE_LABEL.to_owned(), kind.as_str().to_owned())];
    labels.extend(spec.version.iter().map(|version| (VERSION_LABEL.to_owned(), version.clone())));
    labels.extend(folder.map(|folder| (FOLDER_LABEL.to_owned(), folder.to_owned())));
    labels
}

pub fn command(server: Server, words: &[&str], within: u32) -> Result<Reply, Error> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    probes::command(&server.target(), &words, within)
}

/// Cleaning up after an error: a second error must not hide the first.
pub fn tidy(outcome: Result<(), Error>, what: &str) {
    if let Err(error) = outcome {
        log(Level::Warn, &format!("{what}: {error:?}"));
    }
}

/// Have the engine write all that it holds to its dump file, and see that it did.
pub fn save(server: Server) -> Result<(), Error> {
    let target = server.target();
    for _ in 0..SAVE_ATTEMPTS {
        match command(server, &["SAVE"], SAVE_WITHIN) {
            Ok(Reply::Status(words)) if words == "OK" => return Ok(()),
            Ok(Reply::Error(words)) if steps::is_save_under_way(&words) => {
                probes::wait_ready(&target, Check::RedisIdle, SAVE_WITHIN)?;
            }
            Ok(Reply::Error(words)) if steps::is_loading(&words) => {
                probes::wait_ready(&target, Check::RedisPing, SAVE_WITHIN)?;
            }
            // It runs, and does not listen yet.
            Err(Error::Unavailable(_)) => {
                probes::wait_ready(&target, Check::RedisPing, SAVE_WITHIN)?;
            }
            Err(error) => return Err(error),
            Ok(Reply::Error(words)) => return Err(Error::EngineError(format!("SAVE failed: {words}"))),
            Ok(other) => return Err(Error::EngineError(format!("SAVE was answered with {other:?}"))),
        }
    }
    Err(Error::EngineError("SAVE failed: the engine was loading or saving each time".to_owned()))
}

/// What a cache that is there was once asked to be.
pub fn spec_of(about: &About) -> Result<CacheSpec, Error> {
    Ok(CacheSpec {
        key: about.key.clone(),
        engine: engine_of(kind(about)?),
        version: about.label(VERSION_LABEL).map(str::to_owned),
        tags: Vec::new(),
    })
}

/// `not-found` is for caches. What else is missing, an image say, or a program in it, is the engine's answer.
pub fn of_another_object(error: Error) -> Error {
    match error {
        Error::NotFound(words) => Error::EngineError(words),
        other => other,
    }
}

pub fn keeps_nothing(what: &str) -> Error {
    invalid("engine", format!("is memcached, which keeps nothing and cannot be {what}"))
}

pub fn not_running(key: &CacheKey) -> Error {
    refuse(key, "it does not run; bring it up first")
}
