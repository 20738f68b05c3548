//! The hash of what judges a policy: all files of some folders. `build.rs` computes it, for the report to name.

use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest as _, Sha256};

/// What decides a verdict, from this package's folder: the suite, its corpus and the host under each policy.
pub const FOLDERS: [&str; 3] = ["corpus", "src", "../host/src"];

/// SHA-256, in hex, of the folders' files: their paths below `root` and their bytes, in an order that no file system
/// has a say in.
///
/// # Errors
/// If one cannot be read.
pub fn hash(root: &Path, folders: &[&str]) -> io::Result<String> {
    let mut files = Vec::new();
    for folder in folders {
        collect(root, Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in &files {
        let bytes = fs::read(root.join(file))?;
        for part in [file.as_os_str().as_encoded_bytes(), &bytes] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let below = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &below, files)?;
        } else {
            files.push(below);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The hash of a folder with these files, made in this order.
    fn of(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("src/inner")).unwrap();
        for (file, text) in files {
            fs::write(root.path().join("src").join(file), text).unwrap();
        }
        hash(root.path(), &["src"]).unwrap()
    }

    #[test]
    fn every_byte_and_every_name_counts_and_the_order_does_not() {
        let whole = of(&[("a", "1"), ("inner/b", "2")]);
        assert_eq!(of(&[("inner/b", "2"), ("a", "1")]), whole);
        for other in [
            &[("a", "1"), ("inner/b", "3")][..],
            &[("a", "1"), ("inner/c", "2")],
            &[("a", "1"), ("b", "2")],
            &[("a", "1")],
            &[("a", "12"), ("inner/b", "")],
        ] {
            assert_ne!(of(other), whole, "{other:?}");
        }
    }

    #[test]
    fn what_was_built_knows_the_sources_that_it_was_built_of() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(hash(here, &FOLDERS).unwrap(), env!("SUITE_SOURCES"));
    }
}
