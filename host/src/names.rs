//! Names that somebody chose: shown at a bearable length, and guessed at when they are mistyped.

/// Characters of a name that are shown.
pub const NAME_SHOWN: usize = 100;

/// A name, cut.
#[must_use]
pub fn short(name: &str) -> String {
    match name.char_indices().nth(NAME_SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// A text that somebody chose, as it may stand in a line of a terminal: what would end the line, move the cursor or turn what
/// follows is escaped.
#[must_use]
pub fn legible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\t') || is_direction(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Characters that make a terminal write what follows elsewhere.
pub(crate) fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The candidate most like `name`, if it is alike enough to be what was meant.
#[must_use]
pub fn most_alike(
    name: &str,
    candidates: impl Iterator<Item = String>,
    enough: f64,
) -> Option<String> {
    let name = short(name);
    candidates
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(&name, &candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= enough)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_others_wrote_is_one_line_and_steers_no_terminal() {
        for (text, line) in [
            ("/shop/*\tgrößer", "/shop/*\tgrößer"),
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("a\r\nname b", "a\\r\\nname b"),
            ("\u{9b}0m\u{7f}", "\\u{9b}0m\\u{7f}"),
            ("\u{202e}gpj", "\\u{202e}gpj"),
        ] {
            assert_eq!(legible(text), line);
        }
    }
}
