//! The command line: what can be asked for, and what it says of itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, Resettable, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use elasticache_host::{Backend, Engine};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cachehost up sessions                                start a redis, or find it running
  cachehost up pages --engine memcached                the same for a memcached
  cachehost exec sessions -- SET key value             ask its redis-cli
  cachehost snapshot sessions backup.rdb               save its data to a file
  cachehost up copy --from backup.rdb                  start another cache from that file
  cachehost reboot sessions                            restart its engine: same data
  cachehost ls --json | jq -r '.[].endpoint.address'   for programs
  cachehost down sessions --delete-data                remove it, and all it held
  cachehost up sessions --env ci.toml                  with another policy, and what that is granted
  cachehost up sessions --backend kube                 as a pod, in the cluster of your kubeconfig

Exit codes:
  0  done                          3  no container engine or cluster reachable
  1  the operation failed          4  refused by the policy or by a grant
  2  bad usage or input            5  no such cache

Ctrl-C or SIGTERM lets a running operation come to a clean end; a second one breaks it off (exit code
130).
CACHEHOST_LOG sets what is logged to stderr, such as `debug` (default: warn; with --json: off).";

/// Heading of the options that every command takes.
const GLOBAL: &str = "Options of every command";

/// Options and the variables that stand in for them.
const VARIABLES: [(&str, &str); 2] =
    [("instance", "FAKECLOUD_ELASTICACHE_INSTANCE"), ("env", "FAKECLOUD_ELASTICACHE_ENV")];

/// Redis, valkey and memcached caches as ElastiCache has them, in containers or pods. Keeps no
/// state of its own: what one invocation starts, the next one finds
#[derive(Debug, Parser)]
#[command(name = "cachehost", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// The environment's manifest: policy, grants, limits, settings [default: what `durable` needs on Docker]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "FILE.toml",
        env = VARIABLES[1].1,
        hide_env_values = true
    )]
    pub(crate) env: Option<PathBuf>,

    /// What runs the caches: `docker`, which is Docker or Podman, `podman`, or `kube`, which is Kubernetes [default:
    /// the environment's, else FAKECLOUD_ELASTICACHE_BACKEND, else docker]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "BACKEND", value_parser = backend)]
    pub(crate) backend: Option<Backend>,

    /// With `kube`: the file that says how to reach clusters [default: inside a cluster that one, else KUBECONFIG, else
    /// ~/.kube/config]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// With `kube`: which context of that file [default: its current one]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// With `kube`: the namespace of the pods, which has to exist [default: the environment's, else
    /// FAKECLOUD_K8S_NAMESPACE, else default]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NS")]
    pub(crate) namespace: Option<String>,

    /// With `kube`: the storage class of the claims that data lies on [default: the environment's, else
    /// FAKECLOUD_K8S_STORAGE_CLASS, else none: data goes with its pod]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "CLASS")]
    pub(crate) storage_class: Option<String>,

    /// The policy component to run [default: the environment's, else FAKECLOUD_ELASTICACHE_POLICY, else
    /// policies/durable.wasm beside this program]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE.wasm")]
    pub(crate) policy: Option<PathBuf>,

    /// Whose caches these are: those that other instances run are neither seen nor touched; data of stopped ones is shared
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "NAME",
        default_value = "cachehost",
        env = VARIABLES[0].1,
        hide_env_values = true
    )]
    pub(crate) instance: String,

    /// Account or region of the cache, part of its name; `ls` shows only this one [default: none]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SCOPE")]
    pub(crate) scope: Option<String>,

    /// Longest time that one operation may take, in seconds, fetching an image not counted [default: the
    /// environment's; without one 120]
    #[arg(
        long, global = true, help_heading = GLOBAL, value_name = "SECS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) timeout: Option<u64>,

    /// Print one JSON document on stdout; errors, too, as JSON, on stderr
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cache, or find it running, and wait until it answers
    Up(Up),
    /// List this instance's caches as they are now
    Ls,
    /// Show one cache as it is now
    Describe {
        /// Identifier of the cache
        id: String,
    },
    /// Run redis-cli in a cache; exits with 1 if the server replies with an error
    Exec {
        /// Identifier of the cache
        id: String,
        /// Arguments for redis-cli, after `--`
        #[arg(last = true, required = true, value_name = "ARG")]
        args: Vec<String>,
    },
    /// Save a cache's data to an RDB file, which appears only once it is whole and checked
    Snapshot {
        /// Identifier of the cache
        id: String,
        /// The file to write
        #[arg(value_name = "FILE.rdb")]
        file: PathBuf,
    },
    /// Restart a cache's engine: same data, and on Docker the same endpoint
    Reboot {
        /// Identifier of the cache
        id: String,
    },
    /// Stop a cache; its data stays for the next `up`
    Down {
        /// Identifier of the cache
        id: String,
        /// Delete its data, too
        #[arg(long)]
        delete_data: bool,
    },
    /// Remove what owners that are gone left behind
    Reap,
    /// Look at policy components
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Look at environments' manifests
    Env {
        #[command(subcommand)]
        command: EnvCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Identifier of the cache
    pub(crate) id: String,
    /// The engine to run
    #[arg(long, value_name = "ENGINE", default_value = "redis", value_parser = engine())]
    pub(crate) engine: Engine,
    /// Its version as ElastiCache writes it, such as 7.1 [default: the policy's choice]
    #[arg(long, value_name = "V")]
    pub(crate) engine_version: Option<String>,
    /// Start from this RDB file; refused if the cache has data already
    #[arg(long, value_name = "FILE.rdb")]
    pub(crate) from: Option<PathBuf>,
    /// With --from: put the file in the place of data that is there
    #[arg(long, requires = "from")]
    pub(crate) replace_data: bool,
    /// A tag of the cache; may be given more than once
    #[arg(long = "tag", value_name = "K=V", value_parser = tag)]
    pub(crate) tags: Vec<(String, String)>,
}

