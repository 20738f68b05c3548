//! What the command line prints with `--json`, whatever runs the caches.

use std::collections::BTreeSet;

use serde_json::{Value, json};

const CACHE: [&str; 8] = ["adopted", "endpoint", "engine", "handle", "host_port", "id", "scope", "state"];

/// The names of all fields.
pub fn fields(document: &Value) -> BTreeSet<&str> {
    document.as_object().unwrap_or_else(|| panic!("{document}")).keys().map(String::as_str).collect()
}

/// That it is a cache's, in no scope, that can be used.
pub fn is_available(document: &Value, id: &str, engine: &str, adopted: bool) {
    assert_eq!(fields(document), CACHE.into());
    assert_eq!(fields(&document["endpoint"]), ["address", "port"].into());
    assert_eq!(document["endpoint"]["port"], document["host_port"]);
    assert_eq!(document["state"], "available");
    assert_eq!((&document["id"], &document["engine"]), (&json!(id), &json!(engine)));
    assert_eq!((&document["scope"], &document["adopted"]), (&json!(""), &json!(adopted)));
}
