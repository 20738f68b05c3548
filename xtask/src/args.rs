//! The command line of xtask: what may be written, and what each command says about itself.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use lexopt::prelude::*;

use crate::cluster::Part;
use crate::mutants::Asked;
use crate::suites::Named;

/// What xtask is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Print a text and stop.
    Help(String),
    Setup,
    Build {
        debug: bool,
    },
    Demo,
    Test {
        skip: Vec<String>,
        /// A cluster for the suites that need one, in place of our own.
        cluster: Option<Named>,
    },
    Conformance {
        arguments: Vec<OsString>,
    },
    Mutants(Asked),
    Bench {
        arguments: Vec<OsString>,
    },
    Fuzz {
        arguments: Vec<OsString>,
    },
    Cluster(Action),
}

/// What is to be done with the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Up,
    Down,
    Status,
    Restart(Part),
}

/// A wrong command line, as opposed to a chore that failed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

struct About {
    name: &'static str,
    line: &'static str,
    usage: &'static str,
    text: &'static str,
}

const COMMANDS: [About; 9] = [
    About {
        name: "setup",
        line: "Set up whatever the other commands need and this machine lacks",
        usage: "setup",
        text: "\
Checks, and sets up where missing:
  - a Rust toolchain for wasm32-unknown-unknown: the active one; else `rustup target add`; else, on
    Debian as root, the packages rustc-web, cargo-web and rust-web-src
    (XTASK_WASM_TOOLCHAIN=rustup or =debian chooses one instead)
  - cargo-component in the one version that builds the policies, in the cache folder unless on PATH
  - a Docker Engine that answers (found, never installed; DOCKER_HOST is honoured)
  - the images of redis, valkey and memcached: kept, else pulled, else built of Debian's packages
  - a browser for the tests of the conformance report: Chromium or Chrome on PATH or named by
    REPORT_BROWSER; else, on Debian as root, the package chromium-headless-shell

The cache folder is fakecloud-elasticache below XDG_CACHE_HOME, or below ~/.cache. System packages are
touched on Debian as root only, and only where nothing else helps.",
    },
    About {
        name: "build",
        line: "Build the policies and the command line",
        usage: "build [--debug]",
        text: "\
Builds the policies, then `cachehost` optimised, and prints where they are. The folder policies/ beside
the program holds each policy NAME as NAME.wasm, its NAME.wasm.sha256, and NAME.toml, an environment to
use as it is; durable is found without a flag. The build folder is cargo's (target/, or CARGO_TARGET_DIR).

  --debug    Build `cachehost` without optimisation",
    },
    About {
        name: "demo",
        line: "Build, then run the main job on real engines and show the times",
        usage: "demo",
        text: "\
Starts a redis, a valkey and a memcached, writes keys, takes a snapshot, reboots, restores into a second
cache, checks each result, and removes everything again. Fails if any check does.",
    },
    About {
        name: "test",
        line: "Run every test: what cannot run fails, unless skipped by name",
        usage: "test [--skip NAME]... [--kubeconfig FILE --context NAME]",
        text: "\
Runs all suites one after another, the later ones also when an earlier one failed, and ends with what
passed, failed and was skipped. An engine or a tool that is missing and cannot be set up is a failure.

  --skip NAME          Leave a suite out; may be repeated. `kube` leaves out all that need a cluster
  --kubeconfig FILE    With --context: use that cluster, in namespaces of the tests' own, in place of the one
  --context NAME       that `cluster up` brings up. Nobody's current context is ever used
KUBE_TEST_STORAGE_CLASS names the storage class of that cluster (default: hostpath).",
    },
    About {
        name: "conformance",
        line: "Run the corpus of scenarios on a backend, with any policy",
        usage: "conformance [ARGUMENT]...",
        text: "\
Builds the policies, `cachehost` and the runner, and hands all arguments to the runner, for example
`--backend sim|docker|kube` and `--policy FILE.wasm`; `conformance -- --help` lists the runner's own.",
    },
    About {
        name: "mutants",
        line: "Break the policies and the host a little, and see that it is noticed",
        usage: "mutants [--only TEXT] [--list] [--report DIR]",
        text: "\
Builds the policies and the host once with all mutants of tests/mutants in them, chooses one after the other,
and says which clause each is killed by. It fails if one survives. No engine is needed.

  --only TEXT     Only the one of this id, or those whose id or file contains it: `guest/`, `host/`
  --list          Name them all, and try none
  --report DIR    Add them to the report that `conformance --report DIR` wrote there",
    },
    About {
        name: "bench",
        line: "Measure, side by side with bare calls of Docker's or Kubernetes' API",
        usage: "bench [ARGUMENT]...",
        text: "\
Sets up, builds with optimisation, and hands all arguments to the bench, for example `--only NAME` for
up, exec, snapshot, reboot, stop, concurrent, memory, policy, load, limits, neighbours, swap or shipped;
`bench -- --help` lists them all. With `--backend kube` caches are pods of the cluster that `cluster up`
brings up, or of the one that `--kubeconfig FILE --context NAME` names.",
    },
    About {
        name: "fuzz",
        line: "Let a policy make arbitrary calls of the host, in memory",
        usage: "fuzz [ARGUMENT]...",
        text: "\
Builds with optimisation a policy that makes arbitrary calls with arbitrary arguments and what runs it, and
hands all arguments to that: 10 million calls or half an hour, unless told otherwise. What it finds it names
with the seed that brings it about again; `fuzz -- --help` lists the options.",
    },
    About {
        name: "cluster",
        line: "Run a real Kubernetes of one node on this machine",
        usage: "cluster up|down|status|restart kubelet|restart engine",
        text: "\
  up                 Bring up what is not up, wait until pods can be made, and print where to find it
  down               End and remove all of it, but keep the programs that were built
  status             Say what runs; exits with 0 if the cluster is up, with 1 otherwise
  restart kubelet    End the kubelet and start it again; pods run on
  restart engine     End the container engine and start it again; containers end with it, and the
                     kubelet starts them anew

Takes Debian 12, root and a Docker Engine installed here. The first `up` builds Kubernetes 1.20.2 of Debian's
source package, which takes about 10 minutes, and keeps the programs in the folder kubernetes/ of the cache.
All else is in its folder cluster/: kubeconfig for an administrator, logs, data. Nobody's own kubeconfig is read
or written.

The cluster has a container engine of its own with copies of the images of redis, valkey and memcached, a
network of its own, ports of its own on 127.0.0.1, and a default storage class that makes folders. Pods are
reached at their addresses from this machine, or by port-forward; services have no route, and pods no name
service. Where none of this is possible, any context of a kubeconfig serves instead.",
    },
];

