//! What is kept, where, and when it is lost.

use super::*;

#[tokio::test]
async fn a_claim_outlives_its_pods_and_an_empty_folder_does_not() {
    let bench = Bench::new();
    let claim = bench.claim("c").await;
    let on_claim = PodSpec { data: PodData::Claim("c".into()), ..Bench::spec("p", AOF) };
    for (spec, kept) in [(on_claim, 1), (Bench::spec("q", AOF), 0)] {
        let pod = bench.run(&spec).await;
        assert_eq!(bench.ask(&pod, "SET k v").await.unwrap(), ok());
        bench.0.kill(&spec.name).unwrap();
        bench.0.delete_pod(&pod.id, 1).await.unwrap();
        let next = bench.run(&spec).await;
        assert_ne!(next.address, pod.address, "an address goes with its pod");
        assert_eq!(bench.keys(&next).await, Reply::Integer(kept));
    }
    assert!(matches!(bench.0.delete_claim(&claim).await, Err(EngineError::Conflict { .. })));
    bench.0.kill("p").unwrap();
    bench.0.delete_claim(&claim).await.unwrap();
    assert!(matches!(bench.0.delete_claim(&claim).await, Err(EngineError::NotFound { .. })));
    assert_ne!(bench.claim("c").await, claim);
}

#[tokio::test]
async fn a_deletion_has_redis_save_where_it_would_and_a_kill_never_does() {
    let bench = Bench::new();
    bench.claim("c").await;
    let spec = |args| PodSpec { data: PodData::Claim("c".into()), ..Bench::spec("p", args) };
    for (args, killed, kept) in [(NEITHER, false, 0), (POINTS, true, 0), (POINTS, false, 1)] {
        let pod = bench.run(&spec(args)).await;
        bench.ask(&pod, "SET k v").await.unwrap();
        if killed {
            bench.0.kill("p").unwrap();
        }
        bench.0.delete_pod(&pod.id, 1).await.unwrap();
        let next = bench.run(&spec(NEITHER)).await;
        assert_eq!(bench.keys(&next).await, Reply::Integer(kept), "{args:?}");
        bench.0.delete_pod(&next.id, 1).await.unwrap();
    }
}

#[tokio::test]
async fn no_pod_outlives_its_node_s_container_engine() {
    let bench = Bench::new();
    bench.claim("c").await;
    let spec = PodSpec { data: PodData::Claim("c".into()), ..Bench::spec("p", AOF) };
    let pod = bench.run(&spec).await;
    bench.ask(&pod, "SET k v").await.unwrap();
    let staged = bench.create(&PodSpec { staged: true, ..Bench::spec("s", AOF) }).await;
    bench.0.wait_for_pod(&staged, PodGoal::Staging).await.unwrap();
    bench.create(&Bench::spec("pending", AOF)).await;
    bench.0.node_restart();
    assert_eq!(bench.see("p").await.phase, PodPhase::Succeeded);
    assert_eq!(bench.see("s").await.phase, PodPhase::Failed);
    assert_eq!(bench.see("pending").await.phase, PodPhase::Pending);
    bench.0.delete_pod(&pod.id, 1).await.unwrap();
    let next = bench.run(&spec).await;
    assert_eq!(bench.keys(&next).await, Reply::Integer(1));
}

#[tokio::test]
async fn a_save_that_cannot_have_its_name_fails() {
    let bench = Bench::new();
    let pod = bench.run(&Bench::spec("p", AOF)).await;
    assert_eq!(bench.ask(&pod, "SAVE").await.unwrap(), ok());
    bench.0.fail_saves("p").unwrap();
    assert!(matches!(bench.ask(&pod, "SAVE").await.unwrap(), Reply::Error(_)));
    assert_eq!(bench.ask(&pod, "SET k v").await.unwrap(), ok(), "writes go on");
}
