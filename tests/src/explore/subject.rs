//! The policy that is looked at.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use elasticache_host::{Description, Manifest, Runtime};

use crate::world::{Place, World};

/// That a policy does not describe itself, and so cannot be asked for anything.
#[derive(Debug)]
pub struct Undescribed(pub elasticache_host::Error);

impl fmt::Display for Undescribed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the policy does not describe itself: {}", self.0)
    }
}

impl std::error::Error for Undescribed {}

/// A policy in its environment, loaded once for all runs.
pub struct Subject {
    pub(super) environment: Manifest,
    pub(super) loaded: Runtime,
    pub(crate) place: Place,
    /// What it says of itself.
    pub description: Description,
}

impl Subject {
    /// Loads the policy for a world of that kind; compiled code is kept in `cache`.
    ///
    /// # Errors
    /// If the file is no policy; [`Undescribed`] if it does not describe itself.
    pub async fn load(environment: &Manifest, place: Place, cache: &Path) -> Result<Self> {
        let builder = Runtime::builder().environment(environment.clone()).data_dir(cache).cache_dir(cache);
        let builder = builder.simulated();
        let loaded = World::sim(place).equip(builder)?.build().await?;
        let description = loaded.describe().await.map_err(Undescribed)?;
        Ok(Self { environment: environment.clone(), loaded, place, description })
    }

    /// Whether it promises this.
    pub fn promises(&self, promise: &str) -> bool {
        self.description.promises.contains(&promise)
    }
}

/// Where many small folders come and go at no cost, if there is such a place.
pub(super) fn quick_folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}
