//! The command line as people and programs use it: on a real Docker Engine.
//!
//! Clauses: CLI-1, CLI-2, CLI-3, CLI-4, CLI-5, CLI-6, NAME-4, UP-3, UP-4, BOOT-4, SNAP-3, SNAP-8, REST-2, REST-3,
//! REST-7, REST-12, EXEC-2, EXEC-3, EXEC-4, EXEC-5, DESC-1, DESC-2, LIST-4, DOCK-4, HOST-9.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use support::documents::{self, fields};
use support::proxy::{Fate, Proxy};
use support::{World, docker, eventually, ran};

fn is_cache(document: &Value, id: &str, engine: &str, adopted: bool) {
    documents::is_available(document, id, engine, adopted);
    assert_eq!(document["endpoint"]["address"], "127.0.0.1");
    assert_eq!(docker::state(document["handle"].as_str().unwrap()), "running");
}

#[test]
fn what_one_invocation_starts_the_next_finds() {
    let world = World::new("finds");
    assert_eq!(world.done(&["ls"]), json!([]));
    let [a, b, c] = ["a", "b", "c"].map(|name| world.id(name));
    let first = world.done(&["up", &a, "--tag", "team=x", "--tag", "empty="]);
    is_cache(&first, &a, "redis", false);
    let again = world.done(&["up", &a]);
    is_cache(&again, &a, "redis", true);
    assert_eq!((&again["handle"], &again["endpoint"]), (&first["handle"], &first["endpoint"]));
    is_cache(&world.done(&["up", &b, "--engine", "valkey", "--engine-version", "8"]), &b, "valkey", false);
    is_cache(&world.done(&["--scope", "", "up", &c, "--engine", "memcached"]), &c, "memcached", false);

    let listed = world.done(&["ls"]);
    let found: Vec<Value> = [&a, &b, &c].map(|id| world.done(&["describe", id])).into();
    assert_eq!(listed, json!(found), "by name, and all as they are");
    for (cache, (id, engine)) in found.iter().zip([(&a, "redis"), (&b, "valkey"), (&c, "memcached")]) {
        is_cache(cache, id, engine, true);
    }
    for (id, engine) in [(&a, "redis"), (&b, "valkey"), (&c, "memcached")] {
        is_cache(&world.done(&["reboot", id]), id, engine, true);
    }

    // Another scope is another cache; another instance sees none.
    let scoped = world.done(&["--scope", "eu", "up", &a]);
    assert_eq!((&scoped["scope"], &scoped["adopted"]), (&json!("eu"), &json!(false)));
    assert_ne!(scoped["handle"], first["handle"]);
    assert_eq!(world.done(&["ls"]).as_array().unwrap().len(), 4);
    assert_eq!(world.done(&["ls", "--scope", "eu"]), json!([world.done(&["describe", &a, "--scope", "eu"])]));
    assert_eq!(world.done(&["ls", "--scope", ""]).as_array().unwrap().len(), 3);
    assert_eq!(world.done(&["ls", "--instance", &world.other_instance("other")]), json!([]));
}

#[test]
fn each_command_prints_its_one_document() {
    let world = World::new("documents");
    let id = world.id("d");
    let file = world.folder("out").join("s.rdb");
    world.done(&["up", &id]);
    assert_eq!(
        world.done(&["exec", &id, "--", "SET", "k", "a value"]),
        json!({"success": true, "stdout": "OK\n", "stderr": ""})
    );
    let snapshot = world.done(&["snapshot", &id, file.to_str().unwrap()]);
    assert_eq!(fields(&snapshot), ["engine_version", "path", "rdb_version", "size"].into());
    assert_eq!(snapshot["size"], std::fs::metadata(&file).unwrap().len());
    let copy = world.id("copy");
    is_cache(&world.done(&["up", &copy, "--from", file.to_str().unwrap()]), &copy, "redis", false);
    assert_eq!(world.done(&["exec", &copy, "--", "GET", "k"])["stdout"], "a value\n");
    assert_eq!(world.done(&["reap"]), json!({"removed": []}));
    let down = |stopped: bool, deleted: bool| json!({"scope": "", "id": id, "stopped": stopped, "data_deleted": deleted});
    assert_eq!(world.done(&["down", &id]), down(true, false));
    assert_eq!(world.done(&["down", &id]), down(false, false));
    assert!(docker::volume_exists(&world.volume_of("d")));
    assert_eq!(world.done(&["down", &id, "--delete-data"]), down(false, true));
    assert_eq!(world.done(&["down", &id, "--delete-data"]), down(false, false));
    assert!(!docker::volume_exists(&world.volume_of("d")));
}

