//! What a cluster refuses, and what it is given: credentials, rights, quotas, images, nodes and secrets, on a real
//! cluster. Each refusal is told in the cluster's own words, soon, and leaves nothing behind.
//!
//! Clauses: KUBE-1, KUBE-2, KUBE-3, KUBE-11, KUBE-12, KUBE-13.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_namespaces;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use elasticache_host::engine::kube::PERMISSIONS;
use elasticache_host::{Error, Grants};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Secret};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use serde_json::json;

use kube_namespaces::{Login, OWNER_SECRET, World, key, redis_of, run};
use support::Ran;

const NOTHING: [&str; 0] = [];

/// That a command failed with this code, and said all this: because it was refused, not because its time was up, which
/// it would have waited for otherwise.
fn failed(ran: &Ran, exit: i32, words: &[&str]) {
    let (kind, message) = ran.error();
    assert_eq!(ran.code(), exit, "{message}");
    assert_ne!(kind, "timeout", "{message}");
    for words in words {
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
}

/// All that the host needs, but for one verb.
fn all_but(resource: &str, verb: &str) -> Vec<PolicyRule> {
    let rules = PERMISSIONS.iter().map(|(group, of, verbs)| PolicyRule {
        api_groups: Some(vec![(*group).to_owned()]),
        resources: Some(vec![(*of).to_owned()]),
        verbs: verbs.iter().filter(|v| (*of, **v) != (resource, verb)).map(|v| (*v).to_owned()).collect(),
        ..PolicyRule::default()
    });
    rules.filter(|rule| !rule.verbs.is_empty()).collect()
}

async fn quota(world: &World, what: &str) {
    let mut quota: ResourceQuota = serde_json::from_value(json!({"spec": {"hard": {what: "0"}}})).unwrap();
    quota.metadata.name = Some("none-left".to_owned());
    let quotas = world.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // It holds once the cluster has counted what there is.
    world
        .eventually("the quota holds", async || {
            let status = quotas.get("none-left").await.unwrap().status?;
            status.used?.contains_key(what).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_not_accepted_is_refused_in_the_api_server_s_words() {
    let world = World::new("token").await;
    let token = "no-such-token-0123456789";
    let login = world.login("unknown", &Login::admin(), None, Some(token));
    for args in [["up", "a"].as_slice(), &["ls"], &["down", "a"]] {
        let ran = world.cli(&login, true, args);
        failed(&ran, 1, &["Unauthorized", "not accepted"]);
        assert!(!ran.stderr.contains(token), "{ran:?}");
    }
    assert_eq!(world.objects().await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_nothing_is_told_so_at_the_start() {
    let world = World::new("forbidden").await;
    let ran = world.cli(&world.restricted().await, true, &["up", "a"]);
    failed(&ran, 1, &["forbidden", "cachehost-test", "cannot list resource \"pods\"", "bind a Role"]);
    assert_eq!(world.objects().await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_verb_that_is_missing_is_named_and_nothing_is_left() {
    let world = World::new("verb").await;
    let login = world.restricted().await;
    for (resource, verb) in [
        ("leases", "create"),
        ("secrets", "get"),
        ("pods", "create"),
        ("persistentvolumeclaims", "create"),
        ("persistentvolumeclaims", "get"),
    ] {
        world.allow(all_but(resource, verb)).await;
        let ran = world.cli(&login, true, &["up", "a"]);
        let words = format!("cannot {verb} resource \"{resource}\"");
        failed(&ran, 1, &["forbidden", &words]);
        assert_eq!(world.objects().await, NOTHING, "without {verb} {resource}");
    }
    // Without a way to ask what runs in a pod, nothing can be said of it.
    world.allow(all_but("pods/portforward", "get")).await;
    let ran = world.cli(&login, true, &["up", "a"]);
    failed(&ran, 1, &["forbidden", "resource \"pods/portforward\""]);
    assert_eq!(world.objects().await, NOTHING);
    // What cannot be ended stays as it is.
    world.allow(all_but("pods", "delete")).await;
    let cache = world.done(&login, false, &["up", "b"]);
    let before = world.life(cache["handle"].as_str().unwrap()).await;
    failed(&world.cli(&login, false, &["down", "b"]), 1, &["cannot delete resource \"pods\""]);
    assert_eq!(world.life(cache["handle"].as_str().unwrap()).await, before);
    assert_eq!(world.done(&login, false, &["describe", "b"])["state"], "available");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_verb_for_programs_or_for_a_renewal_that_is_said_and_what_is_there_stays() {
    let world = World::new("verbs").await;
    let login = world.restricted().await;
    world.allow(all_but("", "")).await;
    let file = world.folder("out").join("s.rdb");
    let file = file.to_str().unwrap();
    let cache = world.done(&login, false, &["up", "a"]);
    world.done(&login, false, &["snapshot", "a", file]);
    let before = world.life(cache["handle"].as_str().unwrap()).await;

    world.allow(all_but("pods/exec", "get")).await;
    let words = ["forbidden", "resource \"pods/exec\""];
    failed(&world.cli(&login, false, &["exec", "a", "--", "PING"]), 1, &words);
    failed(&world.cli(&login, false, &["snapshot", "a", file]), 1, &words);
    failed(&world.cli(&login, false, &["up", "b", "--from", file]), 1, &words);

    world.allow(all_but("leases", "patch")).await;
    let builder = world.builder(&world.instance, "data", false).kube(world.options(&login, false));
    let leased = builder.lease(Duration::from_secs(60)).build().await.unwrap();
    let error = leased.ensure(redis_of(&key("c"))).await.unwrap_err().to_string();
    assert!(error.contains("cannot patch resource \"leases\""), "{error}");

    assert_eq!(world.objects().await.len(), 1, "{:?}", world.objects().await);
    assert_eq!(world.life(cache["handle"].as_str().unwrap()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_used_is_told_before_anything_is_tried() {
    let world = World::new("start").await;
    let admin = Login::admin();
    // A namespace that is not there.
    let ran = run(world.command_in("no-such-namespace", &admin, true).args(["--json", "up", "a"]));
    failed(&ran, 1, &["namespaces \"no-such-namespace\" not found", "create the namespace"]);
    // A context that is not there; those that are there are named.
    let other = Login { context: "no-such-context".to_owned(), ..admin.clone() };
    failed(&world.cli(&other, true, &["ls"]), 1, &["\"no-such-context\"", &admin.context]);
    // A file that is not there.
    let other = Login { kubeconfig: world.folder("none").join("kubeconfig"), ..admin.clone() };
    failed(&world.cli(&other, true, &["ls"]), 1, &["kubeconfig"]);
    // Nobody listens.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let login = world.login("nobody", &admin, Some(&format!("https://127.0.0.1:{port}")), None);
    failed(&world.cli(&login, true, &["up", "a"]), 3, &["127.0.0.1", "refused"]);
    // Somebody listens and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let login = world.login("silent", &admin, Some(&url), None);
    failed(&world.cli(&login, true, &["up", "a"]), 3, &["127.0.0.1"]);
    assert_eq!(world.objects().await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_refuses_is_told_in_its_words_and_nothing_is_left() {
    for what in ["pods", "persistentvolumeclaims"] {
        let world = World::new("quota").await;
        quota(&world, what).await;
        let ran = world.cli(&Login::admin(), true, &["up", "a"]);
        failed(&ran, 1, &["exceeded quota: none-left", what]);
        assert_eq!(world.objects().await, NOTHING);
        // What is there is still looked after.
        assert_eq!(world.done(&Login::admin(), true, &["ls"]), json!([]));
    }
}

/// That it is told at once shows in what is told: the kubelet's words, and no deadline that passed. How long the whole
/// takes is up to the kubelet: the operation ends when its pod has gone, and a pod none of whose containers ever began
/// is let go when the kubelet collects its garbage, every minute as it is shipped.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_told_in_the_kubelet_s_words_at_once() {
    let world = World::new("image").await;
    let image = "localhost:1/none:1";
    let grants = Grants::standard_kube(&world.namespace).unwrap().with_images("localhost:1/*").unwrap();
    for claims in [true, false] {
        let builder = world.builder(&world.instance, "data", claims).grants(grants.clone());
        let runtime = builder.setting("image.redis", image).build().await.unwrap();
        let error = runtime.ensure(redis_of(&key("a"))).await.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, Error::Engine { .. }), "{error:?}");
        assert!(words.contains("ErrImagePull") || words.contains("ImagePullBackOff"), "{words}");
        assert!(words.contains(image), "{words}");
        assert_eq!(world.objects().await, NOTHING);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_nowhere_is_told_in_the_scheduler_s_words() {
    let world = World::new("node").await;
    let tag = "fakecloud-k8s/node-selector=disk=no-such-disk";
    for claims in [true, false] {
        let ran = world.cli(&Login::admin(), claims, &["up", "a", "--tag", tag]);
        // How the scheduler goes on differs from version to version, and with what it looked at first.
        failed(&ran, 1, &["Unschedulable"]);
        let (_, message) = ran.error();
        let words = ["nodes are available", "node affinity", "node selector"];
        assert!(words.iter().any(|words| message.contains(words)), "{message}");
        assert_eq!(world.objects().await, NOTHING);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_cannot_be_used_fail_the_start_and_tags_that_cannot_be_used_are_ignored() {
    let world = World::new("bad").await;
    let login = Login::admin();
    for (variable, value) in [
        ("FAKECLOUD_K8S_TOLERATIONS", "{"),
        ("FAKECLOUD_ELASTICACHE_K8S_TOLERATIONS", "[{\"operator\": \"Perhaps\"}]"),
        ("FAKECLOUD_K8S_NODE_SELECTOR", "disk"),
        ("FAKECLOUD_K8S_ANNOTATIONS", "a b=c"),
        ("FAKECLOUD_K8S_PULL_SECRET", "Not A Name"),
    ] {
        let ran = run(world.command(&login, true).env(variable, value).args(["--json", "ls"]));
        failed(&ran, 2, &[variable]);
    }
    assert_eq!(world.objects().await, NOTHING);

    let mut command = world.command(&login, false);
    command.args([
        "up",
        "a",
        "--tag",
        "fakecloud-k8s/tolerations={",
        "--tag",
        "fakecloud-k8s/annotations=kept=yes",
    ]);
    let ran = run(&mut command);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert!(ran.stderr.contains("fakecloud-k8s/tolerations is ignored"), "{ran:?}");
    let pods = world.pods().await;
    assert_eq!(pods[0].metadata.annotations.as_ref().unwrap()["kept"], "yes");
}

/// What of a pod's scheduling came from us: the cluster adds tolerations of its own.
fn scheduling(pod: &Pod) -> serde_json::Value {
    let spec = pod.spec.as_ref().unwrap();
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    let own = |name: &&String| matches!(name.as_str(), "low" | "mid" | "high");
    let annotations: BTreeMap<_, _> = annotations.iter().filter(|(name, _)| own(name)).collect();
    let keys: Vec<_> = spec.tolerations.iter().flatten().filter_map(|one| one.key.clone()).collect();
    let keys: Vec<_> = keys.into_iter().filter(|key| !key.starts_with("node.kubernetes.io/")).collect();
    let secrets: Vec<_> = spec.image_pull_secrets.iter().flatten().map(|one| one.name.clone()).collect();
    json!({
        "annotations": annotations, "nodes": spec.node_selector, "tolerated": keys, "pull": secrets,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduling_is_merged_from_all_levels_and_survives_a_reboot() {
    let world = World::new("merge").await;
    let login = Login::admin();
    let toleration = |key: &str| format!("[{{\"key\": \"{key}\", \"operator\": \"Exists\"}}]");
    for claims in [false, true] {
        let mut command = world.command(&login, claims);
        command
            .env("FAKECLOUD_K8S_ANNOTATIONS", "low=1,mid=1,high=1")
            .env("FAKECLOUD_ELASTICACHE_K8S_ANNOTATIONS", "mid=2,high=2")
            .env("FAKECLOUD_K8S_NODE_SELECTOR", "kubernetes.io/os=none")
            .env("FAKECLOUD_ELASTICACHE_K8S_NODE_SELECTOR", "kubernetes.io/os=linux")
            .env("FAKECLOUD_K8S_TOLERATIONS", toleration("low"))
            .env("FAKECLOUD_ELASTICACHE_K8S_TOLERATIONS", toleration("mid"))
            .env("FAKECLOUD_K8S_PULL_SECRET", "of-the-team")
            .args(["--json", "up", "a", "--tag", "fakecloud-k8s/annotations=high=3", "--tag"])
            .arg(format!("fakecloud-k8s/tolerations={}", toleration("high")));
        let ran = run(&mut command);
        assert_eq!(ran.code(), 0, "{ran:?}");
        let first = world.pod(ran.json()["handle"].as_str().unwrap()).await;
        let expected = json!({
            "annotations": {"low": "1", "mid": "2", "high": "3"},
            "nodes": {"kubernetes.io/os": "linux"},
            "tolerated": ["low", "mid", "high"],
            "pull": ["of-the-team"],
        });
        assert_eq!(scheduling(&first), expected);
        // By a host that was told none of it, but how images are fetched, which is no matter of the cache's.
        let mut command = world.command(&login, claims);
        command.env("FAKECLOUD_K8S_PULL_SECRET", "of-the-team");
        let ran = run(command.args(["--json", "reboot", "a"]));
        assert_eq!(ran.code(), 0, "{ran:?}");
        let second = world.pod(ran.json()["handle"].as_str().unwrap()).await;
        assert_ne!(first.metadata.uid, second.metadata.uid);
        assert_eq!(scheduling(&second), expected);
        world.done(&login, claims, &["down", "a", "--delete-data"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_objects_logs_or_errors() {
    let world = World::new("secret").await;
    let (pull, content) =
        ("of-the-team", "{\"auths\":{\"x.invalid\":{\"auth\":\"cHVsbC1zZWNyZXQ6d29yZA==\"}}}");
    let mut secret = Secret {
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some([(".dockerconfigjson".to_owned(), ByteString(content.as_bytes().to_vec()))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(pull.to_owned());
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    // With a token, whatever the administrator has.
    let login = world.restricted().await;
    world.allow(all_but("", "")).await;
    let file = world.folder("out").join("s.rdb");
    let file = file.to_str().unwrap();
    let mut said = String::new();
    let mut pods = Vec::new();
    for (claims, args, code) in [
        (true, ["up", "a"].as_slice(), 0),
        (true, &["exec", "a", "--", "SET", "k", "v"], 0),
        (true, &["snapshot", "a", file], 0),
        (true, &["up", "b", "--from", file], 0),
        (true, &["reboot", "a"], 0),
        (false, &["up", "c"], 0),
        (false, &["reboot", "c"], 0),
        (true, &["up", "d", "--tag", "fakecloud-k8s/node-selector=disk=none"], 1),
        (true, &["exec", "none", "--", "PING"], 5),
        (true, &["down", "b"], 0),
    ] {
        let mut command = world.command(&login, claims);
        command.env("FAKECLOUD_K8S_PULL_SECRET", pull).env("CACHEHOST_LOG", "trace");
        let ran = run(command.args(args));
        assert_eq!(ran.code(), code, "{args:?}: {}", ran.stdout);
        assert!(ran.stderr.contains("TRACE"), "the log is on");
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
        pods.extend(world.pods().await);
    }
    // One that holds a lease.
    let leased = world.builder(&world.instance, "data", false).kube(world.options(&login, false));
    let leased = leased.lease(Duration::from_secs(60)).build().await.unwrap();
    leased.ensure(redis_of(&key("e"))).await.unwrap();
    said.push_str(&format!("{leased:?}"));

    let owner = world.api::<Secret>().get(OWNER_SECRET).await.unwrap().data.unwrap();
    let key = owner.values().next().unwrap().0.clone();
    let config = login.file();
    let tokens = config.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    let tokens = tokens.map(|info| serde_json::to_value(info).unwrap());
    let mut secrets: Vec<String> = tokens
        .flat_map(|info| ["token", "client-key-data"].map(|f| info[f].as_str().map(str::to_owned)))
        .flatten()
        .collect();
    assert!(!secrets.is_empty(), "there is a token");
    secrets.push("cHVsbC1zZWNyZXQ6d29yZA==".to_owned());
    secrets.push(key.iter().map(|byte| format!("{byte:02x}")).collect());
    secrets.push(serde_json::to_value(ByteString(key.clone())).unwrap().as_str().unwrap().to_owned());
    secrets.push(format!("{key:?}").trim_matches(['[', ']']).to_owned());

    let objects = format!(
        "{}{}{}",
        serde_json::to_string(&pods).unwrap(),
        serde_json::to_string(&world.all::<PersistentVolumeClaim>().await).unwrap(),
        serde_json::to_string(&world.all::<Lease>().await).unwrap(),
    );
    for (at, secret) in secrets.iter().enumerate() {
        assert!(!objects.contains(secret.as_str()), "secret {at} is in an object");
        let line = said.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line.map(str::len), None, "secret {at} is in what was said, in a line of that length");
    }
}
