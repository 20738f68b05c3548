//! What things are called: one-to-one from a cache key, so that two caches never share an object.

use sha2::{Digest, Sha256};

/// Before the id in a data volume's name. Earlier runtimes used it, and their volumes must be found.
const VOLUME_PREFIX: &str = "fakecloud-elasticache-data-";
const CONTAINER_PREFIX: &str = "fakecloud-ec-";
/// Between the readable part and the hash in the name of a volume whose id could not be kept. An id that
/// ends like such a name is itself not kept, which is what makes the two forms disjoint.
const HASH_MARK: &str = ".h-";
/// Hex digits of hash in a name: 128 bits, far from any accidental collision.
const HASH_DIGITS: usize = 32;
/// Characters of the id that stay readable beside a hash.
const SLUG_CHARS: usize = 40;
/// Longest id that is kept as it is. With the prefix it stays below Docker's 255 bytes.
const KEPT_BYTES: usize = 200;

/// The container of a cache. Instances share one daemon, so the instance is part of it.
pub fn container(instance: &str, scope: &str, id: &str) -> String {
    format!("{CONTAINER_PREFIX}{}-{}", slug(id), hash(&[instance, scope, id]))
}

/// The data volume of a cache: the same for every instance, since data outlives instances.
pub fn volume(scope: &str, id: &str) -> String {
    if scope.is_empty() && is_kept(id) {
        format!("{VOLUME_PREFIX}{id}")
    } else {
        format!("{VOLUME_PREFIX}{}{HASH_MARK}{}", slug(id), hash(&[scope, id]))
    }
}

/// Where the search for a cache's port starts: the same after every restart of anything.
pub fn port_hint(scope: &str, id: &str) -> u32 {
    let digest = digest(&[scope, id]);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Whether an id can stand in a volume's name unchanged.
fn is_kept(id: &str) -> bool {
    let looks_hashed = id.rsplit_once(HASH_MARK).is_some_and(|(_, tail)| {
        tail.len() == HASH_DIGITS && tail.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    !id.is_empty()
        && id.len() <= KEPT_BYTES
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !looks_hashed
}

/// A readable rest of an id, for people who look at a list of containers.
fn slug(id: &str) -> String {
    let slug: String = id
        .chars()
        .take(SLUG_CHARS)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let trimmed = slug.trim_matches('-');
    if trimmed.is_empty() { "cache".to_owned() } else { trimmed.to_owned() }
}

fn hash(parts: &[&str]) -> String {
    digest(parts).iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// Each part goes in with its length before it: ("a", "bc") and ("ab", "c") must differ.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_needs_no_change_keeps_its_volume_name() {
        for id in ["my-cache", "a", "Redis_7.1", "0"] {
            assert_eq!(volume("", id), format!("fakecloud-elasticache-data-{id}"));
        }
    }

    #[test]
    fn ids_that_sanitize_alike_get_different_names() {
        for name in [volume, |s: &str, i: &str| container("x", s, i)] {
            assert_ne!(name("", "weird/id:1"), name("", "weird-id-1"));
            assert_ne!(name("", "A/b"), name("", "a/b"));
            assert_ne!(name("a", "bc"), name("ab", "c"));
            assert_ne!(name("", "s/x"), name("s", "x"));
        }
    }

    #[test]
    fn an_id_that_looks_like_a_hashed_name_cannot_take_it() {
        let hashed = volume("", "weird/id:1");
        let tail = hashed.strip_prefix(VOLUME_PREFIX).unwrap();
        assert_ne!(volume("", tail), hashed);
    }

    #[test]
    fn two_million_keys_get_two_million_names() {
        // Short ids over an alphabet of characters that sanitizing confuses: all of them, in all scopes.
        let alphabet = ['a', 'A', '-', '/', '.', 'é', '\u{1F600}', 'h', '0', '_', ' '];
        let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
        let mut ids: Vec<String> = vec![String::new()];
        let mut all = Vec::new();
        for _ in 0..5 {
            ids = ids.iter().flat_map(|id| alphabet.iter().map(move |c| format!("{id}{c}"))).collect();
            all.extend(ids.iter().cloned());
        }
        for (s, scope) in ["", "a", "-", "é", "a/b", "A", "aa", "0", ".", "h", "_", " "].iter().enumerate() {
            for (i, id) in all.iter().enumerate() {
                if let Some(other) = seen.insert(volume(scope, id), (s, i)) {
                    panic!("{:?} and {:?} share a name", (s, i), other);
                }
            }
        }
        assert!(seen.len() > 2_000_000, "only {}", seen.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn names_obey_docker_and_differ(
            a in ("\\PC{0,12}", "\\PC{1,300}"),
            b in ("\\PC{0,12}", "\\PC{1,300}"),
        ) {
            for name in [volume(&a.0, &a.1), container("i", &a.0, &a.1)] {
                prop_assert!(name.len() <= 255);
                prop_assert!(name.starts_with("fakecloud-e"));
                prop_assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c)));
            }
            if a != b {
                prop_assert_ne!(volume(&a.0, &a.1), volume(&b.0, &b.1));
                prop_assert_ne!(container("i", &a.0, &a.1), container("i", &b.0, &b.1));
            }
            prop_assert_ne!(container("i", &a.0, &a.1), container("j", &a.0, &a.1));
        }
    }
}