/// Reads a command line, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>, suites: &[&str]) -> Result<Task> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let about = match parser.next().map_err(usage)? {
        None | Some(Short('h') | Long("help")) => return Ok(Task::Help(overview())),
        Some(Value(name)) if name == "help" => return Ok(Task::Help(overview())),
        Some(Value(name)) => find(&name.to_string_lossy())?,
        Some(flag) => return Err(refused(&flag, "before a command", "--help")),
    };
    match about.name {
        "conformance" | "bench" | "fuzz" => forwarded(about, &mut parser, suites),
        "cluster" => cluster(about, parser, suites),
        _ => own(about, parser, suites),
    }
}

/// Commands with options of xtask's own.
fn own(about: &About, mut parser: lexopt::Parser, suites: &[&str]) -> Result<Task> {
    let mut debug = false;
    let mut skip = Vec::new();
    let (mut kubeconfig, mut chosen) = (None, None);
    let mut asked = Asked::default();
    while let Some(argument) = parser.next().map_err(usage)? {
        match (about.name, argument) {
            (_, Short('h') | Long("help")) => return Ok(Task::Help(help(about, suites))),
            ("build", Long("debug")) => debug = true,
            ("test", Long("skip")) => {
                let value = parser.value().map_err(usage)?;
                let name = value.to_string_lossy().into_owned();
                if !suites.contains(&name.as_str()) {
                    let valid = suites.join(", ");
                    return Err(Usage(format!("there is no suite `{name}`; the suites are {valid}")).into());
                }
                skip.push(name);
            }
            ("mutants", Long("list")) => asked.list = true,
            ("mutants", Long("only")) => {
                asked.only = Some(parser.value().map_err(usage)?.to_string_lossy().into_owned());
            }
            ("mutants", Long("report")) => asked.report = Some(parser.value().map_err(usage)?.into()),
            ("test", Long("kubeconfig")) => {
                let file = PathBuf::from(parser.value().map_err(usage)?);
                // Tests run in another folder.
                kubeconfig = Some(std::path::absolute(&file).unwrap_or(file));
            }
            ("test", Long("context")) => {
                chosen = Some(parser.value().map_err(usage)?.to_string_lossy().into_owned());
            }
            (name, argument) => {
                let valid = match name {
                    "build" => "--debug, --help",
                    "mutants" => "--only TEXT, --list, --report DIR, --help",
                    "test" => "--skip NAME, --kubeconfig FILE, --context NAME, --help",
                    _ => "--help",
                };
                return Err(refused(&argument, &format!("for `{name}`"), valid));
            }
        }
    }
    Ok(match about.name {
        "setup" => Task::Setup,
        "build" => Task::Build { debug },
        "demo" => Task::Demo,
        "mutants" => Task::Mutants(asked),
        _ => Task::Test { skip, cluster: named(kubeconfig, chosen)? },
    })
}

