//! `report.json`: the report as it is.

use anyhow::{Context as _, Result};

use super::Report;

/// The text of the file, indented, with a newline at its end.
pub(super) fn text(report: &Report) -> Result<String> {
    let text = serde_json::to_string_pretty(report).context("the report is no JSON")?;
    Ok(text + "\n")
}
