//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

/// Measurements of one thing, in the order in which they were taken.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The median: the mean of the two middle ones where there is no single one.
    pub(crate) fn p50(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
            (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => (below + above) / 2.0,
            (_, Some(value)) => *value,
            _ => f64::NAN,
        }
    }

    /// The smallest value that 99 in 100 do not exceed: with fewer than 100 the largest.
    pub(crate) fn p99(&self) -> f64 {
        let sorted = self.sorted();
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.wrapping_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// What noise alone makes of a ratio of medians: that of every second measurement to the others.
    pub(crate) fn noise(&self) -> f64 {
        self.noise_of(Samples::p50)
    }

    /// The same of a ratio of p99s.
    pub(crate) fn noise_p99(&self) -> f64 {
        self.noise_of(Samples::p99)
    }

    fn noise_of(&self, figure: fn(&Samples) -> f64) -> f64 {
        let (even, odd): (Vec<_>, Vec<_>) = self.0.iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let of = |half: Vec<(usize, &f64)>| figure(&Samples(half.into_iter().map(|(_, v)| *v).collect()));
        let ratio = of(even) / of(odd);
        ratio.max(1.0 / ratio)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// The same work by ours and by the floor, in milliseconds.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) ours: Samples,
    pub(crate) floor: Samples,
    /// Most that the ratio of medians should be.
    pub(crate) target_p50: f64,
    /// Most that the ratio of p99s should be, where that was asked for.
    pub(crate) target_p99: Option<f64>,
}

impl Pair {
    fn ratios(&self) -> (f64, f64) {
        (self.ours.p50() / self.floor.p50(), self.ours.p99() / self.floor.p99())
    }

    fn met(&self) -> bool {
        let (p50, p99) = self.ratios();
        p50 <= self.target_p50 && self.target_p99.is_none_or(|target| p99 <= target)
    }
}

/// The same work of ours with something and without it, turn by turn.
#[derive(Debug)]
pub(crate) struct Contrast {
    pub(crate) name: String,
    /// `µs`, `ms`.
    pub(crate) unit: &'static str,
    pub(crate) with: Samples,
    pub(crate) without: Samples,
    /// Most that the ratio of p99s should be, where that was asked for.
    pub(crate) target_p99: Option<f64>,
}

impl Contrast {
    fn ratios(&self) -> (f64, f64) {
        (self.with.p50() / self.without.p50(), self.with.p99() / self.without.p99())
    }

    fn met(&self) -> bool {
        self.target_p99.is_none_or(|target| self.ratios().1 <= target)
    }
}

/// What something of ours costs by itself.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) name: String,
    /// `µs`, `ms`, `MiB`.
    pub(crate) unit: &'static str,
    pub(crate) samples: Samples,
    /// Most that the median should be; `None` for a share of another line.
    pub(crate) target: Option<f64>,
}

impl Cost {
    fn met(&self) -> bool {
        self.target.is_none_or(|target| self.samples.p50() <= target)
    }
}

