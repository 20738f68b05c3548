//! Programs run inside pods, and what pods wrote.

use futures_util::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, LogParams};
use kube::{Api, Error};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::again::{again, again_if, did_nothing, passes};
use super::errors::{engine_error, gone};
use super::spec::{SERVER, UID};
use crate::engine::cluster::ObjectId;
use crate::engine::{EngineError, ExecOutput};

/// Bytes of each stream that wait on this side.
pub(super) const BUFFER: usize = 1024 * 1024;
/// Bytes of a log that are worth showing.
const LOG_TAIL: usize = 4096;
/// Bytes of a script's words that are worth showing.
pub(super) const WORDS: usize = 4096;

/// A program is started in the pod of a name, and names are used again: so the first thing that runs there asks which
/// one it is. The words tell such an end from one of the program's own.
const GUARD: &str = r#"if [ "$FAKECLOUD_POD_UID" != "$1" ]; then echo 'fakecloud: another pod' >&2; exit 125; fi
shift
exec "$@""#;
const ANOTHER: (i32, &[u8]) = (125, b"fakecloud: another pod");

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// With that exit code.
    Code(i32),
    /// It was not run, in the words of whoever tried.
    NotRun(String),
    /// The connection broke off before it was told.
    Unknown,
}

/// What is to run, and where.
pub(super) struct Program<'a> {
    pub(super) pods: &'a Api<Pod>,
    pub(super) pod: &'a ObjectId,
    pub(super) container: &'a str,
    /// For messages.
    pub(super) object: &'a str,
    pub(super) argv: &'a [String],
}

impl Program<'_> {
    /// Starts it. `harmless` says that it has no effect if it is started twice.
    pub(super) async fn start(&self, stdin: bool, harmless: bool) -> Result<AttachedProcess, EngineError> {
        debug_assert!(GUARD.contains(UID));
        let guard = ["sh", "-c", GUARD, "sh", &self.pod.uid].map(str::to_owned);
        let command: Vec<String> = guard.into_iter().chain(self.argv.iter().cloned()).collect();
        let params = AttachParams::default()
            .container(self.container)
            .stdin(stdin)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER)
            .max_stderr_buf_size(BUFFER);
        let start = || self.pods.exec(&self.pod.name, command.clone(), &params);
        let started = again_if(start, if harmless { starts_later } else { did_nothing }).await;
        started.map_err(|error| match engine_error(self.object, error) {
            EngineError::Failed { object, message } if does_not_run(&message) => {
                EngineError::Conflict { object, message }
            }
            other => other,
        })
    }

    /// What an end without an exit code means.
    pub(super) fn no_code(&self, end: End) -> EngineError {
        let object = self.object.to_owned();
        match end {
            End::NotRun(message) if does_not_run(&message) => EngineError::Conflict { object, message },
            End::NotRun(message) => EngineError::Failed { object, message },
            End::Code(code) => {
                EngineError::Failed { object, message: format!("it ended with exit code {code}") }
            }
            End::Unknown => {
                let message = "the connection ended before the program did".to_owned();
                EngineError::Unavailable { object, message }
            }
        }
    }

    /// That the program met another pod than the one meant.
    pub(super) fn other_pod(&self, code: i32, stderr: &[u8]) -> Option<EngineError> {
        ((code, stderr.trim_ascii_end()) == ANOTHER).then(|| gone(&self.pod.name))
    }
}

/// Whether another attempt at a start may go better. A kubelet that has no such container says so as a failure of its
/// own, which stays.
fn starts_later(error: &Error) -> bool {
    passes(error) && !matches!(error, Error::Api(status) if status.code == 500)
}

/// Whether it is said that the container is not there to run anything.
fn does_not_run(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    lower.contains("container not found")
        || lower.contains("is not running")
        || lower.contains("not running container")
        || lower.contains("completed pod")
        || lower.contains("does not have a host assigned")
}

/// Runs a program in the pod's server container, as the trait says.
pub(super) async fn exec(
    pods: &Api<Pod>,
    pod: &ObjectId,
    argv: &[String],
    max_output: usize,
) -> Result<ExecOutput, EngineError> {
    let object = format!("{} in {}", argv.first().map(String::as_str).unwrap_or("nothing"), pod.name);
    run(&Program { pods, pod, container: SERVER, object: &object, argv }, false, max_output).await
}

