//! How scenarios name caches: by an id alone, or `SCOPE::ID` in another scope than the others.

use elasticache_host::CacheKey;

/// Between a scope and an id.
const IN_SCOPE: &str = "::";

/// The scope of what is named by an id alone. It differs between runs, so that runs at once on one engine never meet.
fn own(instance: &str) -> String {
    format!("s-{instance}")
}

/// The key of what a scenario names so.
///
/// # Errors
/// If no cache can have that id.
pub(crate) fn key(instance: &str, name: &str) -> anyhow::Result<CacheKey> {
    let (scope, id) = match name.split_once(IN_SCOPE) {
        Some((other, id)) => (format!("{}-{other}", own(instance)), id),
        None => (own(instance), name),
    };
    Ok(CacheKey::new(scope, id)?)
}

/// How scenarios name it.
pub(crate) fn name(instance: &str, scope: &str, id: &str) -> String {
    let other = scope.strip_prefix(&own(instance)).and_then(|rest| rest.strip_prefix('-'));
    other.map_or_else(|| id.to_owned(), |other| format!("{other}{IN_SCOPE}{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_named_as_it_was() {
        for named in ["a", "weird/id:1", "other::a"] {
            let key = key("i", named).unwrap();
            assert_eq!(name("i", key.scope(), key.id()), named);
        }
        assert_ne!(key("i", "a").unwrap().scope(), key("i", "other::a").unwrap().scope());
    }
}
