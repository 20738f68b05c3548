//! The main job, on real engines, by the command line that a user would type.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
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

const REDIS: &str = "demo-redis";
const VALKEY: &str = "demo-valkey";
const MEMCACHED: &str = "demo-memcached";
const RESTORED: &str = "demo-restored";

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
    let mut demo = Demo {
        // What two demos at once start is told apart by its owner.
        cachehost: Cachehost { program, instance: format!("demo-{}", std::process::id()) },
        rows: vec![row("set up", "tools, engine, images", set_up), row("build", "policy, cachehost", built)],
    };
    let result = demo.play(&scratch.path().join("snapshot.rdb"));
    // Also after a failure: a demo leaves nothing behind.
    let cleaned = demo.clean_up();

    println!("\n{}", report::table(&["step", "what happened", "ms"], &demo.rows, true));
    result.and(cleaned)?;
    println!("The demo ran to its end, and every check held.");
    Ok(ExitCode::SUCCESS)
}

struct Demo {
    cachehost: Cachehost,
    rows: Vec<Vec<String>>,
}

impl Demo {
    fn play(&mut self, snapshot: &Path) -> Result<()> {
        let file = snapshot.to_str().context("the folder for temporary files has a strange name")?;
        let redis = self.start(REDIS, "redis")?;
        let valkey = self.start(VALKEY, "valkey")?;
        let memcached = self.start(MEMCACHED, "memcached")?;

        self.step("write redis", |host| fill(host, REDIS))?;
        self.step("write valkey", |host| fill(host, VALKEY))?;
        self.step("write memcached", |_| {
            memcached_keys(&memcached)?;
            Ok(format!("{} keys set and read at {memcached}", KEYS.len()))
        })?;

        self.step("snapshot redis", |host| {
            host.call(&["snapshot", REDIS, file])?;
            let size = std::fs::metadata(snapshot).context("the snapshot left no file")?.len();
            Ok(format!("{size} bytes"))
        })?;
        self.step("reboot redis", |host| reboot(host, REDIS, &redis))?;
        self.step("reboot valkey", |host| reboot(host, VALKEY, &valkey))?;
        self.step("restore redis", |host| {
            let endpoint = host.up(RESTORED, &["--engine", "redis", "--from", file])?;
            let keys = check_keys(host, RESTORED)?;
            Ok(format!("{RESTORED} at {endpoint}: the same {keys} keys"))
        })
    }

    fn start(&mut self, id: &str, engine: &str) -> Result<Endpoint> {
        let mut found = None;
        self.step(&format!("start {engine}"), |host| {
            let endpoint = host.up(id, &["--engine", engine])?;
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

    /// Removes every cache with its data, whether it was started or not.
    fn clean_up(&mut self) -> Result<()> {
        self.step("clean up", |host| {
            let caches = [REDIS, VALKEY, MEMCACHED, RESTORED];
            let results = caches.map(|id| remove(host, id));
            // All are tried before the first failure is told.
            results.into_iter().collect::<Result<Vec<()>>>()?;
            let left = host.call(&["ls"])?;
            let left = left.as_array().map_or(0, Vec::len);
            ensure!(left == 0, "{left} caches are left");
            Ok("all caches removed with their data".to_owned())
        })
    }
}

fn remove(host: &Cachehost, id: &str) -> Result<()> {
    let result = host.call(&["down", id, "--delete-data"]);
    match result {
        Ok(_) => Ok(()),
        // A demo that failed early never started this one.
        Err(_) if host.describe(id).is_err() => Ok(()),
        Err(error) => Err(error),
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
