//! The main job, on real engines, by the command line that a user would type.

use std::fs::{File, TryLockError};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cachehost::{Cachehost, Endpoint};
use crate::context::{Context, Profile, Scratch};
use crate::{build, report, setup};

/// Writes this many keys in one call; a snapshot must contain them all.
const BULK: u64 = 10_000;

/// The keys written one by one, each with its value.
const KEYS: [(&str, &str); 3] = [("planet", "mars"), ("moon", "phobos"), ("rover", "curiosity")];

/// How long memcached may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Whose caches all demos' are, so that `cachehost --instance demo ls` shows them.
const INSTANCE: &str = "demo";

const REDIS: &str = "redis";
const VALKEY: &str = "valkey";
const MEMCACHED: &str = "memcached";
const RESTORED: &str = "restored";

/// Sets up, builds, runs the demo, and removes whatever it started.
pub(crate) fn run(context: &Context) -> Result<ExitCode> {
    let began = Instant::now();
    let tools = setup::policy_tools(context)?;
    setup::engines(context)?;
    let set_up = began.elapsed();
    build::policy(context, &tools)?;
    let program = build::cachehost(context, Profile::Release)?;
    let built = began.elapsed() - set_up;

    report::heading("demo");
    let scratch = Scratch::below(&std::env::temp_dir(), "fakecloud-demo")?;
    let cachehost = Cachehost { program, instance: INSTANCE.to_owned() };
    let run = Run::begin(&context.cache.join("demos"), &cachehost)?;
    let mut demo = Demo {
        cachehost,
        run,
        rows: vec![row("set up", "tools, engine, images", set_up), row("build", "policy, cachehost", built)],
    };
    let result = demo.play(&scratch.path().join("snapshot.rdb"));
    // Also after a failure: a demo leaves nothing behind.
    let cleaned = demo.clean_up();
    if cleaned.is_ok() {
        demo.run.end()?;
    }

    println!("\n{}", report::table(&["step", "what happened", "ms"], &demo.rows, true));
    result.and(cleaned)?;
    println!("The demo ran to its end, and every check held.");
    Ok(ExitCode::SUCCESS)
}

/// One demo's caches, apart from those of any other that goes on at the same time.
///
/// A file says that there may be some of them, and is locked for as long as the demo's process lives, whatever ends
/// it. So the next demo knows what was left behind, without a guess about process ids.
struct Run {
    name: String,
    mark: PathBuf,
    _locked: File,
}

impl Run {
    /// Removes what earlier demos left, and marks this one.
    fn begin(folder: &Path, host: &Cachehost) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // One at a time: a mark that is not locked yet would look like one whose demo is dead.
        let turn = File::create(folder.join("turn")).context("cannot mark a demo")?;
        turn.lock().context("cannot wait for another demo")?;
        for entry in std::fs::read_dir(folder).context("cannot look for earlier demos")? {
            let mark = entry.context("cannot look for earlier demos")?.path();
            let Some(name) = mark.file_name().and_then(|name| name.to_str()) else { continue };
            if !name.starts_with("demo-") {
                continue;
            }
            match File::open(&mark).context("cannot look at an earlier demo")?.try_lock() {
                Ok(()) => {
                    eprintln!("demo   removing what {name} left");
                    remove_all(host, name).with_context(|| format!("removing what {name} left"))?;
                    std::fs::remove_file(&mark).context("cannot forget an earlier demo")?;
                }
                // It goes on.
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).context("cannot look at an earlier demo");
                }
            }
        }
        let name = format!("demo-{}", std::process::id());
        let mark = folder.join(&name);
        let locked = File::create_new(&mark).with_context(|| format!("{name} goes on already"))?;
        locked.lock().context("cannot mark a demo")?;
        Ok(Self { name, mark, _locked: locked })
    }

    fn id(&self, name: &str) -> String {
        id(&self.name, name)
    }

    /// Nothing of it is left.
    fn end(&self) -> Result<()> {
        std::fs::remove_file(&self.mark).with_context(|| format!("cannot remove {}", self.mark.display()))
    }
}

