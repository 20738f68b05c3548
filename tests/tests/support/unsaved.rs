//! Trap 26: engines that would lose something by their end, wherever they run.

use std::fmt::Debug;

use elasticache_host::{CacheKey, Error, Runtime};

use super::redis::Redis;
use super::redis_of;

/// With no save points and no append-only file, SIGTERM saves nothing: whatever ends the engine sees to it first.
pub async fn nothing_is_lost_with_the_append_only_file_off(runtime: &Runtime, key: &CacheKey) {
    let mut cache = runtime.ensure(redis_of(key)).await.unwrap();
    for round in 0..3 {
        let mut redis = Redis::of(&cache);
        redis.command(&["CONFIG", "SET", "appendonly", "no"]);
        redis.fill(5000);
        redis.set("last", &round.to_string());
        match round {
            0 => drop(runtime.reboot(key).await.unwrap()),
            1 => drop(runtime.stop(key).await.unwrap()),
            _ => runtime.stop_all().await.unwrap(),
        }
        cache = runtime.ensure(redis_of(key)).await.unwrap();
        let mut redis = Redis::of(&cache);
        redis.check(5000);
        assert_eq!(redis.get("last"), Some(round.to_string()));
    }
}

/// If the last save fails, the timer that kills the engine would lose the data: it is left running. `shell` runs a line
/// beside the engine, and `life` says what shows that it was not restarted.
pub async fn what_cannot_be_made_safe_runs_on<T: PartialEq + Debug>(
    runtime: &Runtime,
    key: &CacheKey,
    shell: impl AsyncFn(&str, &str),
    life: impl AsyncFn(&str) -> T,
) {
    let cache = runtime.ensure(redis_of(key)).await.unwrap();
    let mut redis = Redis::of(&cache);
    redis.command(&["CONFIG", "SET", "appendonly", "no"]);
    redis.fill(1000);
    // No folder can be made where a file is: the append-only file cannot be turned on again.
    shell(&cache.handle, "rm -r /data/appendonlydir && touch /data/appendonlydir").await;
    let before = life(&cache.handle).await;
    for outcome in
        [runtime.stop(key).await.map(drop), runtime.reboot(key).await.map(drop), runtime.stop_all().await]
    {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Engine { .. }), "{error:?}");
    }
    assert_eq!(life(&cache.handle).await, before, "it runs on");
    redis.check(1000);
    shell(&cache.handle, "rm /data/appendonlydir").await;
    assert!(runtime.stop(key).await.unwrap());
    Redis::of(&runtime.ensure(redis_of(key)).await.unwrap()).check(1000);
}
