//! Files that are no policy, or none for this host; what is said of one that is; and compiled ones on disk.
//!
//! Clauses: HOST-8, HOST-9, DESC-1.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use elasticache_host::{Engine, Error, PolicyError, inspect_policy};
use sha2::{Digest, Sha256};

mod sim_support;

use sim_support::{World, durable, redis};

/// Both ways to meet a file agree on what is wrong with it; returns that, with the sentence.
async fn refused(world: &World, path: &Path) -> (PolicyError, String) {
    let inspected = inspect_policy(path).await.unwrap_err();
    let built = match world.builder().policy_file(path).build().await {
        Err(Error::Policy(error)) => error,
        other => panic!("built: {other:?}"),
    };
    assert_eq!(inspected.to_string(), built.to_string());
    let text = inspected.to_string();
    assert!(text.contains(path.to_str().unwrap()), "it names the file: {text}");
    world.assert_untouched(&world.observe().await, "after a policy that cannot be used");
    (inspected, text)
}

async fn refused_bytes(bytes: &[u8]) -> (PolicyError, String) {
    let world = World::new().await;
    let path = world.path().join("policy.wasm");
    fs::write(&path, bytes).unwrap();
    refused(&world, &path).await
}

/// The shipped policy with each `from` in it made a `to` of the same length: imports and exports are text.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(durable()).unwrap();
    let mut found = false;
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found = true;
        }
    }
    assert!(found, "{from} is nowhere in the policy");
    bytes
}

