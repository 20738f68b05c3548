//! Leases, secrets and the clock.

use super::*;

fn lease(holder: &str, renewed: SystemTime) -> Lease {
    Lease {
        name: "l".into(),
        labels: pairs(&[("a", "1")]),
        annotations: BTreeMap::new(),
        holder: holder.into(),
        seconds: 15,
        renewed,
    }
}

#[tokio::test]
async fn a_lease_is_taken_by_one_and_only_from_whom_it_was_seen_with() {
    let sim = SimKube::new();
    let start = sim.now().await.unwrap();
    let first = lease("first", start);
    assert_eq!(sim.take_lease(&first, None).await.unwrap(), None);
    assert_eq!(sim.take_lease(&first, None).await.unwrap(), None, "an attempt whose answer was lost");
    let second = lease("second", start);
    assert_eq!(sim.take_lease(&second, None).await.unwrap(), Some(first.clone()));
    sim.advance(Duration::from_secs(20));
    let renewed = lease("first", sim.now().await.unwrap());
    assert_eq!(sim.take_lease(&renewed, Some(&first)).await.unwrap(), None);
    assert_eq!(sim.take_lease(&second, Some(&first)).await.unwrap(), Some(renewed.clone()));
    assert!(matches!(sim.delete_lease("l", start).await, Err(EngineError::Conflict { .. })));
    assert_eq!(sim.take_lease(&second, Some(&renewed)).await.unwrap(), None);
    assert_eq!(sim.list_leases(&[("a", "1")]).await.unwrap(), [second]);
    sim.delete_lease("l", start).await.unwrap();
    assert!(matches!(sim.delete_lease("l", start).await, Err(EngineError::NotFound { .. })));
    assert!(matches!(sim.take_lease(&first, Some(&renewed)).await, Err(EngineError::NotFound { .. })));
    assert_eq!(sim.take_lease(&first, None).await.unwrap(), None, "nothing is in its way");
}

#[tokio::test]
async fn a_written_lease_takes_the_place_of_whatever_was_there() {
    let sim = SimKube::new();
    sim.write_lease(&lease("a", UNIX_EPOCH)).await.unwrap();
    sim.write_lease(&lease("b", UNIX_EPOCH)).await.unwrap();
    assert_eq!(sim.list_leases(&[]).await.unwrap(), [lease("b", UNIX_EPOCH)]);
    assert!(sim.list_leases(&[("a", "2")]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_shared_secret_is_what_was_made_first() {
    let sim = SimKube::new();
    assert_eq!(sim.shared_secret("s", "k", b"1").await.unwrap(), b"1");
    assert_eq!(sim.shared_secret("s", "k", b"2").await.unwrap(), b"1");
    assert!(matches!(sim.shared_secret("s", "other", b"2").await, Err(EngineError::Failed { .. })));
}

#[tokio::test]
async fn the_clock_tells_whole_seconds_and_moves_when_it_is_moved() {
    let sim = SimKube::new();
    sim.advance(Duration::from_millis(2500));
    assert_eq!(sim.now().await.unwrap(), UNIX_EPOCH + Duration::from_secs(EPOCH + 2));
}
