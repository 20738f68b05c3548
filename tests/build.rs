//! Lists the hostile policies, so that the tests can be held to have one for each, and hashes the suite's sources.

#[path = "src/sources.rs"]
mod sources;

use std::path::Path;
use std::{env, fs, io};

/// Where they are, from this package's folder.
const GUESTS: &str = "hostile/examples";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={GUESTS}");
    for folder in sources::FOLDERS {
        println!("cargo::rerun-if-changed={folder}");
    }
    println!("cargo::rustc-env=SUITE_SOURCES={}", sources::hash(Path::new("."), &sources::FOLDERS)?);
    let mut names = Vec::new();
    for entry in fs::read_dir(GUESTS)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if let (Some(name), true) = (name, path.extension().is_some_and(|extension| extension == "rs")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let calls: String = names.iter().map(|name| format!("$macro!({name});\n")).collect();
    let text = format!(
        "/// Every hostile policy.\n\
         pub const GUESTS: [&str; {}] = {names:?};\n\
         /// Calls a macro with the name of each.\n\
         #[allow(unused_macros, reason = \"each test file uses its part\")]\n\
         macro_rules! for_each_guest {{ ($macro:ident) => {{ {calls} }}; }}\n",
        names.len()
    );
    let folder = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&folder).join("guests.rs"), text)
}