#[tokio::test]
async fn a_file_that_is_missing_or_a_folder_is_named() {
    let world = World::new().await;
    for path in [world.path().join("missing.wasm"), world.path().to_owned()] {
        let (error, text) = refused(&world, &path).await;
        assert!(matches!(error, PolicyError::Read { .. }), "{error:?}");
        assert!(text.contains("cannot be read"), "{text}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_component_is_told_how_one_is_made() {
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\necho hello\n"] {
        let (error, text) = refused_bytes(bytes).await;
        assert!(matches!(error, PolicyError::NotAComponent { .. }), "{error:?}");
        assert!(text.contains("cargo component build"), "{text}");
    }
}

#[tokio::test]
async fn a_core_module_is_told_from_a_component() {
    let (error, text) = refused_bytes(b"\0asm\x01\0\0\0").await;
    assert!(matches!(error, PolicyError::NotAComponent { .. }), "{error:?}");
    assert!(text.contains("core WebAssembly module"), "{text}");
}

#[tokio::test]
async fn half_a_component_cannot_be_prepared() {
    let bytes = fs::read(durable()).unwrap();
    let (error, text) = refused_bytes(&bytes[..bytes.len() / 2]).await;
    assert!(matches!(error, PolicyError::Prepare { .. }), "{error:?}");
    assert!(text.contains("cannot be prepared"), "{text}");
}

#[tokio::test]
async fn a_component_for_something_else_is_told_what_a_policy_exports() {
    let (error, text) = refused_bytes(&patched("elasticache/lifecycle@", "elasticache/livelihod@")).await;
    assert!(matches!(error, PolicyError::NotAPolicy { .. }), "{error:?}");
    assert!(text.contains("fakecloud:elasticache/lifecycle@0.1.0"), "{text}");
    // The smallest component there is.
    let (error, _) = refused_bytes(b"\0asm\x0d\0\x01\0").await;
    assert!(matches!(error, PolicyError::NotAPolicy { .. }), "{error:?}");
}

#[tokio::test]
async fn a_policy_for_another_version_of_the_contract_is_told_both_versions() {
    let (error, text) = refused_bytes(&patched("lifecycle@0.1.0", "lifecycle@0.2.0")).await;
    assert!(matches!(error, PolicyError::OtherVersion { .. }), "{error:?}");
    for part in ["0.2.0", "0.1.0", "rebuild"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_policy_built_wholly_for_another_version_is_told_so_too() {
    let (error, text) = refused_bytes(&patched("@0.1.0", "@0.2.0")).await;
    assert!(matches!(error, PolicyError::OtherVersion { .. }), "{error:?}");
    assert!(text.contains("0.2.0"), "{text}");
}

#[tokio::test]
async fn an_import_that_the_host_does_not_have_is_named() {
    for (from, to) in [
        ("elasticache/probes@0.1.0", "elasticache/probez@0.1.0"),
        ("elasticache/logging@0.1.0", "elasticache/logging@0.2.0"),
        ("reserve-port", "reserve-fort"),
    ] {
        let (error, text) = refused_bytes(&patched(from, to)).await;
        assert!(matches!(error, PolicyError::Link { .. }), "{to}: {error:?}");
        assert!(text.contains(to), "{text}");
    }
}

#[tokio::test]
async fn what_is_said_of_the_shipped_policy_is_true() {
    let path = durable();
    let bytes = fs::read(&path).unwrap();
    let info = inspect_policy(&path).await.unwrap();
    assert_eq!((info.path.as_path(), info.size), (path.as_path(), bytes.len() as u64));
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(info.sha256, sha256);
    assert_eq!(info.wit_version, "0.1.0");
    assert_eq!(info.exports, ["fakecloud:elasticache/lifecycle@0.1.0"]);
    for interface in ["docker", "probes", "snapshots", "exec", "logging", "types"] {
        let name = format!("fakecloud:elasticache/{interface}@0.1.0");
        assert!(info.imports.contains(&name), "{name} is not among {:?}", info.imports);
    }
    // Deterministic: no clock, no randomness, no files, nothing of WASI's but its own settings.
    for import in &info.imports {
        assert!(
            import.starts_with("fakecloud:elasticache/") || import.starts_with("wasi:config/store@"),
            "{import}"
        );
    }
    let description = info.description.unwrap();
    assert_eq!(description.name, "durable");
    assert_eq!(description.engines, Engine::ALL);
    assert_eq!(description.backends, ["docker", "kube"]);
    assert!(description.promises.contains(&"data-survives-kill"));
    let runtime = World::new().await.durable().await;
    assert_eq!(runtime.describe().await.unwrap(), description);
}

// Compiled policies on disk.

/// A world whose compiled policies are its own.
struct Compiled {
    world: World,
    cache: PathBuf,
}

impl Compiled {
    async fn new() -> Self {
        let world = World::new().await;
        let cache = world.path().join("cache");
        Self { world, cache }
    }

    /// Makes a runtime, uses it, and looks at the one file in the cache.
    async fn run(&self) -> (PathBuf, u64, Vec<u8>) {
        let builder = self.world.builder().policy_file(durable()).cache_dir(&self.cache);
        let runtime = builder.build().await.unwrap();
        assert_eq!(runtime.describe().await.unwrap().name, "durable");
        runtime.ensure(redis("a")).await.unwrap();
        let mut files: Vec<_> =
            fs::read_dir(self.cache.join("compiled")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let path = files.remove(0);
        (path.clone(), fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap())
    }
}

#[tokio::test]
async fn the_second_runtime_takes_the_compiled_policy_of_the_first() {
    let compiled = Compiled::new().await;
    let (path, file, code) = compiled.run().await;
    let again = compiled.run().await;
    // What is compiled replaces the file: one that is still the same was read.
    assert_eq!((again.0, again.1), (path, file));
    assert!(again.2 == code);
}

#[tokio::test]
async fn a_damaged_or_foreign_compiled_policy_is_made_anew() {
    let compiled = Compiled::new().await;
    let (path, _, code) = compiled.run().await;
    let flipped = |at: usize| {
        let mut bytes = code.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let damages =
        [Vec::new(), code[..code.len() / 2].to_vec(), flipped(0), flipped(code.len() / 2), b"ELF".to_vec()];
    for damage in damages {
        fs::write(&path, &damage).unwrap();
        let (there, _, now) = compiled.run().await;
        assert_eq!(there, path);
        assert!(now != damage, "{} bytes of damage were left", damage.len());
        let (_, kept, _) = compiled.run().await;
        assert_eq!(kept, fs::metadata(&path).unwrap().ino());
    }
    // Compiled under another data folder's secret, it is somebody else's.
    fs::write(compiled.world.path().join("data/owner.key"), [9; 32]).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    let stranger = compiled.world.builder().policy_file(durable()).cache_dir(&compiled.cache);
    stranger.build().await.unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), before);
}
