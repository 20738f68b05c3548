//! Which faults there are, and at which call one is to be.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The connection breaks before anything was done.
    FailBefore,
    /// It is done, and the reply is lost.
    FailAfter,
    /// Nothing is done, and nothing comes back.
    HangBefore,
    /// It is done, and nothing comes back.
    HangAfter,
    /// The host's process dies before anything was done.
    CrashBefore,
    /// It is done, and the host's process dies.
    CrashAfter,
    /// It is done twice, as by a request that was sent again underway.
    Duplicate,
    /// The answer is what the same question was answered before.
    Stale,
    /// The engine restarts, with all that runs there, and hangs up.
    EngineRestart,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 9] = [
        Fault::FailBefore,
        Fault::FailAfter,
        Fault::HangBefore,
        Fault::HangAfter,
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Duplicate,
        Fault::Stale,
        Fault::EngineRestart,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::FailBefore => "fail-before",
            Fault::FailAfter => "fail-after",
            Fault::HangBefore => "hang-before",
            Fault::HangAfter => "hang-after",
            Fault::CrashBefore => "crash-before",
            Fault::CrashAfter => "crash-after",
            Fault::Duplicate => "duplicate",
            Fault::Stale => "stale",
            Fault::EngineRestart => "engine-restart",
        }
    }

    /// Whether it can befall a call of this nature, and is not the same there as another one.
    pub fn befalls(self, nature: Nature) -> bool {
        use Fault as F;
        match nature {
            // Where nothing is changed, before and after are the same.
            Nature::Look => {
                matches!(self, F::FailBefore | F::HangBefore | F::CrashBefore | F::Stale | F::EngineRestart)
            }
            Nature::Change => self != F::Stale,
            Nature::Stream => !matches!(self, F::Stale | F::Duplicate),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Fault::ALL.into_iter().find(|fault| fault.as_str() == text) {
            Some(fault) => Ok(fault),
            None => bail!("{text:?} is no fault; there are {}", Fault::ALL.map(Fault::as_str).join(", ")),
        }
    }
}

/// What a call does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Nothing.
    Look,
    /// Something, by a request that may be sent twice.
    Change,
    /// It moves bytes, in a stream that is there once.
    Stream,
}

/// A fault, and the number of the call that it befalls, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Planned {
    /// Which call of the run.
    pub call: usize,
    /// What becomes of it.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.call, self.fault)
    }
}

impl FromStr for Planned {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (call, fault) =
            text.split_once(':').context("a planned fault is CALL:FAULT, as in 3:crash-after")?;
        let call = call.parse().with_context(|| format!("{call:?} is no number of a call"))?;
        Ok(Self { call, fault: fault.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_fault_is_read_as_it_is_written() {
        for fault in Fault::ALL {
            let planned = Planned { call: 17, fault };
            assert_eq!(planned.to_string().parse::<Planned>().unwrap(), planned);
        }
        assert!("17".parse::<Planned>().is_err());
        assert!("x:stale".parse::<Planned>().is_err());
        assert!("1:late".parse::<Planned>().unwrap_err().to_string().contains("crash-after"));
    }
}
