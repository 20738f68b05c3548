//! The words that embedders, policies and engines share, in native types.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::InvalidInput;

/// Longest [`CacheKey`] id, in bytes.
pub const MAX_ID_BYTES: usize = 1024;
/// Longest [`CacheKey`] scope, in bytes.
pub const MAX_SCOPE_BYTES: usize = 1024;

/// Names one cache: a scope chosen by the embedder, and the AWS identifier.
///
/// Two keys are the same cache only if both parts are equal, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    scope: String,
    id: String,
}

impl CacheKey {
    /// Checks and joins the two parts.
    ///
    /// # Errors
    /// [`InvalidInput`] if `id` is empty, if either part is longer than 1,024 bytes, or if either
    /// contains a control character (these cannot be shown, logged or passed on safely).
    pub fn new(scope: impl Into<String>, id: impl Into<String>) -> Result<Self, InvalidInput> {
        let (scope, id) = (scope.into(), id.into());
        if id.is_empty() {
            return Err(InvalidInput::new("id", "is empty; give the cache a name"));
        }
        for (field, value, max) in [("id", &id, MAX_ID_BYTES), ("scope", &scope, MAX_SCOPE_BYTES)] {
            if value.len() > max {
                let reason = format!("has {} bytes; {max} are allowed", value.len());
                return Err(InvalidInput::new(field, reason));
            }
            if value.chars().any(char::is_control) {
                return Err(InvalidInput::new(field, "contains a control character; remove it"));
            }
        }
        Ok(Self { scope, id })
    }

    /// Account, region or incarnation; may be empty.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The AWS identifier.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scope.is_empty() {
            write!(f, "cache {:?}", self.id)
        } else {
            write!(f, "cache {:?} in scope {:?}", self.id, self.scope)
        }
    }
}

/// The server program behind a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    /// Redis OSS.
    Redis,
    /// Valkey.
    Valkey,
    /// Memcached. Keeps nothing across a restart, as on AWS.
    Memcached,
}

impl Engine {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Engine; 3] = [Engine::Redis, Engine::Valkey, Engine::Memcached];

    /// As ElastiCache writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Redis => "redis",
            Engine::Valkey => "valkey",
            Engine::Memcached => "memcached",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Engine {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        Engine::ALL.into_iter().find(|engine| engine.as_str() == text).ok_or_else(|| {
            InvalidInput::new("engine", format!("{text:?} is none of redis, valkey, memcached"))
        })
    }
}

impl Restore {
    /// Whether the file is there and can be read. All else is checked by [`crate::Runtime::ensure`]; this needs no
    /// engine.
    ///
    /// # Errors
    /// [`crate::Error::File`] if not.
    pub fn check_file(&self) -> Result<(), crate::Error> {
        crate::snapshot::open_regular(&self.path).map(drop)
    }
}

/// What a cache is asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Which cache.
    pub key: CacheKey,
    /// Its engine.
    pub engine: Engine,
    /// As ElastiCache writes it (`7.1`); `None` for the policy's default.
    pub version: Option<String>,
    /// Tags of the resource.
    pub tags: BTreeMap<String, String>,
    /// An RDB file to start from.
    pub restore: Option<Restore>,
}

impl CacheSpec {
    /// A cache of the policy's default version, without tags, starting empty.
    pub fn new(key: CacheKey, engine: Engine) -> Self {
        Self { key, engine, version: None, tags: BTreeMap::new(), restore: None }
    }
}

/// An RDB file to start a cache from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The file, on the embedder's side.
    pub path: PathBuf,
    /// Put it in the place of data that is there. If false, such data makes the operation fail before
    /// anything is changed.
    pub replace: bool,
}

/// Where a client connects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A host name or an IP address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

/// What a cache is doing, as observed when it was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheState {
    /// Its engine answers.
    Available,
    /// Its container or pod runs, but the engine does not answer.
    Starting,
    /// There is a container or pod, and it does not run.
    Stopped,
}

impl CacheState {
    /// The word shown to people and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheState::Available => "available",
            CacheState::Starting => "starting",
            CacheState::Stopped => "stopped",
        }
    }
}

/// A cache as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Which cache.
    pub key: CacheKey,
    /// Its engine.
    pub engine: Engine,
    /// The version it was asked for, if any.
    pub version: Option<String>,
    /// What it is doing.
    pub state: CacheState,
    /// The engine-side identity: a container id, a pod name.
    pub handle: String,
    /// None unless its container or pod runs.
    pub endpoint: Option<Endpoint>,
    /// True if it was there before the operation that reports it.
    pub adopted: bool,
}

/// What a command run in a cache gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheExec {
    /// False if the command could not be run, or if the server replied with an error.
    pub success: bool,
    /// Standard output, as it came.
    pub stdout: Vec<u8>,
    /// Standard error, as it came.
    pub stderr: Vec<u8>,
}

/// A snapshot that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The version of the RDB format.
    pub rdb_version: u32,
    /// The version of the server that wrote it, where the file says so.
    pub engine_version: Option<String>,
}

/// What a policy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// One word.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// The engines that it runs.
    pub engines: Vec<Engine>,
    /// The container engines that it drives: `docker`, `kube`.
    pub backends: Vec<&'static str>,
    /// What it vouches for, in the words of the WIT enum `promise`.
    pub promises: Vec<&'static str>,
}
