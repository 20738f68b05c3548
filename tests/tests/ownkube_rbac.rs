//! What the documentation's Role allows, what the host says that it needs, and what it really sends are the same: on a
//! real cluster, as a user who has that Role and nothing else.
//!
//! Clauses: KUBE-14.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_embedder;
mod kube_namespaces;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use elasticache_host::engine::cluster::Cluster as _;
use elasticache_host::engine::kube::{Kube, PERMISSIONS, PULL_PERMISSIONS, Pull};
use elasticache_host::{PendingRdb, Restore, RuntimeBuilder};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use serde_json::Value;

use kube_namespaces::recorder::{Permission, Recorder};
use kube_namespaces::{Login, World, get, key, redis_of, run, set};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rbac.yaml");

/// What the server's version decides: for the start of programs and the forwarding of ports, both a GET, older API
/// servers ask for `get`, newer ones for `create`, too.
const NOT_SENT: [(&str, &str, &str); 2] = [("", "pods/exec", "create"), ("", "pods/portforward", "create")];

/// The documents of the manifest.
fn manifest() -> (ServiceAccount, Role, RoleBinding) {
    let text = std::fs::read_to_string(MANIFEST).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let [account, role, binding] = documents.try_into().unwrap();
    for (document, kind) in [(&account, "ServiceAccount"), (&role, "Role"), (&binding, "RoleBinding")] {
        assert_eq!(document["kind"], kind);
    }
    (
        serde_json::from_value(account).unwrap(),
        serde_json::from_value(role).unwrap(),
        serde_json::from_value(binding).unwrap(),
    )
}

/// The rule that stands there as a comment.
fn rule_for_pull() -> PolicyRule {
    let text = std::fs::read_to_string(MANIFEST).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("  # "));
    let rule: Vec<&str> = lines.filter(|line| line.starts_with("- ") || line.starts_with("  ")).collect();
    let [rule]: [PolicyRule; 1] = serde_saphyr::from_str(&rule.join("\n")).unwrap();
    rule
}

fn needed(permissions: &[(&str, &str, &[&str])]) -> BTreeSet<Permission> {
    let each = permissions
        .iter()
        .flat_map(|(group, resource, verbs)| verbs.iter().map(|verb| owned(&(group, resource, verb))));
    each.collect()
}

fn permissions(rules: &[PolicyRule]) -> BTreeSet<Permission> {
    let mut all = BTreeSet::new();
    for rule in rules {
        assert_eq!(rule.non_resource_urls, None, "a Role has none");
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    let new = all.insert((group.clone(), resource.clone(), verb.clone()));
                    assert!(new, "{verb} {resource} stands there twice");
                }
            }
        }
    }
    all
}

fn owned(&(group, resource, verb): &(&str, &str, &str)) -> Permission {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

#[test]
fn the_manifest_is_what_the_host_says_that_it_needs() {
    let (account, role, binding) = manifest();
    assert_eq!(permissions(&role.rules.unwrap()), needed(PERMISSIONS));
    assert_eq!(permissions(&[rule_for_pull()]), needed(PULL_PERMISSIONS));
    assert_eq!((binding.role_ref.kind.as_str(), Some(binding.role_ref.name)), ("Role", role.metadata.name));
    let subjects = binding.subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!(
        (subjects[0].kind.as_str(), Some(&subjects[0].name)),
        ("ServiceAccount", account.metadata.name.as_ref())
    );
}

/// Commands that make the cluster do everything that it is ever asked for, on claims or without.
fn life(world: &World, login: &Login, claims: bool) {
    // Each its own: the two are lived at once.
    let [instance, a, b] = ["life", "a", "b"].map(|name| format!("{name}-{claims}"));
    let (a, b) = (a.as_str(), b.as_str());
    let file = world.folder("out").join(format!("{claims}.rdb"));
    let file = file.to_str().unwrap();
    let done =
        |args: &[&str]| world.done(login, claims, &[&["--instance", instance.as_str()], args].concat());
    done(&["up", a]);
    assert_eq!(done(&["exec", a, "--", "SET", "k", "v"])["success"], true);
    done(&["snapshot", a, file]);
    done(&["reboot", a]);
    assert_eq!(done(&["exec", a, "--", "GET", "k"])["stdout"], "v\n");
    done(&["up", b, "--from", file]);
    assert_eq!(done(&["exec", b, "--", "GET", "k"])["stdout"], "v\n");
    done(&["up", b, "--from", file, "--replace-data"]);
    assert_eq!(done(&["ls"]).as_array().unwrap().len(), 2);
    done(&["describe", b]);
    assert_eq!(done(&["reap"])["removed"], serde_json::json!([]));
    done(&["down", a]);
    done(&["down", a, "--delete-data"]);
    done(&["down", b, "--delete-data"]);
}

/// Restores of an embedder whose pods fetch them.
async fn life_with_pull(world: &World, login: &Login, claims: bool, file: &Path) {
    let (listener, pending) = (kube_embedder::listen(world.client.clone()).await, PendingRdb::default());
    let base = format!("http://{}", listener.local_addr().unwrap());
    let pull = Pull::new(base, "internal", pending.clone());
    let admitting = pull.clone();
    let admits = move |pod: &str, token: &str| admitting.admits(pod, token);
    let asked = kube_embedder::Asked::default();
    tokio::spawn(kube_embedder::serve(listener, pending, admits, Arc::clone(&asked)));

    let options = world.options(login, claims);
    let storage = options.storage_class.clone().map(|class| (class, options.claim_size()));
    let kube = Kube::connect(options).await.unwrap().pulling(pull);
    let probes = kube.probes();
    let builder = world.builder(&world.instance, "data", claims).cluster(Arc::new(kube), probes, storage);
    let runtime = builder.build().await.unwrap();
    let key = key(&format!("fetched-{claims}"));
    let mut spec = redis_of(&key);
    spec.restore = Some(Restore { path: file.to_owned(), replace: true });
    runtime.ensure(spec.clone()).await.unwrap();
    assert_eq!(get(&runtime, &key, "k").await, "v");
    runtime.ensure(spec).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 2);
    runtime.reboot(&key).await.unwrap();
    assert_eq!(get(&runtime, &key, "k").await, "v");
    assert!(runtime.reap().await.unwrap().is_empty());
    runtime.stop(&key).await.unwrap();
    runtime.remove_data(&key).await.unwrap();
    assert!(
        world
            .all::<Secret>()
            .await
            .iter()
            .all(|secret| { !secret.metadata.name.as_ref().unwrap().starts_with("fakecloud-ec-restore-") })
    );
}

