//! One running redis, valkey or memcached: what it holds, answers and leaves on the disk.

use super::aof::{self, Aof};
use super::disk::Disk;
use super::options::{Options, yes_or_no};
use super::rdb::{self, Keys};
use elasticache_host::Engine;
use elasticache_host::probes::Reply;

/// An answer with all that it holds; [`Reply`] keeps only the length of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Value>),
}

impl Value {
    fn ok() -> Self {
        Value::Status("OK".into())
    }

    fn error(text: impl Into<String>) -> Self {
        Value::Error(text.into())
    }

    fn count(count: usize) -> Self {
        Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn into_reply(self, max_bytes: usize) -> Reply {
        match self {
            Value::Status(text) => Reply::Status(text),
            Value::Error(text) => Reply::Error(text),
            Value::Integer(number) => Reply::Integer(number),
            Value::Bulk(mut bytes) => {
                bytes.truncate(max_bytes);
                Reply::Bulk(bytes)
            }
            Value::Nil => Reply::Nil,
            Value::Array(items) => Reply::Aggregate(u32::try_from(items.len()).unwrap_or(u32::MAX)),
        }
    }
}

/// Whom a replica follows, as `REPLICAOF` named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Primary {
    pub(super) address: String,
    pub(super) port: u16,
    /// Whether it is heard from. Only a world with more than one server can tell.
    pub(super) is_up: bool,
}

/// A process.
pub(super) struct Server {
    pub(super) engine: Engine,
    /// The port at which it listens inside its container.
    pub(super) port: u16,
    options: Options,
    pub(super) keys: Keys,
    /// None of a server that takes writes itself.
    pub(super) primary: Option<Primary>,
    aof: Option<Aof>,
    last_bgsave_ok: bool,
}

impl Server {
    /// Start and load; the error is the last line of its log, and its exit code 1.
    pub(super) fn start(
        engine: Engine,
        args: &[String],
        disk: &mut Disk<'_>,
        log: &mut Vec<String>,
    ) -> Result<Self, String> {
        let options = Options::parse(engine, args)?;
        if engine != Engine::Memcached && !disk.stat(&options.dir).is_some_and(|there| there.directory) {
            return Err(format!("Can't chdir to '{}': No such file or directory", options.dir));
        }
        let (keys, primary, aof, port) = (Keys::new(), None, None, options.port);
        let mut server = Server { engine, port, options, keys, primary, aof, last_bgsave_ok: true };
        if engine != Engine::Memcached {
            server.load(disk, log).map_err(|why| format!("Fatal error loading the DB: {why}. Exiting."))?;
            log.push("Ready to accept connections tcp".into());
        }
        Ok(server)
    }

    fn load(&mut self, disk: &mut Disk<'_>, log: &mut Vec<String>) -> Result<(), String> {
        let folder = format!("{}/{}", self.options.dir, self.options.appenddirname);
        let mut aof = Aof::find(disk, folder, self.options.appendfilename.clone())?;
        if self.options.appendonly {
            self.keys = aof.load(disk, log)?;
            aof.open(disk, self.aux(), log);
        } else if let Some(bytes) = disk.read(&self.dump_path()) {
            self.keys = rdb::read(&bytes)?.0;
            log.push("DB loaded from disk".into());
        }
        self.aof = Some(aof);
        Ok(())
    }

    /// SIGTERM: the exit code, or `None` if it stays, as redis does when its last save fails.
    pub(super) fn terminate(&mut self, disk: &mut Disk<'_>, log: &mut Vec<String>) -> Option<i32> {
        if self.engine == Engine::Memcached {
            return Some(0);
        }
        log.push("User requested shutdown...".into());
        if !self.options.save.is_empty()
            && let Err(why) = self.save(disk)
        {
            log.push(format!("Error trying to save the DB, can't exit: {why}"));
            return None;
        }
        log.push("Redis is now ready to exit, bye bye...".into());
        Some(0)
    }

