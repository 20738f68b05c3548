#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsString;
use std::io;

use elasticache_host::{
    Cache, CacheExec, CacheKey, CacheState, Description, Endpoint, Engine, Error, Grants, InvalidInput,
    PolicyInfo, SnapshotInfo,
};

use crate::args::{self, Cli, Command, Parsed, PolicyCommand};
use crate::commands::Outcome;
use crate::documents::Document;
use crate::failure::{Failure, Files};
use crate::output;

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("cachehost").chain(line.split_whitespace()).map(OsString::from).collect()
}

fn parsed(line: &str) -> Cli {
    match args::parse(&words(line)) {
        Ok(Parsed::Run(cli)) => *cli,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn refused(line: &str) -> Failure {
    match args::parse(&words(line)) {
        Err(failure) => failure,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn cache(scope: &str, id: &str, engine: Engine) -> Cache {
    Cache {
        key: CacheKey::new(scope, id).unwrap(),
        engine,
        version: None,
        state: CacheState::Available,
        handle: "0123456789abcdef".repeat(4),
        endpoint: Some(Endpoint { address: "127.0.0.1".to_owned(), port: 32769 }),
        adopted: false,
    }
}

fn stopped(id: &str) -> Cache {
    Cache { state: CacheState::Stopped, endpoint: None, adopted: true, ..cache("", id, Engine::Valkey) }
}

fn json(outcome: &Outcome) -> String {
    String::from_utf8(Document::from(outcome).line().unwrap()).unwrap()
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn options_have_their_defaults_and_may_follow_the_command() {
    // The environment's variables may be set where tests run, so only options without one are looked at.
    let cli = parsed("up a");
    assert_eq!((cli.timeout, cli.json, cli.scope), (None, false, None));
    let cli = parsed("up a --timeout 5 --json --scope eu --instance mine --policy p.wasm --backend docker");
    assert_eq!((cli.timeout, cli.json, cli.scope.as_deref()), (Some(5), true, Some("eu")));
    assert_eq!((cli.instance.as_str(), cli.policy), ("mine", Some("p.wasm".into())));
    assert_eq!(parsed("--scope eu ls").scope.as_deref(), Some("eu"));
}

#[test]
fn up_takes_what_a_cache_is_asked_to_be() {
    let Command::Up(up) = parsed("up a").command else { panic!("not up") };
    assert_eq!((up.engine, up.engine_version, up.from, up.replace_data), (Engine::Redis, None, None, false));

    let line = "up a --engine valkey --engine-version 8.0 --from f.rdb --replace-data --tag k=v --tag e==";
    let Command::Up(up) = parsed(line).command else { panic!("not up") };
    assert_eq!((up.engine, up.engine_version.as_deref()), (Engine::Valkey, Some("8.0")));
    assert_eq!((up.from.clone(), up.replace_data), (Some("f.rdb".into()), true));
    let tags: Vec<_> = up.tags().unwrap().into_iter().collect();
    assert_eq!(tags, [("e".to_owned(), "=".to_owned()), ("k".to_owned(), "v".to_owned())]);
}

#[test]
fn exec_passes_on_everything_after_the_dashes() {
    let Command::Exec { id, args } = parsed("exec a -- --json -h SET k -- v").command else {
        panic!("not exec")
    };
    assert_eq!((id.as_str(), args.join(" ").as_str()), ("a", "--json -h SET k -- v"));

    let odd = ["cachehost", "exec", "a", "--", "SET", "", "a\nb"].map(OsString::from);
    let Ok(Parsed::Run(cli)) = args::parse(&odd) else { panic!("refused") };
    let Command::Exec { args, .. } = cli.command else { panic!("not exec") };
    assert_eq!(args, ["SET", "", "a\nb"]);
}

#[test]
fn the_other_commands_are_understood() {
    assert!(matches!(parsed("down a --delete-data").command, Command::Down { delete_data: true, .. }));
    assert!(matches!(parsed("down a").command, Command::Down { delete_data: false, .. }));
    assert!(matches!(parsed("reap").command, Command::Reap));
    assert!(matches!(parsed("reboot a").command, Command::Reboot { .. }));
    assert!(matches!(parsed("describe a").command, Command::Describe { .. }));
    let Command::Snapshot { file, .. } = parsed("snapshot a f.rdb").command else { panic!("not snapshot") };
    assert_eq!(file.to_str(), Some("f.rdb"));
    let Command::Policy { command: PolicyCommand::Inspect { file } } =
        parsed("policy inspect p.wasm").command
    else {
        panic!("not policy inspect")
    };
    assert_eq!(file.to_str(), Some("p.wasm"));
}

#[test]
fn bad_usage_exits_with_2_and_says_what_is_wrong() {
    for (line, said) in [
        ("", "no command was given"),
        ("policy", "no command was given"),
        ("up", "required arguments were not provided: <ID>"),
        ("up a --engine mongodb", "[possible values: redis, valkey, memcached]"),
        ("up a --replace-data", "--from"),
        ("up a --tag novalue", "write it as KEY=VALUE"),
        ("up a --tag =v", "write it as KEY=VALUE"),
        ("up a --timeout 0", "0 is not in 1..=86400"),
        ("up a --backend qemu", "qemu"),
        ("exec a GET k", "unexpected argument 'GET'"),
        ("exec a --", "required"),
        ("start a", "unrecognized subcommand 'start'"),
    ] {
        let failure = refused(line);
        assert_eq!((failure.exit, failure.code), (2, "usage"), "{line:?}");
        assert!(failure.message.contains(said), "{line:?}: {failure:?}");
        assert!(!failure.message.contains('\n') && !failure.message.starts_with("error"), "{failure:?}");
    }
    let Command::Up(up) = parsed("up a --tag k=1 --tag k=2").command else { panic!("not up") };
    assert_eq!(up.tags().unwrap_err().exit, 2);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_named() {
    use std::os::unix::ffi::OsStringExt;
    let mut line = words("up");
    line.push(OsString::from_vec(b"a\xff".to_vec()));
    let failure = args::parse(&line).unwrap_err();
    assert_eq!(failure.exit, 2);
    assert_eq!(failure.message, "the argument \"a\u{fffd}\" is not valid UTF-8");

    // A file may have any name.
    let mut line = words("snapshot a");
    line.push(OsString::from_vec(b"\xff.rdb".to_vec()));
    assert!(matches!(args::parse(&line), Ok(Parsed::Run(_))));
}

#[test]
fn json_is_recognized_even_where_nothing_else_is() {
    assert!(args::wants_json(&words("up --json --nonsense")));
    assert!(!args::wants_json(&words("exec a -- --json")));
}

#[test]
fn a_cache_is_the_documented_document() {
    let running = Cache { handle: "h".to_owned(), ..cache("eu", "a", Engine::Redis) };
    assert_eq!(
        json(&Outcome::Cache(running)),
        concat!(
            r#"{"scope":"eu","id":"a","engine":"redis","state":"available","handle":"h","#,
            r#""host_port":32769,"endpoint":{"address":"127.0.0.1","port":32769},"adopted":false}"#,
            "\n"
        )
    );
    let caches = vec![Cache { handle: "h".to_owned(), ..stopped("b") }];
    assert_eq!(
        json(&Outcome::Caches { caches, instance: "i".to_owned() }),
        concat!(
            r#"[{"scope":"","id":"b","engine":"valkey","state":"stopped","handle":"h","#,
            r#""host_port":null,"endpoint":null,"adopted":true}]"#,
            "\n"
        )
    );
    assert_eq!(json(&Outcome::Caches { caches: Vec::new(), instance: String::new() }), "[]\n");
}

#[test]
fn the_other_documents_are_as_documented() {
    let exec = CacheExec { success: false, stdout: b"a\xff\n".to_vec(), stderr: Vec::new() };
    assert_eq!(
        json(&Outcome::Exec(exec)),
        "{\"success\":false,\"stdout\":\"a\u{fffd}\\n\",\"stderr\":\"\"}\n"
    );

    let path = "f.rdb".into();
    let snapshot = SnapshotInfo { path, size: 130, rdb_version: 10, engine_version: None };
    assert_eq!(
        json(&Outcome::Snapshot(snapshot)),
        "{\"path\":\"f.rdb\",\"size\":130,\"rdb_version\":10,\"engine_version\":null}\n"
    );

    let key = CacheKey::new("", "a").unwrap();
    assert_eq!(
        json(&Outcome::Down { key, stopped: true, data_deleted: None }),
        "{\"scope\":\"\",\"id\":\"a\",\"stopped\":true,\"data_deleted\":false}\n"
    );
    assert_eq!(json(&Outcome::Reap(vec!["x".to_owned()])), "{\"removed\":[\"x\"]}\n");

    let description = Description {
        name: "durable".to_owned(),
        version: "0.1.0".to_owned(),
        summary: "Keeps data.".to_owned(),
        engines: vec![Engine::Redis],
        backends: vec!["docker"],
        promises: vec!["stable-endpoint"],
    };
    let policy = PolicyInfo {
        path: "p.wasm".into(),
        size: 7,
        sha256: "ab".to_owned(),
        wit_version: "0.1.0".to_owned(),
        imports: vec!["i".to_owned(), "fakecloud:elasticache/kube@0.1.0".to_owned()],
        exports: Vec::new(),
        initial_memory: Some(65536),
        deterministic: true,
        description: Some(description),
    };
    assert_eq!(
        json(&Outcome::Policy(policy, Grants::standard())),
        concat!(
            r#"{"path":"p.wasm","size":7,"sha256":"ab","wit_version":"0.1.0","initial_memory":65536,"#,
            r#""deterministic":true,"imports":["i","fakecloud:elasticache/kube@0.1.0"],"#,
            r#""access":["free","denied"],"exports":[],"#,
            r#""description":{"name":"durable","version":"0.1.0","summary":"Keeps data.","engines":["redis"],"#,
            r#""backends":["docker"],"promises":["stable-endpoint"]}}"#,
            "\n"
        )
    );
    let failure = Failure::usage("no \"such\" option");
    assert_eq!(
        Document::from(&failure).line().unwrap(),
        b"{\"error\":{\"code\":\"usage\",\"message\":\"no \\\"such\\\" option\"}}\n"
    );
}

#[test]
fn people_get_aligned_lines() {
    let shown = output::text(&Outcome::Cache(cache("eu", "a", Engine::Redis)));
    assert_eq!(
        shown,
        "id        a\nscope     eu\nengine    redis\nstate     available\nhandle    0123456789ab\n\
         endpoint  127.0.0.1:32769\nconnect   redis-cli -h 127.0.0.1 -p 32769\n"
    );
    let caches = vec![cache("", "a", Engine::Memcached), stopped("longer")];
    assert_eq!(
        output::text(&Outcome::Caches { caches, instance: String::new() }),
        "ID      ENGINE     STATE      ENDPOINT         HANDLE\n\
         a       memcached  available  127.0.0.1:32769  0123456789ab\n\
         longer  valkey     stopped    -                0123456789ab\n"
    );
    let key = CacheKey::new("", "a").unwrap();
    let none = Outcome::Down { key, stopped: false, data_deleted: Some(false) };
    assert_eq!(output::text(&none), "cache \"a\": nothing ran; it had no data\n");
    assert_eq!(output::exit_code(&none), 0);
}

#[test]
fn a_failed_exec_exits_with_1() {
    for (success, exit) in [(true, 0), (false, 1)] {
        let exec = CacheExec { success, stdout: Vec::new(), stderr: Vec::new() };
        assert_eq!(output::exit_code(&Outcome::Exec(exec)), exit);
    }
}

#[test]
fn each_error_has_its_exit_code() {
    let text = || "text".to_owned();
    let file = || Error::File { path: "f".into(), source: io::Error::other("gone") };
    for (error, exit) in [
        (Error::Invalid(InvalidInput::new("id", "is empty")), 2),
        (Error::NotFound { what: text() }, 5),
        (Error::Conflict { what: text() }, 1),
        (Error::Unavailable { message: text() }, 3),
        (Error::Denied { what: text(), grant: text() }, 4),
        (Error::Timeout { what: text() }, 1),
        (Error::Engine { message: text() }, 1),
        (Error::Corrupt { what: text() }, 1),
        (file(), 2),
        (Error::Other { message: text() }, 1),
    ] {
        let failure = Failure::of(&error, Files::Input);
        assert_eq!((failure.exit, failure.code), (exit, error.code()));
    }
    assert_eq!(Failure::of(&file(), Files::Output).exit, 1);
}

#[test]
fn messages_are_one_line_without_repetition() {
    let error = Error::File { path: "f.rdb".into(), source: io::Error::other("gone") };
    assert_eq!(Failure::of(&error, Files::Input).message, "f.rdb: gone");
    let error = Error::Engine { message: "no\nsuch \x1b[31mimage".to_owned() };
    assert_eq!(Failure::of(&error, Files::Input).message, "no such [31mimage");
}
