//! Servers that follow one another.

use super::*;

async fn two() -> (Bench, Pod, Pod) {
    let bench = Bench::new();
    let old = bench.run(&Bench::spec("old", NEITHER)).await;
    let new = bench.run(&Bench::spec("new", NEITHER)).await;
    bench.ask(&old, "SET k v").await.unwrap();
    (bench, old, new)
}

fn following(pod: &Pod) -> String {
    format!("REPLICAOF {} 6379", pod.address.as_deref().unwrap())
}

fn handing_over(pod: &Pod) -> String {
    format!("FAILOVER TO {} 6379 TIMEOUT 1000", pod.address.as_deref().unwrap())
}

fn is_error(reply: &Reply, words: &str) -> bool {
    matches!(reply, Reply::Error(text) if text.contains(words))
}

#[tokio::test]
async fn a_replica_has_what_its_primary_has_and_keeps_it_without_it() {
    let (bench, old, new) = two().await;
    bench.ask(&new, "SET other x").await.unwrap();
    assert!(bench.0.check(&at(&new), Check::RedisInSync).await.is_err());
    assert_eq!(bench.ask(&new, &following(&old)).await.unwrap(), ok());
    bench.0.check(&at(&new), Check::RedisInSync).await.unwrap();
    bench.ask(&old, "SET l w").await.unwrap();
    assert_eq!(bench.keys(&new).await, Reply::Integer(2), "and what it had itself is gone");
    assert!(is_error(&bench.ask(&new, "SET m x").await.unwrap(), "READONLY"));
    bench.0.kill("old").unwrap();
    assert!(bench.0.check(&at(&new), Check::RedisInSync).await.is_err());
    assert_eq!(bench.ask(&new, "GET l").await.unwrap(), Reply::Bulk(b"w".to_vec()));
    assert_eq!(bench.ask(&new, "REPLICAOF NO ONE").await.unwrap(), ok());
    assert_eq!(bench.ask(&new, "SET m x").await.unwrap(), ok());
}

#[tokio::test]
async fn a_hand_over_makes_them_change_places() {
    let (bench, old, new) = two().await;
    assert!(is_error(&bench.ask(&old, &handing_over(&new)).await.unwrap(), "not a replica"));
    bench.ask(&new, &following(&old)).await.unwrap();
    assert!(is_error(&bench.ask(&new, &handing_over(&old)).await.unwrap(), "when server is a replica"));
    assert!(is_error(&bench.ask(&old, "FAILOVER ABORT").await.unwrap(), "No failover"));
    bench.0.check(&at(&old), Check::RedisPrimary).await.unwrap();
    assert_eq!(bench.ask(&old, &handing_over(&new)).await.unwrap(), ok());
    bench.0.check(&at(&new), Check::RedisPrimary).await.unwrap();
    assert!(bench.0.check(&at(&old), Check::RedisPrimary).await.is_err());
    bench.ask(&new, "SET l w").await.unwrap();
    assert_eq!(bench.keys(&old).await, Reply::Integer(2));
    bench.0.delete_pod(&old.id, 1).await.unwrap();
    assert_eq!(bench.keys(&new).await, Reply::Integer(2));
}

#[tokio::test]
async fn replicas_of_each_other_hear_from_nobody() {
    let (bench, old, new) = two().await;
    bench.ask(&new, &following(&old)).await.unwrap();
    bench.ask(&old, &following(&new)).await.unwrap();
    for pod in [&old, &new] {
        assert!(bench.0.check(&at(pod), Check::RedisInSync).await.is_err());
        assert_eq!(bench.keys(pod).await, Reply::Integer(1));
    }
}
