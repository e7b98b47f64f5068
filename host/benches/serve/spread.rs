//! A number that was measured several times.

use std::fmt;
use std::time::Duration;

/// The median, and the least and the most beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// None of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self {
            median,
            least,
            most,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median,
            least,
            most,
        } = *self;
        write!(f, "{} ({}–{})", number(median), number(least), number(most))
    }
}

/// What this part of sorted latencies stayed within; None of nothing.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index).or(sorted.last()).copied()
}

/// Three digits that matter, thousands apart: 0.124, 28.6, 310, 44,871.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value {
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => return thousands(value.round() as u64),
    };
    format!("{value:.decimals$}")
}

fn thousands(value: u64) -> String {
    match value {
        0..1000 => value.to_string(),
        _ => format!("{},{:03}", thousands(value / 1000), value % 1000),
    }
}