impl Up {
    /// The tags by key.
    pub(crate) fn tags(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut tags = BTreeMap::new();
        for (key, value) in &self.tags {
            if tags.insert(key.clone(), value.clone()).is_some() {
                return Err(Failure::usage(format!("the tag {key:?} is given more than once")));
            }
        }
        Ok(tags)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show what a policy component is, promises, imports and exports, and what --env grants of it; needs no engine
    Inspect {
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Check a manifest and its component, and say in words what they allow; needs no engine
    Check {
        /// The manifest
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
    },
    /// Print the manifest of the default environment, to begin one's own with
    Default,
}

/// What the command line came to.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Something to do.
    Run(Box<Cli>),
    /// Help or the version, asked for: to be printed.
    Told(clap::Error),
}

/// Reads the command line, program name first.
pub(crate) fn parse(args: &[OsString]) -> Result<Parsed, Failure> {
    let mut command = Cli::command();
    for (option, variable) in VARIABLES {
        // In many a compose file or script, a variable without a value is one that is not set.
        if std::env::var_os(variable).is_some_and(|value| value.is_empty()) {
            command = command.mut_arg(option, |arg| arg.env(Resettable::Reset));
        }
    }
    match command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Parsed::Run(Box::new(cli))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Told(error)),
            // Which of the two it is depends on whether the environment sets any option.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                Err(Failure::usage("no command was given").with_hint(error.render().to_string()))
            }
            ErrorKind::InvalidUtf8 => Err(not_unicode(args)),
            _ => Err(usage(&error.render().to_string())),
        },
    }
}

/// Whether errors are to be JSON, told without parsing: the error may be that nothing can be parsed.
pub(crate) fn wants_json(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

fn backend(text: &str) -> Result<Backend, String> {
    text.parse::<Backend>().map_err(|error| error.to_string())
}

fn engine() -> impl TypedValueParser<Value = Engine> {
    PossibleValuesParser::new(Engine::ALL.map(Engine::as_str)).try_map(|name| name.parse::<Engine>())
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// The parser names the kind of mistake, but not the argument.
fn not_unicode(args: &[OsString]) -> Failure {
    Failure::usage(match args.iter().find(|arg| arg.to_str().is_none()) {
        Some(odd) => format!("the argument {:?} is not valid UTF-8", odd.to_string_lossy()),
        None => "the value of an environment variable is not valid UTF-8".to_owned(),
    })
}

/// Parts what the parser says into the mistake itself and the lines on usage that follow it.
fn usage(rendered: &str) -> Failure {
    let text = rendered.trim().strip_prefix("error: ").unwrap_or(rendered.trim());
    match text.split_once("\n\nUsage:").or_else(|| text.split_once("\n\nFor more")) {
        Some((mistake, _)) => {
            let rest = text[mistake.len()..].trim_start();
            Failure::usage(mistake.replace("\n\n", "; ")).with_hint(rest)
        }
        None => Failure::usage(text),
    }
}
