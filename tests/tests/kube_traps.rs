//! What went wrong in other emulators cannot go wrong in pods either: on a real cluster. The numbers are those of the
//! list of traps; the others on Kubernetes are in `kube_ownership.rs`, `kube_kills.rs` and the corpus.
//!
//! Clauses: BOOT-2, DATA-2, SNAP-1, SNAP-7, STOP-4, STOP-5.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_namespaces;
mod support;

use std::path::Path;
use std::process::Stdio;

use elasticache_host::Engine;
use elasticache_host::engine::cluster::Cluster as _;
use elasticache_host::engine::kube::Kube;

use kube_namespaces::{Login, World, key, redis_of};
use support::redis::Redis;
use support::{from_file, peak_memory, unsaved};

/// Keys of which each takes the engine so long to save as it is told to.
const SLOW: usize = 10_000;
/// Bytes of the file that never comes into memory whole, and what moving it may take: the buffers on its way.
const LARGE: usize = 128 << 20;
const BUFFERS: u64 = 32 << 20;

/// Trap 15.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_128_mib_is_never_in_memory_whole() {
    let world = World::new("large").await;
    let folder = world.folder("out");
    let login = Login::admin();
    let peak = |args: &[&str]| {
        let mut command = world.command(&login, false);
        let mut process = command.args(args).stdout(Stdio::null()).spawn().unwrap();
        tokio::task::block_in_place(|| peak_memory(&mut process))
    };
    let there_and_back = |id: &str, file: &Path| {
        let file = file.to_str().unwrap();
        [peak(&["snapshot", id, file]), peak(&["up", &format!("{id}-copy"), "--from", file])]
    };
    let runtime = world.runtime(false).await;
    Redis::of(&runtime.ensure(redis_of(&key("small"))).await.unwrap()).fill(10);
    let least = there_and_back("small", &folder.join("small.rdb"));

    let text = Redis::of(&runtime.ensure(redis_of(&key("large"))).await.unwrap()).fill_large(LARGE);
    let file = folder.join("large.rdb");
    let most = there_and_back("large", &file);
    assert!(std::fs::metadata(&file).unwrap().len() > (LARGE as u64) * 9 / 10, "it was compressed");
    for (least, most) in std::iter::zip(least, most) {
        assert!(most < least + BUFFERS, "{least} bytes for a small file, {most} for a large one");
    }
    let mut copy = Redis::of(&runtime.find(&key("large-copy")).await.unwrap().unwrap());
    assert_eq!(copy.size(), (LARGE >> 20) as i64);
    assert!(copy.get("large:127").unwrap() == text);
}

/// Trap 26: SIGTERM ends a running BGSAVE.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_or_reboot_during_a_background_save_loses_nothing() {
    let world = World::new("bgsave").await;
    let key = key("b");
    for claims in [true, false] {
        let runtime = world.builder("saving", "saving", claims).build().await.unwrap();
        let mut cache = runtime.ensure(redis_of(&key)).await.unwrap();
        Redis::of(&cache).fill(SLOW);
        let mut redis = Redis::of(&cache);
        redis.save_slowly();
        redis.set("last", "before the reboot");
        cache = runtime.reboot(&key).await.unwrap();
        let mut redis = Redis::of(&cache);
        redis.check(SLOW);
        assert_eq!(redis.get("last").as_deref(), Some("before the reboot"));

        // A snapshot waits for its turn, and has what came after the other one had begun.
        redis.save_slowly();
        redis.set("last", "of the snapshot");
        let file = world.folder("out").join(format!("{claims}.rdb"));
        runtime.snapshot(&key, &file).await.unwrap();
        let copy = kube_namespaces::key(&format!("copy-{claims}"));
        let copy = runtime.ensure(from_file(&copy, Engine::Redis, &file, false)).await.unwrap();
        assert_eq!(Redis::of(&copy).get("last").as_deref(), Some("of the snapshot"));
        assert_eq!(Redis::of(&copy).size(), SLOW as i64 + 1);

        if claims {
            redis.save_slowly();
            redis.set("last", "before the stop");
            runtime.stop(&key).await.unwrap();
            let mut redis = Redis::of(&runtime.ensure(redis_of(&key)).await.unwrap());
            redis.check(SLOW);
            assert_eq!(redis.get("last").as_deref(), Some("before the stop"));
            runtime.stop(&key).await.unwrap();
            runtime.remove_data(&key).await.unwrap();
        }
    }
}

/// Trap 26: with no save points and no append-only file, SIGTERM saves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn turning_the_append_only_file_off_loses_nothing() {
    let world = World::new("aofoff").await;
    unsaved::nothing_is_lost_with_the_append_only_file_off(&world.runtime(true).await, &key("a")).await;
}

/// Trap 26: if the last save fails, the kubelet's kill timer would lose the data.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_whose_data_cannot_be_made_safe_is_not_stopped() {
    let world = World::new("unsafe").await;
    let kube = Kube::connect(world.options(&Login::admin(), true)).await.unwrap();
    let shell = async |handle: &str, script: &str| {
        let pod = kube.find_pod(handle).await.unwrap().unwrap();
        let done = kube.exec(&pod.id, &["sh", "-c", script].map(str::to_owned), 4096).await.unwrap();
        assert_eq!(done.exit_code, 0, "{done:?}");
    };
    let life = async |handle: &str| world.life(handle).await;
    unsaved::what_cannot_be_made_safe_runs_on(&world.runtime(true).await, &key("u"), shell, life).await;
}
