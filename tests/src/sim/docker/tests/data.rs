//! What is kept, where, and when it is lost.

use super::*;

#[tokio::test]
async fn a_volume_that_was_there_is_returned_as_it_is() {
    let bench = Bench::new().await;
    bench.0.advance(Duration::from_millis(2500));
    let volume = bench.0.create_volume("v", &owned(&[("mine", "1")])).await.unwrap();
    assert_eq!(volume.created, Some(UNIX_EPOCH + Duration::from_secs(EPOCH + 2)));
    bench.0.advance(Duration::from_secs(60));
    assert_eq!(bench.0.create_volume("v", &owned(&[("other", "2")])).await.unwrap(), volume);
    assert_eq!(bench.0.list_volumes(&[("mine", "1")]).await.unwrap(), std::slice::from_ref(&volume));
    assert_eq!(bench.0.inspect_volume("v").await.unwrap(), Some(volume));
    bench.0.insert_foreign_volume("old", &[], &[("dump.rdb", b"x")]);
    assert_eq!(bench.0.volume_file("old", "dump.rdb").unwrap(), b"x");
    assert_eq!(bench.0.inspect_volume("none").await.unwrap(), None);
}

#[tokio::test]
async fn an_append_only_file_outlives_sigkill_and_the_container() {
    let bench = Bench::run("c", 7000, AOF).await;
    assert_eq!(bench.ask(7000, "SET k v").await.unwrap(), ok());
    assert_eq!(bench.ask(7000, "MSET a 1 b 2").await.unwrap(), ok());
    assert_eq!(bench.ask(7000, "DEL a none").await.unwrap(), Reply::Integer(1));
    bench.0.kill("c").unwrap();
    assert_eq!(bench.see("c").await.exit_code, Some(137));
    bench.0.remove_container("c").await.unwrap();
    bench.create("d", 7001, AOF).await;
    bench.0.start_container("d").await.unwrap();
    assert_eq!(bench.ask(7001, "GET k").await.unwrap(), Reply::Bulk(b"v".to_vec()));
    assert_eq!(bench.ask(7001, "EXISTS a b b").await.unwrap(), Reply::Integer(2));
    assert_eq!(bench.ask(7001, "FLUSHALL").await.unwrap(), ok());
    bench.0.restart_container("d", 10).await.unwrap();
    assert_eq!(bench.keys(7001).await, 0);
}

#[tokio::test]
async fn sigterm_saves_only_with_save_points_and_sigkill_never_does() {
    for (command, kept) in [(POINTS, 1), (NEITHER, 0)] {
        let bench = Bench::run("c", 7000, command).await;
        bench.ask(7000, "SET k v").await.unwrap();
        bench.0.restart_container("c", 10).await.unwrap();
        assert_eq!(bench.keys(7000).await, kept);
        assert_eq!(bench.0.volume_file("vol", "dump.rdb").is_some(), kept == 1);
    }
    let bench = Bench::run("c", 7000, POINTS).await;
    bench.ask(7000, "SET k v").await.unwrap();
    bench.0.restart_container("c", 0).await.unwrap();
    assert_eq!(bench.keys(7000).await, 0, "no grace is SIGKILL");
    bench.ask(7000, "SET k v").await.unwrap();
    bench.0.set_save_error(Some("ERR no room".into()));
    bench.0.stop_container("c", 10).await.unwrap();
    assert_eq!(bench.see("c").await.exit_code, Some(137), "redis stays when its last save fails");
}

#[tokio::test]
async fn without_a_manifest_a_dump_is_not_looked_at() {
    let bench = Bench::new().await;
    bench.create("c", 7000, AOF).await;
    bench.put("c", "dump.rdb", &database(&[("k", "v")])).await;
    bench.0.start_container("c").await.unwrap();
    assert_eq!(bench.keys(7000).await, 0);
    let manifest = String::from_utf8(bench.0.volume_file("vol", MANIFEST).unwrap()).unwrap();
    let expected =
        "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
    assert_eq!(manifest, expected);
    bench.0.stop_container("c", 10).await.unwrap();
    bench.create("d", 7000, NEITHER).await;
    bench.0.start_container("d").await.unwrap();
    assert_eq!(bench.keys(7000).await, 1);
}

#[tokio::test]
async fn a_base_put_beside_a_manifest_is_restored() {
    let bench = Bench::new().await;
    bench.create("c", 7000, AOF).await;
    bench.put("c", "appendonlydir/r.1.base.rdb", &database(&[("k", "v")])).await;
    bench.put("c", MANIFEST, b"file r.1.base.rdb seq 1 type b\n").await;
    bench.0.start_container("c").await.unwrap();
    assert_eq!(bench.ask(7000, "GET k").await.unwrap(), Reply::Bulk(b"v".to_vec()));
    bench.ask(7000, "SET more 1").await.unwrap();
    bench.0.kill("c").unwrap();
    bench.0.start_container("c").await.unwrap();
    assert_eq!(bench.keys(7000).await, 2);
}

