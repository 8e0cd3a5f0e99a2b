//! Samples and the table that they end in.

use std::fmt;
use std::time::Duration;

/// What was measured, in the order in which it was.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two in the middle; zero of none.
    pub fn median_ms(&self) -> f64 {
        let sorted = self.sorted_ms();
        match sorted.len() {
            0 => 0.0,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        }
    }

    /// The smallest one that `percent` of all do not exceed.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let sorted = self.sorted_ms();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    fn sorted_ms(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.0.iter().map(|sample| sample.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// A Markdown table.
#[derive(Debug)]
pub struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>, head: &[&'static str]) -> Self {
        Self { title: title.into(), head: head.to_vec(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row; it has a cell for each of the head's.
    pub fn row(&mut self, cells: &[String]) {
        assert_eq!(cells.len(), self.head.len(), "a row of another table");
        self.rows.push(cells.to_vec());
    }

    /// Adds a row of times: name, count, median, 10th and 90th percentile, the median's ratio to `floor`, and more.
    pub fn times(&mut self, name: &str, samples: &Samples, floor: Option<&Samples>, more: &str) {
        let ratio = match floor.map(Samples::median_ms) {
            Some(floor_ms) if floor_ms > 0.0 => format!("{:.2}×", samples.median_ms() / floor_ms),
            _ => String::new(),
        };
        self.row(&[
            name.to_owned(),
            samples.count().to_string(),
            format!("{:.1}", samples.median_ms()),
            format!("{:.1}", samples.percentile_ms(10)),
            format!("{:.1}", samples.percentile_ms(90)),
            ratio,
            more.to_owned(),
        ]);
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// The head of a table of [`Table::times`].
pub const TIMES: [&str; 7] = ["path", "runs", "median ms", "p10", "p90", "ratio", "target"];

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.title)?;
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        for note in &self.notes {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(millis: &[u64]) -> Samples {
        Samples(millis.iter().map(|&ms| Duration::from_millis(ms)).collect())
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn medians_and_percentiles_are_those_of_the_sorted_samples() {
        assert!(close(samples(&[9, 1, 5]).median_ms(), 5.0));
        assert!(close(samples(&[4, 1, 3, 2]).median_ms(), 2.5));
        assert!(close(samples(&[]).median_ms(), 0.0));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert!(close(samples(&hundred).percentile_ms(99), 99.0));
        assert!(close(samples(&[7]).percentile_ms(99), 7.0));
    }

    #[test]
    fn a_table_says_its_ratio() {
        let mut table = Table::new("T", &TIMES);
        table.times("x", &samples(&[30]), Some(&samples(&[20])), "≤ 2×");
        let text = table.to_string();
        assert!(text.contains("| x | 1 | 30.0 | 30.0 | 30.0 | 1.50× | ≤ 2× |"), "{text}");
    }
}
