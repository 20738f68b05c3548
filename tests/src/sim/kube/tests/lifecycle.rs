//! Pods from their creation to their end.

use super::*;

#[tokio::test]
async fn a_pod_is_pending_until_it_is_waited_for_and_never_runs_again_after_its_end() {
    let bench = Bench::new();
    let made = bench.0.create_pod(&Bench::spec("p", AOF)).await.unwrap();
    assert_eq!((made.phase, made.address.clone(), made.staging), (PodPhase::Pending, None, false));
    assert_eq!(bench.see("p").await, made);
    let runs = bench.0.wait_for_pod(&made.id, PodGoal::Running).await.unwrap();
    assert_eq!(runs.phase, PodPhase::Running);
    bench.0.check(&at(&runs), Check::RedisPing).await.unwrap();
    bench.0.kill("p").unwrap();
    let ended = bench.0.wait_for_pod(&made.id, PodGoal::Ended).await.unwrap();
    assert!(ended.phase == PodPhase::Failed && ended.message.unwrap().contains("137"));
    let again = bench.0.wait_for_pod(&made.id, PodGoal::Running).await;
    assert!(matches!(again, Err(EngineError::Failed { .. })));
    assert!(bench.ask(&runs, "PING").await.is_err());
    assert!(matches!(bench.0.exec(&made.id, &[], 9).await, Err(EngineError::Conflict { .. })));
}

#[tokio::test]
async fn names_are_taken_once_and_a_uid_is_never_another_one_s() {
    let bench = Bench::new();
    let first = bench.create(&Bench::spec("p", AOF)).await;
    let taken = bench.0.create_pod(&Bench::spec("p", AOF)).await;
    assert!(matches!(taken, Err(EngineError::Conflict { .. })));
    bench.0.delete_pod(&first, 1).await.unwrap();
    let second = bench.create(&Bench::spec("p", AOF)).await;
    assert_ne!(first.uid, second.uid);
    for gone in [
        bench.0.delete_pod(&first, 1).await,
        bench.0.wait_for_pod(&first, PodGoal::Running).await.map(drop),
        bench.0.release_pod(&first).await,
        bench.put(&first, "x", b"").await,
        bench.0.exec(&first, &[], 9).await.map(drop),
    ] {
        assert!(matches!(gone, Err(EngineError::NotFound { .. })), "{gone:?}");
    }
    assert_eq!(bench.see("p").await.id, second);
}

