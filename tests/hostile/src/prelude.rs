//! What a hostile policy writes down in a few lines.

pub use std::hint::black_box;

pub use crate::bindings::exports::fakecloud::elasticache::lifecycle::ExecResult;
pub use crate::bindings::fakecloud::elasticache::docker::{self, Container, Content, File, Volume};
pub use crate::bindings::fakecloud::elasticache::kube;
pub use crate::bindings::fakecloud::elasticache::logging::{Level, log};
pub use crate::bindings::fakecloud::elasticache::probes::{self, Check, Reply, Target};
pub use crate::bindings::fakecloud::elasticache::snapshots::Snapshot;
pub use crate::bindings::fakecloud::elasticache::types::{Cache, CacheKey, Error};
pub use crate::{HUGE, Policy, decent, denial, setting, trap};
