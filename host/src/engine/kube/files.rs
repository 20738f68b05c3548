//! Files into and out of pods: through programs that run there, as a stream, in bounded memory.
//!
//! The protocol has no way, on older servers, to say that standard input is over. So lengths go first, both ways:
//! that also tells a whole file from one that broke off.

use std::io::{self, Read, Seek as _, Write};

use bytes::{Bytes, BytesMut};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::programs::{BUFFER, End, Program, WORDS, beginning, end, run};
use crate::engine::cluster::ObjectId;
use crate::engine::{Content, EngineError, FileInfo, NewFile};

/// Bytes of one piece and how many may wait: 2 MiB in all, whatever the size of the file.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 8;
/// The digits of a length, and more.
const LENGTH_LINE: u64 = 32;

/// Writes standard input's first `$3` bytes to `$1/$2`: under another name first, so that nobody meets half of it.
const PUT: &str = r#"set -e
umask 0
path="$1/$2"
mkdir -p "${path%/*}"
part="$path.part.$$"
trap 'rm -f "$part"' EXIT
head -c "$3" >"$part"
[ "$(stat -c %s "$part")" = "$3" ] || { echo "only $(stat -c %s "$part") of $3 bytes arrived" >&2; exit 5; }
chmod 0644 "$part"
mv -f "$part" "$path""#;

/// Writes the length of the file `$1` on a line, and then the file. Not `head -c`: busybox's takes byte by byte. If the
/// file grows meanwhile, what is more than the length said is left out on this side.
const GET: &str = r#"[ -e "$1" ] || { echo "$1: no such file" >&2; exit 3; }
[ -f "$1" ] || { echo "$1: not a regular file" >&2; exit 4; }
length=$(stat -L -c %s "$1") || exit 5
echo "$length"
cat "$1""#;

/// Says what is at `$1`.
const STAT: &str =
    r#"if [ -d "$1" ]; then echo folder; elif [ -e "$1" ]; then stat -L -c %s "$1"; else echo none; fi"#;

/// Exit codes of [`GET`].
const NO_FILE: i32 = 3;

fn script(text: &str, args: &[&str]) -> Vec<String> {
    ["sh", "-c", text, "sh"].iter().chain(args).map(|&arg| arg.to_owned()).collect()
}

/// That no path leads out of the folder.
pub(super) fn check_paths(pod: &ObjectId, folder: &str, files: &[NewFile]) -> Result<(), EngineError> {
    for file in files {
        crate::engine::check_new_path(&file.path).map_err(|message| EngineError::Failed {
            object: format!("{:?} for {folder} of {}", file.path, pod.name),
            message,
        })?;
    }
    Ok(())
}

/// Writes the files one after the other, in the container that runs. Their paths were checked.
pub(super) async fn put(
    pods: &Api<Pod>,
    pod: &ObjectId,
    container: &str,
    folder: &str,
    files: Vec<NewFile>,
    moved: Box<dyn Fn(u64) + Send>,
) -> Result<(), EngineError> {
    let mut moved = moved;
    for file in files {
        let object = format!("{folder}/{} of {}", file.path, pod.name);
        let length = match &file.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, length) => *length,
        };
        let argv = script(PUT, &[folder.trim_end_matches('/'), &file.path, &length.to_string()]);
        let program = Program { pods, pod, container, object: &object, argv: &argv };
        moved = put_one(&program, file.content, length, moved).await?;
    }
    Ok(())
}

async fn put_one(
    program: &Program<'_>,
    content: Content,
    length: u64,
    moved: Box<dyn Fn(u64) + Send>,
) -> Result<Box<dyn Fn(u64) + Send>, EngineError> {
    let object = || program.object.to_owned();
    let mut process = program.start(true, true).await?;
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let status = process.take_status();
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let reading = spawn_blocking(move || read_content(content, length, moved, &sender));
    let feeding = async move {
        if let Some(mut stdin) = stdin {
            while let Some(piece) = receiver.recv().await {
                // A program that ended early has its own words for it.
                if stdin.write_all(&piece).await.is_err() {
                    break;
                }
            }
            let _ = stdin.flush().await;
            // Not closed: on older servers that ends the connection, the program's own end included.
            std::future::pending::<()>().await;
        }
        std::future::pending::<std::convert::Infallible>().await
    };
    let ending = async {
        let (_, words) = tokio::join!(beginning(stdout, WORDS), beginning(stderr, WORDS));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        (end(status), words)
    };
    tokio::pin!(reading);
    let mut read = None;
    let (ended, words) = tokio::select! {
        ended = ending => ended,
        never = feeding => match never {},
        // Our own trouble: the program would wait for ever for what does not come.
        trouble = async {
            match (&mut reading).await {
                Ok(Ok(moved)) => { read = Some(moved); std::future::pending().await }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            }
        } => return Err(EngineError::Io { object: object(), message: trouble }),
    };
    match ended {
        End::Code(0) => {}
        End::Code(code) => {
            if let Some(error) = program.other_pod(code, &words) {
                return Err(error);
            }
            let said = String::from_utf8_lossy(&words).trim().to_owned();
            let message =
                if said.is_empty() { format!("its script ended with exit code {code}") } else { said };
            return Err(EngineError::Failed { object: object(), message });
        }
        other => return Err(program.no_code(other)),
    }
    match read {
        Some(moved) => Ok(moved),
        None => match reading.await {
            Ok(Ok(moved)) => Ok(moved),
            Ok(Err(error)) => Err(EngineError::Io { object: object(), message: error.to_string() }),
            Err(error) => Err(EngineError::Io { object: object(), message: error.to_string() }),
        },
    }
}

