//! What an environment grants holds the policy, whatever that asks for, and a refusal says what would allow it.
//!
//! Clauses: HOST-2, HOST-10, DESC-1, DESC-2, STOP-2.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use elasticache_host::{
    Access, CacheSpec, Engine, Error, Grants, Manifest, PolicyError, PolicySource, Sha256Hex, inspect_policy,
};

mod sim_support;

use sim_support::{World, durable, key, policy, redis};

/// The denial of an `ensure` of the shipped policy under these grants, after which nothing is there.
async fn denied(grants: Grants) -> (String, String) {
    let world = World::new().await;
    let runtime = world.builder().policy_file(durable()).grants(grants).build().await.unwrap();
    let error = runtime.ensure(redis("a")).await.unwrap_err();
    world.assert_untouched(&world.observe().await, "after a denial");
    match error {
        Error::Denied { what, grant } => (what, grant),
        other => panic!("not denied: {other:?}"),
    }
}

#[tokio::test]
async fn a_policy_that_is_granted_nothing_can_do_nothing() {
    let (what, grant) = denied(Grants::default()).await;
    assert!(what.contains("docker"), "{what}");
    assert_eq!(grant, "grants.capabilities = [\"docker\"]");
}

#[tokio::test]
async fn each_grant_that_is_missing_is_named_by_the_line_that_would_give_it() {
    let standard = Grants::standard;
    for (grants, line) in [
        (Grants { images: vec![], ..standard() }, "grants.images = [\"redis:7-alpine\"]"),
        (Grants { volumes: false, ..standard() }, "grants.volumes = true"),
        (Grants { publish: vec![], ..standard() }, "grants.publish = [\"127.0.0.1\"]"),
        (Grants { labels: vec![], ..standard() }, "grants.labels = [\"fakecloud-policy-engine\"]"),
    ] {
        assert_eq!(denied(grants).await.1, line);
    }
}

#[tokio::test]
async fn a_program_that_is_not_granted_is_not_run() {
    let world = World::new().await;
    let grants = Grants { exec: ["valkey-cli".to_owned()].into(), ..Grants::standard() };
    let runtime = world.builder().policy_file(durable()).grants(grants).build().await.unwrap();
    runtime.ensure(redis("r")).await.unwrap();
    runtime.ensure(CacheSpec::new(key("v"), Engine::Valkey)).await.unwrap();
    world.sim.clear_calls();
    let ping = ["PING".to_owned()];
    match runtime.exec(&key("r"), &ping).await.unwrap_err() {
        Error::Denied { grant, .. } => assert_eq!(grant, "grants.exec = [\"redis-cli\"]"),
        other => panic!("not denied: {other:?}"),
    }
    assert!(!world.sim.calls().iter().any(|call| call.starts_with("exec")), "{:?}", world.sim.calls());
    assert!(runtime.exec(&key("v"), &ping).await.unwrap().success);
}

#[tokio::test]
async fn an_image_of_the_policy_s_settings_has_to_be_granted_as_well() {
    let world = World::new().await;
    let other = "registry.example/team/redis:1";
    world.sim.add_image(other);
    let builder = || world.builder().policy_file(durable()).setting("image.redis", other);
    let refused = builder().build().await.unwrap().ensure(redis("a")).await.unwrap_err();
    assert!(matches!(refused, Error::Denied { .. }), "{refused:?}");
    let grants = Grants::standard().with_images("registry.example/team/*").unwrap();
    builder().grants(grants).build().await.unwrap().ensure(redis("a")).await.unwrap();
}

#[tokio::test]
async fn an_address_that_an_environment_does_not_grant_is_not_published_at() {
    let world = World::new().await;
    let everywhere = [0, 0, 0, 0].into();
    let builder = || world.builder().policy_file(durable()).publish_address(everywhere);
    let runtime = builder().environment(Manifest::standard()).build().await.unwrap();
    match runtime.ensure(redis("a")).await.unwrap_err() {
        Error::Denied { grant, .. } => assert_eq!(grant, "grants.publish = [\"0.0.0.0\"]"),
        other => panic!("not denied: {other:?}"),
    }
    // Without an environment, the embedder's own word is the grant.
    builder().build().await.unwrap().ensure(redis("a")).await.unwrap();
}

