//! A client as an application would use it. It asks itself, so that no answer of ours proves ours.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use elasticache_host::{Cache, Endpoint};

use super::eventually;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

pub struct Redis {
    reader: BufReader<TcpStream>,
}

impl Redis {
    /// One attempt.
    pub fn try_connect(endpoint: &Endpoint) -> std::io::Result<Redis> {
        let stream = TcpStream::connect((endpoint.address.as_str(), endpoint.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Redis { reader: BufReader::new(stream) })
    }

    /// One attempt, by somebody who does not wait long for replies.
    pub fn try_connect_impatiently(endpoint: &Endpoint) -> std::io::Result<Redis> {
        let redis = Redis::try_connect(endpoint)?;
        redis.reader.get_ref().set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(redis)
    }

    /// To a cache that was said to answer: at once.
    pub fn of(cache: &Cache) -> Redis {
        Redis::at(cache.endpoint.as_ref().expect("an endpoint"))
    }

    pub fn at(endpoint: &Endpoint) -> Redis {
        Redis::try_connect(endpoint).unwrap()
    }

    /// As a client that reconnects does: again and again until it is answered.
    pub fn reconnect(endpoint: &Endpoint) -> Redis {
        eventually("a client reconnects", || {
            let mut redis = Redis::try_connect(endpoint).ok()?;
            (redis.try_command(&["PING"]).ok()? == Reply::Status("PONG".into())).then_some(redis)
        })
    }

    pub fn send(&mut self, args: &[&str]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(&encoded(args))
    }

    pub fn try_command(&mut self, args: &[&str]) -> std::io::Result<Reply> {
        self.send(args)?;
        self.reply()
    }

    /// Any reply but an error.
    pub fn command(&mut self, args: &[&str]) -> Reply {
        match self.try_command(args).unwrap() {
            Reply::Error(words) => panic!("{args:?}: {words}"),
            reply => reply,
        }
    }

    pub fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.command(&["SET", key, value]), Reply::Status("OK".into()));
    }

    pub fn get(&mut self, key: &str) -> Option<String> {
        match self.command(&["GET", key]) {
            Reply::Bulk(bytes) => bytes.map(|bytes| String::from_utf8(bytes).unwrap()),
            other => panic!("GET {key}: {other:?}"),
        }
    }

    pub fn size(&mut self) -> i64 {
        match self.command(&["DBSIZE"]) {
            Reply::Integer(count) => count,
            other => panic!("{other:?}"),
        }
    }

    /// A line of `INFO`.
    pub fn info(&mut self, section: &str, field: &str) -> String {
        let Reply::Bulk(Some(text)) = self.command(&["INFO", section]) else { panic!("INFO {section}") };
        let text = String::from_utf8(text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO {section} has no {field}")).to_owned()
    }

    /// Writes the keys `0..count`, and waits until each is acknowledged.
    pub fn fill(&mut self, count: usize) {
        for start in (0..count).step_by(BATCH) {
            let batch = start..count.min(start + BATCH);
            let mut bytes = Vec::new();
            for n in batch.clone() {
                bytes.extend(encoded(&["SET", &key(n), &value(n)]));
            }
            self.reader.get_mut().write_all(&bytes).unwrap();
            for n in batch {
                assert_eq!(self.reply().unwrap(), Reply::Status("OK".into()), "{}", key(n));
            }
        }
    }

    /// Each of the keys `0..count` has its value. The server compares them: to fetch a hundred thousand and compare them
    /// here takes many times as long.
    pub fn check(&mut self, count: usize) {
        let script = "for n = 0, ARGV[1] - 1 do \
                          local wanted = 'value-' .. n .. '-' .. (n * 2654435761 % 1000003) \
                          local there = redis.call('GET', 'key:' .. n) \
                          if there ~= wanted then return {n, wanted, there} end \
                      end \
                      return 'OK'";
        assert_eq!(
            self.command(&["EVAL", script, "0", &count.to_string()]),
            Reply::Bulk(Some(b"OK".to_vec()))
        );
    }

    /// Many keys by few commands; fast, for where it matters only that there are many. Not by one: the
    /// server would load them in one piece again, and answer nobody meanwhile.
    pub fn fill_fast(&mut self, count: usize) {
        let script = "for n = ARGV[1], ARGV[2] do redis.call('SET', 'fast:' .. n, n) end return 'OK'";
        for first in (1..=count).step_by(BATCH) {
            let last = count.min(first + BATCH - 1);
            self.command(&["EVAL", script, "0", &first.to_string(), &last.to_string()]);
        }
    }

    /// Writes so many bytes, in values of one MiB that cannot be compressed, and returns such a value.
    pub fn fill_large(&mut self, bytes: usize) -> String {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + (state >> 58) as u8)
        });
        let text: String = noise.take(1 << 20).collect();
        for n in 0..bytes >> 20 {
            self.set(&format!("large:{n}"), &text);
        }
        text
    }

    /// Begins a save in the background that takes ten seconds at least if there are 10,000 keys; the next one is as
    /// fast as ever.
    pub fn save_slowly(&mut self) {
        self.command(&["CONFIG", "SET", "rdb-key-save-delay", "1000"]);
        self.command(&["BGSAVE"]);
        self.command(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
        assert_eq!(self.info("persistence", "rdb_bgsave_in_progress"), "1");
    }

    pub fn reply(&mut self) -> std::io::Result<Reply> {
        let line = self.line()?;
        let rest = line.get(1..).unwrap_or_default().to_owned();
        let number = || rest.parse::<i64>().map_err(|_| std::io::Error::other(format!("reply {line:?}")));
        Ok(match line.as_bytes().first() {
            Some(b'+') => Reply::Status(rest),
            Some(b'-') => Reply::Error(rest),
            Some(b':') => Reply::Integer(number()?),
            Some(b'$') => match usize::try_from(number()?) {
                Err(_) => Reply::Bulk(None),
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(Some(bytes))
                }
            },
            Some(b'*') => {
                Reply::Array((0..number()?.max(0)).map(|_| self.reply()).collect::<Result<_, _>>()?)
            }
            _ => return Err(std::io::Error::other(format!("no reply: {line:?}"))),
        })
    }

    /// For memcached, which is asked in lines.
    pub fn text(&mut self, request: &str) -> String {
        self.reader.get_mut().write_all(request.as_bytes()).unwrap();
        self.line().unwrap()
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Commands sent before their replies are read: less than the server's buffers hold.
const BATCH: usize = 1000;

fn key(n: usize) -> String {
    format!("key:{n}")
}

fn value(n: usize) -> String {
    format!("value-{n}-{}", n.wrapping_mul(2_654_435_761) % 1_000_003)
}

fn encoded(args: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n{arg}\r\n", arg.len()).into_bytes());
    }
    bytes
}

