//! The append-only file of redis 7: a manifest, a base and the commands since.

use super::disk::Disk;
use super::rdb::{self, Keys};

/// One file that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) seq: u64,
}

/// What `appendonly.aof.manifest` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) base: Option<Part>,
    /// In the order in which they are read.
    pub(super) incr: Vec<Part>,
    /// Files that no longer count; redis removes them.
    pub(super) history: Vec<String>,
}

impl Manifest {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "Invalid AOF manifest file format".to_owned())?;
        let mut manifest = Manifest::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let wrong = |why: &str| format!("FATAL AOF MANIFEST FILE ERROR >>> '{line}' {why}");
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["file", name, "seq", seq, "type", kind] = words[..] else {
                return Err(wrong("Invalid AOF manifest file format"));
            };
            if name.contains('/') {
                return Err(wrong("File can't be a path, just a filename"));
            }
            let seq = seq.parse().map_err(|_| wrong("Invalid AOF manifest file format"))?;
            let part = Part { name: name.to_owned(), seq };
            match kind {
                "b" if manifest.base.is_some() => return Err(wrong("Found duplicate base file information")),
                "b" => manifest.base = Some(part),
                "i" if manifest.incr.last().is_some_and(|last| last.seq >= seq) => {
                    return Err(wrong("Found a non-monotonic sequence number"));
                }
                "i" => manifest.incr.push(part),
                "h" => manifest.history.push(part.name),
                _ => return Err(wrong("Unknown AOF file type")),
            }
        }
        if manifest == Manifest::default() { Err("Found an empty AOF manifest".into()) } else { Ok(manifest) }
    }

    fn text(&self) -> String {
        let line = |part: &Part, kind| format!("file {} seq {} type {kind}\n", part.name, part.seq);
        let base = self.base.iter().map(|part| line(part, 'b'));
        base.chain(self.incr.iter().map(|part| line(part, 'i'))).collect()
    }
}

/// The append-only file in its folder.
#[derive(Debug, Clone)]
pub(super) struct Aof {
    /// Absolute.
    folder: String,
    /// What all names begin with.
    prefix: String,
    manifest: Manifest,
}

impl Aof {
    /// What the manifest says; redis reads it at every start, appending or not.
    pub(super) fn find(disk: &mut Disk<'_>, folder: String, prefix: String) -> Result<Self, String> {
        let mut aof = Aof { folder, prefix, manifest: Manifest::default() };
        if let Some(text) = disk.read(&aof.path(&format!("{}.manifest", aof.prefix))) {
            aof.manifest = Manifest::parse(&text)?;
        }
        Ok(aof)
    }

    /// The data. Without a manifest there is none, whatever other files say.
    pub(super) fn load(&self, disk: &mut Disk<'_>, log: &mut Vec<String>) -> Result<Keys, String> {
        let mut keys = Keys::new();
        let parts: Vec<_> = self.manifest.base.iter().chain(&self.manifest.incr).collect();
        for (index, part) in parts.iter().enumerate() {
            let missing = || format!("The AOF file {} doesn't exist", part.name);
            let bytes = disk.read(&self.path(&part.name)).ok_or_else(missing)?;
            let last = index + 1 == parts.len();
            read_part(&bytes, &mut keys, last, log).map_err(|why| format!("{}: {why}", part.name))?;
        }
        if !parts.is_empty() {
            log.push("DB loaded from append only file".into());
        }
        Ok(keys)
    }

    /// Make what is missing, and remove what no longer counts, as redis does before it takes commands.
    pub(super) fn open(&mut self, disk: &mut Disk<'_>, aux: &[(&str, &str)], log: &mut Vec<String>) {
        if self.manifest.base.is_none() && self.manifest.incr.is_empty() {
            let base = self.part(1, "base.rdb");
            log.push(format!("Creating AOF base file {} on server start", base.name));
            disk.write(&self.path(&base.name), rdb::write(aux, &Keys::new()));
            self.manifest.base = Some(base);
        }
        if self.manifest.incr.is_empty() {
            let incr = self.part(1, "incr.aof");
            log.push(format!("Creating AOF incr file {} on server start", incr.name));
            disk.write(&self.path(&incr.name), Vec::new());
            self.manifest.incr.push(incr);
        }
        self.store(disk);
    }

    /// A new base of these keys and an empty file after it, in the place of all that was.
    pub(super) fn rewrite(&mut self, disk: &mut Disk<'_>, aux: &[(&str, &str)], keys: &Keys) {
        let old = std::mem::take(&mut self.manifest);
        let seq = |part: Option<&Part>| part.map_or(1, |part| part.seq + 1);
        let base = self.part(seq(old.base.as_ref()), "base.rdb");
        let incr = self.part(seq(old.incr.last()), "incr.aof");
        disk.write(&self.path(&base.name), rdb::write(aux, keys));
        disk.write(&self.path(&incr.name), Vec::new());
        let history = old.base.into_iter().chain(old.incr).map(|part| part.name);
        let history = old.history.into_iter().chain(history).collect();
        self.manifest = Manifest { base: Some(base), incr: vec![incr], history };
        self.store(disk);
    }

    pub(super) fn append(&self, disk: &mut Disk<'_>, command: &[Vec<u8>]) {
        if let Some(incr) = self.manifest.incr.last() {
            disk.append(&self.path(&incr.name), &encode(command));
        }
    }

