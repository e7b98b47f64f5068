//! Which part of a file the header `range` asks for (RFC 9110, section 14).

use std::ops::Range;

/// What to send of a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    /// All of it: no range, several (allowed to be ignored), or one that is no range.
    Whole,
    /// These bytes: 206.
    Some(Range<u64>),
    /// Bytes that the file does not have: 416.
    Outside,
}

pub(crate) fn part(header: Option<&str>, length: u64) -> Part {
    let Some((first, last)) = header
        .and_then(|header| header.strip_prefix("bytes="))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return Part::Whole,
    };
    if range.is_empty() {
        Part::Outside
    } else {
        Part::Some(range)
    }
}

/// Digits only: `parse` alone would take "+1".
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_file() {
        let table = [
            (None, Part::Whole),
            (Some("bytes=0-3"), Part::Some(0..4)),
            (Some("bytes=8-99"), Part::Some(8..10)),
            (Some("bytes=4-"), Part::Some(4..10)),
            (Some("bytes=-3"), Part::Some(7..10)),
            (Some("bytes=-99"), Part::Some(0..10)),
            (Some("bytes=10-"), Part::Outside),
            (Some("bytes=-0"), Part::Outside),
            (Some("bytes=3-1"), Part::Whole),
            (Some("bytes=0-1,3-4"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("bytes=-"), Part::Whole),
            (Some("lines=0-3"), Part::Whole),
            (Some("bytes=0-18446744073709551615"), Part::Some(0..10)),
        ];
        for (header, expected) in table {
            assert_eq!(part(header, 10), expected, "{header:?}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Outside);
    }
}
