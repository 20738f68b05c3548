//! What a run of the suite found, for people and for machines: `index.html`, `junit.xml`, `report.json`.
//!
//! - [`model`]: what is reported; `report.json` is exactly that
//! - `html`, `junit`, `json`: the three files, each a function of the report alone
//!
//! The same report gives the same bytes, and the only time in it is [`Report::started`].

mod html;
mod json;
mod junit;
pub mod model;

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

pub use self::model::Report;

/// The files, in the order in which they appear: who sees the page has the others beside it.
pub const FILES: [&str; 3] = ["report.json", "junit.xml", "index.html"];

/// Writes a report into a folder, which is made if it is not there. Each file is there whole or, if that fails, as it
/// was before.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write(dir: &Path, report: &Report) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let texts = [json::text(report)?, junit::text(report)?, html::text(report)?];
    for (name, text) in FILES.iter().zip(texts) {
        replace(dir, name, &text).with_context(|| format!("cannot write {}", dir.join(name).display()))?;
    }
    Ok(())
}

fn replace(dir: &Path, name: &str, text: &str) -> Result<()> {
    // Readable for whoever may read the folder, which temporary files are not by themselves.
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    // The error would hold on to the file for as long as it lives.
    file.persist(dir.join(name)).map_err(|error| error.error)?;
    Ok(())
}
