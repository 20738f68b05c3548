//! Environments from the command line, and the shipped policies on a real Docker Engine.
//!
//! Clauses: HOST-2, STOP-2, DATA-1, BOOT-2, CLI-3, CLI-5.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;

use elasticache_host::Endpoint;
use serde_json::json;

use support::redis::Redis;
use support::{World, docker, policy};

/// A manifest for a shipped policy, with one line of its grants changed.
fn manifest(folder: &std::path::Path, name: &str, change: (&str, &str)) -> String {
    let text = fs::read_to_string(policy().with_file_name(format!("{name}.toml"))).unwrap();
    assert!(text.contains(change.0), "{name}.toml has no {:?}", change.0);
    let component = policy().with_file_name(format!("{name}.wasm"));
    let text = text
        .replace(change.0, change.1)
        .replace(&format!("\"{name}.wasm\""), &format!("{:?}", component.to_str().unwrap()));
    let path = folder.join("env.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_refusal_by_a_grant_is_exit_4_and_names_the_line_that_would_allow_it() {
    let world = World::new("denied");
    let folder = tempfile::tempdir().unwrap();
    for (change, line) in [
        (("volumes = true", "volumes = false"), "grants.volumes = true"),
        (("\"redis:*\", ", ""), "grants.images = [\"redis:7-alpine\"]"),
        (("capabilities = [\"docker\"]", "capabilities = []"), "grants.capabilities = [\"docker\"]"),
    ] {
        let env = manifest(folder.path(), "durable", change);
        let before = world.objects();
        let ran = world.cli(&["--env", &env, "up", &world.id("a")]);
        assert_eq!(ran.code(), 4, "{ran:?}");
        let (code, message) = ran.error();
        assert_eq!(code, "denied");
        assert!(message.contains(line), "{message}");
        assert_eq!(world.objects(), before, "nothing was made");
    }
}

#[test]
fn a_manifest_is_explained_and_a_mistake_in_it_is_placed() {
    let world = World::new("explained");
    let folder = tempfile::tempdir().unwrap();
    let env = manifest(folder.path(), "durable", ("volumes = true", "volumes = true"));
    let document = world.done(&["env", "check", &env]);
    assert_eq!(document["policy"]["description"]["name"], "durable");
    assert_eq!(document["grants"]["capabilities"], json!(["docker"]));
    let denied = document["policy"]["imports"].as_array().unwrap().iter();
    let access = document["policy"]["access"].as_array().unwrap();
    let kube = denied.zip(access).find(|(name, _)| name.as_str().unwrap().contains("/kube@")).unwrap();
    assert_eq!(kube.1, "denied");

    let env = manifest(folder.path(), "durable", ("volumes = true", "volume = true"));
    let ran = world.cli(&["env", "check", &env]);
    let (code, message) = ran.error();
    assert_eq!((ran.code(), code.as_str()), (2, "environment"));
    assert!(message.contains("env.toml:") && message.contains("`volumes`"), "{message}");
    // The same mistake stops every command before anything is done.
    assert_eq!(world.cli(&["--env", &env, "up", &world.id("a")]).code(), 2);
    assert_eq!(world.objects(), [""; 0]);
}

#[test]
fn the_default_manifest_is_one_that_can_be_begun_with() {
    let world = World::new("default-manifest");
    let folder = tempfile::tempdir().unwrap();
    let text = world.done(&["env", "default"])["manifest"].as_str().unwrap().to_owned();
    let path = folder.path().join("mine.toml");
    fs::write(&path, text).unwrap();
    let id = world.id("a");
    world.done(&["--env", path.to_str().unwrap(), "up", &id]);
    world.done(&["down", &id, "--delete-data"]);
}

/// The policy for CI leaves nothing, not even the volume that the image declares.
#[test]
fn the_ephemeral_policy_leaves_nothing_behind() {
    let world = World::new("ephemeral");
    let env = policy().with_file_name("ephemeral.toml").to_str().unwrap().to_owned();
    let id = world.id("a");
    let cache = world.done(&["--env", &env, "up", &id]);
    let handle = cache["handle"].as_str().unwrap();
    let mounts = docker::run(&["inspect", "--format", "{{range .Mounts}}{{.Type}} {{end}}", handle]);
    assert_eq!(mounts.trim(), "tmpfs");
    let port = u16::try_from(cache["host_port"].as_u64().unwrap()).unwrap();
    let endpoint = Endpoint { address: "127.0.0.1".to_owned(), port };
    Redis::at(&endpoint).set("k", "v");
    let after = world.done(&["--env", &env, "reboot", &id]);
    assert_eq!(after["endpoint"], cache["endpoint"]);
    assert_eq!(Redis::reconnect(&endpoint).get("k").as_deref(), Some("v"));
    world.done(&["--env", &env, "down", &id]);
    assert_eq!(world.objects(), [""; 0]);
}