fn id(run: &str, name: &str) -> String {
    format!("{run}-{name}")
}

/// Removes every cache of a run with its data, whether it was started or not.
fn remove_all(host: &Cachehost, run: &str) -> Result<()> {
    let results = [REDIS, VALKEY, MEMCACHED, RESTORED]
        .map(|name| host.call(&["down", &id(run, name), "--delete-data"]).map(drop));
    // All are tried before the first failure is told.
    results.into_iter().collect()
}

struct Demo {
    cachehost: Cachehost,
    run: Run,
    rows: Vec<Vec<String>>,
}

impl Demo {
    fn play(&mut self, snapshot: &Path) -> Result<()> {
        let file = snapshot.to_str().context("the folder for temporary files has a strange name")?;
        let redis = self.start(REDIS, "redis")?;
        let valkey = self.start(VALKEY, "valkey")?;
        let memcached = self.start(MEMCACHED, "memcached")?;

        let [redis_id, valkey_id, restored_id] = [REDIS, VALKEY, RESTORED].map(|name| self.run.id(name));
        self.step("write redis", |host| fill(host, &redis_id))?;
        self.step("write valkey", |host| fill(host, &valkey_id))?;
        self.step("write memcached", |_| {
            memcached_keys(&memcached)?;
            Ok(format!("{} keys set and read at {memcached}", KEYS.len()))
        })?;

        self.step("snapshot redis", |host| {
            host.call(&["snapshot", &redis_id, file])?;
            let size = std::fs::metadata(snapshot).context("the snapshot left no file")?.len();
            Ok(format!("{size} bytes"))
        })?;
        self.step("reboot redis", |host| reboot(host, &redis_id, &redis))?;
        self.step("reboot valkey", |host| reboot(host, &valkey_id, &valkey))?;
        self.step("restore redis", |host| {
            let endpoint = host.up(&restored_id, &["--engine", "redis", "--from", file])?;
            let keys = check_keys(host, &restored_id)?;
            Ok(format!("{restored_id} at {endpoint}: the same {keys} keys"))
        })
    }

    fn start(&mut self, name: &str, engine: &str) -> Result<Endpoint> {
        let mut found = None;
        let id = self.run.id(name);
        self.step(&format!("start {engine}"), |host| {
            let endpoint = host.up(&id, &["--engine", engine])?;
            let text = format!("{id} at {endpoint}");
            found = Some(endpoint);
            Ok(text)
        })?;
        found.context("a cache was started without an endpoint")
    }

    /// Runs one step and adds it to the table, also when it fails.
    fn step(&mut self, name: &str, work: impl FnOnce(&Cachehost) -> Result<String>) -> Result<()> {
        let began = Instant::now();
        let result = work(&self.cachehost);
        let took = began.elapsed();
        let what = match &result {
            Ok(what) => what.clone(),
            Err(_) => "FAILED".to_owned(),
        };
        eprintln!("demo   {name:<16} {what} ({})", report::duration(took));
        self.rows.push(row(name, &what, took));
        result.map(drop).with_context(|| name.to_owned())
    }

    /// Removes every cache of this run, and sees that none is left.
    fn clean_up(&mut self) -> Result<()> {
        let run = self.run.name.clone();
        self.step("clean up", |host| {
            remove_all(host, &run)?;
            let caches = host.call(&["ls"])?;
            let ids = caches.as_array().into_iter().flatten().filter_map(|cache| cache["id"].as_str());
            let left: Vec<&str> = ids.filter(|left| left.starts_with(&id(&run, ""))).collect();
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            Ok("all caches removed with their data".to_owned())
        })
    }
}

/// Writes some keys one by one and many at once.
fn fill(host: &Cachehost, id: &str) -> Result<String> {
    for (key, value) in KEYS {
        let answer = host.exec(id, &["SET", key, value])?;
        ensure!(answer == "OK", "SET {key} was answered by {answer}");
    }
    let script = format!("for i = 1, {BULK} do redis.call('SET', 'bulk:' .. i, i) end return {BULK}");
    host.exec(id, &["EVAL", &script, "0"])?;
    let keys = check_keys(host, id)?;
    Ok(format!("{keys} keys"))
}