#[tokio::test]
async fn what_the_api_server_does_not_take_is_refused() {
    let bench = Bench::new();
    for (name, label) in [("P", "1"), ("a.b", "1"), ("", "1"), (&*"k".repeat(64), "1"), ("p", "a/b")] {
        let spec = PodSpec { labels: pairs(&[("a", label)]), ..Bench::spec(name, AOF) };
        let refused = bench.0.create_pod(&spec).await;
        assert!(matches!(refused, Err(EngineError::Failed { .. })), "{name} {label}");
    }
    bench.create(&PodSpec { labels: pairs(&[("a", "")]), ..Bench::spec("q", AOF) }).await;
    bench.create(&Bench::spec("p", AOF)).await;
    let names = |pods: Vec<Pod>| pods.into_iter().map(|pod| pod.id.name).collect::<Vec<_>>();
    assert_eq!(names(bench.0.list_pods(&[("a", "")]).await.unwrap()), ["p", "q"]);
    assert_eq!(names(bench.0.list_pods(&[("a", "1")]).await.unwrap()), ["p"]);
    assert!(bench.0.list_pods(&[("b", "")]).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_will_not_run_is_said_to_those_who_wait() {
    let bench = Bench::new();
    bench.0.remove_image(DEFAULT_IMAGES[1]);
    let image = PodSpec { image: DEFAULT_IMAGES[1].into(), ..Bench::spec("image", AOF) };
    let claim = PodSpec { data: PodData::Claim("none".into()), ..Bench::spec("claim", AOF) };
    for (spec, words) in [
        (image, DEFAULT_IMAGES[1]),
        (claim, "none"),
        (Bench::spec("args", &["--appendonly", "maybe"]), "code 1"),
    ] {
        let id = bench.create(&spec).await;
        let waited = bench.0.wait_for_pod(&id, PodGoal::Running).await.unwrap_err();
        assert!(
            matches!(&waited, EngineError::Failed { message, .. } if message.contains(words)),
            "{waited}"
        );
        assert!(bench.see(&spec.name).await.message.is_some());
    }
    assert!(bench.0.pod_log(&bench.see("args").await.id, 5).await.unwrap().contains("yes"));
}

#[tokio::test]
async fn a_staged_server_waits_for_its_release() {
    let bench = Bench::new();
    let id = bench.create(&PodSpec { staged: true, ..Bench::spec("p", AOF) }).await;
    assert!(bench.see("p").await.staging);
    assert!(matches!(bench.put(&id, "x", b"1").await, Err(EngineError::Conflict { .. })));
    let staging = bench.0.wait_for_pod(&id, PodGoal::Staging).await.unwrap();
    assert_eq!((staging.phase, staging.staging), (PodPhase::Pending, true));
    bench.put(&id, "x", b"1").await.unwrap();
    let hold = bench.0.clone();
    let waited = id.clone();
    let waiting = tokio::spawn(async move { hold.wait_for_pod(&waited, PodGoal::Running).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    bench.0.release_pod(&id).await.unwrap();
    bench.0.release_pod(&id).await.unwrap();
    assert!(!waiting.await.unwrap().unwrap().staging);
    assert_eq!(bench.0.stat_file(&id, "/data/x").await.unwrap().unwrap().size, 1);
    let late = bench.0.wait_for_pod(&id, PodGoal::Staging).await;
    assert!(matches!(late, Err(EngineError::Failed { .. })));
}

#[tokio::test]
async fn a_deletion_may_go_on_and_is_waited_for() {
    let bench = Bench::new();
    let pod = bench.run(&Bench::spec("p", AOF)).await;
    bench.0.hold_on("p", true).unwrap();
    let (sim, id) = (bench.0.clone(), pod.id.clone());
    let deleting = tokio::spawn(async move { sim.delete_pod(&id, 1).await });
    tokio::task::yield_now().await;
    assert!(!deleting.is_finished() && bench.see("p").await.terminating);
    assert!(bench.0.wait_for_pod(&pod.id, PodGoal::Running).await.is_err());
    bench.0.hold_on("p", false).unwrap();
    deleting.await.unwrap().unwrap();
    assert_eq!(bench.0.find_pod("p").await.unwrap(), None);
}

#[tokio::test]
async fn clients_inside_and_outside_hear_what_real_ones_hear() {
    let bench = Bench::new();
    let pod = bench.run(&Bench::spec("p", AOF)).await;
    let exec = async |line: &str| {
        let argv: Vec<String> = line.split(' ').map(Into::into).collect();
        let done = bench.0.exec(&pod.id, &argv, 1024).await.unwrap();
        (done.exit_code, String::from_utf8(done.stdout).unwrap())
    };
    assert_eq!(exec("redis-cli SET k v").await, (0, "OK\n".into()));
    let (code, words) = exec("redis-cli NOPE").await;
    assert!(code == 0 && words.starts_with("ERR unknown command"), "an error reply is no exit code");
    assert_eq!(exec("redis-cli -e NOPE").await.0, 1);
    assert_eq!(exec("sh -c true").await.0, 127);
    bench.0.set_loading(true);
    assert!(
        matches!(bench.ask(&pod, "GET k").await.unwrap(), Reply::Error(text) if text.starts_with("LOADING"))
    );
    assert!(bench.0.check(&at(&pod), Check::RedisPing).await.is_err());
    bench.0.set_loading(false);
    bench.0.set_hang_ready(true);
    assert!(bench.ask(&pod, "PING").await.is_err());
    assert_eq!(exec("redis-cli PING").await.0, 1);
}
