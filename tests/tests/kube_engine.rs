//! The Kubernetes supplier against a real cluster, in a namespace of its own. Without one these tests fail: what was
//! not tried must not read as passed.
//!
//! Clauses: KUBE-1, KUBE-3, KUBE-18.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kube_support;

use std::io::{Read as _, Seek as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use elasticache_host::engine::cluster::{
    ClaimSpec, Cluster as _, Lease, ObjectId, PodData, PodGoal, PodPhase, PodSpec,
};
use elasticache_host::engine::kube::Reach;
use elasticache_host::engine::{Content, EngineError, NewFile};
use elasticache_host::probes::{Check, Reply};

use kube_support::{Shared, World, big_file, bytes_file, nothing_moved};

const MIB: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pod_runs_answers_and_goes() {
    let world = World::new().await;
    let kube = &world.kube;
    let spec = world.spec();
    let begun = Instant::now();
    let made = kube.create_pod(&spec).await.unwrap();
    assert_eq!((made.phase, made.staging, &made.message), (PodPhase::Pending, false, &None));
    let pod = kube.wait_for_pod(&made.id, PodGoal::Running).await.unwrap();
    println!("create to Running: {:?}", begun.elapsed());
    assert_eq!((pod.phase, &pod.id, &pod.image), (PodPhase::Running, &made.id, &spec.image));
    assert_eq!(pod.labels, spec.labels);
    assert!(pod.address.is_some());

    for reach in [Reach::Direct, Reach::Forward] {
        let kube = world.reaching(reach).await;
        let endpoint = kube.probed_at(&pod, 6379).unwrap();
        let probes = kube.probes();
        world.ready(&*probes, &endpoint, Check::RedisPing).await;
        let begun = Instant::now();
        probes.check(&endpoint, Check::RedisIdle).await.unwrap();
        println!("one probe, {reach:?}: {:?}", begun.elapsed());
        let set = ["SET".to_owned(), "k".to_owned(), "v".to_owned()];
        assert_eq!(probes.command(&endpoint, &set, 100).await.unwrap(), Reply::Status("OK".to_owned()));
        let nobody = kube.probed_at(&pod, 1).unwrap();
        let begun = Instant::now();
        let error = probes.check(&nobody, Check::RedisPing).await.unwrap_err();
        println!("nobody listens, {reach:?}, after {:?}: {error}", begun.elapsed());
    }

    assert!(matches!(kube.create_pod(&spec).await, Err(EngineError::Conflict { .. })));
    let listed = kube.list_pods(&[("test-engine", &spec.name)]).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(kube.find_pod(&spec.name).await.unwrap().unwrap().id, made.id);
    assert!(kube.pod_log(&made.id, 5).await.unwrap().contains("eady to accept connections"));

    let other = ObjectId { uid: "00000000-0000-0000-0000-000000000000".to_owned(), ..made.id.clone() };
    assert!(matches!(kube.delete_pod(&other, 1).await, Err(EngineError::NotFound { .. })));
    assert!(matches!(kube.wait_for_pod(&other, PodGoal::Running).await, Err(EngineError::NotFound { .. })));
    let argv = ["true".to_owned()];
    assert!(matches!(kube.exec(&other, &argv, 10).await, Err(EngineError::NotFound { .. })));

    let begun = Instant::now();
    kube.delete_pod(&made.id, 10).await.unwrap();
    println!("delete until gone: {:?}", begun.elapsed());
    assert_eq!(kube.find_pod(&spec.name).await.unwrap(), None);
    assert!(matches!(kube.delete_pod(&made.id, 10).await, Err(EngineError::NotFound { .. })));
    assert!(matches!(kube.exec(&made.id, &argv, 10).await, Err(EngineError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_engine_is_held_back_and_let_go() {
    let world = World::new().await;
    let kube = &world.kube;
    for (image, args, port, check) in [
        ("redis:7-alpine", &["redis-server", "--protected-mode", "no"][..], 6379, Check::RedisPing),
        ("valkey/valkey:8-alpine", &["valkey-server", "--protected-mode", "no"], 6379, Check::RedisPing),
        ("memcached:1.6-alpine", &["memcached"], 11211, Check::MemcachedVersion),
    ] {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let spec = PodSpec { image: image.to_owned(), args, staged: true, port, ..world.spec() };
        let made = kube.create_pod(&spec).await.unwrap();
        let pod = kube.wait_for_pod(&made.id, PodGoal::Staging).await.unwrap();
        assert!(pod.staging && pod.phase == PodPhase::Pending, "{pod:?}");
        let files = vec![bytes_file("a/b/c", b"x"), bytes_file("empty", b"")];
        kube.put_files(&made.id, "/data", files, nothing_moved()).await.unwrap();
        assert_eq!(kube.stat_file(&made.id, "/data/a/b/c").await.unwrap().unwrap().size, 1);
        let begun = Instant::now();
        kube.release_pod(&made.id).await.unwrap();
        let released = begun.elapsed();
        let pod = kube.wait_for_pod(&made.id, PodGoal::Running).await.unwrap();
        println!("{image}: let go after {released:?}, Running after {:?}", begun.elapsed());
        kube.release_pod(&made.id).await.expect("once more does nothing");
        let direct = world.reaching(Reach::Direct).await;
        world.ready(&*direct.probes(), &direct.probed_at(&pod, port).unwrap(), check).await;
        assert!(kube.stat_file(&made.id, "/data/a/b").await.unwrap().unwrap().directory);
        assert_eq!(kube.stat_file(&made.id, "/data/empty").await.unwrap().unwrap().size, 0);
        assert_eq!(kube.stat_file(&made.id, "/data/none").await.unwrap(), None);
        kube.delete_pod(&made.id, 10).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_staging_pod_goes_without_waiting_for_its_grace() {
    let world = World::new().await;
    let spec = PodSpec { staged: true, ..world.spec() };
    let made = world.kube.create_pod(&spec).await.unwrap();
    world.kube.wait_for_pod(&made.id, PodGoal::Staging).await.unwrap();
    let begun = Instant::now();
    world.kube.delete_pod(&made.id, 60).await.unwrap();
    println!("delete of a staging pod: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_of_any_size_move_both_ways() {
    let world = World::new().await;
    let kube = &world.kube;
    let made = kube.create_pod(&PodSpec { staged: true, ..world.spec() }).await.unwrap();
    kube.wait_for_pod(&made.id, PodGoal::Staging).await.unwrap();
    let length = 32 * MIB + 17;
    let mut file = big_file(length);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    file.rewind().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let begun = Instant::now();
    let new = NewFile { path: "big file".to_owned(), content: Content::File(file, length) };
    let moved = Box::new(move |more| {
        counted.fetch_add(more, Ordering::Relaxed);
    });
    kube.put_files(&made.id, "/data", vec![new], moved).await.unwrap();
    println!("32 MiB in: {:?}", begun.elapsed());
    assert_eq!(count.load(Ordering::Relaxed), length);
    for container in ["stage", "cache"] {
        let sink = Shared::default();
        let begun = Instant::now();
        assert_eq!(kube.get_file(&made.id, "/data/big file", Box::new(sink.clone())).await.unwrap(), length);
        println!("32 MiB out of {container}: {:?}", begun.elapsed());
        assert!(*sink.0.lock().unwrap() == bytes, "the same bytes");
        if container == "stage" {
            kube.release_pod(&made.id).await.unwrap();
            kube.wait_for_pod(&made.id, PodGoal::Running).await.unwrap();
        }
    }
    let missing = kube.get_file(&made.id, "/data/none", Box::new(Shared::default())).await.unwrap_err();
    assert!(matches!(missing, EngineError::NotFound { .. }), "{missing}");
    let folder = kube.get_file(&made.id, "/data", Box::new(Shared::default())).await.unwrap_err();
    assert!(matches!(folder, EngineError::Failed { .. }), "{folder}");
    let read_only = vec![bytes_file("fakecloud", b"x")];
    let refused = kube.put_files(&made.id, "/proc", read_only, nothing_moved()).await.unwrap_err();
    assert!(matches!(refused, EngineError::Failed { .. }), "{refused}");
    // A file that is shorter than announced leaves nothing.
    let short = NewFile { path: "short".to_owned(), content: Content::File(big_file(10), 11) };
    let error = kube.put_files(&made.id, "/data", vec![short], nothing_moved()).await.unwrap_err();
    assert!(matches!(error, EngineError::Io { .. }), "{error}");
    let left =
        "i=0; while ls /data | grep -q short && [ $i -lt 100 ]; do i=$((i+1)); sleep 0.1; done; ls /data";
    world.shell_says(&made.id, left, "big file\n").await;
    kube.delete_pod(&made.id, 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn programs_give_their_output_and_their_exit_code() {
    let world = World::new().await;
    let kube = &world.kube;
    let made = kube.create_pod(&world.spec()).await.unwrap();
    kube.wait_for_pod(&made.id, PodGoal::Running).await.unwrap();
    let shell = |script: &str| ["sh", "-c", script].map(str::to_owned);
    let output = kube.exec(&made.id, &shell("echo out; echo err >&2; exit 7"), 100).await.unwrap();
    assert_eq!((output.exit_code, &output.stdout[..], &output.stderr[..]), (7, &b"out\n"[..], &b"err\n"[..]));
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let output = kube.exec(&made.id, &["redis-cli", "PING"].map(str::to_owned), 100).await.unwrap();
        times.push(begun.elapsed());
        assert_eq!(&output.stdout[..], b"PONG\n");
    }
    times.sort();
    println!("redis-cli PING: median {:?}, most {:?}", times[5], times[9]);
    let both = shell("head -c 3000000 /dev/zero; head -c 9 /dev/zero >&2");
    let big = kube.exec(&made.id, &both, 3_000_000).await.unwrap();
    assert_eq!((big.exit_code, big.stdout.len(), big.stderr.len()), (0, 3_000_000, 9));
    let more = kube.exec(&made.id, &shell("head -c 101 /dev/zero"), 100).await.unwrap_err();
    assert!(
        matches!(&more, EngineError::Failed { message, .. } if message.contains("more than 100")),
        "{more}"
    );
    let none = kube.exec(&made.id, &["no-such-program".to_owned()], 1000).await.unwrap();
    assert_eq!(none.exit_code, 127, "{none:?}");
    let folder = kube.exec(&made.id, &["/data".to_owned()], 1000).await.unwrap();
    assert_eq!(folder.exit_code, 126, "{folder:?}");
    let odd = ["printf", "%s|", "a b", "$HOME", "'", "", "\n"].map(str::to_owned);
    let odd = kube.exec(&made.id, &odd, 100).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&odd.stdout), "a b|$HOME|'||\n|");
    kube.delete_pod(&made.id, 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_will_not_run_is_reported_at_once() {
    let world = World::new().await;
    let kube = &world.kube;
    let no_image = PodSpec { image: "redis:no-such-tag-1234".to_owned(), ..world.spec() };
    let bad_image = PodSpec { image: "UPPER/case:x".to_owned(), ..world.spec() };
    let mut nowhere = world.spec();
    nowhere.node_selector.insert("no-such-label".to_owned(), "x".to_owned());
    let bad_args = PodSpec { args: vec!["redis-server".to_owned(), "--nonsense".to_owned()], ..world.spec() };
    for (what, spec) in
        [("no image", no_image), ("bad image", bad_image), ("no node", nowhere), ("bad arguments", bad_args)]
    {
        let made = kube.create_pod(&spec).await.unwrap();
        let begun = Instant::now();
        let error = kube.wait_for_pod(&made.id, PodGoal::Running).await;
        println!("{what} after {:?}: {error:?}", begun.elapsed());
        // A server that ends a moment after its start may have been seen running.
        if what != "bad arguments" || error.is_err() {
            assert!(matches!(error, Err(EngineError::Failed { .. })), "{error:?}");
        }
        if what != "bad arguments" {
            let seen = kube.find_pod(&spec.name).await.unwrap().unwrap();
            assert!(seen.message.is_some(), "{seen:?}");
        }
        kube.delete_pod(&made.id, 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn data_on_a_claim_outlives_its_pod() {
    let world = World::new().await;
    let kube = &world.kube;
    let claim = ClaimSpec {
        name: World::name(),
        labels: world.spec().labels,
        annotations: [("n".to_owned(), "1".to_owned())].into(),
        storage_class: world.storage_class.clone(),
        size: MIB,
    };
    let made = kube.create_claim(&claim).await.unwrap();
    assert!(matches!(kube.create_claim(&claim).await, Err(EngineError::Conflict { .. })));
    for round in 0..2 {
        let spec = PodSpec { data: PodData::Claim(claim.name.clone()), ..world.spec() };
        let begun = Instant::now();
        let pod = kube.create_pod(&spec).await.unwrap();
        kube.wait_for_pod(&pod.id, PodGoal::Running).await.unwrap();
        println!("on a claim, round {round}: Running after {:?}", begun.elapsed());
        if round == 0 {
            world.shell_says(&pod.id, "echo kept > /data/file", "").await;
            let error = kube.delete_claim(&made.id).await.unwrap_err();
            assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
        } else {
            world.shell_says(&pod.id, "cat /data/file", "kept\n").await;
        }
        kube.delete_pod(&pod.id, 5).await.unwrap();
    }
    let seen = kube.find_claim(&claim.name).await.unwrap().unwrap();
    assert_eq!((&seen.id, &seen.annotations["n"]), (&made.id, &"1".to_owned()));
    assert!(seen.capacity.is_some_and(|bytes| bytes >= MIB) && !seen.terminating, "{seen:?}");
    let other = ObjectId { uid: "00000000-0000-0000-0000-000000000000".to_owned(), ..made.id.clone() };
    assert!(matches!(kube.delete_claim(&other).await, Err(EngineError::NotFound { .. })));
    kube.delete_claim(&made.id).await.unwrap();
    assert_eq!(kube.find_claim(&claim.name).await.unwrap(), None);
    assert!(matches!(kube.delete_claim(&made.id).await, Err(EngineError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn leases_secret_and_clock_are_the_api_servers() {
    let world = World::new().await;
    let kube = &world.kube;
    let now = kube.now().await.unwrap();
    let lease = Lease {
        name: World::name(),
        labels: world.spec().labels,
        annotations: [("n".to_owned(), "1".to_owned())].into(),
        holder: "somebody".to_owned(),
        seconds: 30,
        renewed: now,
    };
    let labels = [("test-engine", lease.labels["test-engine"].as_str())];
    kube.write_lease(&lease).await.unwrap();
    assert_eq!(kube.list_leases(&labels).await.unwrap(), std::slice::from_ref(&lease));
    let later = now + Duration::from_micros(1_500_001);
    let renewed =
        Lease { renewed: later, annotations: [("m".to_owned(), "2".to_owned())].into(), ..lease.clone() };
    let begun = Instant::now();
    kube.write_lease(&renewed).await.unwrap();
    println!("a renewal: {:?}", begun.elapsed());
    assert_eq!(kube.list_leases(&labels).await.unwrap(), [renewed]);
    let error = kube.delete_lease(&lease.name, now).await.unwrap_err();
    assert!(matches!(error, EngineError::Conflict { .. }), "{error}");
    kube.delete_lease(&lease.name, later).await.unwrap();
    assert!(kube.list_leases(&labels).await.unwrap().is_empty());
    assert!(matches!(kube.delete_lease(&lease.name, later).await, Err(EngineError::NotFound { .. })));

    let name = World::name();
    assert_eq!(kube.shared_secret(&name, "k", b"first").await.unwrap(), b"first");
    assert_eq!(kube.shared_secret(&name, "k", b"second").await.unwrap(), b"first");
    assert!(kube.shared_secret(&name, "other", b"x").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_that_cannot_be_used_fails_fast_and_says_why() {
    use elasticache_host::engine::kube::{Kube, KubeOptions};
    let world = World::new().await;
    let connect = |change: fn(&mut KubeOptions)| {
        let mut options = world.kube.options().clone();
        change(&mut options);
        async move {
            let begun = Instant::now();
            let error = Kube::connect(options).await.unwrap_err();
            println!("after {:?}: {error}", begun.elapsed());
            assert!(begun.elapsed() < Duration::from_secs(12));
            error.to_string()
        }
    };
    let text = connect(|options| options.context = Some("no-such-context".to_owned())).await;
    assert!(text.contains("no-such-context") && text.contains("those it has: "), "{text}");
    let text = connect(|options| options.namespace = Some("no-such-namespace".to_owned())).await;
    assert!(text.contains("no-such-namespace") && text.contains("not found"), "{text}");
    let text = connect(|options| options.kubeconfig = Some("/no/such/file".into())).await;
    assert!(text.contains("/no/such/file"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("config");
    std::fs::write(
        &nowhere,
        "apiVersion: v1\nkind: Config\nclusters:\n- {name: c, cluster: {server: 'http://127.0.0.1:9'}}\n\
         contexts:\n- {name: c, context: {cluster: c}}\ncurrent-context: c\n",
    )
    .unwrap();
    let mut options = KubeOptions::default();
    options.kubeconfig = Some(nowhere);
    let error = Kube::connect(options).await.unwrap_err();
    assert!(matches!(error, EngineError::Unavailable { .. }), "{error}");
}