/// The file and the context are of use together only.
fn named(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Option<Named>> {
    match (kubeconfig, context) {
        (None, None) => Ok(None),
        (Some(kubeconfig), Some(context)) => Ok(Some(Named { kubeconfig, context })),
        _ => Err(Usage("--kubeconfig and --context name a cluster together".to_owned()).into()),
    }
}

/// A verb, and for one of them an object.
fn cluster(about: &About, mut parser: lexopt::Parser, suites: &[&str]) -> Result<Task> {
    const VERBS: &str = "up, down, status, restart kubelet, restart engine, --help";
    let mut words = Vec::new();
    while let Some(argument) = parser.next().map_err(usage)? {
        match argument {
            Short('h') | Long("help") => return Ok(Task::Help(help(about, suites))),
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            flag => return Err(refused(&flag, "for `cluster`", VERBS)),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(Task::Cluster(match words.as_slice() {
        ["up"] => Action::Up,
        ["down"] => Action::Down,
        ["status"] => Action::Status,
        ["restart", "kubelet"] => Action::Restart(Part::Kubelet),
        ["restart", "engine"] => Action::Restart(Part::Engine),
        [] => return Err(Usage(format!("`cluster` takes a verb; valid is {VERBS}")).into()),
        other => {
            let written = other.join(" ");
            return Err(Usage(format!("`{written}` is not known for `cluster`; valid is {VERBS}")).into());
        }
    }))
}

/// Commands whose arguments belong to another program. After `--` even `--help` does.
fn forwarded(about: &About, parser: &mut lexopt::Parser, suites: &[&str]) -> Result<Task> {
    let raw = parser.raw_args().map_err(usage)?;
    let mut arguments: Vec<OsString> = raw.collect();
    match arguments.first().map(|first| first.to_string_lossy().into_owned()).as_deref() {
        Some("--help" | "-h") => return Ok(Task::Help(help(about, suites))),
        Some("--") => drop(arguments.remove(0)),
        _ => {}
    }
    Ok(match about.name {
        "bench" => Task::Bench { arguments },
        "fuzz" => Task::Fuzz { arguments },
        _ => Task::Conformance { arguments },
    })
}

fn find(name: &str) -> Result<&'static About> {
    COMMANDS.iter().find(|about| about.name == name).with_context(|| {
        let names: Vec<&str> = COMMANDS.iter().map(|about| about.name).collect();
        Usage(format!("there is no command `{name}`; the commands are {}", names.join(", ")))
    })
}

fn usage(error: lexopt::Error) -> anyhow::Error {
    Usage(error.to_string()).into()
}

fn refused(argument: &lexopt::Arg<'_>, place: &str, valid: &str) -> anyhow::Error {
    let written = match argument {
        Short(letter) => format!("-{letter}"),
        Long(name) => format!("--{name}"),
        Value(value) => value.to_string_lossy().into_owned(),
    };
    Usage(format!("`{written}` is not known {place}; valid is {valid}")).into()
}

fn overview() -> String {
    let mut text = "The chores of this repository\n\nUsage: cargo xtask COMMAND\n\nCommands:\n".to_owned();
    for about in &COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", about.name, about.line));
    }
    text + "\n`cargo xtask COMMAND --help` says more about one."
}

fn help(about: &About, suites: &[&str]) -> String {
    let mut text = format!("{}\n\nUsage: cargo xtask {}\n\n{}", about.line, about.usage, about.text);
    if about.name == "test" {
        text.push_str(&format!("\n\nThe suites, in their order: {}", suites.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Task> {
        parse(line.split_whitespace().map(OsString::from), &["format", "docker"])
    }

    #[track_caller]
    fn refusal(line: &str) -> String {
        let error = read(line).err();
        let usage = error.as_ref().and_then(|error| error.downcast_ref::<Usage>());
        usage.map(|usage| usage.0.clone()).unwrap_or_default()
    }

    #[test]
    fn commands_are_read() -> Result<()> {
        assert_eq!(read("build --debug")?, Task::Build { debug: true });
        assert_eq!(read("test --skip docker")?, Task::Test { skip: vec!["docker".into()], cluster: None });
        let named = Named { kubeconfig: "/k".into(), context: "kind".into() };
        let all = Task::Test { skip: vec![], cluster: Some(named) };
        assert_eq!(read("test --kubeconfig /k --context kind")?, all);
        let arguments = vec!["--backend".into(), "sim".into()];
        assert_eq!(read("conformance --backend sim")?, Task::Conformance { arguments });
        let asked = Asked { only: Some("x".into()), list: false, report: Some("d".into()) };
        assert_eq!(read("mutants --only x --report d")?, Task::Mutants(asked));
        assert_eq!(read("bench -- --help")?, Task::Bench { arguments: vec!["--help".into()] });
        assert_eq!(read("fuzz --seed 1")?, Task::Fuzz { arguments: vec!["--seed".into(), "1".into()] });
        assert_eq!(read("cluster up")?, Task::Cluster(Action::Up));
        assert_eq!(read("cluster restart engine")?, Task::Cluster(Action::Restart(Part::Engine)));
        assert!(matches!(read("cluster --help")?, Task::Help(_)));
        assert!(matches!(read("bench --help")?, Task::Help(_)));
        assert!(matches!(read("")?, Task::Help(_)));
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_valid() {
        assert!(
            refusal("tset").contains("setup, build, demo, test, conformance, mutants, bench, fuzz, cluster")
        );
        assert!(refusal("test --skip dokcer").contains("format, docker"));
        assert!(refusal("test --context kind").contains("together"));
        assert!(refusal("setup --quick").contains("`--quick`"));
        assert!(refusal("cluster").contains("up, down, status"));
        assert!(refusal("cluster restart").contains("restart kubelet"));
        assert!(refusal("build --debug=yes").contains("--debug"));
    }
}
