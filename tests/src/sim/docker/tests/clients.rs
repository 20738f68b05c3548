//! What servers answer, and to whom.

use super::*;

#[tokio::test]
async fn redis_cli_prints_as_it_does_off_a_terminal() {
    let bench = Bench::run("c", 7000, AOF).await;
    let out = |code, stdout: &str, stderr: &str| (code, stdout.to_owned(), stderr.to_owned());
    assert_eq!(bench.exec("c", "redis-cli SET k v").await, out(0, "OK\n", ""));
    assert_eq!(bench.exec("c", "/usr/local/bin/redis-cli --raw GET k").await, out(0, "v\n", ""));
    assert_eq!(bench.exec("c", "redis-cli GET none").await, out(0, "\n", ""));
    assert_eq!(bench.exec("c", "redis-cli DBSIZE").await, out(0, "1\n", ""));
    let unknown = "ERR unknown command 'foo', with args beginning with: 'a' ";
    assert_eq!(bench.exec("c", "redis-cli foo a").await, out(0, &format!("{unknown}\n\n"), ""));
    assert_eq!(bench.exec("c", "redis-cli -e foo a").await, out(1, "", &format!("{unknown}\n")));
    assert_eq!(bench.exec("c", "redis-cli -x9 PING").await.0, 1);
    let (code, _, stderr) = bench.exec("c", "redis-cli -p 1 PING").await;
    assert!(code == 1 && stderr.contains("Could not connect"));
    let (code, _, stderr) = bench.exec("c", "valkey-cli PING").await;
    assert!(code == 127 && stderr.contains("not found"));
    let ping = ["redis-cli".to_owned(), "PING".to_owned()];
    assert!(matches!(bench.0.exec("c", &ping, 3).await, Err(EngineError::Failed { .. })));
    bench.0.set_hang_ready(true);
    assert_eq!(bench.exec("c", "redis-cli PING").await.0, 1);
    bench.0.insert_foreign_container("f", &[], true).unwrap();
    assert_eq!(bench.exec("f", "redis-cli PING").await.0, 1);
}

#[tokio::test]
async fn probes_ask_whatever_publishes_the_port() {
    let bench = Bench::run("c", 7000, AOF).await;
    bench.0.check(&at(7000), Check::RedisPing).await.unwrap();
    bench.0.check(&at(7000), Check::RedisIdle).await.unwrap();
    assert!(bench.0.check(&at(7000), Check::MemcachedVersion).await.is_err());
    assert_eq!(bench.0.check(&at(7001), Check::RedisPing).await.unwrap_err().message, "connection refused");
    assert!(
        matches!(bench.ask(7000, "NOPE").await.unwrap(), Reply::Error(text) if text.starts_with("ERR unk"))
    );
    bench.ask(7000, "SET k 12345").await.unwrap();
    let get = ["GET".to_owned(), "k".to_owned()];
    assert_eq!(bench.0.command(&at(7000), &get, 2).await.unwrap(), Reply::Bulk(b"12".to_vec()));
    bench.0.set_saving(true);
    bench.0.check(&at(7000), Check::RedisPing).await.unwrap();
    assert!(bench.0.check(&at(7000), Check::RedisIdle).await.is_err());
    assert!(matches!(bench.ask(7000, "SAVE").await.unwrap(), Reply::Error(_)));
    bench.0.set_saving(false);
    bench.0.set_hang_ready(true);
    assert!(bench.0.check(&at(7000), Check::RedisPing).await.is_err());
    assert!(bench.ask(7000, "PING").await.is_err());
}

#[tokio::test]
async fn memcached_forgets_at_each_stop() {
    let bench = Bench::new().await;
    let mut spec = Bench::spec("m", 7000, &["memcached", "-m", "64"]);
    spec.image = DEFAULT_IMAGES[2].into();
    spec.mounts.clear();
    spec.publish = Some((LOCAL, Published { container_port: 11211, host_port: 7000 }));
    bench.0.create_container(&spec).await.unwrap();
    bench.0.start_container("m").await.unwrap();
    bench.0.check(&at(7000), Check::MemcachedVersion).await.unwrap();
    assert!(bench.0.check(&at(7000), Check::RedisPing).await.is_err());
    bench.0.memcached_set(7000, "k", b"v").unwrap();
    assert_eq!(bench.0.memcached_get(7000, "k").unwrap().unwrap(), b"v");
    assert_eq!(bench.exec("m", "redis-cli PING").await.0, 127);
    bench.0.restart_container("m", 10).await.unwrap();
    assert_eq!(bench.0.memcached_get(7000, "k").unwrap(), None);
    assert!(bench.0.memcached_get(7001, "k").is_err());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_shows_in_info() {
    let bench = Bench::run("c", 7000, AOF).await;
    bench.ask(7000, "SET k v").await.unwrap();
    bench.0.set_write_error(true);
    let refused = bench.ask(7000, "SET k w").await.unwrap();
    assert!(matches!(refused, Reply::Error(text) if text.starts_with("MISCONF")));
    assert_eq!(bench.ask(7000, "GET k").await.unwrap(), Reply::Bulk(b"v".to_vec()));
    assert_eq!(bench.ask(7000, "SAVE").await.unwrap(), Reply::Error("ERR".into()));
    let info = bench.exec("c", "redis-cli INFO persistence").await.1;
    assert!(info.contains("aof_last_write_status:err") && info.contains("aof_enabled:1"));
    bench.0.set_write_error(false);
    assert_eq!(bench.ask(7000, "SET k w").await.unwrap(), ok());
    let bench = Bench::run("c", 7000, NEITHER).await;
    bench.0.set_write_error(true);
    assert_eq!(bench.ask(7000, "SET k v").await.unwrap(), ok(), "nothing of it goes to the disk");
}