#[tokio::test]
async fn a_manifest_names_its_component_and_pins_its_content() {
    let world = World::new().await;
    let folder = world.path().join("env");
    fs::create_dir(&folder).unwrap();
    fs::copy(durable(), folder.join("p.wasm")).unwrap();
    let manifest = |sha256: &str| {
        let grants = "[grants]\ncapabilities = [\"docker\"]\nimages = [\"redis:*\"]\nvolumes = true\n\
                      publish = [\"127.0.0.1\"]\nlabels = [\"fakecloud-policy-*\"]\n";
        let text = format!("{grants}[policy]\ncomponent = \"p.wasm\"\nsha256 = \"{sha256}\"\n");
        fs::write(folder.join("env.toml"), text).unwrap();
        Manifest::read(&folder.join("env.toml")).unwrap()
    };
    let sha256 = inspect_policy(&durable()).await.unwrap().sha256;
    let runtime = world.builder().environment(manifest(&sha256)).build().await.unwrap();
    runtime.ensure(redis("a")).await.unwrap();

    let other = "0".repeat(64);
    match world.builder().environment(manifest(&other)).build().await.unwrap_err() {
        Error::Policy(error @ PolicyError::OtherContent { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&sha256) && text.contains(&other), "{text}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert!(Sha256Hex::try_from("12".to_owned()).is_err());
}

#[tokio::test]
async fn what_a_policy_imports_beyond_its_grants_is_shown_as_denied() {
    let info = inspect_policy(&durable()).await.unwrap();
    let access = |interface: &str| {
        let name = info.imports.iter().find(|import| import.contains(interface)).unwrap();
        Grants::standard().access(name)
    };
    assert_eq!(access("/docker@"), Access::Granted);
    assert_eq!(access("/probes@"), Access::Free);
    assert!(info.deterministic);
    assert!(info.initial_memory.unwrap() > 0);
}

#[tokio::test]
async fn every_shipped_policy_loads_and_says_what_it_promises() {
    for name in ["durable", "ephemeral", "aws"] {
        let info = inspect_policy(&policy(name)).await.unwrap();
        assert!(info.deterministic, "{name} imports {:?}", info.imports);
        let manifest = Manifest::read(&policy(name).with_extension("toml")).unwrap();
        assert_eq!(manifest.policy.sha256.unwrap().as_str(), info.sha256, "{name}");
        assert_eq!(manifest.grants.volumes, name == "durable");
        let description = info.description.unwrap();
        assert_eq!(description.name, name);
        assert!(description.promises.contains(&"endpoint-survives-reboot"), "{name}");
    }
}

#[tokio::test]
async fn a_policy_that_keeps_nothing_makes_no_volume() {
    for name in ["ephemeral", "aws"] {
        let world = World::new().await;
        let manifest = Manifest::read(&policy(name).with_extension("toml")).unwrap();
        let runtime = world.builder().environment(manifest).build().await.unwrap();
        let cache = runtime.ensure(redis("a")).await.unwrap();
        world.write(&cache, "k", "v").await;
        world.assert_has(&world.observe().await, 1, 0, name);
        assert!(runtime.stop(&key("a")).await.unwrap());
        world.assert_untouched(&world.observe().await, name);
    }
}

#[tokio::test]
async fn a_pinned_source_is_held_to_its_pin_when_it_is_swapped_in() {
    let world = World::new().await;
    let runtime = world.durable().await;
    let mut source = PolicySource::file(policy("ephemeral"));
    source.sha256 = Some(Sha256Hex::try_from("f".repeat(64)).unwrap());
    let error = runtime.swap_policy(source).await.unwrap_err();
    assert!(matches!(error, Error::Policy(PolicyError::OtherContent { .. })), "{error:?}");
    assert_eq!(runtime.describe().await.unwrap().name, "durable");
}
