//! Containers, images, ports and what happens to them.

use super::*;

#[tokio::test]
async fn a_container_goes_through_its_states() {
    let bench = Bench::new().await;
    let id = bench.create("c", 7000, AOF).await;
    assert_eq!(id.len(), 64);
    let seen = bench.see(&id).await;
    assert_eq!((seen.state, seen.published, seen.exit_code), (ContainerState::Created, None, None));
    assert!(matches!(bench.0.exec("c", &[], 9).await, Err(EngineError::Conflict { .. })));
    bench.0.start_container(&id).await.unwrap();
    bench.0.start_container(&id).await.unwrap();
    let seen = bench.see("c").await;
    assert_eq!((seen.state, seen.published.unwrap().host_port), (ContainerState::Running, 7000));
    assert!(matches!(bench.0.remove_container(&id).await, Err(EngineError::Conflict { .. })));
    assert!(matches!(bench.0.remove_volume("vol").await, Err(EngineError::Conflict { .. })));
    bench.0.stop_container(&id, 10).await.unwrap();
    let seen = bench.see("c").await;
    assert_eq!((seen.state, seen.published, seen.exit_code), (ContainerState::Exited, None, Some(0)));
    assert_eq!(bench.0.list_containers(&[("a", "1")]).await.unwrap()[0].exit_code, None);
    assert!(bench.0.list_containers(&[("a", "2")]).await.unwrap().is_empty());
    bench.0.remove_container(&id).await.unwrap();
    assert!(matches!(bench.0.remove_container(&id).await, Err(EngineError::NotFound { .. })));
    bench.0.remove_volume("vol").await.unwrap();
    assert!(matches!(bench.0.remove_volume("vol").await, Err(EngineError::NotFound { .. })));
}

#[tokio::test]
async fn names_images_volumes_and_ports_are_checked() {
    let bench = Bench::run("c", 7000, AOF).await;
    let create = async |change: &dyn Fn(&mut ContainerSpec)| {
        let mut spec = Bench::spec("d", 7000, AOF);
        change(&mut spec);
        bench.0.create_container(&spec).await
    };
    assert!(matches!(create(&|spec| spec.name = "c".into()).await, Err(EngineError::Conflict { .. })));
    assert!(matches!(create(&|spec| spec.name = "/c".into()).await, Err(EngineError::Failed { .. })));
    assert!(matches!(create(&|spec| spec.image = "other".into()).await, Err(EngineError::NotFound { .. })));
    assert!(matches!(create(&|s| s.mounts[0].0 = "gone".into()).await, Err(EngineError::NotFound { .. })));

    let id = create(&|_| {}).await.unwrap();
    let taken = bench.0.start_container(&id).await;
    assert!(matches!(taken, Err(EngineError::PortTaken { port: 7000, .. })));
    assert_eq!(bench.see("d").await.state, ContainerState::Created);
    assert!(!bench.0.port_is_free(LOCAL, 7000).await);
    bench.0.stop_container("c", 10).await.unwrap();
    assert!(bench.0.port_is_free(LOCAL, 7000).await);
    bench.0.occupy_port(7000);
    assert!(!bench.0.port_is_free(LOCAL, 7000).await);
    assert!(matches!(bench.0.start_container(&id).await, Err(EngineError::PortTaken { .. })));
    assert_ne!(bench.ask(7000, "PING").await.unwrap_err().message, "connection refused");
    bench.0.release_port(7000);
    bench.0.start_container(&id).await.unwrap();
}

#[tokio::test]
async fn an_image_can_be_fetched_if_it_is_registered() {
    #[derive(Default)]
    struct Count(AtomicU64);
    impl ProgressSink for Count {
        fn report(&self, progress: Progress) {
            if let Progress::Pull { current, .. } = progress {
                self.0.store(current, Ordering::Relaxed);
            }
        }
    }
    let bench = Bench::new().await;
    assert!(matches!(bench.0.pull_image("x:1", silent()).await, Err(EngineError::NotFound { .. })));
    bench.0.set_pullable("x:1", true);
    let count = Arc::new(Count::default());
    bench.0.pull_image("x:1", count.clone()).await.unwrap();
    assert!(count.0.load(Ordering::Relaxed) > 0);
    let mut spec = Bench::spec("c", 7000, AOF);
    spec.image = "x:1".into();
    bench.0.create_container(&spec).await.unwrap();
    bench.0.remove_image("x:1");
    assert!(matches!(bench.0.start_container("c").await, Err(EngineError::NotFound { .. })));
}

