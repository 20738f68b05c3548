//! Why a component cannot be used as a policy.

use std::path::PathBuf;

/// Why a component cannot be used as a policy. Each names the file, and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No file was named and none lies where one is looked for.
    #[error(
        "no policy component: set FAKECLOUD_ELASTICACHE_POLICY, name a file, or put one at {}",
        looked.display()
    )]
    Missing {
        /// Where it was looked for.
        looked: PathBuf,
    },
    /// The file cannot be read.
    #[error("policy {}: cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the one that the manifest pins.
    #[error(
        "policy {}: has the SHA-256 {found} and not the pinned {wanted}; fetch it anew, or pin this one",
        path.display()
    )]
    OtherContent {
        /// Which file.
        path: PathBuf,
        /// Its SHA-256, in hex.
        found: String,
        /// The one that the manifest gives.
        wanted: String,
    },
    /// The file is no WebAssembly component.
    #[error("policy {}: {reason}", path.display())]
    NotAComponent {
        /// Which file.
        path: PathBuf,
        /// What it is instead, and how a component is made.
        reason: String,
    },
    /// It is a component for something else.
    #[error(
        "policy {}: exports no {wanted}, so it is no lifecycle policy; build it for the world `policy` of wit/",
        path.display()
    )]
    NotAPolicy {
        /// Which file.
        path: PathBuf,
        /// The export that a policy has.
        wanted: String,
    },
    /// It is a policy for another version of the contract.
    #[error(
        "policy {}: was built for {found}, and this host speaks {wanted}; rebuild it against this host's wit/",
        path.display()
    )]
    OtherVersion {
        /// Which file.
        path: PathBuf,
        /// The version that it has.
        found: String,
        /// The version that it should have.
        wanted: String,
    },
    /// It needs something that the host does not have.
    #[error("policy {}: cannot be linked: {message}", path.display())]
    Link {
        /// Which file.
        path: PathBuf,
        /// Which import, and what is wrong with it.
        message: String,
    },
    /// It could not be compiled or prepared.
    #[error("policy {}: cannot be prepared: {message}", path.display())]
    Prepare {
        /// Which file.
        path: PathBuf,
        /// The compiler's own words.
        message: String,
    },
    /// The WebAssembly engine could not be set up.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Engine(String),
}
