//! Programs run inside containers, and what containers wrote.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;

use super::errors::{engine_error, segment};
use crate::engine::{EngineError, ExecOutput};

/// Bytes of a log that are worth showing.
const LOG_TAIL: usize = 4096;

/// Create, start, inspect: the API has no shorter way to an exit code.
pub(super) async fn exec(
    api: &bollard::Docker,
    id: &str,
    argv: &[String],
    max_output: usize,
) -> Result<ExecOutput, EngineError> {
    let object = format!("{} in {id}", argv.first().map(String::as_str).unwrap_or("nothing"));
    let failed = |error| engine_error(&object, error);
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(argv.to_vec()),
        ..ExecConfig::default()
    };
    let created = api.create_exec(segment(id)?, config).await.map_err(failed)?;
    let started = match api.start_exec(&created.id, None::<StartExecOptions>).await {
        Ok(started) => started,
        Err(error) => {
            return match engine_error(&object, error) {
                EngineError::Failed { message, .. } if not_runnable(&message).is_some() => Ok(ExecOutput {
                    exit_code: not_runnable(&message).unwrap_or(126),
                    stdout: Vec::new(),
                    stderr: message.into_bytes(),
                }),
                other => Err(other),
            };
        }
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let StartExecResults::Attached { mut output, input } = started {
        while let Some(piece) = output.next().await {
            let (stream, message) = match piece.map_err(failed)? {
                LogOutput::StdOut { message } => (&mut stdout, message),
                LogOutput::StdErr { message } => (&mut stderr, message),
                LogOutput::StdIn { .. } => continue,
                // Without a terminal everything comes in frames: bytes outside of one are the rest of
                // one that was cut.
                LogOutput::Console { .. } => {
                    let message = "the output ended in the middle".to_owned();
                    return Err(EngineError::Unavailable { object, message });
                }
            };
            if stream.len().saturating_add(message.len()) > max_output {
                let message = format!("it wrote more than {max_output} bytes");
                return Err(EngineError::Failed { object, message });
            }
            stream.extend_from_slice(&message);
        }
        drop(input);
    }
    Ok(ExecOutput { exit_code: exit_code(api, &object, &created.id).await?, stdout, stderr })
}

/// The output ends a moment before the daemon hears of the program's end, or long before it if the
/// program closes its output first.
async fn exit_code(api: &bollard::Docker, object: &str, exec: &str) -> Result<i32, EngineError> {
    let mut pause = Duration::from_millis(1);
    loop {
        let seen = api.inspect_exec(exec).await.map_err(|error| engine_error(object, error))?;
        if let (Some(false), Some(code)) = (seen.running, seen.exit_code) {
            return i32::try_from(code).map_err(|_| EngineError::Failed {
                object: object.to_owned(),
                message: format!("{code} is not an exit code"),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The exit code that a shell would give where the daemon answers with an error instead of one.
fn not_runnable(message: &str) -> Option<i32> {
    let lower = message.to_ascii_lowercase();
    if lower.contains("executable file not found") || lower.contains("no such file or directory") {
        return Some(127);
    }
    (lower.contains("permission denied") && lower.contains("exec")).then_some(126)
}

/// The last lines of both streams.
pub(super) async fn log_tail(api: &bollard::Docker, id: &str, lines: u32) -> Result<String, EngineError> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let mut log = std::pin::pin!(api.logs(segment(id)?, Some(options)));
    let mut kept = Vec::new();
    while let Some(piece) = log.next().await {
        kept.extend_from_slice(piece.map_err(|error| engine_error(id, error))?.as_ref());
        keep_last(&mut kept, LOG_TAIL);
    }
    // Bytes that are no text become characters of three bytes, so there is one more cut to make.
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    let mut cut = text.len().saturating_sub(LOG_TAIL);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.drain(..cut);
    Ok(text)
}

fn keep_last(kept: &mut Vec<u8>, most: usize) {
    let excess = kept.len().saturating_sub(most);
    kept.drain(..excess);
}