    pub(super) fn command(&mut self, disk: &mut Disk<'_>, args: &[Vec<u8>]) -> Value {
        let Some((name, rest)) = args.split_first() else {
            return Value::error("ERR empty command");
        };
        let upper = String::from_utf8_lossy(name).to_ascii_uppercase();
        let writes = matches!(upper.as_str(), "SET" | "MSET" | "DEL" | "FLUSHALL");
        if disk.trouble.loading && !matches!(upper.as_str(), "INFO" | "CONFIG") {
            return Value::error("LOADING Redis is loading the dataset in memory");
        }
        if writes && self.primary.is_some() {
            return Value::error("READONLY You can't write against a read only replica.");
        }
        // Redis refuses PING too, so that whatever watches it notices.
        if (writes || upper == "PING")
            && let Some(refusal) = self.refusal(disk)
        {
            return Value::error(refusal);
        }
        match (upper.as_str(), rest) {
            ("PING", []) => Value::Status("PONG".into()),
            ("PING", [text]) => Value::Bulk(text.clone()),
            ("GET", [key]) => self.keys.get(key).map_or(Value::Nil, |value| Value::Bulk(value.clone())),
            ("EXISTS", names) if !names.is_empty() => {
                Value::count(names.iter().filter(|name| self.keys.contains_key(*name)).count())
            }
            ("DBSIZE", []) => Value::count(self.keys.len()),
            ("SAVE" | "BGSAVE", _) if disk.trouble.saving => {
                Value::error("ERR Background save already in progress")
            }
            ("SAVE", []) => self.save(disk).map_or_else(Value::Error, |()| Value::ok()),
            ("BGSAVE", _) => {
                self.last_bgsave_ok = self.save(disk).is_ok();
                Value::Status("Background saving started".into())
            }
            ("BGREWRITEAOF", []) => {
                // What is there stays as it is on a disk that takes nothing new.
                if !disk.trouble.write_error {
                    self.rewrite(disk);
                }
                Value::Status("Background append only file rewriting started".into())
            }
            ("INFO", sections) => Value::Bulk(self.info(disk, sections).into_bytes()),
            ("CONFIG", [verb, rest @ ..]) => self.config(disk, verb, rest),
            ("REPLICAOF", [host, port]) => self.follow(host, port),
            ("SET", [_, _, _, ..]) => Value::error("ERR syntax error"),
            _ if writes => self.write(disk, &upper, args),
            ("PING" | "GET" | "EXISTS" | "DBSIZE" | "SAVE" | "BGREWRITEAOF" | "CONFIG" | "REPLICAOF", _) => {
                wrong_number(&upper)
            }
            _ => {
                let rest: String =
                    rest.iter().map(|arg| format!("'{}' ", String::from_utf8_lossy(arg))).collect();
                let name = String::from_utf8_lossy(name);
                Value::error(format!("ERR unknown command '{name}', with args beginning with: {rest}"))
            }
        }
    }

    fn write(&mut self, disk: &mut Disk<'_>, upper: &str, args: &[Vec<u8>]) -> Value {
        let Some(touched) = aof::apply(args, &mut self.keys) else {
            return wrong_number(upper);
        };
        if touched > 0
            && self.options.appendonly
            && let Some(aof) = &self.aof
        {
            aof.append(disk, args);
        }
        // Redis with save points makes its file as empty as itself.
        if upper == "FLUSHALL" && !self.options.save.is_empty() {
            self.last_bgsave_ok = self.save(disk).is_ok();
        }
        if upper == "DEL" { Value::count(touched) } else { Value::ok() }
    }