#[test]
fn people_get_lines_and_no_progress_where_there_is_no_terminal() {
    let world = World::new("lines");
    let id = world.id("l");
    let plain = |args: &[&str]| ran(world.command().args(args));
    let up = plain(&["up", &id]);
    assert_eq!((up.code(), up.stderr.as_str()), (0, ""));
    assert!(up.stdout.contains(&id) && up.stdout.contains("127.0.0.1:"), "{}", up.stdout);
    assert!(!up.stdout.contains('\u{1b}'), "{:?}", up.stdout);
    let exec = plain(&["exec", &id, "--", "ECHO", "as it came"]);
    assert_eq!((exec.stdout.as_str(), exec.stderr.as_str()), ("as it came\n", ""));
    let error = plain(&["describe", &world.id("none")]);
    assert_eq!((error.code(), error.stdout.as_str()), (5, ""));
    assert!(error.stderr.starts_with("error: ") && error.stderr.contains("not found"), "{}", error.stderr);
}

#[test]
fn exit_codes_say_what_happened() {
    let world = World::new("codes");
    let (id, none) = (world.id("c"), world.id("none"));
    let file = world.folder("out").join("s.rdb");
    let file = file.to_str().unwrap();
    world.done(&["up", &id]);
    world.done(&["snapshot", &id, file]);
    let code = |args: &[&str], exit: i32, word: &str| {
        let ran = world.cli(args);
        assert_eq!((ran.code(), ran.error().0.as_str()), (exit, word), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
    };
    // 1: it failed. A command that the server refuses is one that failed, and still has its document.
    let refused = world.cli(&["exec", &id, "--", "NOSUCHCOMMAND"]);
    assert_eq!((refused.code(), &refused.json()["success"]), (1, &json!(false)), "{refused:?}");
    code(&["up", &id, "--from", file], 1, "conflict");
    code(&["up", &id, "--engine", "valkey"], 1, "conflict");
    // 2: the input is at fault; see below for more.
    code(&["up"], 2, "usage");
    // 5: there is no such cache.
    for args in [
        &["describe", &none][..],
        &["reboot", &none],
        &["exec", &none, "--", "PING"],
        &["snapshot", &none, file],
    ] {
        code(args, 5, "not-found");
    }
    // 3: no engine.
    let missing = format!("unix://{}/none.sock", world.folder("none").display());
    for args in [&["ls"][..], &["up", &id], &["down", &id]] {
        let ran = ran(world.command().arg("--json").args(args).env("DOCKER_HOST", &missing));
        assert_eq!((ran.code(), ran.error().0.as_str()), (3, "unavailable"), "{args:?}: {ran:?}");
        assert!(ran.error().1.contains("DOCKER_HOST"), "what to do: {}", ran.error().1);
    }
    assert_eq!(world.objects().len(), 2, "{:?}", world.objects());
}

/// Files that are no policies for this host, each with what is to be said of it.
fn no_policies(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut newer = std::fs::read(support::policy()).unwrap();
    let (old, new) = (b"lifecycle@0.1.0", b"lifecycle@0.2.0");
    for at in 0..newer.len() - old.len() {
        if newer[at..].starts_with(old) {
            newer[at..at + old.len()].copy_from_slice(new);
        }
    }
    let cut = std::fs::read(support::policy()).unwrap();
    vec![
        (file("text.wasm", b"not a component"), "no WebAssembly component"),
        (file("empty.wasm", b""), "no WebAssembly component"),
        (file("module.wasm", b"\0asm\x01\0\0\0"), "core WebAssembly module"),
        (file("other.wasm", b"\0asm\x0d\0\x01\0"), "no lifecycle policy"),
        (file("cut.wasm", &cut[..cut.len() / 2]), "cannot be prepared"),
        (file("newer.wasm", &newer), "rebuild it"),
        (folder.join("missing.wasm"), "cannot be read"),
        (folder.to_owned(), "cannot be read"),
    ]
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let world = World::new("bad");
    let (id, m) = (world.id("mine"), world.id("m"));
    let folder = world.folder("in");
    let good = folder.join("good.rdb");
    let handle = world.done(&["up", &id])["handle"].as_str().unwrap().to_owned();
    world.done(&["exec", &id, "--", "SET", "k", "v"]);
    world.done(&["snapshot", &id, good.to_str().unwrap()]);
    world.done(&["up", &m, "--engine", "memcached"]);
    let bytes = std::fs::read(&good).unwrap();
    let corrupt = folder.join("corrupt.rdb");
    std::fs::write(&corrupt, &bytes[..bytes.len() - 3]).unwrap();
    let missing = folder.join("missing.rdb");
    let [good, corrupt, missing, folder] =
        [&good, &corrupt, &missing, &folder].map(|path| path.to_str().unwrap());
    let (long, new) = ("x".repeat(2000), world.id("new"));

    let table: &[(&[&str], &str)] = &[
        (&["up", ""], "id is empty"),
        (&["describe", ""], "id is empty"),
        (&["exec", "", "--", "PING"], "id is empty"),
        (&["down", "", "--delete-data"], "id is empty"),
        (&["up", &long], "2000 bytes"),
        (&["up", "a\nb"], "control character"),
        (&["up", &new, "--scope", &long], "2000 bytes"),
        (&["up", &new, "--engine", "mysql"], "memcached"),
        (&["up", &new, "--engine", ""], "memcached"),
        (&["up", &new, "--engine-version", "3.2"], "3.2"),
        (&["up", &new, "--engine-version", "latest"], "latest"),
        (&["up", &new, "--engine-version", ""], "version"),
        (&["up", &new, "--engine", "memcached", "--engine-version", "9"], "9"),
        (&["up", &new, "--tag", "novalue"], "KEY=VALUE"),
        (&["up", &new, "--tag", "a=1", "--tag", "a=2"], "more than once"),
        (&["up", &new, "--from", missing], "missing.rdb"),
        (&["up", &new, "--from", folder], "irectory"),
        (&["up", &new, "--from", corrupt], "corrupt.rdb"),
        (&["up", &id, "--from", corrupt, "--replace-data"], "corrupt.rdb"),
        (&["up", &new, "--replace-data"], "--from"),
        (&["up", &new, "--engine", "memcached", "--from", good], "memcached"),
        (&["exec", &id, "--", "SET", "k", "two\nlines"], "line break"),
        (&["exec", &id, "--", "SET", "k", "two\rlines"], "line break"),
        (&["exec", &id], "ARG"),
        (&["exec", &m, "--", "GET", "k"], "memcached"),
        (&["snapshot", &m, missing], "memcached"),
        (&["up", &new, "--timeout", "0"], "0"),
        (&["up", &new, "--timeout", "soon"], "soon"),
        (&["up", &new, "--backend", "nomad"], "nomad"),
        (&["up", &new, "--instance", "a\nb"], "instance"),
        (&["policy", "inspect", missing], "cannot be read"),
        (&["frobnicate"], "frobnicate"),
        (&["up", &new, "--frobnicate"], "--frobnicate"),
        (&[], "no command"),
    ];
    let before = (world.objects(), docker::life(&handle));
    let fails = |args: &[&str], words: &str| {
        let ran = world.cli(args);
        assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""), "{args:?}: {ran:?}");
        let (code, message) = ran.error();
        assert!(["usage", "invalid", "file", "policy"].contains(&code.as_str()), "{args:?}: {code}");
        assert!(message.contains(words) && !message.contains('\n'), "{args:?}: {message}");
        assert_eq!((world.objects(), docker::life(&handle)), before, "{args:?}");
    };
    for (args, words) in table {
        fails(args, words);
    }
    for (path, words) in no_policies(&world.folder("policies")) {
        let path = path.to_str().unwrap();
        fails(&["up", &new, "--policy", path], words);
        fails(&["down", &id, "--policy", path], words);
        fails(&["policy", "inspect", path], words);
    }
    assert_eq!(world.done(&["exec", &id, "--", "GET", "k"])["stdout"], "v\n");
}

