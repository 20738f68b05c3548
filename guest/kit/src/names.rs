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

/// Hex digits of hash in a pod's name, which has room for 63 characters.
const POD_DIGITS: usize = 12;
/// Characters of the id that stay readable in it.
const POD_SLUG: usize = 63 - CONTAINER_PREFIX.len() - 1 - POD_DIGITS;

/// One of the two names that a cache's pod has by turns: while one takes over from another, both are there.
pub fn pod(instance: &str, scope: &str, id: &str, turn: u8) -> String {
    let slug = slug(id);
    let slug = slug[..slug.len().min(POD_SLUG)].trim_end_matches('-');
    let hash = hash(&[instance, scope, id]);
    // The last digit says whose turn it is.
    let digit = if turn == 0 { '0' } else { '1' };
    format!("{CONTAINER_PREFIX}{slug}-{}{digit}", &hash[..POD_DIGITS - 1])
}

/// Whose turn a pod's name says it is.
pub fn pod_turn(name: &str) -> u8 {
    u8::from(name.ends_with('1'))
}

/// The claim of a cache: the same for every instance, as its volume on Docker, within Kubernetes' alphabet.
pub fn claim(scope: &str, id: &str) -> String {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let kept = is_kept(id) && id.bytes().all(lower) && !id.starts_with('-') && !id.ends_with('-');
    if scope.is_empty() && kept {
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
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Both names of a key, held to Docker's rule: 255 bytes at most, of these characters.
    fn names(scope: &str, id: &str) -> [String; 2] {
        let names = [volume(scope, id), container("x", scope, id)];
        for name in &names {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            let is_allowed = name.len() <= 255 && name.bytes().all(allowed);
            assert!(is_allowed && name.starts_with("fakecloud-e"), "{name} of {scope:?} {id:?}");
        }
        names
    }

    /// Names of one kind, all of which must differ, of ids without 32 digits at their own end.
    #[derive(Default)]
    struct Seen {
        /// The 32 digits at the end: names in which these differ, differ.
        hashed: HashSet<u128>,
        /// Those without such an end.
        kept: HashSet<String>,
    }

    impl Seen {
        fn is_new(&mut self, name: String) -> bool {
            let digits = name.get(name.len().saturating_sub(HASH_DIGITS)..);
            match digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
                Some(digits) => self.hashed.insert(digits),
                None => self.kept.insert(name),
            }
        }

        fn len(&self) -> usize {
            self.hashed.len() + self.kept.len()
        }
    }

    #[test]
    fn an_id_that_needs_no_change_keeps_its_volume_name() {
        for id in ["my-cache", "a", "Redis_7.1", "0", &"k".repeat(KEPT_BYTES)] {
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
    fn names_on_kubernetes_are_those_that_it_takes() {
        let label = |text: &str| {
            let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !text.is_empty() && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
        };
        for id in
            ["my-cache", "A/b", "-", "weird/id:1", "weird-id-1", &"k".repeat(300), &"-k".repeat(40), "ü"]
        {
            for turn in [0, 1] {
                let name = pod("x", "", id, turn);
                assert!(name.len() <= 63 && label(&name), "{name}");
                assert_eq!(pod_turn(&name), turn);
            }
            assert_ne!(pod("x", "", id, 0), pod("x", "", id, 1));
            let name = claim("", id);
            assert!(name.len() <= 253 && name.split('.').all(label), "{name}");
        }
        assert_eq!(claim("", "my-cache"), "fakecloud-elasticache-data-my-cache");
        assert_ne!(claim("", "My-cache"), claim("", "my-cache"));
        assert_ne!(claim("", "weird/id:1"), claim("", "weird-id-1"));
        assert_ne!(claim("a", "bc"), claim("ab", "c"));
        assert_ne!(pod("x", "", "weird/id:1", 0), pod("x", "", "weird-id-1", 0));
        assert_ne!(pod("x", "", "a", 0), pod("y", "", "a", 0));
    }

    #[test]
    fn an_id_that_looks_like_a_hashed_name_cannot_take_it() {
        let hashed = volume("", "weird/id:1");
        let tail = hashed.strip_prefix(VOLUME_PREFIX).unwrap();
        assert_ne!(volume("", tail), hashed);
    }

    #[test]
    fn two_million_short_keys_get_two_million_names_of_each_kind() {
        // Short ids over an alphabet of characters that sanitizing confuses: all of them, in all scopes.
        let alphabet = ['a', 'A', '-', '/', '.', 'é', '\u{1F600}', 'h', '0', '_', ' '];
        let scopes = ["", "a", "-", "é", "a/b", "A", "aa", "0", ".", "h", "_", " "];
        let mut longest: Vec<String> = vec![String::new()];
        let mut ids = Vec::new();
        for _ in 0..5 {
            longest =
                longest.iter().flat_map(|id| alphabet.iter().map(move |c| format!("{id}{c}"))).collect();
            ids.extend(longest.iter().cloned());
        }
        let (sender, named) = std::sync::mpsc::sync_channel(64);
        let (mut volumes, mut containers) = (Seen::default(), Seen::default());
        std::thread::scope(|threads| {
            for scopes in scopes.chunks(scopes.len() / 2) {
                let (sender, ids) = (sender.clone(), &ids);
                threads.spawn(move || {
                    for (scope, ids) in
                        scopes.iter().flat_map(|scope| ids.chunks(1000).map(move |ids| (scope, ids)))
                    {
                        let names: Vec<_> = ids.iter().map(|id| (*scope, id, names(scope, id))).collect();
                        sender.send(names).unwrap();
                    }
                });
            }
            drop(sender);
            for (scope, id, [volume, container]) in named.iter().flatten() {
                let are_new = volumes.is_new(volume) && containers.is_new(container);
                assert!(are_new, "a name twice: {scope:?} {id:?}");
            }
        });
        assert_eq!((volumes.len(), containers.len()), (scopes.len() * ids.len(), scopes.len() * ids.len()));
        assert!(volumes.len() > 2_000_000, "only {}", volumes.len());
    }

    /// Numbers that are the same in every run, so that a failure can be had again.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }

        /// So many bytes at most, and three less at least.
        fn text(&mut self, bytes: usize) -> String {
            let plain: Vec<char> = "abyzABYZ0189-_.".chars().collect();
            let strange: Vec<char> =
                "/: \\-é\u{301}ßİ\u{200d}名\u{FFFD}\u{1F600}\u{10FFFF}.h-0f".chars().collect();
            // Some ids need no change, some need one at a single place, some everywhere.
            let strangeness = [0, 1, 10, 100][self.below(4)];
            let mut text = String::new();
            loop {
                let of = if self.below(100) < strangeness { &strange } else { &plain };
                let next = of[self.below(of.len())];
                if text.len() + next.len_utf8() > bytes {
                    return text;
                }
                text.push(next);
            }
        }
    }

    /// Keys that a mistake in the making of names would take for this one, with it in front.
    fn look_alikes(scope: &str, id: &str) -> Vec<(String, String)> {
        let chars: Vec<char> = id.chars().collect();
        let text = |chars: &[char]| chars.iter().collect::<String>();
        let mut ids = vec![id.to_owned(), id.to_uppercase(), id.to_lowercase(), slug(id)];
        for at in [0, chars.len() / 2, SLUG_CHARS, KEPT_BYTES, chars.len() - 1] {
            let at = at.min(chars.len() - 1);
            for other in ['a', 'A', '-', '_', '/', 'é'] {
                let mut changed = chars.clone();
                changed[at] = other;
                ids.push(text(&changed));
            }
            let (before, after) = chars.split_at(at);
            ids.extend([text(before), text(after), text(before) + &text(&after[1..])]);
            ids.push(text(before) + "-" + &text(after));
        }
        for replacement in ['-', '_', '.'] {
            ids.push(id.replace(|c: char| !c.is_ascii_alphanumeric(), &replacement.to_string()));
        }
        for added in ["-", ".", "a", " ", "\u{301}", "\u{200d}"] {
            ids.extend([format!("{id}{added}"), format!("{added}{id}")]);
        }
        // What names of this and of other keys end in, and what almost does.
        let (volume, container) = (volume(scope, id), container("x", scope, id));
        let tail = volume[VOLUME_PREFIX.len()..].to_owned();
        let digits = hash(&[scope, id]);
        for id in [id, slug(id).as_str()] {
            ids.extend([
                format!("{id}{HASH_MARK}{digits}"),
                format!("{id}{HASH_MARK}{}", digits.to_uppercase()),
                format!("{id}{HASH_MARK}{}", &digits[1..]),
                format!("{id}{HASH_MARK}0{digits}"),
                format!("{id}-{digits}"),
            ]);
        }
        ids.extend([format!("{tail}{HASH_MARK}{digits}"), tail, volume, container]);
        let mut keys: Vec<_> = ids.into_iter().map(|id| (scope.to_owned(), id)).collect();
        // The same characters, with the boundary at other places.
        for (before, after) in (0..3).filter_map(|at| id.split_at_checked(at)) {
            keys.extend([
                (format!("{scope}{before}"), after.to_owned()),
                (before.to_owned(), format!("{scope}{after}")),
            ]);
        }
        for between in ["", "/", "-", "\0"] {
            keys.push((String::new(), format!("{scope}{between}{id}")));
            keys.push((format!("{scope}{between}"), id.to_owned()));
        }
        keys.push((id.to_owned(), scope.to_owned()));
        keys
    }

    #[test]
    fn ids_of_up_to_1024_bytes_share_no_name_with_what_looks_like_them() {
        let mut numbers = Numbers(1);
        let mut count = 0;
        for round in 0..4_000 {
            let longest = [1024, 300, KEPT_BYTES + 2, SLUG_CHARS + 2][round % 4];
            let scope = match round % 3 {
                0 => String::new(),
                _ => {
                    let bytes = numbers.below(40);
                    numbers.text(bytes)
                }
            };
            let id = match numbers.below(10) {
                0 => numbers.text(longest),
                _ => {
                    let bytes = 4 + numbers.below(longest - 3);
                    numbers.text(bytes)
                }
            };
            let keys: HashSet<_> = look_alikes(&scope, &id).into_iter().collect();
            let (mut volumes, mut containers) = (HashSet::new(), HashSet::new());
            for (scope, id) in &keys {
                let [volume, container] = names(scope, id);
                let are_new = volumes.insert(volume) && containers.insert(container);
                assert!(are_new, "a name twice: {scope:?} {id:?}");
            }
            count += keys.len();
        }
        assert!(count > 200_000, "only {count}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_two_keys_differ_in_both_names_and_two_instances_in_containers(
            a in ("\\PC{0,12}", "\\PC{1,300}"),
            b in ("\\PC{0,12}", "\\PC{1,300}"),
        ) {
            let (of_a, of_b) = (names(&a.0, &a.1), names(&b.0, &b.1));
            prop_assert_eq!(a == b, of_a[0] == of_b[0]);
            prop_assert_eq!(a == b, of_a[1] == of_b[1]);
            prop_assert_ne!(&of_a[1], &container("y", &a.0, &a.1));
        }
    }
}
