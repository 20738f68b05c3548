//! What whoever writes a policy reads: the contract says of each of its items what it is, and README shows a policy
//! that is one.
//!
//! Clauses: HOST-13, HOST-14.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// The files of the contract; what it takes from WASI is documented by others.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "wit")).collect()
}

/// Whether a line begins an item: a keyword and a name, or the name of a case, a field or a function, of which each
/// has a line of its own here.
fn begins_an_item(line: &str) -> bool {
    let keywords = ["interface", "world", "type", "record", "enum", "variant", "flags", "resource", "export"];
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_%".contains(c))).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    !word.is_empty() && (keywords.contains(&word) || rest.starts_with([':', '(', ',']) || rest.is_empty())
}

/// The items of a text, each with whether a line of documentation stands above it.
fn items(text: &str) -> Vec<(usize, &str, bool)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_documented = |at: usize| {
        let above = lines[..at].last().and_then(|line| line.strip_prefix("///"));
        above.is_some_and(|words| !words.trim().is_empty())
    };
    let items = lines.iter().enumerate().filter(|(_, line)| begins_an_item(line));
    items.map(|(at, line)| (at + 1, *line, is_documented(at))).collect()
}

#[test]
fn every_item_of_the_contract_is_documented() {
    let mut count = 0;
    let mut bare = Vec::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for (line, item, documented) in items(&text) {
            count += 1;
            if !documented {
                bare.push(format!("wit/{name}:{line}: {item}"));
            }
        }
    }
    assert!(bare.is_empty(), "without a word:\n{}", bare.join("\n"));
    assert!(count > 200, "only {count} items were recognized");
}

#[test]
fn an_item_without_documentation_is_recognized_whatever_it_is() {
    let text = "
        package a:b;
        interface i {
            use types.{error};
            enum e {
                first,
                last
            }
            record r {
                %type: u8,
            }
            variant v {
                with(string),
            }
            resource res {
                constructor();
                call: func(a: u8) -> u8;
            }
            /// A name.
            type t = string;
            free: func();
            ///
            empty: func();
        }
        world w {
            import docker;
            export i;
        }";
    let bare = items(text).into_iter().filter(|(_, _, documented)| !documented);
    let bare: Vec<&str> = bare.map(|(_, item, _)| item.split([' ', ',', '(', ';']).next().unwrap()).collect();
    let wanted = "interface enum first last record %type: variant with resource constructor call: free: empty: world export";
    assert_eq!(bare.join(" "), wanted);
}

#[test]
fn the_policy_that_readme_shows_is_the_one_that_is_compiled() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(tests.join("../README.md")).unwrap();
    let blocks = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let shown: Vec<&str> =
        blocks.map(|(block, _)| block).filter(|block| block.contains("wit_bindgen::generate!")).collect();
    let source = std::fs::read_to_string(tests.join("example/src/lib.rs")).unwrap();
    let (_, compiled) = source.split_once("\n\n").unwrap();
    // A reader has a copy of the contract.
    assert_eq!(shown, [compiled.replace("\"../../wit\"", "\"contract\"")]);
}