/// Sends as many bytes as were announced, on a thread of its own, since files are read blockingly.
fn read_content(
    content: Content,
    length: u64,
    moved: Box<dyn Fn(u64) + Send>,
    sender: &mpsc::Sender<Bytes>,
) -> io::Result<Box<dyn Fn(u64) + Send>> {
    let mut source: Box<dyn Read> = match content {
        Content::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
        Content::File(mut file, _) => {
            file.rewind()?;
            Box::new(file)
        }
    };
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let mut piece = BytesMut::zeroed(most);
        let count = source.read(&mut piece)?;
        if count == 0 {
            let message = format!("the file is {left} bytes shorter than announced");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        piece.truncate(count);
        if sender.blocking_send(piece.freeze()).is_err() {
            break;
        }
        left -= count as u64;
        moved(count as u64);
    }
    Ok(moved)
}

/// Reads one regular file into the sink.
pub(super) async fn get(
    pods: &Api<Pod>,
    pod: &ObjectId,
    container: &str,
    path: &str,
    sink: Box<dyn Write + Send>,
) -> Result<u64, EngineError> {
    let object = format!("{path} of {}", pod.name);
    let argv = script(GET, &[path]);
    let program = Program { pods, pod, container, object: &object, argv: &argv };
    let mut process = program.start(false, true).await?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    let ending = async {
        let words = beginning(stderr, WORDS).await;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        (end(status), words)
    };
    let taking = async {
        match stdout {
            Some(stdout) => take(BufReader::with_capacity(BUFFER, stdout), sink).await,
            None => Ok(None),
        }
    };
    // A sink that fails ends it at once: nothing else would be of use.
    let taking =
        async { taking.await.map_err(|error| EngineError::Io { object: object.clone(), message: error }) };
    let ((ended, words), length) = tokio::try_join!(async { Ok(ending.await) }, taking)?;
    let said = || String::from_utf8_lossy(&words).trim().to_owned();
    match (ended, length) {
        (End::Code(0), Some(length)) => Ok(length),
        (End::Code(NO_FILE), _) => Err(EngineError::NotFound { object, message: said() }),
        (End::Code(code), _) => match program.other_pod(code, &words) {
            Some(error) => Err(error),
            None => Err(EngineError::Failed { message: said(), object }),
        },
        (other, _) => Err(program.no_code(other)),
    }
}

/// The length, on its line, and so many bytes into the sink. `None` if not even a length came: the program's end
/// tells why. Otherwise fewer bytes than announced are an error.
async fn take(
    mut stdout: BufReader<impl tokio::io::AsyncRead + Unpin>,
    mut sink: Box<dyn Write + Send>,
) -> Result<Option<u64>, String> {
    let mut line = Vec::new();
    let mut bounded = (&mut stdout).take(LENGTH_LINE);
    bounded.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    let Some(length) =
        std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix('\n')?.parse::<u64>().ok())
    else {
        return Ok(None);
    };
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES);
    let writing = spawn_blocking(move || -> io::Result<()> {
        while let Some(piece) = receiver.blocking_recv() {
            sink.write_all(&piece)?;
        }
        sink.flush()
    });
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let mut piece = BytesMut::with_capacity(most);
        let mut bounded = (&mut stdout).take(most as u64);
        let count = bounded.read_buf(&mut piece).await.map_err(|error| error.to_string())?;
        if count == 0 {
            break;
        }
        left -= count as u64;
        // A writer that is gone has a result to tell.
        if sender.send(piece.freeze()).await.is_err() {
            break;
        }
    }
    drop(sender);
    if left == 0 {
        // Its program is not held up; that it breaks off here does not matter any longer.
        let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
    }
    match writing.await {
        Ok(Ok(())) if left == 0 => Ok(Some(length)),
        Ok(Ok(())) => Err(format!("the stream ended after {} of {length} bytes", length - left)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// What is at a path.
pub(super) async fn stat(
    pods: &Api<Pod>,
    pod: &ObjectId,
    container: &str,
    path: &str,
) -> Result<Option<FileInfo>, EngineError> {
    let object = format!("{path} of {}", pod.name);
    let argv = script(STAT, &[path]);
    let program = Program { pods, pod, container, object: &object, argv: &argv };
    let output = run(&program, true, WORDS).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    match (output.exit_code, said.trim()) {
        (0, "none") => Ok(None),
        (0, "folder") => Ok(Some(FileInfo { size: 0, directory: true })),
        (0, size) if size.bytes().all(|byte| byte.is_ascii_digit()) && !size.is_empty() => {
            let size =
                size.parse().map_err(|_| program.no_code(End::NotRun(format!("{size} is no length"))))?;
            Ok(Some(FileInfo { size, directory: false }))
        }
        (code, _) => {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let message =
                if words.is_empty() { format!("its script ended with exit code {code}") } else { words };
            Err(EngineError::Failed { object, message })
        }
    }
}
