//! RDB files: written as version 10 with string keys, read as far as this engine can hold what is in them.

use std::collections::BTreeMap;

use crc::{CRC_64_REDIS, Crc, Table};

/// Keys and values of a database.
pub type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

static CRC: Crc<u64, Table<1>> = Crc::<u64, Table<1>>::new(&CRC_64_REDIS);

const MAGIC: &[u8] = b"REDIS";
/// The newest version that redis 7.4 reads.
const NEWEST: u32 = 12;
/// The first version with a checksum.
const FIRST_WITH_CRC: u32 = 5;

const OP_AUX: u8 = 0xfa;
const OP_RESIZE: u8 = 0xfb;
const OP_SELECT: u8 = 0xfe;
const OP_END: u8 = 0xff;
const TYPE_STRING: u8 = 0;

/// The first two bits of a length.
const LENGTH_6: u8 = 0b00;
const LENGTH_14: u8 = 0b01;
const LENGTH_ENCODED: u8 = 0b11;
const LENGTH_32: u8 = 0x80;
const LENGTH_64: u8 = 0x81;

/// An RDB file of version 10 with these keys; `aux` are the entries of its preamble, such as `redis-ver`.
pub fn write(aux: &[(&str, &str)], keys: &Keys) -> Vec<u8> {
    let mut out = b"REDIS0010".to_vec();
    for (name, value) in aux {
        out.push(OP_AUX);
        write_string(&mut out, name.as_bytes());
        write_string(&mut out, value.as_bytes());
    }
    if !keys.is_empty() {
        out.push(OP_SELECT);
        write_length(&mut out, 0);
        out.push(OP_RESIZE);
        write_length(&mut out, keys.len());
        write_length(&mut out, 0);
    }
    for (key, value) in keys {
        out.push(TYPE_STRING);
        write_string(&mut out, key);
        write_string(&mut out, value);
    }
    out.push(OP_END);
    let crc = CRC.checksum(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    write_length(out, text.len());
    out.extend_from_slice(text);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    // Each cast keeps the bits that the comparison before it has shown to be all there are.
    if length < 1 << 6 {
        out.push(length as u8);
    } else if length < 1 << 14 {
        out.push((LENGTH_14 << 6) | (length >> 8) as u8);
        out.push(length as u8);
    } else if let Ok(length) = u32::try_from(length) {
        out.push(LENGTH_32);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(LENGTH_64);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// The keys of an RDB file and the number of bytes it takes; what follows is not looked at.
///
/// # Errors
/// What is wrong with it, or what in it this engine cannot hold, in words for a log line.
pub fn read(bytes: &[u8]) -> Result<(Keys, usize), String> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err("Wrong signature trying to load DB from file".into());
    }
    let version = std::str::from_utf8(reader.take(4)?).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if version == 0 || version > NEWEST {
        return Err(format!("Can't handle RDB format version {version}"));
    }
    let mut keys = Keys::new();
    loop {
        match reader.byte()? {
            OP_AUX => {
                reader.string()?;
                reader.string()?;
            }
            OP_RESIZE => {
                reader.plain_length()?;
                reader.plain_length()?;
            }
            OP_SELECT => {
                let database = reader.plain_length()?;
                if database != 0 {
                    return Err(format!("The simulation has only database 0, not {database}"));
                }
            }
            TYPE_STRING => {
                let key = reader.string()?;
                let value = reader.string()?;
                keys.insert(key, value);
            }
            OP_END => break,
            other => {
                return Err(format!("The simulation cannot hold RDB type or opcode {other}"));
            }
        }
    }
    if version >= FIRST_WITH_CRC {
        let actual = CRC.checksum(&bytes[..reader.at]);
        let expected = u64::from_le_bytes(reader.array()?);
        // Redis writes 0 when told not to compute checksums, and then does not check either.
        if expected != 0 && expected != actual {
            return Err(format!("Wrong RDB checksum expected: ({expected:x}) but got ({actual:x})"));
        }
    }
    Ok((keys, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A length, or the number of a special encoding of a string.
enum Length {
    Plain(u64),
    Encoded(u8),
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or("Unexpected EOF reading RDB file")?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, String> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn length(&mut self) -> Result<Length, String> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (LENGTH_6, _) => Length::Plain(low.into()),
            (LENGTH_14, _) => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            (LENGTH_ENCODED, _) => Length::Encoded(low),
            (_, LENGTH_32) => Length::Plain(u32::from_be_bytes(self.array()?).into()),
            (_, LENGTH_64) => Length::Plain(u64::from_be_bytes(self.array()?)),
            _ => return Err(format!("Unknown length encoding {first} in RDB file")),
        })
    }

    fn plain_length(&mut self) -> Result<u64, String> {
        match self.length()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(encoding) => Err(format!("A length was expected, not encoding {encoding}")),
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        let number = match self.length()? {
            Length::Plain(length) => {
                let length = usize::try_from(length).map_err(|error| error.to_string())?;
                return Ok(self.take(length)?.to_vec());
            }
            Length::Encoded(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Encoded(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Encoded(2) => i32::from_le_bytes(self.array()?),
            Length::Encoded(other) => {
                return Err(format!("The simulation cannot read string encoding {other} (3 is LZF)"));
            }
        };
        Ok(number.to_string().into_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let crc = CRC.checksum(&body);
        body.extend_from_slice(&crc.to_le_bytes());
        body
    }

    #[test]
    fn what_is_written_is_read_back_at_every_width_of_length() {
        let mut keys = Keys::new();
        for length in [0, 1, 63, 64, 16_383, 16_384, 70_000] {
            keys.insert(format!("key{length}").into_bytes(), vec![b'x'; length]);
        }
        let bytes = write(&[("redis-ver", "7.4.0")], &keys);
        assert_eq!(read(&bytes).unwrap(), (keys, bytes.len()));
    }

    #[test]
    fn a_file_that_redis_7_wrote_is_read() {
        // redis 7.0.15, `SET a 1`, as the base of an append-only file.
        let bytes = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0@\
            \xfa\x05ctime\xc2\x98\xae\x04k\xfa\x08used-mem\xc2\xc8Z\x11\x00\xfa\x08aof-base\xc0\x01\
            \xfe\x00\xfb\x01\x00\x00\x01a\xc0\x01\xff\xbc\xfa\xbf\xcb\x0f\xe4\xc4\x19";
        let (keys, length) = read(bytes).unwrap();
        assert_eq!(keys, Keys::from([(b"a".to_vec(), b"1".to_vec())]));
        assert_eq!(length, bytes.len());
    }

    #[test]
    fn integers_and_long_lengths_are_read() {
        let mut body = b"REDIS0011\xfe\x00".to_vec();
        body.extend_from_slice(b"\x00\x01a\xc0\xff");
        body.extend_from_slice(b"\x00\x01b\xc1\x00\x80");
        body.extend_from_slice(b"\x00\x01c\xc2\x15\xcd\x5b\x07");
        body.extend_from_slice(b"\x00\x81\x00\x00\x00\x00\x00\x00\x00\x01d\x80\x00\x00\x00\x02hi\xff");
        let (keys, _) = read(&sealed(body)).unwrap();
        let values: Vec<_> = keys.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        assert_eq!(values, ["-1", "-32768", "123456789", "hi"]);
    }

    #[test]
    fn any_flipped_or_missing_byte_is_refused() {
        let good = write(&[("redis-ver", "7.4.0")], &Keys::from([(b"key".to_vec(), b"value".to_vec())]));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(read(&bad).is_err(), "byte {at}");
            assert!(read(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_zero_checksum_is_not_checked_and_other_types_are_named() {
        let unchecked = [b"REDIS0010\x00\x01a\x01b\xff".as_slice(), &[0; 8]].concat();
        assert_eq!(read(&unchecked).unwrap().0.len(), 1);
        let list = sealed(b"REDIS0010\x01\x01a\xff".to_vec());
        assert!(read(&list).unwrap_err().contains("type or opcode 1"));
        let packed = sealed(b"REDIS0010\x00\x01a\xc3\x01\x01\x00\xff".to_vec());
        assert!(read(&packed).unwrap_err().contains("LZF"));
    }
}
