//! The face of fakecloud's native runtime, on a real Kubernetes: streamed restores, fetched ones, and what is
//! misconfigured. One test in a process of its own, since embedders are configured by the process's variables.
//!
//! Clauses: FACE-2, KUBE-3, KUBE-4, KUBE-15, HOST-2.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_embedder;
mod kube_support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use elasticache_host::{Backend, CacheEngineKind, ElastiCacheRuntime, Error, Grants, Manifest, Runtime};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};

use kube_embedder::Asked;

const INTERNAL: &str = "the-embedder-s-own-token";

fn set(name: &str, value: &str) {
    // SAFETY: the only test of this process, before it starts a thread that reads variables.
    unsafe { std::env::set_var(name, value) };
}

fn begin(port: u16) -> Result<ElastiCacheRuntime, String> {
    ElastiCacheRuntime::new_k8s(port, INTERNAL.to_owned()).map_err(|error| error.to_string())
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

async fn holds(face: &ElastiCacheRuntime, id: &str, key: &str, value: &str) {
    let got = face.exec_redis(id, &words(&format!("GET {key}"))).await.unwrap();
    assert!(got.success, "{got:?}");
    assert_eq!(String::from_utf8_lossy(&got.stdout).trim(), value);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_has_all_of_it_on_kubernetes() {
    let world = kube_support::World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let data = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    set("KUBECONFIG", &std::env::var("KUBE_TEST_KUBECONFIG").unwrap());
    set("FAKECLOUD_ELASTICACHE_DATA_DIR", &data("data"));
    set("FAKECLOUD_ELASTICACHE_CACHE_DIR", &data("cache"));
    set("FAKECLOUD_ELASTICACHE_INSTANCE", "embedder");
    set("FAKECLOUD_K8S_NAMESPACE", "no-such-namespace");
    let refused = begin(1).unwrap_err();
    assert!(refused.contains("no-such-namespace") && refused.contains("not found"), "{refused}");
    set("FAKECLOUD_K8S_NAMESPACE", world.namespace());
    set("FAKECLOUD_K8S_TOLERATIONS", "{");
    assert!(begin(1).unwrap_err().contains("FAKECLOUD_K8S_TOLERATIONS"));
    set("FAKECLOUD_K8S_TOLERATIONS", "");

    let face = begin(1).unwrap();
    assert_eq!(face.cli_name(), "kubernetes");
    let tags = BTreeMap::new();
    let made = face.ensure_redis("a", None, &tags).await.unwrap();
    assert_eq!((made.engine, made.endpoint_port), (CacheEngineKind::Redis, 6379));
    assert!(made.container_id.starts_with("fakecloud-ec-a-"), "{made:?}");
    assert!(face.exec_redis("a", &words("SET key first")).await.unwrap().success);
    let dump = data("dump.rdb");
    face.dump_rdb("a", &dump).await.unwrap();
    face.restart_container("a", &tags).await.unwrap();
    holds(&face, "a", "key", "first").await;
    assert!(face.pending_rdb().unwrap().read().is_empty());

    // Streamed.
    face.ensure_redis("b", Some(&dump), &tags).await.unwrap();
    holds(&face, "b", "key", "first").await;

    // Fetched.
    let listener = kube_embedder::listen(kube_support::client().await).await;
    let at: SocketAddr = listener.local_addr().unwrap();
    set("FAKECLOUD_K8S_RESTORE", "pull");
    assert!(begin(at.port()).unwrap_err().contains("FAKECLOUD_K8S_SELF_URL"));
    set("FAKECLOUD_K8S_SELF_URL", &format!("https://{at}"));
    let refused = begin(at.port()).unwrap_err();
    assert!(refused.contains("FAKECLOUD_K8S_SELF_URL") && refused.contains("http://"), "{refused}");
    set("FAKECLOUD_K8S_SELF_URL", &format!("http://{at}"));
    let face = begin(at.port()).unwrap();
    let asked = Asked::default();
    let (pending, admitting) = (face.pending_rdb().unwrap(), face.clone());
    let admits = move |pod: &str, token: &str| admitting.admits_rdb(pod, token);
    tokio::spawn(kube_embedder::serve(listener, pending, admits, Arc::clone(&asked)));
    let fetched = face.ensure_redis("c", Some(&dump), &tags).await.unwrap();
    holds(&face, "c", "key", "first").await;
    let asked = asked.lock().unwrap().clone();
    let [(pod, token)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(*pod, fetched.container_id);
    assert!(face.admits_rdb(pod, token) && !face.admits_rdb(&made.container_id, token));
    assert!(!token.contains(INTERNAL));
    assert!(face.pending_rdb().unwrap().read().is_empty());
    // Nothing of it is left: what remains is the owner's key.
    let secrets: Api<Secret> = Api::namespaced(kube_support::client().await, world.namespace());
    let left = secrets.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = left.items.iter().filter_map(|secret| secret.metadata.name.as_deref()).collect();
    let ours: Vec<_> = names.iter().filter(|name| name.starts_with("fakecloud")).collect();
    assert_eq!(ours, [&"fakecloud-elasticache-owner"], "{names:?}");

    // An embedder that names no instance finds its caches again, too, once its pod is another one, without a data folder.
    set("FAKECLOUD_ELASTICACHE_INSTANCE", "");
    set("FAKECLOUD_K8S_RESTORE", "");
    begin(1).unwrap().ensure_redis("e", Some(&dump), &tags).await.unwrap();
    set("FAKECLOUD_ELASTICACHE_DATA_DIR", &data("another"));
    let unnamed = begin(1).unwrap();
    holds(&unnamed, "e", "key", "first").await;
    unnamed.stop_all().await;

    // A namespace that the environment does not grant is not so much as asked for the owners' Secret.
    let mut manifest = Manifest::standard();
    manifest.backend = Backend::Kube;
    manifest.grants = Grants::standard_kube("elsewhere").unwrap();
    let denied = Runtime::builder().environment(manifest).build().await.unwrap_err();
    let wanted = format!("grants.namespaces = [{:?}]", world.namespace());
    assert!(matches!(&denied, Error::Denied { grant, .. } if *grant == wanted), "{denied}");

    face.stop_all().await;
    assert!(face.runtime().list().await.unwrap().is_empty());
    assert!(Path::new(&dump).is_file());
}
