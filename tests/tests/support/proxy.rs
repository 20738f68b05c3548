//! A socket in front of the daemon's that counts what is asked, and breaks what a test wants broken.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// It never reaches the daemon, and nothing comes back.
    Hang,
    /// It never reaches the daemon, and the connection closes.
    Refuse,
    /// The daemon does it; the reply is lost.
    LoseReply,
    /// The reply breaks off after so many bytes.
    Cut(i64),
    /// It never reaches the daemon, and nobody listens any more.
    Die,
    /// The daemon does it; the reply is lost, and nobody listens any more.
    DieAfter,
}

type Rule = dyn Fn(&str, &[u8]) -> Fate + Send + Sync;

pub struct Proxy {
    pub path: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<Vec<String>>,
    rule: Box<Rule>,
    dead: AtomicBool,
}

impl Proxy {
    /// `rule` sees the first line of each request, and what came with it in one piece.
    pub fn start(folder: &Path, rule: impl Fn(&str, &[u8]) -> Fate + Send + Sync + 'static) -> Proxy {
        let path = folder.join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            rule: Box::new(rule),
            dead: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        // Ends with the process; a test's end closes what it serves by removing the folder.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.dead.load(Ordering::SeqCst) {
                    continue;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || drop(serve(&shared, client)));
            }
        });
        Proxy { path, shared }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// First lines of all requests so far, `/_ping` left out.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }
}

fn daemon() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    PathBuf::from(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock"))
}

fn serve(shared: &Shared, mut client: UnixStream) -> std::io::Result<()> {
    let mut upstream = UnixStream::connect(daemon())?;
    // How many bytes of replies may still go back.
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let (mut replies, mut back, allowed) = (upstream.try_clone()?, client.try_clone()?, Arc::clone(&left));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = replies.read(&mut buffer) {
            let budget = allowed.fetch_sub(count as i64, Ordering::SeqCst).clamp(0, count as i64) as usize;
            if back.write_all(&buffer[..budget]).is_err() || budget < count {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
        let _ = replies.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            let _ = upstream.shutdown(Shutdown::Write);
            return Ok(());
        }
        if let Some(line) = first_line(&buffer[..count]) {
            if shared.dead.load(Ordering::SeqCst) {
                return close(&client, &upstream);
            }
            if !line.contains("/_ping") {
                shared.requests.lock().unwrap().push(line.clone());
            }
            match (shared.rule)(&line, &buffer[..count]) {
                Fate::Pass => {}
                Fate::Cut(bytes) => left.store(bytes, Ordering::SeqCst),
                Fate::LoseReply => left.store(0, Ordering::SeqCst),
                Fate::DieAfter => {
                    left.store(0, Ordering::SeqCst);
                    shared.dead.store(true, Ordering::SeqCst);
                }
                Fate::Hang => {
                    // Until the client has enough.
                    while client.read(&mut buffer)? > 0 {}
                    return close(&client, &upstream);
                }
                Fate::Refuse => return close(&client, &upstream),
                Fate::Die => {
                    shared.dead.store(true, Ordering::SeqCst);
                    return close(&client, &upstream);
                }
            }
        }
        upstream.write_all(&buffer[..count])?;
    }
}

fn close(client: &UnixStream, upstream: &UnixStream) -> std::io::Result<()> {
    let _ = upstream.shutdown(Shutdown::Both);
    client.shutdown(Shutdown::Both)
}

/// A client sends its next request once the last is answered, so that each begins a piece of its own.
fn first_line(bytes: &[u8]) -> Option<String> {
    let method =
        ["GET ", "POST ", "PUT ", "DELETE ", "HEAD "].iter().any(|m| bytes.starts_with(m.as_bytes()));
    let line = bytes.split(|byte| *byte == b'\r').next().filter(|_| method)?;
    let line = String::from_utf8_lossy(line).into_owned();
    line.contains(" HTTP/1.").then_some(line)
}
