//! Names of handlers and tenants. They stand in paths, in logs and in metrics, so they are plain.

use std::sync::Arc;

use super::reader::Named;
use crate::names::short;

/// Characters of a name, as of a label of DNS.
const LENGTH: usize = 63;

/// The name that an entry has, if it may have it.
pub(super) fn name(named: &Named<'_>) -> Option<Arc<str>> {
    checked(named.name)
        .map_err(|message| named.value.reader.mistake(named.place.clone(), message))
        .ok()
}

pub(super) fn checked(name: &str) -> Result<Arc<str>, String> {
    let is_inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let is_first = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let is_plain = name.len() <= LENGTH
        && name.bytes().next().is_some_and(is_first)
        && name.bytes().all(is_inner);
    if is_plain {
        return Ok(name.into());
    }
    Err(format!(
        "`{}` is no name: write at most {LENGTH} of `a-z`, `0-9`, `-`, `_` and `.`, and a letter or digit first",
        short(name).escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for fine in ["a", "7", "shop", "shop-2_b.c", &"a".repeat(63)] {
            assert_eq!(checked(fine).as_deref(), Ok(fine));
        }
        for wrong in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "Shop",
            "a/b",
            "a b",
            "ä",
            "a\n",
            &"a".repeat(64),
        ] {
            let message = checked(wrong).expect_err(wrong);
            assert!(message.contains("at most 63"), "{message}");
        }
        let long = checked(&"\u{1b}".repeat(10_000)).expect_err("escapes");
        assert!(long.len() < 1_000 && long.contains("\\u{1b}"), "{long}");
    }
}
