//! An instance's name for embedders on Docker that give none: the one that this machine's last embedder had, if that
//! is gone, so that its caches are found again at once.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::ownership::create_private_folder;

/// How the names begin, and the files that stand for them end.
const PREFIX: &str = "fakecloud-";
const SUFFIX: &str = ".instance";

/// A name that nobody else has while this lives. The kernel frees it when the process ends, however it ends,
/// also across containers that share the folder.
#[derive(Debug)]
pub(crate) struct HeldInstance {
    pub(crate) name: String,
    _lock: File,
}

impl HeldInstance {
    /// The first name in the data folder whose holder is gone, or a new one.
    pub(crate) fn take(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("instances");
        create_private_folder(&folder)?;
        let mut names: Vec<String> = fs::read_dir(&folder)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(SUFFIX).map(str::to_owned))
            .collect();
        // The same one each time, as long as it is free.
        names.sort();
        let new = || format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        for name in names.into_iter().chain(std::iter::repeat_with(new)) {
            let path = folder.join(format!("{name}{SUFFIX}"));
            // Never removed: two processes would hold locks on two files of one name.
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            match file.try_lock() {
                Ok(()) => return Ok(Self { name, _lock: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_next_embedder_has_the_name_of_one_that_is_gone_and_never_of_one_that_lives() {
        let folder = tempfile::tempdir().unwrap();
        let first = HeldInstance::take(folder.path()).unwrap();
        let second = HeldInstance::take(folder.path()).unwrap();
        assert_ne!(first.name, second.name);
        let name = first.name.clone();
        drop(first);
        assert_eq!(HeldInstance::take(folder.path()).unwrap().name, name);
    }
}
