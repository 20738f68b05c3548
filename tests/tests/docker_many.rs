//! Two hundred caches are found again with a handful of calls: on a real Docker Engine.
//!
//! Clauses: LIST-1, LIST-4, LIST-5.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use elasticache_host::engine::docker::Docker;
use elasticache_host::probes::tcp::TcpProbes;
use elasticache_host::{Cache, CacheSpec, CacheState, Engine};
use futures_util::StreamExt as _;

use support::proxy::{Fate, Proxy};
use support::{World, docker, ran};

const MANY: usize = 200;
/// Calls of the engine for a list, whatever its length.
const HANDFUL: usize = 5;
/// Starts under way at once: as many as the daemon makes anything of.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_caches_are_found_after_a_restart_with_a_handful_of_calls() {
    let world = World::new("many");
    let runtime = world.builder().timeout(Duration::from_secs(600)).build().await.unwrap();
    let keys: Vec<_> = (0..MANY).map(|n| world.key(&format!("{n:03}"))).collect();
    let started: Vec<Cache> = futures_util::stream::iter(keys.clone())
        .map(|key| runtime.ensure(CacheSpec::new(key, Engine::Memcached)))
        .buffer_unordered(AT_ONCE)
        .map(Result::unwrap)
        .collect()
        .await;
    let mut ports: Vec<u16> = started.iter().map(|cache| cache.endpoint.as_ref().unwrap().port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), MANY, "a port each");
    drop(runtime);

    // The host is another now, and sees the daemon through something that counts.
    let proxy = Proxy::start(&world.folder("proxy"), |_: &str, _: &[u8]| Fate::Pass);
    let host = proxy.host();
    let engine = Docker::detect_with(|name| (name == "DOCKER_HOST").then(|| host.clone())).await.unwrap();
    let next =
        world.builder().engine(Arc::new(engine), Arc::new(TcpProbes), "127.0.0.1").build().await.unwrap();
    let listed = next.list().await.unwrap();
    assert_eq!(listed.iter().map(|cache| &cache.key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
    assert!(listed.iter().all(|cache| cache.state == CacheState::Available && cache.adopted));
    assert!(proxy.requests().len() <= HANDFUL, "{:?}", proxy.requests());
    let mut before: Vec<_> = started.iter().map(|cache| (&cache.handle, &cache.endpoint)).collect();
    let mut after: Vec<_> = listed.iter().map(|cache| (&cache.handle, &cache.endpoint)).collect();
    before.sort_by_key(|cache| cache.0);
    after.sort_by_key(|cache| cache.0);
    assert_eq!(before, after);

    // So for the command line.
    proxy.forget();
    let through =
        |args: &[&str]| ran(world.command().arg("--json").args(args).env("DOCKER_HOST", proxy.host()));
    let all = through(&["ls"]).json();
    assert_eq!(all.as_array().unwrap().len(), MANY);
    assert!(all.as_array().unwrap().iter().all(|cache| cache["state"] == "available"));
    assert!(proxy.requests().len() <= HANDFUL, "{:?}", proxy.requests());
    proxy.forget();
    assert_eq!(through(&["describe", keys[7].id()]).json(), all[7]);
    assert!(proxy.requests().len() <= HANDFUL, "{:?}", proxy.requests());

    // Each is found by its name, too.
    let found: Vec<Option<Cache>> = futures_util::stream::iter(&keys)
        .map(|key| next.find(key))
        .buffered(AT_ONCE)
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), listed);

    next.stop_all().await.unwrap();
    assert_eq!(docker::containers_of(&world.instance), [""; 0]);
}