/// Checks that all keys are there, and returns how many.
fn check_keys(host: &Cachehost, id: &str) -> Result<u64> {
    let expected = BULK + KEYS.len() as u64;
    let size = host.exec(id, &["DBSIZE"])?;
    // redis-cli writes `(integer) 3` on a terminal.
    let size: u64 = size.trim_start_matches("(integer)").trim().parse().context("DBSIZE is no number")?;
    ensure!(size == expected, "{id} has {size} keys instead of {expected}");
    for (key, value) in KEYS {
        let found = host.exec(id, &["GET", key])?;
        ensure!(found == value, "{id} has {key}={found} instead of {value}");
    }
    Ok(size)
}

fn reboot(host: &Cachehost, id: &str, before: &Endpoint) -> Result<String> {
    host.call(&["reboot", id])?;
    let after = host.describe(id)?;
    ensure!(after == *before, "{id} moved from {before} to {after}");
    // The old address is what clients kept; the command line could have looked up a new one.
    connect(before).with_context(|| format!("{id} does not listen at {before} any more"))?;
    let keys = check_keys(host, id)?;
    Ok(format!("still at {after}, still {keys} keys"))
}

/// Writes and reads keys by memcached's own protocol.
fn memcached_keys(endpoint: &Endpoint) -> Result<()> {
    let mut stream = connect(endpoint)?;
    let mut answers = BufReader::new(stream.try_clone().context("cannot use a connection twice")?);
    let mut answer = move || -> Result<String> {
        let mut line = String::new();
        answers.read_line(&mut line).context("memcached does not answer")?;
        Ok(line.trim_end().to_owned())
    };
    for (key, value) in KEYS {
        let request = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
        stream.write_all(request.as_bytes()).context("memcached hung up")?;
        let stored = answer()?;
        ensure!(stored == "STORED", "memcached answered `{stored}` to set");
        stream.write_all(format!("get {key}\r\n").as_bytes()).context("memcached hung up")?;
        let lines = [answer()?, answer()?, answer()?];
        let [_, found, end] = &lines;
        if found != value || end != "END" {
            bail!("memcached answered `{}` to get", lines.join(" / "));
        }
    }
    Ok(())
}

fn connect(endpoint: &Endpoint) -> Result<TcpStream> {
    let mut addresses =
        (endpoint.address.as_str(), endpoint.port).to_socket_addrs().context("an address has no meaning")?;
    let address = addresses.next().context("an address names nothing")?;
    let stream = TcpStream::connect_timeout(&address, ANSWER)
        .with_context(|| format!("nothing answers at {endpoint}"))?;
    // Requests are small, and each waits for its answer.
    stream.set_nodelay(true).context("a connection cannot be set up")?;
    stream.set_read_timeout(Some(ANSWER)).context("a connection takes no deadline")?;
    Ok(stream)
}

fn row(name: &str, what: &str, took: Duration) -> Vec<String> {
    vec![name.to_owned(), what.to_owned(), took.as_millis().to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_demo_left_is_removed_and_a_living_one_is_let_alone() -> Result<()> {
        let scratch = Scratch::below(&std::env::temp_dir(), "demo-marks")?;
        let host = |program: &str| Cachehost { program: program.into(), instance: INSTANCE.to_owned() };
        let mark = scratch.path().join("demo-other");
        let other = File::create(&mark)?;
        other.lock()?;
        // A call of this command line fails, so none may be made.
        Run::begin(scratch.path(), &host("false"))?.end()?;
        assert!(mark.exists(), "it goes on");

        drop(other);
        assert!(Run::begin(scratch.path(), &host("false")).is_err());
        assert!(mark.exists(), "what could not be removed is removed another time");
        Run::begin(scratch.path(), &host("true"))?.end()?;
        assert!(!mark.exists());
        Ok(())
    }
}
