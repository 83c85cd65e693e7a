//! Figures: what a bench gives, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// One number that was measured.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The bench.
    pub bench: &'static str,
    /// What of it.
    pub figure: String,
    /// Its value: the median, where there were many runs.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// How many runs.
    pub runs: usize,
    /// The 50th and the 99th percentile, where there were many runs.
    pub percentiles: Option<(f64, f64)>,
    /// What it is compared with: its name and its value.
    pub reference: Option<(&'static str, f64)>,
}

impl Figure {
    /// A single number.
    pub fn single(
        bench: &'static str,
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            bench,
            figure: figure.into(),
            value,
            unit,
            runs: 1,
            percentiles: None,
            reference: None,
        }
    }

    /// The same, of so many runs.
    #[must_use]
    pub fn of_runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    /// The same, beside a reference.
    #[must_use]
    pub fn beside(mut self, reference: &'static str, value: f64) -> Self {
        self.reference = Some((reference, value));
        self
    }

    /// Its value as a part of the reference's; none of nothing.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (_, reference) = self.reference?;
        (reference != 0.0).then(|| self.value / reference)
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "bench": self.bench,
            "figure": self.figure,
            "value": rounded(self.value),
            "unit": self.unit,
            "runs": self.runs,
            "p50": self.percentiles.map(|p| rounded(p.0)),
            "p99": self.percentiles.map(|p| rounded(p.1)),
            "reference": self.reference.map(|r| r.0),
            "reference_value": self.reference.map(|r| rounded(r.1)),
            "ratio": self.ratio().map(rounded),
        })
    }
}

/// Values of many runs.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a time, in milliseconds.
    pub fn add_ms(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1e3);
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which `part` of all are (nearest rank).
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    /// The median.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    /// A figure of them.
    ///
    /// # Panics
    /// Where there is none.
    pub fn figure(
        &self,
        bench: &'static str,
        figure: impl Into<String>,
        unit: &'static str,
    ) -> Figure {
        Figure {
            percentiles: Some((self.median(), self.percentile(0.99))),
            ..Figure::single(bench, figure, self.median(), unit).of_runs(self.len())
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// A table for people.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    const HEAD: [&str; 8] = [
        "bench", "figure", "value", "unit", "runs", "p99", "beside", "ratio",
    ];
    let mut rows = vec![HEAD.map(str::to_owned)];
    for f in figures {
        rows.push([
            f.bench.to_owned(),
            f.figure.clone(),
            shown(f.value),
            f.unit.to_owned(),
            f.runs.to_string(),
            f.percentiles.map_or_else(String::new, |p| shown(p.1)),
            f.reference.map_or_else(String::new, |(name, value)| {
                format!("{name} {}", shown(value))
            }),
            f.ratio().map_or_else(String::new, shown),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    // Numbers stand to the right.
    let right = [false, false, true, false, true, true, false, true];
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if right[column] {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn shown(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        // A small part of a reference is not nothing.
        small if small > 0.0 && small < 0.01 => format!("{value:.1e}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let mut samples = Samples::default();
        (1..=100).for_each(|n| samples.add(f64::from(n)));
        samples
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(samples().median(), 50.0);
        assert_eq!(samples().percentile(0.99), 99.0);
        assert_eq!(samples().percentile(1.0), 100.0);
    }

    #[test]
    fn a_figure_knows_its_ratio() {
        let figure = samples().figure("b", "f", "ms").beside("other", 200.0);
        assert_eq!(figure.json()["ratio"], 0.25);
        assert_eq!(figure.json()["p99"], 99.0);
        assert!(table(&[figure]).contains("other 200"));
    }
}
