//! Reports made up for the tests, with everything in them that a page has to show, and some that it must not obey.

use conformance::faults::{Fault, Planned};
use conformance::report::model::*;

/// Markup that must never become any.
pub const HOSTILE: &str =
    r#"</script><script>window.obeyed = 1</script><img src=x onerror="window.obeyed = 1"> & "quoted" <!--"#;

/// Calls in the matrix: more than fit beside each other on any screen.
pub const COLUMNS: usize = 60;

/// Everything that applies was tried and held.
pub fn conforming() -> Report {
    let clauses = [
        ("NAME-1", "core", "Two caches of different ids MUST NOT share an object.", Status::Passed),
        (
            "NAME-2",
            "core",
            "An id that an engine takes no name of MUST have one all the same.",
            Status::Passed,
        ),
        ("BOOT-1", "core", "An endpoint that is returned MUST answer.", Status::Passed),
        ("SNAP-1", "durable", "A snapshot MUST be whole before it has its name.", Status::Passed),
        ("STOP-1", "durable", "A stop MUST keep every acknowledged write.", Status::Passed),
        ("KUBE-1", "kube", "A pod MUST NOT be given a token of a service account.", Status::NotClaimed),
    ];
    Report {
        policy: Policy {
            file: "durable.wasm".to_owned(),
            sha256: "4f".repeat(32),
            name: "durable".to_owned(),
            version: "1.2.3".to_owned(),
            promises: vec!["data-survives-stop".to_owned(), "endpoint-survives-reboot".to_owned()],
        },
        wit_sha256: "a0".repeat(32),
        suite_sha256: "0b".repeat(32),
        backend: "sim".to_owned(),
        world: "kube-claims".to_owned(),
        profile: None,
        faults: Faults::Single,
        seed: u64::MAX,
        schedules: None,
        started: "2026-05-04T03:02:01Z".to_owned(),
        verdict: Verdict::Conforms,
        clauses: clauses.map(|(id, profile, text, status)| clause(id, profile, text, status)).to_vec(),
        scenarios: vec![
            scenario("a-stop-keeps-every-write", Some("redis"), Status::Passed, ""),
            scenario(
                "a-pod-has-no-token",
                None,
                Status::NotClaimed,
                "running on another backend than docker",
            ),
        ],
        matrix: vec![row("a-stop-keeps-every-write", "redis", 12), row("a-reboot", "valkey", COLUMNS)],
        failures: Vec::new(),
        figures: [("schedules".to_owned(), 576), ("host calls".to_owned(), 20_736)].into(),
        skipped: Vec::new(),
        mutants: None,
    }
}

/// Something did not hold: a write was lost where a host died, and where two things went wrong on a cluster.
pub fn failing() -> Report {
    let mut report = conforming();
    report.verdict = Verdict::Fails;
    (report.faults, report.schedules) = (Faults::Random, Some(4_711));
    for clause in report.clauses.iter_mut().filter(|clause| clause.id == "STOP-1") {
        clause.status = Status::Failed;
    }
    report.clauses.push(clause("OWN-9", "core", HOSTILE, Status::Skipped));
    report.scenarios.push(scenario("own-nine", Some("redis"), Status::Failed, HOSTILE));
    for cell in &mut report.matrix[0].cells {
        cell.violations = match (cell.call, cell.fault) {
            (3, Fault::CrashAfter) => cell.runs,
            _ => 0,
        };
    }
    report.failures = vec![crash(), pair()];
    report.skipped = vec![Skip { what: HOSTILE.to_owned(), why: "it was left out".to_owned() }];
    report.mutants = Some(vec![
        mutant("reap-by-process-id", Some("STOP-1"), Some("a-stop-keeps-every-write")),
        mutant("a-damaged-cache-file-is-trusted", Some("HOST-8"), Some("host_policy_files")),
        mutant("the-survivor", None, None),
    ]);
    report
}

fn clause(id: &str, profile: &str, text: &str, status: Status) -> Clause {
    let tests = match status {
        Status::NotClaimed => Vec::new(),
        _ => vec![format!("corpus {}", id.to_lowercase()), "docker_traps".to_owned()],
    };
    Clause { id: id.to_owned(), profile: profile.to_owned(), text: text.to_owned(), status, tests }
}

fn scenario(name: &str, engine: Option<&str>, outcome: Status, message: &str) -> Scenario {
    Scenario {
        name: name.to_owned(),
        title: format!("what {name} says holds"),
        engine: engine.map(str::to_owned),
        clauses: vec!["STOP-1".to_owned()],
        outcome,
        message: message.to_owned(),
    }
}

fn row(scenario: &str, engine: &str, calls: usize) -> Row {
    let faults = [Fault::FailBefore, Fault::FailAfter, Fault::CrashAfter];
    let cell = |call, fault| Cell { call, fault, runs: 2, violations: 0 };
    Row {
        scenario: scenario.to_owned(),
        engine: engine.to_owned(),
        calls: (0..calls).map(|index| Call { index, name: format!("call-{index}") }).collect(),
        cells: (0..calls).flat_map(|call| faults.map(|fault| cell(call, fault))).collect(),
    }
}

fn crash() -> Failure {
    Failure {
        clause: "STOP-1".to_owned(),
        scenario: "a-stop-keeps-every-write".to_owned(),
        engine: "redis".to_owned(),
        schedule: vec![Planned { call: 3, fault: Fault::CrashAfter }],
        seed: None,
        message: format!("step 4: 999 keys instead of 1000\n{HOSTILE}"),
        replay: format!(
            "cargo xtask conformance --backend sim --replay {}",
            "a-stop/redis/3:crash-after".repeat(4)
        ),
        calls: vec![
            line(0, Target::Engine, "find_container", "none", None),
            line(0, Target::Engine, "create_container", "created", None),
            line(0, Target::Cache, "ping", "PONG", None),
            line(0, Target::Engine, "stop", "", Some(Fault::CrashAfter)),
            line(1, Target::Engine, HOSTILE, "exited, exit code 0", None),
            line(1, Target::Cache, "command", "999", None),
        ],
    }
}

fn pair() -> Failure {
    Failure {
        clause: "FAIL-2".to_owned(),
        scenario: "random-18446744073709551615".to_owned(),
        engine: "valkey".to_owned(),
        schedule: vec![
            Planned { call: 1, fault: Fault::FailBefore },
            Planned { call: 2, fault: Fault::Stale },
        ],
        seed: Some(u64::MAX),
        message: "it does not come to an end".to_owned(),
        replay: "cargo xtask conformance --backend sim --replay random-18446744073709551615/valkey/"
            .to_owned(),
        calls: vec![
            line(0, Target::Cluster, "find_pod", "none", None),
            line(0, Target::Cluster, "create_pod", "no answer", Some(Fault::FailBefore)),
            line(0, Target::Cluster, "find_pod", "none", Some(Fault::Stale)),
            line(0, Target::Cache, "ping", "PONG", None),
        ],
    }
}

fn line(host: u32, target: Target, call: &str, result: &str, fault: Option<Fault>) -> Line {
    Line {
        host,
        target,
        call: call.to_owned(),
        object: "elasticache-s-a".to_owned(),
        result: result.to_owned(),
        fault,
    }
}

fn mutant(id: &str, killed_by: Option<&str>, test: Option<&str>) -> Mutant {
    Mutant {
        id: id.to_owned(),
        file: "guest/kit/src/steps.rs".to_owned(),
        what: format!("{id}: {HOSTILE}"),
        killed_by: killed_by.map(str::to_owned).into_iter().collect(),
        test: test.map(str::to_owned),
    }
}
