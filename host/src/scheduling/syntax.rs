//! What Kubernetes takes for a name, a label or an annotation, so that a wrong one is found before it is sent.
//!
//! Each check answers with what is wrong, as the rest of a sentence that begins with the thing's name.

/// Longest label value, and longest name part of a key.
const NAME_CHARACTERS: usize = 63;
/// Longest prefix of a key.
const PREFIX_CHARACTERS: usize = 253;

/// A DNS-1123 label, as pods and namespaces are named.
pub(crate) fn dns_label(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if text.len() <= NAME_CHARACTERS && framed(text, plain, |b| plain(b) || b == b'-') {
        return Ok(());
    }
    Err(format!(
        "is {text:?}; a name there has at most {NAME_CHARACTERS} lower-case letters, digits and `-`, and begins and \
         ends with a letter or digit"
    ))
}

/// A DNS-1123 subdomain, as most objects are named: such labels with dots between.
pub(crate) fn dns_subdomain(text: &str) -> Result<(), String> {
    if text.len() <= PREFIX_CHARACTERS && text.split('.').all(dns_label_in_subdomain) {
        return Ok(());
    }
    Err(format!(
        "is {text:?}; a name there has at most {PREFIX_CHARACTERS} lower-case letters, digits, `-` and `.`, and each \
         part between dots begins and ends with a letter or digit"
    ))
}

/// Within a subdomain a part may be as long as the whole.
fn dns_label_in_subdomain(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    framed(label, plain, |b| plain(b) || b == b'-')
}

/// The key of a label, an annotation or a taint: a name, with or without a domain and a slash before it.
pub(crate) fn key(text: &str) -> Result<(), String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_none_or(|prefix| dns_subdomain(prefix).is_ok()) && !name.is_empty() && is_value(name) {
        return Ok(());
    }
    Err(format!(
        "has the key {text:?}; a key is a name of at most {NAME_CHARACTERS} letters, digits, `-`, `_` and `.` that \
         begins and ends with a letter or digit, with or without a domain and `/` before it"
    ))
}

/// The value of a label or a taint.
pub(crate) fn label_value(text: &str) -> Result<(), String> {
    if is_value(text) {
        return Ok(());
    }
    Err(format!(
        "has the value {text:?}; a value is empty, or at most {NAME_CHARACTERS} letters, digits, `-`, `_` and `.`, \
         beginning and ending with a letter or digit"
    ))
}

fn is_value(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= NAME_CHARACTERS
            && framed(text, plain, |b| plain(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// Not empty, `inner` throughout, and `outer` at both ends.
fn framed(text: &str, outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let ends = text.bytes().next().is_some_and(&outer) && text.bytes().next_back().is_some_and(&outer);
    ends && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_takes() {
        for good in ["a", "0", "a-b", &"a".repeat(63)] {
            assert!(dns_label(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", &"a".repeat(64)] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
        assert!(dns_subdomain("a.b-c.d").is_ok());
        for bad in ["", "a..b", ".a", "a.-b", "a/../b", &"a".repeat(254)] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_and_values_are_what_kubernetes_takes() {
        for good in ["a", "A_b.c-d", "example.com/a", "kubernetes.io/hostname", &"a".repeat(63)] {
            assert!(key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "Example.com/a", "a b", "-a", "a.", &"a".repeat(64)] {
            assert!(key(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("v1.2_x-y").is_ok());
        for bad in ["a b", "-a", "a/b", "ä", &"a".repeat(64)] {
            assert!(label_value(bad).is_err(), "{bad}");
        }
    }
}
