//! The command line on a real cluster: the same commands, documents and exit codes as on a Docker Engine.
//!
//! Clauses: CLI-1, CLI-2, CLI-3, CLI-5, CLI-6.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_namespaces;
mod support;

use serde_json::{Value, json};

use kube_namespaces::{Login, World, run};
use support::documents::{fields, is_available};

/// Pods are reached at their own addresses, on their engines' own ports.
async fn is_cache(world: &World, document: &Value, id: &str, engine: &str, adopted: bool) {
    is_available(document, id, engine, adopted);
    let pod = world.pod(document["handle"].as_str().unwrap()).await;
    assert_eq!(document["endpoint"]["address"], json!(pod.status.unwrap().pod_ip));
    assert_eq!(document["host_port"], if engine == "memcached" { 11211 } else { 6379 });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_prints_the_document_that_it_prints_on_docker() {
    let world = World::new("documents").await;
    let login = Login::admin();
    let done = |args: &[&str]| world.done(&login, true, args);
    assert_eq!(done(&["ls"]), json!([]));
    let first = done(&["up", "a", "--tag", "team=x"]);
    is_cache(&world, &first, "a", "redis", false).await;
    let again = done(&["up", "a"]);
    is_cache(&world, &again, "a", "redis", true).await;
    assert_eq!((&again["handle"], &again["endpoint"]), (&first["handle"], &first["endpoint"]));
    is_cache(
        &world,
        &done(&["up", "b", "--engine", "valkey", "--engine-version", "8"]),
        "b",
        "valkey",
        false,
    )
    .await;
    is_cache(&world, &done(&["up", "c", "--engine", "memcached"]), "c", "memcached", false).await;
    let each: Vec<Value> = ["a", "b", "c"].map(|id| done(&["describe", id])).into();
    assert_eq!(done(&["ls"]), json!(each));

    assert_eq!(
        done(&["exec", "a", "--", "SET", "k", "a value"]),
        json!({"success": true, "stdout": "OK\n", "stderr": ""})
    );
    let file = world.folder("out").join("s.rdb");
    let snapshot = done(&["snapshot", "a", file.to_str().unwrap()]);
    assert_eq!(fields(&snapshot), ["engine_version", "path", "rdb_version", "size"].into());
    assert_eq!(snapshot["size"], std::fs::metadata(&file).unwrap().len());
    is_cache(&world, &done(&["reboot", "a"]), "a", "redis", true).await;
    is_cache(&world, &done(&["up", "d", "--from", file.to_str().unwrap()]), "d", "redis", false).await;
    assert_eq!(done(&["exec", "d", "--", "GET", "k"])["stdout"], "a value\n");
    assert_eq!(done(&["reap"]), json!({"removed": []}));
    let down = |stopped: bool, deleted: bool| json!({"scope": "", "id": "a", "stopped": stopped, "data_deleted": deleted});
    assert_eq!(done(&["down", "a"]), down(true, false));
    assert_eq!(done(&["down", "a"]), down(false, false));
    // The data stayed, and is there again.
    is_cache(&world, &done(&["up", "a"]), "a", "redis", false).await;
    assert_eq!(done(&["exec", "a", "--", "GET", "k"])["stdout"], "a value\n");
    assert_eq!(done(&["down", "a", "--delete-data"]), down(true, true));
    assert_eq!(done(&["down", "a", "--delete-data"]), down(false, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_lines_and_exit_codes_say_what_happened() {
    let world = World::new("codes").await;
    let login = Login::admin();
    let mut command = world.command(&login, false);
    let up = run(command.args(["up", "a"]));
    assert_eq!((up.code(), up.stderr.as_str()), (0, ""));
    assert!(up.stdout.contains(":6379") && !up.stdout.contains('\u{1b}'), "{}", up.stdout);
    let file = world.folder("out").join("s.rdb");
    let file = file.to_str().unwrap();
    world.done(&login, false, &["snapshot", "a", file]);
    let refused = world.cli(&login, false, &["exec", "a", "--", "NOSUCHCOMMAND"]);
    assert_eq!((refused.code(), &refused.json()["success"]), (1, &json!(false)), "{refused:?}");
    for (args, code, word) in [
        (["up", "a", "--from", file].as_slice(), 1, "conflict"),
        (&["up", "a", "--engine", "valkey"], 1, "conflict"),
        (&["up"], 2, "usage"),
        (&["describe", "none"], 5, "not-found"),
        (&["reboot", "none"], 5, "not-found"),
        (&["exec", "none", "--", "PING"], 5, "not-found"),
        (&["snapshot", "none", file], 5, "not-found"),
    ] {
        let ran = world.cli(&login, false, args);
        assert_eq!((ran.code(), ran.error().0.as_str()), (code, word), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    assert_eq!(world.objects().await.len(), 1, "{:?}", world.objects().await);
}

/// What it shows is what the policy would be granted in the namespace that was chosen; it asks no cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_inspected_with_what_it_would_be_granted_there() {
    let world = World::new("inspect").await;
    let nowhere = world.login("nowhere", &Login::admin(), Some("https://127.0.0.1:1"), None);
    let policy = support::policy();
    let inspected = world.done(&nowhere, true, &["policy", "inspect", policy.to_str().unwrap()]);
    let imports = inspected["imports"].as_array().unwrap();
    let access = inspected["access"].as_array().unwrap();
    assert_eq!(imports.len(), access.len());
    let of = |name: &str| {
        let at = imports.iter().position(|import| import.as_str().unwrap().contains(name)).unwrap();
        access[at].as_str().unwrap()
    };
    assert_eq!((of("/kube@"), of("/docker@")), ("granted", "denied"));
    assert_eq!(inspected["description"]["name"], "durable");
}
