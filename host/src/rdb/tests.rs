#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;

/// `SET key value; RPUSH list a b c; SAVE` by redis-server 7.0.15, Debian 12.
const REDIS_7: &[u8] =
    b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0@\xfa\x05ctime\xc2\x86\xad\
\x04k\xfa\x08used-mem\xc2\xc0\xb5\x0e\x00\xfa\x08aof-base\xc0\x00\xfe\x00\xfb\x02\x00\x12\x04list\x01\x02\x10\
\x10\x00\x00\x00\x03\x00\x81a\x02\x81b\x02\x81c\x02\xff\x00\x03key\x05value\xff\x16\x984s\xb6\x00\xe8G";

/// The same by valkey-server 9.1.2.
const VALKEY_9: &[u8] = b"VALKEY080\xfa\x0avalkey-ver\x059.1.2\xfa\x0aredis-bits\xc0@\xfa\x05ctime\xc2\x86\xad\
\x04k\xfa\x08used-mem\xc2PC\x10\x00\xfa\x08aof-base\xc0\x00\xfe\x00\xfb\x02\x00\x00\x03key\x05value\x12\x04list\
\x01\x02\x10\x10\x00\x00\x00\x03\x00\x81a\x02\x81b\x02\x81c\x02\xff\xff \xa3\xec\x90\xf6\xf7\xd2%";

fn check(bytes: &[u8]) -> Result<RdbInfo, RdbError> {
    let mut check = RdbCheck::new();
    check.update(bytes);
    check.finish()
}

