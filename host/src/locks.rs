//! One operation at a time for each cache key, within this process and across all that share its data
//! folder.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::ownership::{create_private_folder, hex};
use crate::types::CacheKey;

/// Between two attempts at a lock that another process holds: files have no event for it.
const RETRY: Duration = Duration::from_millis(10);

type Registry = Arc<Mutex<HashMap<CacheKey, Weak<AsyncMutex<()>>>>>;

/// The locks of one data folder.
#[derive(Debug, Clone)]
pub(crate) struct KeyLocks {
    folder: PathBuf,
    waiting: Registry,
}

/// While it lives, no other operation on the key runs.
#[derive(Debug)]
pub(crate) struct KeyLock {
    // Dropped in this order: first the file, so that whoever gets the turn finds it free.
    file: File,
    cut_off: bool,
    _turn: Turn,
}

impl KeyLock {
    /// Whether whoever held it last was killed between `ending` and `ended`: what it asked of the engine
    /// may still be going on there.
    pub(crate) fn was_cut_off(&self) -> bool {
        self.cut_off
    }

    /// From now on something may be brought to its end. Noted in the file, where it outlives the process.
    pub(crate) fn ending(&mut self) {
        self.note(b"ending");
    }

    /// Nothing is under way any more.
    pub(crate) fn ended(&mut self) {
        self.note(b"");
        self.cut_off = false;
    }

    fn note(&mut self, text: &[u8]) {
        let written =
            self.file.set_len(0).and_then(|()| self.file.rewind()).and_then(|()| self.file.write_all(text));
        if let Err(error) = written {
            // Without the note only the rare case that it is for is worse off.
            tracing::warn!(%error, "a note in a lock file could not be written");
        }
    }
}

/// A place in the process's own queue for a key. The last one to leave clears it away.
#[derive(Debug)]
struct Turn {
    guard: Option<OwnedMutexGuard<()>>,
    key: CacheKey,
    registry: Registry,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut registry = self.registry.lock();
        self.guard = None;
        if registry.get(&self.key).is_some_and(|lock| lock.strong_count() == 0) {
            registry.remove(&self.key);
        }
    }
}

impl KeyLocks {
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("locks");
        create_private_folder(&folder)?;
        Ok(Self { folder, waiting: Registry::default() })
    }

    /// What tells this folder from those of other machines.
    pub(crate) fn folder_id(&self) -> io::Result<String> {
        let path = self.folder.join("id");
        if !path.exists() {
            // Written whole first and then linked: of two processes that start at once, both read the same.
            let mut file = tempfile::Builder::new().prefix(".id").tempfile_in(&self.folder)?;
            file.write_all(uuid::Uuid::new_v4().simple().to_string().as_bytes())?;
            match file.persist_noclobber(&path) {
                Ok(_) => {}
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.error),
            }
        }
        std::fs::read_to_string(path)
    }

    /// Waits for the key's turn. The wait has no end of its own: bound it.
    pub(crate) async fn lock(&self, key: &CacheKey) -> io::Result<KeyLock> {
        let lock = {
            let mut waiting = self.waiting.lock();
            match waiting.get(key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(AsyncMutex::new(()));
                    waiting.insert(key.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        let guard = lock.lock_owned().await;
        let turn = Turn { guard: Some(guard), key: key.clone(), registry: Arc::clone(&self.waiting) };
        // The file stays: removing it would let two processes hold locks on two files of one name.
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(self.path(key))?;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    let cut_off = file.read(&mut [0])? > 0;
                    return Ok(KeyLock { file, cut_off, _turn: turn });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(RETRY).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        let mut hasher = Sha256::new();
        hasher.update((key.scope().len() as u64).to_be_bytes());
        hasher.update(key.scope());
        hasher.update(key.id());
        self.folder.join(format!("{}.lock", hex(&hasher.finalize()[..16])))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt;

    use super::*;

    fn key(id: &str) -> CacheKey {
        CacheKey::new("", id).unwrap()
    }

    #[tokio::test]
    async fn one_key_is_held_once_and_other_keys_are_free() {
        let folder = tempfile::tempdir().unwrap();
        let locks = KeyLocks::new(folder.path()).unwrap();
        let held = locks.lock(&key("a")).await.unwrap();
        assert!(locks.lock(&key("a")).now_or_never().is_none());
        assert!(locks.lock(&key("b")).now_or_never().is_some());
        drop(held);
        locks.lock(&key("a")).await.unwrap();
    }

    #[tokio::test]
    async fn another_process_on_the_same_folder_waits_too() {
        let folder = tempfile::tempdir().unwrap();
        // Two of them share nothing but the folder, as two processes do.
        let (one, two) = (KeyLocks::new(folder.path()).unwrap(), KeyLocks::new(folder.path()).unwrap());
        let held = one.lock(&key("a")).await.unwrap();
        assert!(two.lock(&key("a")).now_or_never().is_none());
        drop(held);
        two.lock(&key("a")).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_cut_off_is_known_to_the_next_one_until_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let locks = KeyLocks::new(folder.path()).unwrap();
        let mut lock = locks.lock(&key("a")).await.unwrap();
        assert!(!lock.was_cut_off());
        lock.ending();
        drop(lock);
        assert!(locks.lock(&key("a")).await.unwrap().was_cut_off());
        assert!(!locks.lock(&key("b")).await.unwrap().was_cut_off());
        let mut lock = KeyLocks::new(folder.path()).unwrap().lock(&key("a")).await.unwrap();
        assert!(lock.was_cut_off());
        lock.ended();
        drop(lock);
        assert!(!locks.lock(&key("a")).await.unwrap().was_cut_off());
    }

    #[test]
    fn a_folder_has_the_same_id_for_all_its_processes_and_another_one_has_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = |folder: &tempfile::TempDir| KeyLocks::new(folder.path()).unwrap().folder_id().unwrap();
        assert_eq!((id(&one), id(&one).len()), (id(&one), 32));
        assert_ne!(id(&one), id(&two));
    }

    #[tokio::test]
    async fn a_key_that_nobody_waits_for_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let locks = KeyLocks::new(folder.path()).unwrap();
        drop(locks.lock(&key("a")).await.unwrap());
        assert!(locks.waiting.lock().is_empty());
    }
}
