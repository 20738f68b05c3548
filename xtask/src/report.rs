//! What the reader sees: steps with their times, and tables.

use std::time::{Duration, Instant};

use anyhow::Result;

/// How a step of the set-up went.
pub(crate) enum Outcome {
    /// There was nothing to do; the text says what was found.
    Present(String),
    /// Something was set up; the text says what.
    Made(String),
}

/// Runs one step and says how it went and how long it took.
///
/// Steps go to standard error, so that what a chore prints on standard output stays its own.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let began = Instant::now();
    let result = work();
    let took = duration(began.elapsed());
    match &result {
        Ok(Outcome::Present(what)) => eprintln!("setup  {name:<22} already there: {what} ({took})"),
        Ok(Outcome::Made(what)) => eprintln!("setup  {name:<22} {what} ({took})"),
        Err(error) => eprintln!("setup  {name:<22} FAILED after {took}: {error:#}"),
    }
    result.map(drop)
}

/// Says what a step is about to do, when that takes long enough to wonder.
pub(crate) fn note(name: &str, text: &str) {
    eprintln!("setup  {name:<22} {text} ...");
}

/// Heads the output of a part of the work.
pub(crate) fn heading(text: &str) {
    eprintln!("\n== {text}");
}

/// A duration in the unit that a reader thinks in.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{} ms", time.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// A table with a heading row. The last column is set flush right when `numbers` says so.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>], numbers: bool) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let title = heading.get(column).map_or(0, |title| title.chars().count());
        cells.chain([title]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            if numbers && column + 1 == widths.len() {
                text.push_str(&format!("{cell:>width$}"));
            } else {
                text.push_str(&format!("{cell:<width$}  "));
            }
        }
        text.trim_end().to_owned() + "\n"
    };
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(heading);
    text.push_str(&line(&rules.iter().map(String::as_str).collect::<Vec<_>>()));
    for row in rows {
        text.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns() {
        let rows = vec![vec!["up".to_owned(), "7".to_owned()], vec!["reboot".to_owned(), "1234".to_owned()]];
        let text = table(&["step", "ms"], &rows, true);
        assert_eq!(text, "step      ms\n------  ----\nup         7\nreboot  1234\n");
    }

    #[test]
    fn a_duration_is_said_in_a_fitting_unit() {
        assert_eq!(duration(Duration::from_millis(7)), "7 ms");
        assert_eq!(duration(Duration::from_millis(2340)), "2.3 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
    }
}