/// A file with these entries, ended as a server ends it.
fn file(magic: &[u8], entries: &[u8]) -> Vec<u8> {
    let mut bytes = [magic, entries, &[END_MARKER]].concat();
    let checksum = CRC.checksum(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn entries() -> impl Strategy<Value = Vec<u8>> {
    // Each file of a version in use begins with a field.
    prop::collection::vec(any::<u8>(), 0..300).prop_map(|mut entries| {
        entries.splice(0..0, *b"\xfa\x09redis-ver\x057.2.4");
        entries
    })
}

#[test]
fn files_of_real_servers_are_sound() {
    let redis = check(REDIS_7).unwrap();
    let version = redis.engine_version.as_deref();
    assert_eq!((redis.size, redis.rdb_version, version), (130, 10, Some("7.0.15")));
    assert_eq!(redis.checksum, Some(0x47e8_00b6_7334_9816));

    let valkey = check(VALKEY_9).unwrap();
    let version = valkey.engine_version.as_deref();
    assert_eq!((valkey.size, valkey.rdb_version, version), (130, 80, Some("9.1.2")));
}

#[test]
fn any_flipped_bit_in_a_real_file_is_found() {
    for sound in [REDIS_7, VALKEY_9] {
        for (at, bit) in (0..sound.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = sound.to_vec();
            bytes[at] ^= 1 << bit;
            assert!(check(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn any_digit_changed_in_the_version_is_found() {
    // Among them are versions without a checksum: these must not hide the change.
    for number in (0..10_000).filter(|number| *number != 10) {
        let bytes = [format!("REDIS{number:04}").as_bytes(), &REDIS_7[9..]].concat();
        assert!(check(&bytes).is_err(), "version {number}");
    }
}

#[test]
fn any_truncation_of_a_real_file_is_found() {
    for sound in [REDIS_7, VALKEY_9] {
        for size in 0..sound.len() {
            assert!(check(&sound[..size]).is_err(), "cut to {size} bytes");
        }
        assert!(check(&[sound, b"\n"].concat()).is_err(), "a byte too many");
    }
}

#[test]
fn a_file_of_a_server_with_checksums_off_is_sound_and_has_none() {
    let mut bytes = REDIS_7.to_vec();
    bytes[122..].fill(0);
    assert_eq!(check(&bytes).unwrap().checksum, None);
}

#[test]
fn old_versions_end_without_a_checksum() {
    let info = check(b"REDIS0004\xfe\x00\xff").unwrap();
    assert_eq!((info.rdb_version, info.checksum, info.size), (4, None, 12));
    assert!(matches!(check(b"REDIS0004\xfe\x00"), Err(RdbError::NoEndMarker { offset: 10, found: 0 })));
    assert!(check(&file(b"REDIS0005", b"\xfe\x00")).unwrap().checksum.is_some());
}

#[test]
fn errors_say_what_is_where() {
    let said = |bytes: &[u8]| check(bytes).unwrap_err().to_string();
    assert_eq!(said(b""), "the RDB file is empty");
    assert_eq!(said(b"RED"), "the RDB file breaks off at offset 3; the shortest possible has 10 bytes");
    assert_eq!(
        said(&REDIS_7[..17]),
        "the RDB file breaks off at offset 17; the shortest possible has 18 bytes"
    );
    assert_eq!(
        said(b"\x1f\x8b\x08 gzip, say"),
        r#"not an RDB file: at offset 0 it has "\x1f\x8b\x08 gzip," where "REDIS" or "VALKEY" belongs"#
    );
    assert_eq!(
        said(&[b"REDIS00x1", &REDIS_7[9..]].concat()),
        r#"damaged RDB file: "00x1" at offset 5 is not a version of the format"#
    );
    assert_eq!(
        said(&REDIS_7[..100]),
        "incomplete RDB file: byte 0x01 at offset 91, where the end marker 0xff belongs"
    );
    let mut flipped = REDIS_7.to_vec();
    flipped[115] ^= 1;
    let message = said(&flipped);
    assert!(message.starts_with("damaged RDB file: its bytes have the checksum "), "{message}");
    assert!(message.ends_with(" but at offset 122 it says 47e800b673349816"), "{message}");
}

#[test]
fn a_server_version_that_is_odd_is_left_out() {
    for entries in [
        &b""[..],
        b"\xfa",
        b"\xfa\x09redis-v",
        b"\xfa\x09redis-ver\x05\x1b[31m",
        b"\xfa\x09redis-ver\xc3\x05\x05",
        b"\xfa\x80\xff\xff\xff\xffredis-ver",
    ] {
        assert_eq!(check(&file(b"REDIS0010", entries)).unwrap().engine_version, None, "{entries:?}");
    }
    let later = b"\xfa\x03abc\xc1\x01\x02\xfa\x40\x09redis-ver\x035.0\xfe\x00";
    assert_eq!(check(&file(b"REDIS0009", later)).unwrap().engine_version.as_deref(), Some("5.0"));
}

#[test]
fn a_file_is_checked_from_its_start_and_left_there() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(REDIS_7).unwrap();
    assert_eq!(check_file(&file).unwrap(), check(REDIS_7).unwrap());
    assert_eq!(file.stream_position().unwrap(), 0);

    file.seek(SeekFrom::Start(5)).unwrap();
    file.write_all(b"x").unwrap();
    assert!(matches!(check_file(&file), Err(RdbError::BadVersion { .. })));
    assert_eq!(file.stream_position().unwrap(), 0);
}

#[test]
fn a_checked_writer_shows_only_what_was_written() {
    /// Takes three bytes at a time, as a full pipe might.
    struct Narrow(Vec<u8>);
    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(3)])
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let seen = Arc::new(Mutex::new(RdbCheck::new()));
    let mut writer = CheckedWriter::new(Narrow(Vec::new()), Arc::clone(&seen));
    writer.write_all(REDIS_7).unwrap();
    assert_eq!(writer.into_inner().0, REDIS_7);
    let info = std::mem::take(&mut *seen.lock()).finish().unwrap();
    assert_eq!(info, check(REDIS_7).unwrap());
}

proptest! {
    #[test]
    fn chunking_does_not_matter(
        entries in entries(),
        cuts in prop::collection::vec(0..60_usize, 0..40),
        spoil in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = file(b"REDIS0011", &entries);
        if let Some(index) = spoil {
            let at = index.index(bytes.len());
            bytes[at] ^= 0x10;
        }
        let mut in_pieces = RdbCheck::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            in_pieces.update(piece);
            rest = more;
        }
        in_pieces.update(rest);
        match (in_pieces.finish(), check(&bytes)) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
            (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
        }
    }

    #[test]
    fn any_flipped_byte_is_found(
        entries in entries(),
        index in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut bytes = file(b"REDIS0011", &entries);
        prop_assert!(check(&bytes).is_ok());
        let at = index.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(check(&bytes).is_err());
    }

    #[test]
    fn any_truncation_is_found(entries in entries(), index in any::<prop::sample::Index>()) {
        let bytes = file(b"VALKEY080", &entries);
        // Eight zeros after an end marker read as a file without a checksum: see the caveat.
        prop_assume!(!entries.windows(9).any(|nine| nine == b"\xff\0\0\0\0\0\0\0\0"));
        prop_assert!(check(&bytes[..index.index(bytes.len())]).is_err());
    }

    #[test]
    fn noise_is_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(check(&bytes).is_err());
    }
}
