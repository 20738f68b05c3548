//! What asks a server: probes, and `redis-cli` from inside its container or pod.

use elasticache_host::Engine;
use elasticache_host::engine::ExecOutput;
use elasticache_host::probes::Check;

use super::server::Value;

pub(super) const NOT_UNDERSTOOD: &str = "the answer is not in the protocol asked for";

/// The host's own words for these are in its `probes`.
const IDLE: [&str; 2] = ["rdb_bgsave_in_progress:0", "aof_rewrite_in_progress:0"];
const IN_SYNC: [&str; 3] = ["role:slave", "master_link_status:up", "master_sync_in_progress:0"];
const PRIMARY: [&str; 2] = ["role:master", "master_failover_state:no-failover"];

/// Whether a check holds for a server of that kind, which is asked as a client would.
pub(super) fn check(
    wanted: Check,
    engine: Engine,
    mut ask: impl FnMut(&[&str]) -> Option<Value>,
) -> Result<(), String> {
    if (wanted == Check::MemcachedVersion) != (engine == Engine::Memcached) {
        return Err(NOT_UNDERSTOOD.into());
    }
    let (section, lines): (&str, &[&str]) = match wanted {
        Check::MemcachedVersion => return Ok(()),
        Check::RedisPing => return pong(ask(&["PING"])),
        Check::RedisIdle => {
            pong(ask(&["PING"]))?;
            ("persistence", &IDLE)
        }
        Check::RedisInSync => ("replication", &IN_SYNC),
        Check::RedisPrimary => ("replication", &PRIMARY),
    };
    let Some(Value::Bulk(info)) = ask(&["INFO", section]) else { return Err(NOT_UNDERSTOOD.into()) };
    let info = String::from_utf8_lossy(&info).into_owned();
    match lines.iter().find(|wanted| !info.lines().any(|line| line == **wanted)) {
        None => Ok(()),
        Some(missing) => Err(format!("INFO does not say {missing}")),
    }
}

fn pong(answer: Option<Value>) -> Result<(), String> {
    match answer {
        Some(Value::Status(text)) if text == "PONG" => Ok(()),
        Some(Value::Error(text)) if text.starts_with("NOAUTH") => Ok(()),
        other => Err(format!("PING was answered with {other:?}")),
    }
}

/// Runs a program in a container of that engine's image. `ask` sends a command to a port in there, and has no answer
/// if nobody listens.
pub(super) fn exec(
    engine: Option<Engine>,
    argv: &[String],
    ask: impl FnOnce(&str, &[&str]) -> Option<Value>,
) -> ExecOutput {
    let (name, args) = argv.split_first().map_or(("", argv), |(name, args)| (name.as_str(), args));
    match (name.rsplit('/').next(), engine) {
        (Some("redis-cli"), Some(Engine::Redis | Engine::Valkey) | None)
        | (Some("valkey-cli"), Some(Engine::Valkey) | None) => redis_cli(args, ask),
        _ => output(127, "", &format!("exec: \"{name}\": executable file not found in $PATH\n")),
    }
}

fn output(exit_code: i32, stdout: &str, stderr: &str) -> ExecOutput {
    ExecOutput { exit_code, stdout: stdout.into(), stderr: stderr.into() }
}

fn redis_cli(args: &[String], ask: impl FnOnce(&str, &[&str]) -> Option<Value>) -> ExecOutput {
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (mut port, mut errors_count) = ("6379", false);
    while let Some(option) = args.first().copied().filter(|arg| arg.starts_with('-')) {
        let taken = match (option, args.get(1)) {
            ("-e", _) => {
                errors_count = true;
                1
            }
            ("--raw" | "--no-auth-warning", _) => 1,
            ("-p", Some(value)) => {
                port = value;
                2
            }
            ("-h" | "-n" | "-a" | "--user" | "--pass", Some(_)) => 2,
            _ => {
                let why = format!("Unrecognized option or bad number of args for: '{option}'\n");
                return output(1, "", &why);
            }
        };
        args.drain(..taken);
    }
    match ask(port, &args) {
        None => {
            output(1, "", &format!("Could not connect to Redis at 127.0.0.1:{port}: Connection refused\n"))
        }
        // Commands would come from its input, of which there is none.
        Some(_) if args.is_empty() => output(0, "", ""),
        Some(Value::Error(text)) if errors_count => output(1, "", &format!("{text}\n")),
        Some(value) => {
            let mut stdout = raw(value);
            stdout.push(b'\n');
            ExecOutput { exit_code: 0, stdout, stderr: Vec::new() }
        }
    }
}

/// As `redis-cli` shows a value off a terminal; it ends each with a line feed, and an error with two.
fn raw(value: Value) -> Vec<u8> {
    match value {
        Value::Status(text) => text.into_bytes(),
        Value::Error(text) => format!("{text}\n").into_bytes(),
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Bulk(bytes) => bytes,
        Value::Nil => Vec::new(),
        Value::Array(items) => items.into_iter().map(raw).collect::<Vec<_>>().join(&b'\n'),
    }
}