#[tokio::test]
async fn waiting_ends_with_the_process_and_not_before() {
    let bench = Bench::run("c", 7000, AOF).await;
    let engine = bench.0.clone();
    let waiting = tokio::spawn(async move { engine.wait_exit("c").await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    bench.0.crash("c").unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 137, "though it was started again at once");
    assert_eq!(bench.see("c").await.state, ContainerState::Running);
    bench.0.kill("c").unwrap();
    assert_eq!(bench.0.wait_exit("c").await.unwrap(), 137);
    assert!(matches!(bench.0.wait_exit("none").await, Err(EngineError::NotFound { .. })));
}

#[tokio::test]
async fn after_a_restart_of_the_engine_only_what_was_not_stopped_runs() {
    let bench = Bench::run("c", 7000, AOF).await;
    bench.ask(7000, "SET k v").await.unwrap();
    for (name, port, restart) in
        [("stopped", 7001, RestartPolicy::UnlessStopped), ("never", 7002, RestartPolicy::Never)]
    {
        let spec = ContainerSpec { restart, mounts: vec![], ..Bench::spec(name, port, AOF) };
        bench.0.create_container(&spec).await.unwrap();
        bench.0.start_container(name).await.unwrap();
    }
    bench.create("created", 7003, AOF).await;
    bench.0.stop_container("stopped", 10).await.unwrap();
    bench.0.daemon_restart();
    assert_eq!(bench.see("c").await.published.unwrap().host_port, 7000);
    assert_eq!(bench.keys(7000).await, 1);
    assert_eq!(bench.see("stopped").await.state, ContainerState::Exited);
    assert_eq!(bench.see("never").await.state, ContainerState::Exited);
    assert_eq!(bench.see("created").await.state, ContainerState::Created);
}

#[tokio::test]
async fn a_port_that_the_engine_chooses_changes_at_each_start() {
    let bench = Bench::run("c", 0, AOF).await;
    let first = bench.see("c").await.published.unwrap().host_port;
    bench.0.restart_container("c", 10).await.unwrap();
    assert_ne!(bench.see("c").await.published.unwrap().host_port, first);
}

#[tokio::test]
async fn a_call_can_fail_before_or_after_its_effect() {
    let bench = Bench::new().await;
    let spec = Bench::spec("c", 7000, AOF);
    bench.0.fail_next(Call::CreateContainer, lost(), false);
    bench.0.fail_next(Call::CreateContainer, lost(), true);
    assert_eq!(bench.0.create_container(&spec).await, Err(lost()));
    assert_eq!(bench.0.inspect_container("c").await.unwrap(), None);
    assert_eq!(bench.0.create_container(&spec).await, Err(lost()));
    assert!(bench.0.inspect_container("c").await.unwrap().is_some());
    assert!(matches!(bench.0.create_container(&spec).await, Err(EngineError::Conflict { .. })));
    bench.0.fail_next(Call::StartContainer, lost(), true);
    assert_eq!(bench.0.start_container("c").await, Err(lost()));
    bench.0.fail_next(Call::Command, lost(), true);
    assert!(bench.ask(7000, "SET k v").await.unwrap_err().message.contains("hung up"));
    assert_eq!(bench.keys(7000).await, 1);
    assert_eq!(bench.0.faults_left(), 0);
}

#[tokio::test]
async fn foreign_objects_and_foreign_states_can_be_shown() {
    let bench = Bench::new().await;
    bench.0.insert_foreign_container("f", &[("a", "1")], true).unwrap();
    assert_eq!(bench.see("f").await.labels, owned(&[("a", "1")]));
    bench.create("c", 7000, AOF).await;
    let names: Vec<_> = bench.0.list_containers(&[("a", "1")]).await.unwrap();
    assert_eq!(names.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["c", "f"], "the newest first");
    bench.0.start_container("c").await.unwrap();
    bench.0.set_state("c", ContainerState::Paused).unwrap();
    assert!(matches!(bench.0.start_container("c").await, Err(EngineError::Conflict { .. })));
    assert!(bench.ask(7000, "PING").await.is_err());
    bench.0.set_state("c", ContainerState::Running).unwrap();
    bench.ask(7000, "PING").await.unwrap();
}

#[tokio::test]
async fn the_same_calls_give_the_same_identities_and_traces() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bench = Bench::run("c", 7000, AOF).await;
        let id = bench.see("c").await.id;
        bench.exec(&id, "redis-cli SAVE").await;
        bench.0.check(&at(7000), Check::RedisPing).await.unwrap();
        bench.0.list_containers(&[("a", "1"), ("b", "2")]).await.unwrap();
        runs.push((id, bench.0.calls()));
    }
    assert_eq!(runs[0], runs[1]);
    let expected = [
        "create_volume vol",
        "create_container c",
        "start_container c",
        "inspect_container c",
        "exec c redis-cli SAVE",
        "check 127.0.0.1:7000 RedisPing",
        "list_containers a=1,b=2",
    ];
    assert_eq!(runs[0].1, expected);
}
