//! What came back of a call, in the few words that a trace has room for.

use elasticache_host::engine::cluster::{Claim, Lease, Pod};
use elasticache_host::engine::{Container, ExecOutput, FileInfo, Volume};
use elasticache_host::probes::Reply;
use std::time::SystemTime;

/// A value that can be said in a few words, in which nothing is random.
pub trait Summary {
    /// The words.
    fn summary(&self) -> String;
}

impl Summary for () {
    fn summary(&self) -> String {
        "done".to_owned()
    }
}

impl Summary for bool {
    fn summary(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }
}

impl Summary for i32 {
    fn summary(&self) -> String {
        format!("exit code {self}")
    }
}

impl Summary for u64 {
    fn summary(&self) -> String {
        "bytes".to_owned()
    }
}

/// An id, or the end of a log.
impl Summary for String {
    fn summary(&self) -> String {
        "text".to_owned()
    }
}

/// A secret.
impl Summary for Vec<u8> {
    fn summary(&self) -> String {
        "bytes".to_owned()
    }
}

impl Summary for SystemTime {
    fn summary(&self) -> String {
        "a time".to_owned()
    }
}

impl Summary for Container {
    fn summary(&self) -> String {
        let state = format!("{:?}", self.state).to_lowercase();
        match self.exit_code {
            Some(code) => format!("{state}, exit code {code}"),
            None => state,
        }
    }
}

impl Summary for Volume {
    fn summary(&self) -> String {
        "a volume".to_owned()
    }
}

impl Summary for FileInfo {
    fn summary(&self) -> String {
        if self.directory { "a folder" } else { "a file" }.to_owned()
    }
}

impl Summary for ExecOutput {
    fn summary(&self) -> String {
        format!("exit code {}", self.exit_code)
    }
}

impl Summary for Reply {
    fn summary(&self) -> String {
        match self {
            Reply::Status(words) => words.clone(),
            // The first is a code; what follows is for people.
            Reply::Error(words) => words.split(' ').next().unwrap_or_default().to_owned(),
            Reply::Integer(number) => number.to_string(),
            Reply::Bulk(_) => "text".to_owned(),
            Reply::Nil => "nil".to_owned(),
            Reply::Aggregate(length) => format!("{length} elements"),
        }
    }
}

impl Summary for Pod {
    fn summary(&self) -> String {
        let phase = format!("{:?}", self.phase).to_lowercase();
        match (self.terminating, self.staging) {
            (true, _) => format!("{phase}, terminating"),
            (false, true) => format!("{phase}, staging"),
            (false, false) => phase,
        }
    }
}

impl Summary for Claim {
    fn summary(&self) -> String {
        if self.terminating { "a claim, terminating" } else { "a claim" }.to_owned()
    }
}

impl Summary for Lease {
    fn summary(&self) -> String {
        "a lease".to_owned()
    }
}

impl<T: Summary> Summary for Option<T> {
    fn summary(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::summary)
    }
}

macro_rules! lists {
    ($($item:ty),*) => {$(
        impl Summary for Vec<$item> {
            fn summary(&self) -> String {
                format!("{} of them", self.len())
            }
        }
    )*};
}

lists!(Container, Volume, Pod, Lease);