/// The engine of a cache runs for a while, and then ends of what it reads.
async fn spoil(world: &World, name: &str) {
    let kube = Kube::connect(world.options(&Login::admin(), true)).await.unwrap();
    let pod = kube.find_pod(name).await.unwrap().unwrap();
    let script = "set -e; cd /data/appendonlydir; for part in *.incr.aof; do \
                  printf '*3\\r\\n$5\\r\\nDEBUG\\r\\n$5\\r\\nSLEEP\\r\\n$1\\r\\n3\\r\\nnonsense' > $part; done";
    let done = kube.exec(&pod.id, &["sh", "-c", script].map(str::to_owned), 4096).await.unwrap();
    assert_eq!(done.exit_code, 0, "{done:?}");
    kube.delete_pod(&pod.id, 1).await.unwrap();
}

/// An embedder dies, and another one reaps what it left.
async fn leases(world: &World, builder: impl Fn(&str) -> RuntimeBuilder) {
    let [dying, reaper] = ["dying", "reaper"].map(|name| format!("{}-{name}", world.instance));
    let dying = builder(&dying).lease(Duration::from_secs(3)).build().await.unwrap();
    dying.ensure(redis_of(&key("left"))).await.unwrap();
    set(&dying, &key("left"), "k", "v").await;
    drop(dying);
    let reaper = builder(&reaper).lease(Duration::from_secs(120)).build().await.unwrap();
    let removed = world
        .eventually("the dead one's pod is reaped", async || {
            let removed = reaper.reap().await.unwrap();
            (!removed.is_empty()).then_some(removed)
        })
        .await;
    assert_eq!(removed.len(), 1);
    let others = world.all::<k8s_openapi::api::coordination::v1::Lease>().await;
    assert_eq!(others.len(), 1, "its Lease went, too: {others:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_whole_life_of_caches_takes_exactly_the_verbs_of_the_manifest() {
    let world = World::new("rbac").await;
    let rules = manifest().1.rules.unwrap();
    world.allow(rules.clone()).await;
    let restricted = world.restricted().await;
    let recorder = Recorder::start(&restricted.config().await).await;
    let login = world.login("recorded", &restricted, Some(&recorder.url), None);

    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| life(&world, &login, true));
            scope.spawn(|| life(&world, &login, false));
        });
    });

    let pod = world.done(&login, true, &["up", "c"])["handle"].as_str().unwrap().to_owned();
    spoil(&world, &pod).await;
    let ran = world.cli(&login, true, &["up", "c"]);
    let (_, message) = ran.error();
    assert!(ran.code() == 1 && message.contains("last words") && message.contains("AOF"), "{ran:?}");
    world.done(&login, true, &["down", "c", "--delete-data"]);

    let policy = support::policy();
    leases(&world, |instance| {
        let builder = world.builder(instance, "leased", false).policy_file(Path::new(&policy));
        builder.kube(world.options(&login, false))
    })
    .await;

    let allowed = permissions(&rules);
    let seen = recorder.seen();
    let more: Vec<_> = seen.difference(&allowed).collect();
    assert!(more.is_empty(), "sent, though no Role of the documentation allows it: {more:?}");
    let less: BTreeSet<_> = allowed.difference(&seen).cloned().collect();
    assert_eq!(less, NOT_SENT.iter().map(owned).collect(), "allowed and never sent");
    assert_eq!(run(world.command(&login, false).arg("ls")).code(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn restores_that_pods_fetch_take_the_verbs_of_their_rule_too() {
    let world = World::new("rbac-pull").await;
    let (rules, pulls) = (manifest().1.rules.unwrap(), rule_for_pull());
    world.allow([rules.clone(), vec![pulls.clone()]].concat()).await;
    let restricted = world.restricted().await;
    let recorder = Recorder::start(&restricted.config().await).await;
    let login = world.login("recorded", &restricted, Some(&recorder.url), None);
    let file = world.folder("out").join("s.rdb");
    world.done(&login, false, &["up", "a"]);
    assert_eq!(world.done(&login, false, &["exec", "a", "--", "SET", "k", "v"])["success"], true);
    world.done(&login, false, &["snapshot", "a", file.to_str().unwrap()]);
    for claims in [true, false] {
        life_with_pull(&world, &login, claims, &file).await;
    }
    let allowed = permissions(&[rules, vec![pulls.clone()]].concat());
    let (pulls, seen) = (permissions(&[pulls]), recorder.seen());
    let more: Vec<_> = seen.difference(&allowed).collect();
    assert!(more.is_empty(), "sent, though no Role of the documentation allows it: {more:?}");
    assert!(seen.is_superset(&pulls), "allowed for pulling and never sent: {pulls:?}");
}