    fn follow(&mut self, host: &[u8], port: &[u8]) -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            self.primary = None;
            return Value::ok();
        }
        let Ok(port) = text(port).parse() else { return Value::error("ERR Invalid master port") };
        self.primary = Some(Primary { address: text(host), port, is_up: false });
        Value::ok()
    }

    /// Why writes are refused, if they are: redis with nothing to write to the disk goes on.
    fn refusal(&self, disk: &Disk<'_>) -> Option<&'static str> {
        if !disk.trouble.write_error {
            None
        } else if self.options.appendonly {
            Some("MISCONF Errors writing to the AOF file: No space left on device")
        } else if !self.options.save.is_empty() {
            Some(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            )
        } else {
            None
        }
    }

    fn save(&self, disk: &mut Disk<'_>) -> Result<(), String> {
        if let Some(error) = &disk.trouble.save_error {
            return Err(error.clone());
        }
        // The file gets its name at the end, which it cannot where a folder has that name.
        let is_folder = disk.stat(&self.dump_path()).is_some_and(|there| there.directory);
        if disk.trouble.write_error || is_folder {
            return Err("ERR".into());
        }
        disk.write(&self.dump_path(), rdb::write(self.aux(), &self.keys));
        Ok(())
    }

    fn rewrite(&mut self, disk: &mut Disk<'_>) {
        let aux = self.aux();
        if let Some(aof) = &mut self.aof {
            aof.rewrite(disk, aux, &self.keys);
        }
    }

    fn config(&mut self, disk: &mut Disk<'_>, verb: &[u8], args: &[Vec<u8>]) -> Value {
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        let args: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        match (verb.as_str(), args.as_slice()) {
            ("GET", [name]) => {
                let name = name.to_ascii_lowercase();
                let found = self.options.get(&name).map(|value| value.as_bytes().to_vec());
                let pair = |value| vec![Value::Bulk(name.into_bytes()), Value::Bulk(value)];
                Value::Array(found.map(pair).unwrap_or_default())
            }
            ("SET", [name, value]) => match self.configure(disk, &name.to_ascii_lowercase(), value) {
                Ok(()) => Value::ok(),
                Err(why) => Value::Error(why),
            },
            ("GET" | "SET", _) => wrong_number(&format!("config|{verb}")),
            _ => {
                let verb = verb.to_ascii_lowercase();
                Value::error(format!("ERR unknown subcommand '{verb}'. Try CONFIG HELP."))
            }
        }
    }

    fn configure(&mut self, disk: &mut Disk<'_>, name: &str, value: &str) -> Result<(), String> {
        let failed = |why| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
        match name {
            "appendonly" => {
                let on = yes_or_no(value).ok_or_else(|| failed("argument must be 'yes' or 'no'"))?;
                if on && !self.options.appendonly {
                    if disk.trouble.write_error {
                        return Err(failed("Unable to turn on AOF. Check server logs."));
                    }
                    self.rewrite(disk);
                }
                self.options.appendonly = on;
            }
            "save" => value.clone_into(&mut self.options.save),
            "dbfilename" => value.clone_into(&mut self.options.dbfilename),
            _ => {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            }
        }
        Ok(())
    }

    fn info(&self, disk: &Disk<'_>, sections: &[Vec<u8>]) -> String {
        let wanted = |name: &str| {
            let named = |section: &Vec<u8>| {
                ["all", "default", "everything", name]
                    .iter()
                    .any(|n| section.eq_ignore_ascii_case(n.as_bytes()))
            };
            sections.is_empty() || sections.iter().any(named)
        };
        let mut out = Vec::new();
        if wanted("server") {
            out.push("# Server\r\nredis_version:7.4.0\r\nredis_mode:standalone\r\n".to_owned());
        }
        if wanted("persistence") {
            let status = |ok: bool| if ok { "ok" } else { "err" };
            let aof = self.options.appendonly;
            out.push(format!(
                "# Persistence\r\nloading:{}\r\nrdb_bgsave_in_progress:{}\r\nrdb_last_bgsave_status:{}\r\n\
                 aof_enabled:{}\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n\
                 aof_last_bgrewrite_status:ok\r\naof_last_write_status:{}\r\n",
                u8::from(disk.trouble.loading),
                u8::from(disk.trouble.saving),
                status(self.last_bgsave_ok),
                u8::from(aof),
                status(!(aof && disk.trouble.write_error)),
            ));
        }
        if wanted("replication") {
            let role = match &self.primary {
                None => "role:master\r\n".to_owned(),
                Some(Primary { address, port, is_up }) => format!(
                    "role:slave\r\nmaster_host:{address}\r\nmaster_port:{port}\r\n\
                     master_link_status:{}\r\nmaster_sync_in_progress:0\r\n",
                    if *is_up { "up" } else { "down" }
                ),
            };
            out.push(format!("# Replication\r\n{role}master_failover_state:no-failover\r\n"));
        }
        if wanted("keyspace") {
            let count = self.keys.len();
            let keys = if count == 0 { String::new() } else { format!("db0:keys={count},expires=0\r\n") };
            out.push(format!("# Keyspace\r\n{keys}"));
        }
        out.join("\r\n")
    }

    fn aux(&self) -> &'static [(&'static str, &'static str)] {
        match self.engine {
            Engine::Valkey => &[("valkey-ver", "8.1.0")],
            _ => &[("redis-ver", "7.4.0")],
        }
    }

    fn dump_path(&self) -> String {
        format!("{}/{}", self.options.dir, self.options.dbfilename)
    }
}

fn wrong_number(command: &str) -> Value {
    let command = command.to_ascii_lowercase();
    Value::error(format!("ERR wrong number of arguments for '{command}' command"))
}
