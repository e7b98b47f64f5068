//! Text for a terminal, and text from one.

use std::io::IsTerminal as _;

/// Whether the person at the terminal sees colours and wants them.
pub(super) fn has_colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text without colours, links and what else a terminal takes for orders (ECMA-48).
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => match rest.next() {
                // Parameters, then a final letter.
                Some('[') => while rest.next().is_some_and(|c| !matches!(c, '@'..='~')) {},
                // A link or a title, up to BEL or ESC \.
                Some(']') => loop {
                    match rest.next() {
                        Some('\x1b') => {
                            rest.next();
                            break;
                        }
                        Some('\x07') | None => break,
                        Some(_) => {}
                    }
                },
                _ => {}
            },
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_and_links_are_taken_out() {
        for (text, plain) in [
            ("\x1b[1m\x1b[38;5;9merror\x1b[0m: no", "error: no"),
            ("\x1b]8;;https://x/\x1b\\E0425\x1b]8;;\x07!", "E0425!"),
            ("tab\there\r\n", "tab\there\n"),
            ("\x1b[1", ""),
            ("\x1b", ""),
        ] {
            assert_eq!(super::plain(text), plain);
        }
    }
}