/// Somebody who counts up in one key, and in a second one together with it, until the engine goes away.
pub struct Writer(std::thread::JoinHandle<i64>, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Writer {
    /// Starts, and has been acknowledged a few writes when this returns.
    pub fn start(endpoint: &Endpoint) -> Writer {
        let mut redis = Redis::at(endpoint);
        let enough = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stop, (started, running)) = (enough.clone(), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            let (mut acknowledged, mut writes) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                match redis.both() {
                    Ok(count) => acknowledged = count,
                    Err(_) => break,
                }
                writes += 1;
                if writes == 10 {
                    let _ = started.send(());
                }
            }
            acknowledged
        });
        running.recv_timeout(super::BOUND).expect("a writer is acknowledged");
        Writer(thread, enough)
    }

    /// The last count that was acknowledged, once it has ended.
    pub fn finish(self) -> i64 {
        self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        self.0.join().unwrap()
    }
}

impl Redis {
    /// Counts up both keys in one transaction.
    fn both(&mut self) -> std::io::Result<i64> {
        for command in [&["MULTI"][..], &["INCR", "one"], &["INCR", "other"]] {
            self.try_command(command)?;
        }
        match self.try_command(&["EXEC"])? {
            Reply::Array(counts) => match counts[..] {
                [Reply::Integer(one), Reply::Integer(other)] if one == other => Ok(one),
                _ => panic!("{counts:?}"),
            },
            other => Err(std::io::Error::other(format!("{other:?}"))),
        }
    }

    pub fn counts(&mut self) -> (i64, i64) {
        let mut count = |key: &str| self.get(key).map_or(0, |text| text.parse().unwrap());
        (count("one"), count("other"))
    }
}