#[test]
fn a_policy_is_inspected_without_an_engine() {
    let world = World::new("inspect");
    let path = support::policy();
    let inspect = || {
        let mut command = world.command();
        command.args(["--json", "policy", "inspect"]).arg(&path).env("DOCKER_HOST", "unix:///nowhere");
        ran(&mut command).json()
    };
    let info = inspect();
    assert_eq!(
        fields(&info),
        [
            "access",
            "description",
            "deterministic",
            "exports",
            "imports",
            "initial_memory",
            "path",
            "sha256",
            "size",
            "wit_version"
        ]
        .into()
    );
    assert_eq!(info["deterministic"], true);
    assert_eq!(info["size"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(info["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(info["wit_version"], "0.1.0");
    assert_eq!(info["exports"], json!(["fakecloud:elasticache/lifecycle@0.1.0"]));
    let imports: Vec<&str> =
        info["imports"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(imports.contains(&"fakecloud:elasticache/docker@0.1.0"), "{imports:?}");
    let allowed =
        |name: &&str| name.starts_with("fakecloud:elasticache/") || name.starts_with("wasi:config/");
    assert!(imports.iter().all(allowed), "no WASI import that it does not need: {imports:?}");
    assert_eq!(info["description"]["name"], "durable");

    // What is compiled replaces the file: one that is still the same was read.
    let compiled = || {
        let files = std::fs::read_dir(world.folder("cache").join("compiled")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().ino()).collect::<Vec<_>>()
    };
    let before = compiled();
    assert_eq!(before.len(), 1, "it is kept");
    assert_eq!(inspect(), info);
    assert_eq!(compiled(), before, "and not compiled again");
}

#[test]
fn it_works_from_any_folder_where_the_policy_lies_beside_it() {
    let world = World::new("beside");
    let installed = world.folder("installed");
    std::fs::copy(support::cachehost(), installed.join("cachehost")).unwrap();
    let id = world.id("b");
    let run = |args: &[&str]| {
        let mut command = Command::new(installed.join("cachehost"));
        command.args(["--json"]).args(args).current_dir("/");
        for (name, value) in world.command().get_envs() {
            if let Some(value) = value.filter(|_| name != "FAKECLOUD_ELASTICACHE_POLICY") {
                command.env(name, value);
            }
        }
        ran(command.env_remove("FAKECLOUD_ELASTICACHE_POLICY").stdin(Stdio::null()))
    };
    let missing = run(&["up", &id]);
    assert_eq!((missing.code(), missing.error().0.as_str()), (2, "policy"), "{missing:?}");
    assert!(missing.error().1.contains("FAKECLOUD_ELASTICACHE_POLICY"), "{missing:?}");
    assert_eq!(world.objects(), [""; 0]);
    std::fs::create_dir(installed.join("policies")).unwrap();
    std::fs::copy(support::policy(), installed.join("policies/durable.wasm")).unwrap();
    let up = run(&["up", &id]);
    assert_eq!(up.code(), 0, "{up:?}");
    is_cache(&up.json(), &id, "redis", false);
}

/// One that was begun comes to its end, as whoever asked would want to find it.
#[test]
fn an_interrupt_lets_the_operation_come_to_its_end() {
    for signal in ["-INT", "-TERM"] {
        let world = World::new(&format!("int{signal}"));
        let id = world.id("i");
        let proxy = Proxy::start(&world.folder("proxy"), |_: &str, _: &[u8]| Fate::Pass);
        let mut command = world.command();
        command.args(["--json", "up", &id]).env("DOCKER_HOST", proxy.host());
        let mut up = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = || proxy.requests().iter().any(|line| line.contains("/containers/create")).then_some(());
        eventually("its container is being made", begun);
        let sent = Command::new("kill").args([signal, &up.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = eventually("it ends", || up.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(world.done(&["describe", &id])["state"], "available", "{signal}");
    }
}
