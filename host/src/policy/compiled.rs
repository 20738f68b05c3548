//! Compiled components on disk, so that a process need not compile what another one has.
//!
//! Compiled code is run as it is, so a file counts only if this data folder's secret sealed it under the
//! component's content and this very engine: anything else is compiled anew and replaced.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::ownership::{Secret, create_private_folder, default_cache_dir, default_data_dir, hex};

const SEAL_BYTES: usize = 32;

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub(crate) struct CompiledCache {
    folder: PathBuf,
    secret: Secret,
}

/// Where a component's code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeOrigin {
    /// It was compiled now.
    Compiled,
    /// An earlier process compiled it.
    Cache,
}

impl CompiledCache {
    pub(crate) fn new(cache_dir: &Path, secret: Secret) -> Self {
        Self { folder: cache_dir.join("compiled"), secret }
    }

    /// The one that a runtime has which is told of no folder, if there can be one.
    pub(crate) fn of_user() -> Option<Self> {
        let (data_dir, cache_dir) = (default_data_dir().ok()?, default_cache_dir().ok()?);
        match Secret::of_folder(&data_dir) {
            Ok(secret) => Some(Self::new(&cache_dir, secret)),
            Err(error) => {
                tracing::warn!(path = %data_dir.display(), %error, "no compiled policy is looked for");
                None
            }
        }
    }

    /// The component, from the cache if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, wasm: &[u8]) -> wasmtime::Result<(Component, CodeOrigin)> {
        let name = file_name(engine, wasm);
        let path = self.folder.join(&name);
        if let Some(component) = self.read(engine, &path, &name) {
            return Ok((component, CodeOrigin::Cache));
        }
        let code = engine.precompile_component(wasm)?;
        // A cache that cannot be written costs time at the next start, nothing else.
        if let Err(error) = self.write(&path, &name, &code) {
            tracing::warn!(path = %path.display(), %error, "the compiled policy was not kept");
        }
        // SAFETY: these bytes came from this engine's own compiler a moment ago.
        let component = unsafe { Component::deserialize(engine, &code) }?;
        Ok((component, CodeOrigin::Compiled))
    }

    fn read(&self, engine: &Engine, path: &Path, name: &str) -> Option<Component> {
        let file = fs::read(path).ok()?;
        let (seal, code) = file.split_at_checked(SEAL_BYTES)?;
        if !self.secret.verify_seal(name, code, seal) {
            tracing::warn!(path = %path.display(), "a damaged or foreign compiled policy is made anew");
            return None;
        }
        // SAFETY: the seal shows that a holder of this data folder's secret wrote exactly these bytes under
        // this name, which holds the component's hash and the engine's; only `load` does that, with the
        // output of the engine's own compiler.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    fn write(&self, path: &Path, name: &str, code: &[u8]) -> std::io::Result<()> {
        create_private_folder(&self.folder)?;
        let mut file = tempfile::Builder::new().prefix(".compiled").tempfile_in(&self.folder)?;
        file.write_all(&self.secret.seal(name, code))?;
        file.write_all(code)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Named by what was compiled and for which engine: version, settings and processor.
fn file_name(engine: &Engine, wasm: &[u8]) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    format!("{}-{:016x}.cwasm", hex(&Sha256::digest(wasm)), settings.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn cached_file(folder: &Path) -> PathBuf {
        fs::read_dir(folder.join("compiled")).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn a_damaged_or_foreign_file_is_compiled_anew_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = CompiledCache::new(folder.path(), Secret::of_test(1));
        assert_eq!(cache.load(&engine, EMPTY).unwrap().1, CodeOrigin::Compiled);
        assert_eq!(cache.load(&engine, EMPTY).unwrap().1, CodeOrigin::Cache);
        let path = cached_file(folder.path());
        let whole = fs::read(&path).unwrap();
        for at in [0, SEAL_BYTES, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load(&engine, EMPTY).unwrap().1, CodeOrigin::Compiled, "byte {at}");
            assert_eq!(cache.load(&engine, EMPTY).unwrap().1, CodeOrigin::Cache);
        }
        for length in [0, 1, SEAL_BYTES, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.load(&engine, EMPTY).unwrap().1, CodeOrigin::Compiled, "{length} bytes");
        }
        let other = CompiledCache::new(folder.path(), Secret::of_test(2));
        assert_eq!(other.load(&engine, EMPTY).unwrap().1, CodeOrigin::Compiled);
    }

    #[test]
    fn a_file_sealed_for_another_component_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = CompiledCache::new(folder.path(), Secret::of_test(1));
        cache.load(&engine, EMPTY).unwrap();
        let path = cached_file(folder.path());
        let other = format!("{}{}", "0".repeat(64), &path.file_name().unwrap().to_str().unwrap()[64..]);
        let moved = folder.path().join("compiled").join(&other);
        fs::rename(&path, &moved).unwrap();
        assert!(cache.read(&engine, &moved, &other).is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_written_does_not_stop_the_load() {
        let cache = CompiledCache::new(Path::new("/proc/nowhere"), Secret::of_test(1));
        assert_eq!(cache.load(&Engine::default(), EMPTY).unwrap().1, CodeOrigin::Compiled);
    }
}
