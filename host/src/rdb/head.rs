//! The first bytes of an RDB file: its magic, its version, and the version of the server that wrote it.

use super::RdbError;

/// Bytes of magic and version together, in either spelling.
pub(super) const MAGIC_BYTES: usize = 9;
/// The server's version is the first field after the magic; this much is plenty to find it in.
const KEPT_BYTES: usize = 512;
/// The first version with a checksum.
const FIRST_WITH_CHECKSUM: u32 = 5;
/// The first version with fields about the server.
const FIRST_WITH_FIELDS: u32 = 7;
/// Announces such a field.
const FIELD: u8 = 0xfa;

const MAGICS: [(&[u8], Brand); 2] = [(b"REDIS", Brand::Redis), (b"VALKEY", Brand::Valkey)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brand {
    Redis,
    Valkey,
}

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    brand: Brand,
    number: u32,
}

impl Version {
    pub(super) fn number(self) -> u32 {
        self.number
    }

    pub(super) fn has_checksum(self) -> bool {
        self.brand == Brand::Valkey || self.number >= FIRST_WITH_CHECKSUM
    }
}

/// Keeps the first bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
}

impl Head {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Reads magic and version; `None` as long as they have not all come.
    pub(super) fn version(&self) -> Result<Option<Version>, RdbError> {
        let Some((magic, brand)) = MAGICS.into_iter().find(|(magic, _)| {
            let seen = self.bytes.len().min(magic.len());
            self.bytes[..seen] == magic[..seen]
        }) else {
            let seen = self.bytes.len().min(MAGIC_BYTES);
            return Err(RdbError::BadMagic { found: self.bytes[..seen].escape_ascii().to_string() });
        };
        let Some(digits) = self.bytes.get(magic.len()..MAGIC_BYTES) else {
            return Ok(None);
        };
        let number = digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')));
        // A field in a version that had none is a damaged version. Without this, one wrong digit could
        // pass for a version without a checksum, and hide itself.
        let has_field = self.bytes.get(MAGIC_BYTES) == Some(&FIELD);
        match number {
            Some(number) if number > 0 && !(has_field && number < FIRST_WITH_FIELDS) => {
                Ok(Some(Version { brand, number }))
            }
            _ => Err(RdbError::BadVersion {
                offset: magic.len() as u64,
                found: digits.escape_ascii().to_string(),
            }),
        }
    }

    /// Best effort: a file that keeps silent or is odd here is no worse for it.
    pub(super) fn engine_version(&self) -> Option<String> {
        let mut rest = self.bytes.get(MAGIC_BYTES..)?;
        while let Some((&FIELD, field)) = rest.split_first() {
            let (key, after_key) = string(field)?;
            let (value, after_value) = string(after_key)?;
            if key == b"redis-ver" || key == b"valkey-ver" {
                let shown = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
                return shown.then(|| String::from_utf8_lossy(value).into_owned());
            }
            rest = after_value;
        }
        None
    }
}

/// A length-encoded string and what follows it. Numbers give an empty one; `None` for what is too long
/// to be here, compressed, or cut off.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let low = usize::from(first & 0x3f);
    match first >> 6 {
        0 => rest.split_at_checked(low),
        1 => {
            let (&next, rest) = rest.split_first()?;
            rest.split_at_checked(low << 8 | usize::from(next))
        }
        // A number of one, two or four bytes.
        3 if low < 3 => Some((&[], rest.get(1 << low..)?)),
        _ => None,
    }
}
