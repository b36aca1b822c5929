//! What is printed: one line a run while it goes on, and a table at the end.

use std::fmt;

use crate::machine::median;

/// What a figure may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    /// At most this, in its unit.
    AtMost(f64),
    /// At least this, in its unit.
    AtLeast(f64),
    /// At most this many times the counterpart.
    Ratio(f64),
    /// At most this more than the counterpart, in its unit.
    Above(f64),
    /// None was set; the figure is shown for its own sake.
    None,
}

/// A line of the table.
struct Row {
    name: String,
    unit: &'static str,
    ours: f64,
    bare: Option<f64>,
    budget: Budget,
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// The same figure of every run, of tidings and of its counterpart.
pub(crate) struct Pair {
    pub(crate) ours: Vec<f64>,
    pub(crate) bare: Vec<f64>,
}

impl Pair {
    /// One field of both lists of figures.
    pub(crate) fn of<F>(ours: &[F], bare: &[F], field: impl Fn(&F) -> f64) -> Self {
        Self { ours: ours.iter().map(&field).collect(), bare: bare.iter().map(&field).collect() }
    }
}

impl Report {
    /// Adds the medians of a figure.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, pair: Pair, budget: Budget) {
        let bare = (!pair.bare.is_empty()).then(|| median(pair.bare));
        self.rows.push(Row { name: name.to_owned(), unit, ours: median(pair.ours), bare, budget });
    }
}

impl Row {
    fn verdict(&self) -> String {
        let bare = self.bare.unwrap_or(f64::NAN);
        let (text, met) = match self.budget {
            Budget::AtMost(limit) => (format!("≤ {limit} {}", self.unit), self.ours <= limit),
            Budget::AtLeast(limit) => (format!("≥ {limit} {}", self.unit), self.ours >= limit),
            Budget::Ratio(limit) => (format!("≤ {limit} × bare"), self.ours <= limit * bare),
            Budget::Above(limit) => (format!("≤ bare + {limit} {}", self.unit), self.ours <= bare + limit),
            Budget::None => return "-".to_owned(),
        };
        format!("{text}: {}", if met { "met" } else { "not met" })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | unit | tidings | bare | ratio | budget |\n|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let bare = row.bare.map_or("-".to_owned(), |bare| format!("{bare:.2}"));
            // A bare socket may need no memory of the process at all.
            let ratio = row.bare.filter(|bare| *bare >= 0.01).map_or("-".to_owned(), |bare| format!("{:.2}", row.ours / bare));
            writeln!(f, "| {} | {} | {:.2} | {bare} | {ratio} | {} |", row.name, row.unit, row.ours, row.verdict())?;
        }
        Ok(())
    }
}

/// Prints a line.
#[allow(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
