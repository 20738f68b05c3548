//! How a dataset lies in `/data`, and what the engine says about it.
//!
//! Redis 7 and valkey keep an append-only file in parts: a base, which may be an RDB file, what came after
//! it, and a manifest that names both. A server started with the append-only file on looks at nothing
//! else: with no manifest it starts empty, whatever `dump.rdb` holds. So an RDB file is restored by
//! making it the base, and a volume of an earlier runtime, which has a `dump.rdb` only, is converted.

/// The data folder in the container.
pub const FOLDER: &str = "/data";
/// What a snapshot is read from.
pub const DUMP: &str = "/data/dump.rdb";
/// The server's options.
///
/// Every write goes to the append-only file before it is acknowledged, so no way of ending the process loses one.
/// That is so with `appendfsync no` and `always`, but not with the engine's default, `everysec`: while a sync is
/// under way it puts off writing, acknowledges all the same, and a SIGKILL then loses what was put off. With `no`
/// the system decides when the file reaches the disk, usually within 30 s: only the machine's own end can lose
/// that. `always` would keep even this, at the price of a sync for every write of an application under test.
/// Save points are off: the RDB file is written when a snapshot asks for it, and by nothing else.
pub const OPTIONS: &[&str] = &[
    "--appendonly",
    "yes",
    "--appendfsync",
    "no",
    "--save",
    "",
    "--appenddirname",
    "appendonlydir",
    "--appendfilename",
    "appendonly.aof",
];
/// Names the parts of the append-only file; without it they count for nothing.
pub const MANIFEST: &str = "/data/appendonlydir/appendonly.aof.manifest";

/// The parts of a new append-only file, relative to [`FOLDER`].
///
/// Their names contain the operation, so that they never overwrite parts which the present manifest names:
/// the manifest, written last, switches from the old dataset to the new one.
pub struct Parts {
    pub base: String,
    pub increment: String,
    pub manifest: String,
    pub manifest_text: String,
}

impl Parts {
    pub fn of(operation: &str) -> Self {
        let base = format!("restored-{operation}.base.rdb");
        let increment = format!("restored-{operation}.incr.aof");
        Self {
            manifest_text: format!("file {base} seq 1 type b\nfile {increment} seq 1 type i\n"),
            base: format!("appendonlydir/{base}"),
            increment: format!("appendonlydir/{increment}"),
            manifest: "appendonlydir/appendonly.aof.manifest".to_owned(),
        }
    }
}

/// Where the manifest is kept that an operation takes the place of, relative to [`FOLDER`].
pub fn kept(operation: &str) -> String {
    format!("appendonlydir/before-{operation}.manifest")
}

/// What is put there once an engine has read what an operation restored, relative to [`FOLDER`].
pub fn loaded(operation: &str) -> String {
    format!("appendonlydir/loaded-{operation}")
}

/// The operation that made the dataset which a manifest names, if it is as that operation wrote it.
pub fn restored_by(manifest: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(manifest).ok()?;
    let (operation, _) = text.strip_prefix("file restored-")?.split_once(".base.rdb ")?;
    (Parts::of(operation).manifest_text == text).then(|| operation.to_owned())
}

/// What `INFO persistence` says about whether every acknowledged write is on disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Durability {
    /// All of them are in the append-only file.
    Safe,
    /// Somebody turned the append-only file off.
    Off,
    /// The last write to it failed, a full disk perhaps. The engine refuses writes meanwhile.
    Failing,
    /// The answer was not understood, or there was none that says otherwise.
    Unknown,
    /// The engine answered with this error, and may be asked again.
    Refused(String),
}

/// What an error in place of an answer says.
pub fn unsaid(error: String) -> Durability {
    let passes = ["LOADING", "NOAUTH"].iter().any(|word| error.starts_with(word));
    if passes { Durability::Unknown } else { Durability::Refused(error) }
}

/// Reads the answer to `INFO persistence`.
pub fn durability(info: &str) -> Durability {
    let field =
        |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    match (field("aof_enabled"), field("aof_last_write_status")) {
        (Some("1"), Some("ok")) => Durability::Safe,
        (Some("1"), Some(_)) => Durability::Failing,
        (Some("0"), _) => Durability::Off,
        _ => Durability::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_parts_and_ends_its_lines() {
        let parts = Parts::of("op1");
        assert_eq!(
            parts.manifest_text,
            "file restored-op1.base.rdb seq 1 type b\nfile restored-op1.incr.aof seq 1 type i\n"
        );
        assert!(MANIFEST.ends_with(&parts.manifest));
        assert_ne!(Parts::of("op2").base, parts.base);
    }

    #[test]
    fn only_a_manifest_as_it_was_written_is_an_operation_s() {
        let text = Parts::of("op1").manifest_text;
        assert_eq!(restored_by(text.as_bytes()).as_deref(), Some("op1"));
        assert_eq!(restored_by(format!("{text}file more seq 2 type i\n").as_bytes()), None);
        assert_eq!(restored_by(b"file appendonly.aof.1.base.rdb seq 1 type b\n"), None);
        assert_eq!(restored_by(b"\xff"), None);
    }

    #[test]
    fn durability_is_read_from_the_reply_not_assumed() {
        assert_eq!(durability("# P\r\naof_enabled:1\r\naof_last_write_status:ok\r\n"), Durability::Safe);
        assert_eq!(durability("aof_enabled:1\r\naof_last_write_status:err\r\n"), Durability::Failing);
        assert_eq!(durability("aof_enabled:0\r\naof_last_write_status:ok\r\n"), Durability::Off);
        assert_eq!(durability("aof_enabled:1\r\n"), Durability::Unknown);
        assert_eq!(durability("xaof_enabled:1\r\n"), Durability::Unknown);
        assert_eq!(durability(""), Durability::Unknown);
        assert_eq!(unsaid("NOAUTH Authentication required.".into()), Durability::Unknown);
        assert!(matches!(unsaid("BUSY Redis is busy running a script".into()), Durability::Refused(_)));
    }
}