    fn store(&mut self, disk: &mut Disk<'_>) {
        let text = self.manifest.text();
        disk.write(&self.path(&format!("{}.manifest", self.prefix)), text.into_bytes());
        for name in std::mem::take(&mut self.manifest.history) {
            disk.remove(&self.path(&name));
        }
    }

    fn part(&self, seq: u64, ending: &str) -> Part {
        Part { name: format!("{}.{seq}.{ending}", self.prefix), seq }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// A base or a file of commands. Only the last may end in the middle of a command.
fn read_part(bytes: &[u8], keys: &mut Keys, last: bool, log: &mut Vec<String>) -> Result<(), String> {
    let mut rest = bytes;
    if bytes.starts_with(b"REDIS") {
        let (base, length) = rdb::read(bytes)?;
        keys.extend(base);
        rest = &bytes[length..];
    }
    while !rest.is_empty() {
        match decode(rest)? {
            Some((command, length)) => {
                apply(&command, keys).ok_or_else(|| {
                    let name = command.first().map(|name| String::from_utf8_lossy(name));
                    format!("Unknown command '{}' reading the append only file", name.unwrap_or_default())
                })?;
                rest = &rest[length..];
            }
            None if last => {
                log.push("!!! Warning: short read while loading the AOF file; it was truncated".into());
                break;
            }
            None => return Err("Unexpected end of file reading the append only file".into()),
        }
    }
    Ok(())
}

/// Do a write command; how many keys it touched, `None` if it is none.
pub(super) fn apply(command: &[Vec<u8>], keys: &mut Keys) -> Option<usize> {
    let name = command.first()?.to_ascii_uppercase();
    let before = keys.len();
    match (name.as_slice(), &command[1..]) {
        (b"SELECT", _) => Some(0),
        (b"SET", [key, value]) => {
            keys.insert(key.clone(), value.clone());
            Some(1)
        }
        (b"MSET", pairs) if !pairs.is_empty() && pairs.len() % 2 == 0 => {
            keys.extend(pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            Some(pairs.len() / 2)
        }
        (b"DEL", names) if !names.is_empty() => {
            keys.retain(|key, _| !names.contains(key));
            Some(before - keys.len())
        }
        (b"FLUSHALL", _) => {
            keys.clear();
            Some(before)
        }
        _ => None,
    }
}

/// A command as clients send it and the file keeps it.
fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A command's name and arguments.
type Words = Vec<Vec<u8>>;

/// The first command and its length; `None` if it is not all there.
fn decode(bytes: &[u8]) -> Result<Option<(Words, usize)>, String> {
    let mut at = 0;
    let Some(count) = header(bytes, &mut at, b'*')? else {
        return Ok(None);
    };
    let mut command = Vec::new();
    for _ in 0..count {
        let Some(length) = header(bytes, &mut at, b'$')? else {
            return Ok(None);
        };
        let Some(end) = at.checked_add(length) else {
            return Err(BAD_FORMAT.into());
        };
        let (Some(word), Some(line_end)) = (bytes.get(at..end), bytes.get(end..end + 2)) else {
            return Ok(None);
        };
        if line_end != b"\r\n" {
            return Err(BAD_FORMAT.into());
        }
        command.push(word.to_vec());
        at = end + 2;
    }
    Ok(Some((command, at)))
}

const BAD_FORMAT: &str = "Bad file format reading the append only file";

/// The number in a line such as `*3`; `None` if the line is not all there.
fn header(bytes: &[u8], at: &mut usize, mark: u8) -> Result<Option<usize>, String> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
        return if rest.first().is_none_or(|first| *first == mark) {
            Ok(None)
        } else {
            Err(BAD_FORMAT.into())
        };
    };
    *at += end + 2;
    let number =
        rest[..end].strip_prefix(&[mark]).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    number.map(Some).ok_or_else(|| BAD_FORMAT.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_redis_reads_it() {
        let text = b"# note\nfile a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\n\
            file a.2.incr.aof seq 2 type i\nfile a.3.incr.aof seq 3 type i\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.base.as_ref().map(|part| part.seq), Some(2));
        assert_eq!(manifest.incr.len(), 2);
        assert_eq!(manifest.history, ["a.1.incr.aof"]);
        for wrong in [
            "",
            "hello",
            "file ../a seq 1 type b",
            "file a seq x type b",
            "file a seq 1 type z",
            "file a seq 2 type i\nfile b seq 1 type i",
            "file a seq 1 type b\nfile b seq 2 type b",
        ] {
            assert!(Manifest::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn commands_are_read_back_and_only_the_last_file_may_be_cut() {
        let set = [b"SET".to_vec(), b"k".to_vec(), b"a\r\nb".to_vec()];
        let bytes = [encode(&set), encode(&[b"DEL".to_vec(), b"other".to_vec()])].concat();
        let (mut keys, mut log) = (Keys::new(), Vec::new());
        read_part(&bytes, &mut keys, false, &mut log).unwrap();
        assert_eq!(keys.get(b"k".as_slice()).unwrap(), b"a\r\nb");
        let cut = &bytes[..bytes.len() - 3];
        assert!(read_part(cut, &mut keys, false, &mut log).is_err());
        read_part(cut, &mut keys, true, &mut log).unwrap();
        assert!(log.iter().any(|line| line.contains("short read")));
        assert!(read_part(b"rubbish", &mut keys, true, &mut log).is_err());
        assert!(read_part(&encode(&[b"LPUSH".to_vec()]), &mut keys, true, &mut log).is_err());
    }
}