/// All that a run of the bench has to say.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) machine: Value,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) contrasts: Vec<Contrast>,
    pub(crate) costs: Vec<Cost>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        if !self.pairs.is_empty() {
            let mut rows = vec![row(&[
                "side by side, in ms",
                "runs",
                "ours p50",
                "p99",
                "floor p50",
                "p99",
                "ratio p50",
                "target",
                "ratio p99",
                "target",
                "noise",
                "",
            ])];
            rows.extend(self.pairs.iter().map(pair_row));
            text.push_str(&aligned(&rows));
        }
        if !self.contrasts.is_empty() {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            let mut rows = vec![row(&[
                "ours, with and without",
                "runs",
                "with p50",
                "p99",
                "without p50",
                "p99",
                "",
                "ratio p50",
                "ratio p99",
                "target",
                "noise p50",
                "p99",
                "",
            ])];
            rows.extend(self.contrasts.iter().map(contrast_row));
            text.push_str(&aligned(&rows));
        }
        if !self.costs.is_empty() {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            let mut rows = vec![row(&["ours alone", "runs", "p50", "p99", "", "target", ""])];
            rows.extend(self.costs.iter().map(cost_row));
            text.push_str(&aligned(&rows));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            // Writing to a string does not fail.
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    /// For programs, with every single measurement.
    pub(crate) fn json(&self) -> Value {
        let side =
            |samples: &Samples| json!({ "p50": samples.p50(), "p99": samples.p99(), "samples": samples });
        let pairs = self.pairs.iter().map(|pair| {
            let (p50, p99) = pair.ratios();
            json!({
                "name": pair.name, "unit": "ms", "ours": side(&pair.ours), "floor": side(&pair.floor),
                "ratio": { "p50": p50, "p99": p99 },
                "target": { "p50": pair.target_p50, "p99": pair.target_p99 },
                "noise": pair.floor.noise(), "met": pair.met(),
            })
        });
        let contrasts = self.contrasts.iter().map(|contrast| {
            let (p50, p99) = contrast.ratios();
            json!({
                "name": contrast.name, "unit": contrast.unit,
                "with": side(&contrast.with), "without": side(&contrast.without),
                "ratio": { "p50": p50, "p99": p99 }, "target": { "p99": contrast.target_p99 },
                "noise": { "p50": contrast.without.noise(), "p99": contrast.without.noise_p99() },
                "met": contrast.met(),
            })
        });
        let costs = self.costs.iter().map(|cost| {
            json!({
                "name": cost.name, "unit": cost.unit, "p50": cost.samples.p50(), "p99": cost.samples.p99(),
                "samples": cost.samples, "target": cost.target, "met": cost.met(),
            })
        });
        json!({
            "machine": self.machine,
            "side_by_side": pairs.collect::<Vec<_>>(),
            "with_and_without": contrasts.collect::<Vec<_>>(),
            "ours_alone": costs.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn pair_row(pair: &Pair) -> Vec<String> {
    let (p50, p99) = pair.ratios();
    vec![
        pair.name.clone(),
        pair.ours.0.len().to_string(),
        number(pair.ours.p50()),
        number(pair.ours.p99()),
        number(pair.floor.p50()),
        number(pair.floor.p99()),
        format!("{p50:.3}"),
        format!("<= {:.2}", pair.target_p50),
        format!("{p99:.3}"),
        pair.target_p99.map(|target| format!("<= {target:.2}")).unwrap_or_default(),
        format!("{:.3}", pair.floor.noise()),
        verdict(true, pair.met()),
    ]
}

fn contrast_row(contrast: &Contrast) -> Vec<String> {
    let (p50, p99) = contrast.ratios();
    vec![
        contrast.name.clone(),
        format!("{} + {}", contrast.with.0.len(), contrast.without.0.len()),
        number(contrast.with.p50()),
        number(contrast.with.p99()),
        number(contrast.without.p50()),
        number(contrast.without.p99()),
        contrast.unit.to_owned(),
        format!("{p50:.3}"),
        format!("{p99:.3}"),
        contrast.target_p99.map(|target| format!("<= {target:.2}")).unwrap_or_default(),
        format!("{:.3}", contrast.without.noise()),
        format!("{:.3}", contrast.without.noise_p99()),
        verdict(contrast.target_p99.is_some(), contrast.met()),
    ]
}

fn cost_row(cost: &Cost) -> Vec<String> {
    vec![
        cost.name.clone(),
        cost.samples.0.len().to_string(),
        number(cost.samples.p50()),
        number(cost.samples.p99()),
        cost.unit.to_owned(),
        cost.target.map(|target| format!("<= {target}")).unwrap_or_default(),
        verdict(cost.target.is_some(), cost.met()),
    ]
}

fn verdict(judged: bool, met: bool) -> String {
    match (judged, met) {
        (false, _) => String::new(),
        (true, true) => "met".to_owned(),
        (true, false) => "missed".to_owned(),
    }
}

fn number(value: f64) -> String {
    format!("{value:.prec$}", prec = if value.abs() < 100.0 { 2 } else { 1 })
}

/// Columns of equal width: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn percentiles_are_medians_and_nearest_ranks() {
        assert_eq!(samples(&[3.0, 1.0, 2.0]).p50(), 2.0);
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).p50(), 2.5);
        assert_eq!(samples(&[1.0, 9.0, 2.0]).p99(), 9.0);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(samples(&hundred).p99(), 99.0);
        assert!(samples(&[]).p50().is_nan() && samples(&[]).p99().is_nan());
    }

    #[test]
    fn noise_is_never_below_one() {
        assert_eq!(samples(&[1.0, 2.0, 1.0, 2.0]).noise(), 2.0);
        assert_eq!(samples(&[2.0, 1.0, 2.0, 1.0]).noise(), 2.0);
    }

    #[test]
    fn a_target_is_missed_by_either_ratio() {
        let pair = |p99: Option<f64>| Pair {
            name: "up".to_owned(),
            ours: samples(&[1.0, 1.0, 2.0]),
            floor: samples(&[1.0, 1.0, 1.0]),
            target_p50: 1.05,
            target_p99: p99,
        };
        assert!(pair(None).met());
        assert!(!pair(Some(1.15)).met());
        let report = Report { pairs: vec![pair(Some(1.15))], ..Report::default() };
        assert!(report.table().contains("missed"), "{}", report.table());
        assert_eq!(report.json()["side_by_side"][0]["ratio"]["p99"], json!(2.0));
    }

    #[test]
    fn of_what_is_with_and_without_only_the_p99_is_judged() {
        let contrast = |target_p99| Contrast {
            name: "up".to_owned(),
            unit: "µs",
            with: samples(&[3.0, 3.0, 3.0]),
            without: samples(&[1.0, 1.0, 2.0]),
            target_p99,
        };
        assert!(contrast(None).met() && contrast(Some(1.5)).met() && !contrast(Some(1.1)).met());
        let report = Report { contrasts: vec![contrast(Some(1.1))], ..Report::default() };
        assert!(report.table().contains("missed"), "{}", report.table());
        assert_eq!(report.json()["with_and_without"][0]["ratio"], json!({ "p50": 3.0, "p99": 1.5 }));
    }
}