#[tokio::test]
async fn damaged_data_ends_the_engine_with_a_log_line() {
    let mut bad = database(&[("k", "v")]);
    *bad.last_mut().unwrap() ^= 1;
    for (command, path) in [(NEITHER, "dump.rdb"), (AOF, "appendonlydir/b.rdb")] {
        let bench = Bench::new().await;
        bench.create("c", 7000, command).await;
        bench.put("c", path, &bad).await;
        if command == AOF {
            bench.put("c", MANIFEST, b"file b.rdb seq 1 type b\n").await;
        }
        bench.0.start_container("c").await.unwrap();
        let seen = bench.see("c").await;
        assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(1)));
        assert!(bench.0.log_tail("c", 5).await.unwrap().contains("Wrong RDB checksum"));
        assert_eq!(bench.0.wait_exit("c").await.unwrap(), 1);
        assert_eq!(bench.ask(7000, "PING").await.unwrap_err().message, "connection refused");
    }
}

#[tokio::test]
async fn appending_can_be_turned_on_and_off() {
    let bench = Bench::run("c", 7000, NEITHER).await;
    bench.ask(7000, "SET old 1").await.unwrap();
    assert_eq!(bench.ask(7000, "CONFIG SET appendonly yes").await.unwrap(), ok());
    bench.ask(7000, "SET new 1").await.unwrap();
    assert_eq!(bench.ask(7000, "CONFIG SET appendonly no").await.unwrap(), ok());
    bench.ask(7000, "SET lost 1").await.unwrap();
    assert_eq!(bench.exec("c", "redis-cli CONFIG GET appendonly").await.1, "appendonly\nno\n");
    assert_eq!(bench.ask(7000, "CONFIG GET appendonly").await.unwrap(), Reply::Aggregate(2));
    bench.0.stop_container("c", 10).await.unwrap();
    bench.create("d", 7000, AOF).await;
    bench.0.start_container("d").await.unwrap();
    assert_eq!(bench.keys(7000).await, 2);
    for _ in 0..2 {
        bench.ask(7000, "CONFIG SET appendonly no").await.unwrap();
        bench.ask(7000, "CONFIG SET appendonly yes").await.unwrap();
    }
    let manifest = String::from_utf8(bench.0.volume_file("vol", MANIFEST).unwrap()).unwrap();
    assert!(manifest.starts_with("file appendonly.aof.3.base.rdb seq 3 type b\n"), "{manifest}");
    assert!(bench.0.volume_file("vol", "appendonlydir/appendonly.aof.2.base.rdb").is_none());
}

#[tokio::test]
async fn a_save_gives_a_file_that_restores() {
    let bench = Bench::run("c", 7000, AOF).await;
    bench.ask(7000, "SET k v").await.unwrap();
    assert!(matches!(bench.get("c", "/data/dump.rdb").await, Err(EngineError::NotFound { .. })));
    assert_eq!(bench.ask(7000, "SAVE").await.unwrap(), ok());
    let bytes = bench.get("c", "/data/dump.rdb").await.unwrap();
    assert_eq!(bytes, database(&[("k", "v")]));
    let info = bench.0.stat_file("c", "/data/dump.rdb").await.unwrap().unwrap();
    assert_eq!((info.size, info.directory), (bytes.len() as u64, false));
    assert!(bench.0.stat_file("c", "/data/appendonlydir").await.unwrap().unwrap().directory);
    assert_eq!(bench.0.stat_file("c", "/data/none").await.unwrap(), None);
    assert!(matches!(bench.get("c", "/data").await, Err(EngineError::Failed { .. })));
    bench.0.set_save_error(Some("ERR no room".into()));
    assert_eq!(bench.ask(7000, "SAVE").await.unwrap(), Reply::Error("ERR no room".into()));
    assert_eq!(bench.exec("c", "redis-cli SAVE").await, (0, "ERR no room\n\n".into(), String::new()));
    bench.ask(7000, "BGSAVE").await.unwrap();
    assert!(bench.exec("c", "redis-cli INFO persistence").await.1.contains("rdb_last_bgsave_status:err"));
}

#[tokio::test]
async fn files_are_streamed_in_and_a_failure_leaves_the_first() {
    let bench = Bench::new().await;
    bench.create("c", 7000, AOF).await;
    let mut source = tempfile();
    source.write_all(&vec![7; 100_000]).unwrap();
    source.seek(SeekFrom::End(0)).unwrap();
    let short = source.try_clone().unwrap();
    let file = |path: &str, file, length| NewFile { path: path.into(), content: Content::File(file, length) };
    let files = vec![file("a/b", source, 100_000), file("c", short, 100_001)];
    let count = Arc::new(AtomicU64::new(0));
    let moved = count.clone();
    let add = Box::new(move |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    });
    assert!(matches!(bench.0.put_files("c", "/data", files, add).await, Err(EngineError::Io { .. })));
    assert_eq!(count.load(Ordering::Relaxed), 200_000);
    assert_eq!(bench.get("c", "/data/a/b").await.unwrap().len(), 100_000);
    assert_eq!(bench.0.stat_file("c", "/data/c").await.unwrap(), None);
    let nowhere = bench.0.put_files("c", "/none", vec![], Box::new(|_| {})).await;
    assert!(matches!(nowhere, Err(EngineError::NotFound { .. })));
    let out = NewFile { path: "../x".into(), content: Content::Bytes(vec![]) };
    let out = bench.0.put_files("c", "/data", vec![out], Box::new(|_| {})).await;
    assert!(matches!(out, Err(EngineError::Failed { .. })));
}

fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("memory-engine-{}", std::process::id()));
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}
