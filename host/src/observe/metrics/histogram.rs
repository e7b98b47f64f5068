//! How long things take, counted by length.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations in `N` buckets, of which the last has no bound. Counting is two atomic additions.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    /// Nanoseconds, of all buckets but the last.
    bounds: &'static [u64],
    counts: [AtomicU64; N],
    nanos: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    /// Upper bounds in seconds, and how many were in each bucket alone.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) seconds: f64,
    pub(super) count: u64,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| nanos <= *bound);
        let bucket = bucket.unwrap_or(N - 1);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn counted(&self) -> Counted {
        let bounds = self.bounds.iter().map(|nanos| *nanos as f64 / 1e9);
        // The library's word for no bound.
        let bounds = bounds.chain([f64::MAX]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Counted {
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
            seconds: self.nanos.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000 * MICRO;
const SECOND: u64 = 1_000 * MILLI;

/// Of a request: OpenTelemetry's, with three below them, since a guest answers in less than a millisecond.
pub(super) type OfRequest = Histogram<15>;

/// See [`OfRequest`].
pub(super) const REQUEST: &[u64] = &[
    500 * MICRO,
    MILLI,
    2_500 * MICRO,
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    2_500 * MILLI,
    5 * SECOND,
    10 * SECOND,
];

/// Of a part of a request: decades, because there are three for each handler.
pub(super) type OfPart = Histogram<8>;

/// See [`OfPart`].
pub(super) const PART: &[u64] = &[
    10 * MICRO,
    100 * MICRO,
    MILLI,
    10 * MILLI,
    100 * MILLI,
    SECOND,
    10 * SECOND,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_of_its_bound_and_the_longest_in_the_last() {
        let histogram = OfPart::new(PART);
        for micros in [0, 10, 11, 100, 1_000_000_000] {
            histogram.count(Duration::from_micros(micros));
        }
        let counted = histogram.counted();
        let counts: Vec<u64> = counted.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(counted.count, 5);
        assert!(
            (counted.seconds - 1_000.000_121).abs() < 1e-9,
            "{counted:?}"
        );
        assert_eq!(
            counted.buckets.last().map(|(bound, _)| *bound),
            Some(f64::MAX)
        );
    }

    #[test]
    fn there_is_one_bucket_more_than_bounds() {
        assert_eq!(OfRequest::new(REQUEST).counts.len(), REQUEST.len() + 1);
        assert_eq!(OfPart::new(PART).counts.len(), PART.len() + 1);
    }
}