/// Runs a program to its end, without input.
pub(super) async fn run(
    program: &Program<'_>,
    harmless: bool,
    max_output: usize,
) -> Result<ExecOutput, EngineError> {
    let mut process = program.start(false, harmless).await?;
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    // Both at once: one that is not read keeps the other from coming. The guard's words fit in any case.
    let most = max_output.max(ANOTHER.1.len() + 1);
    let failed = |message| EngineError::Failed { object: program.object.to_owned(), message };
    let (stdout, stderr) =
        tokio::try_join!(collected(stdout, most), collected(stderr, most)).map_err(failed)?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match end(status) {
        End::Code(code) => match program.other_pod(code, &stderr) {
            Some(error) => Err(error),
            None if stdout.len().max(stderr.len()) > max_output => Err(failed(too_much(max_output))),
            None => Ok(ExecOutput { exit_code: code, stdout, stderr }),
        },
        End::NotRun(message) => match not_runnable(&message) {
            Some(exit_code) => Ok(ExecOutput { exit_code, stdout, stderr: message.into_bytes() }),
            None => Err(program.no_code(End::NotRun(message))),
        },
        End::Unknown => Err(program.no_code(End::Unknown)),
    }
}

async fn collected(stream: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, String> {
    let Some(stream) = stream else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(bound).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    if bytes.len() > most {
        return Err(too_much(most));
    }
    Ok(bytes)
}

fn too_much(most: usize) -> String {
    format!("it wrote more than {most} bytes")
}

/// The start of a stream, and the rest to nowhere, so that its program is not held up.
pub(super) async fn beginning(stream: Option<impl AsyncRead + Unpin>, most: usize) -> Vec<u8> {
    let Some(stream) = stream else { return Vec::new() };
    let mut bytes = Vec::new();
    let mut bounded = stream.take(u64::try_from(most).unwrap_or(u64::MAX));
    // A stream that breaks off shows in how the program ended.
    let _ = bounded.read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut bounded.into_inner(), &mut tokio::io::sink()).await;
    bytes
}

/// What the status that follows the output says.
pub(super) fn end(status: Option<Status>) -> End {
    let Some(status) = status else { return End::Unknown };
    if status.status.as_deref() == Some("Success") {
        return End::Code(0);
    }
    let message = status.message.unwrap_or_default();
    if status.reason.as_deref() != Some("NonZeroExitCode") {
        return End::NotRun(message);
    }
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    match code.and_then(|cause| cause.message.as_deref()?.parse().ok()) {
        Some(code) => End::Code(code),
        None => End::NotRun(message),
    }
}

/// The exit code that a shell would give where there is no shell to give one.
fn not_runnable(message: &str) -> Option<i32> {
    let lower = message.to_ascii_lowercase();
    if lower.contains("executable file not found") || lower.contains("no such file or directory") {
        return Some(127);
    }
    (lower.contains("permission denied") && lower.contains("exec")).then_some(126)
}

/// The last lines that a pod's server wrote.
pub(super) async fn log_tail(pods: &Api<Pod>, pod: &ObjectId, lines: u32) -> Result<String, EngineError> {
    let failed = |error| engine_error(&pod.name, error);
    let params = LogParams {
        container: Some(SERVER.to_owned()),
        tail_lines: Some(i64::from(lines)),
        ..LogParams::default()
    };
    let mut log = Box::pin(again(|| pods.log_stream(&pod.name, &params)).await.map_err(failed)?);
    let (mut kept, mut piece) = (Vec::new(), vec![0; LOG_TAIL]);
    loop {
        let count = log.read(&mut piece).await.map_err(|error| EngineError::Unavailable {
            object: pod.name.clone(),
            message: error.to_string(),
        })?;
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&piece[..count]);
        let excess = kept.len().saturating_sub(LOG_TAIL);
        kept.drain(..excess);
    }
    // Bytes that are no text become characters of three bytes, so there is one more cut to make.
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    text.drain(..text.ceil_char_boundary(text.len().saturating_sub(LOG_TAIL)));
    Ok(text)
}
