//! What is wrong with a file: all of it, each mistake under its line.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::files;
use crate::limits;
use crate::names::{is_direction, legible};

/// The mistakes of one file, in order of place. There is at least one in an error.
#[derive(Debug, Clone)]
pub struct Mistakes {
    file: PathBuf,
    text: String,
    /// By place, then by the order in which they were found.
    first: BTreeMap<(usize, usize), Mistake>,
    count: usize,
    /// Something could not be read for want of descriptors or memory.
    is_for_now: bool,
    /// Values that nobody may see, quoted or not.
    hidden: Vec<Range<usize>>,
}

#[derive(Debug, Clone)]
struct Mistake {
    /// None: it is about the file.
    place: Option<Range<usize>>,
    message: String,
}

impl Mistakes {
    pub(super) fn of(file: &Path, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            first: BTreeMap::new(),
            count: 0,
            is_for_now: false,
            hidden: Vec::new(),
        }
    }

    /// A file that cannot be read at all.
    pub(super) fn unreadable(file: &Path, message: String) -> Self {
        let mut mistakes = Self::of(file, "");
        mistakes.insert(None, message);
        mistakes
    }

    /// Takes note of why something could not be read.
    pub(super) fn heed(&mut self, error: &io::Error) {
        self.is_for_now |= files::is_for_now(error);
    }

    /// Whether some of them may be none when the same files are read again: nothing could be opened just then.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        self.is_for_now
    }

    pub(super) fn add(&mut self, place: Range<usize>, message: String) {
        self.insert(Some(place), message);
    }

    fn insert(&mut self, place: Option<Range<usize>>, message: String) {
        let start = place.as_ref().map_or(0, |place| place.start);
        self.first
            .insert((start, self.count), Mistake { place, message });
        self.count += 1;
        if self.first.len() > limits::MISTAKES_SHOWN {
            self.first.pop_last();
        }
    }

    /// All of a value but the variables that it names.
    pub(super) fn hide(&mut self, place: Range<usize>) {
        let mut from = place.start;
        while let Some(name) = reference_in(&self.text, from..place.end) {
            if from < name.start {
                self.hidden.push(from..name.start);
            }
            from = name.end;
        }
        self.hidden.push(from..place.end);
    }

    pub(super) fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.count == 0 => Ok(value),
            _ => Err(self),
        }
    }

    /// How many there are, those that are not shown included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// All of them as text, with the colours of a terminal or without.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let mut text = String::new();
        for mistake in self.first.values() {
            self.render_one(mistake, Paint(colours), &mut text);
        }
        let file = legible(&self.file.to_string_lossy());
        let _ = match self.count - self.first.len() {
            0 => Ok(()),
            rest => writeln!(text, "and {rest} more that are not shown\n"),
        };
        let _ = match self.count {
            1 => write!(text, "`{file}` has 1 mistake"),
            count => write!(text, "`{file}` has {count} mistakes"),
        };
        text
    }

    fn render_one(&self, mistake: &Mistake, paint: Paint, out: &mut String) {
        let message = plain(&mistake.message);
        let _ = writeln!(out, "{}: {message}", paint.red("error"));
        let file = legible(&self.file.to_string_lossy());
        let Some(place) = &mistake.place else {
            let _ = writeln!(out, " {} {file}\n", paint.blue("-->"));
            return;
        };
        let line = Line::of(&self.text, place, &self.hidden);
        let number = line.number.to_string();
        let margin = " ".repeat(number.len());
        let bar = paint.blue("|");
        let _ = writeln!(
            out,
            "{margin}{} {file}:{number}:{}",
            paint.blue("-->"),
            line.column
        );
        let _ = writeln!(out, "{margin} {bar}");
        let _ = writeln!(out, "{} {bar} {}", paint.blue(&number), line.shown);
        let under = paint.red(&"^".repeat(line.length));
        let _ = writeln!(out, "{margin} {bar} {}{under}\n", " ".repeat(line.indent));
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

/// The first `${NAME}`.
fn reference_in(text: &str, place: Range<usize>) -> Option<Range<usize>> {
    let text = &text[place.clone()];
    text.match_indices("${").find_map(|(start, sign)| {
        let (name, _) = text[start + sign.len()..].split_once('}')?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_escaped = text[..start].ends_with('$');
        let end = start + sign.len() + name.len() + 1;
        (is_name && !is_escaped).then_some(place.start + start..place.start + end)
    })
}

#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn blue(self, text: &str) -> String {
        self.with("34", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The line of a place, as much of it as fits a terminal.
struct Line {
    /// From 1, as editors count.
    number: usize,
    /// From 1, in characters.
    column: usize,
    shown: String,
    /// Characters of `shown` before what is underlined.
    indent: usize,
    length: usize,
}

/// Characters of a line that are shown, and how many of them stand before the place if there are more.
const SHOWN: usize = 100;
const BEFORE: usize = 40;

impl Line {
    fn of(text: &str, place: &Range<usize>, hidden: &[Range<usize>]) -> Self {
        let start = text.floor_char_boundary(place.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |newline| start + newline);
        let end = text.floor_char_boundary(place.end).clamp(start, line_end);
        let column = text[line_start..start].chars().count();
        let skipped = if text[line_start..line_end].chars().count() <= SHOWN {
            0
        } else {
            column.saturating_sub(BEFORE)
        };
        let window: Vec<(usize, char)> = text[line_start..line_end]
            .trim_end_matches('\r')
            .char_indices()
            .skip(skipped)
            .take(SHOWN)
            .map(|(at, c)| (line_start + at, c))
            .collect();
        // One value can have millions of pieces that are hidden, so only those in sight are looked at for each character.
        let (from, to) = match &*window {
            [] => (0, 0),
            [(from, _), ..] => (*from, window[window.len() - 1].0),
        };
        let hidden: Vec<_> = hidden
            .iter()
            .filter(|range| range.start <= to && range.end > from)
            .collect();
        let is_hidden = |at: usize| hidden.iter().any(|range| range.contains(&at));
        let mut shown: String = window
            .iter()
            .map(|&(at, c)| match c {
                c if is_hidden(at) && c != '"' && c != '\'' => '*',
                // A file may be somebody else's: nothing in it steers the terminal.
                c if c.is_control() || is_direction(c) => ' ',
                c => c,
            })
            .collect();
        let mut indent = column - skipped;
        let room = shown.chars().count().saturating_sub(indent).max(1);
        if skipped > 0 {
            shown.insert(0, '…');
            indent += 1;
        }
        Self {
            number: text[..start].matches('\n').count() + 1,
            column: column + 1,
            shown,
            indent,
            length: text[start..end].chars().count().clamp(1, room),
        }
    }
}

fn plain(message: &str) -> String {
    message
        .chars()
        .map(|c| {
            if c.is_control() || is_direction(c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, places: &[(Range<usize>, &str)]) -> String {
        let mut mistakes = Mistakes::of(Path::new("host.toml"), text);
        for (place, message) in places {
            mistakes.add(place.clone(), (*message).to_owned());
        }
        mistakes.to_string()
    }

    #[test]
    fn each_is_underlined_in_order_of_place() {
        assert_eq!(
            rendered(
                "a = 1\nbb = 22\n",
                &[(11..13, "too much"), (0..1, "no key `a`")]
            ),
            "\
error: no key `a`
 --> host.toml:1:1
  |
1 | a = 1
  | ^

error: too much
 --> host.toml:2:6
  |
2 | bb = 22
  |      ^^

`host.toml` has 2 mistakes"
        );
    }

    #[test]
    fn the_hundred_at_the_top_are_shown_and_the_rest_is_counted() {
        let text = "x\n".repeat(1_000);
        let places: Vec<_> = (0..1_000).rev().map(|n| (2 * n..2 * n + 1, "m")).collect();
        let shown = rendered(&text, &places);
        assert_eq!(shown.matches("error: ").count(), limits::MISTAKES_SHOWN);
        assert!(shown.contains("host.toml:1:1\n") && !shown.contains("host.toml:101:1\n"));
        assert!(
            shown.ends_with("and 900 more that are not shown\n\n`host.toml` has 1000 mistakes")
        );
    }

    #[test]
    fn any_place_in_any_text_can_be_shown() {
        for text in [
            "",
            "\n",
            "ä",
            "a\r\n",
            "\u{1b}[31m\t\u{202e}",
            &"é".repeat(500),
        ] {
            for start in 0..=text.len() {
                for end in [start, text.len(), text.len() + 9] {
                    let shown = rendered(text, &[(start..end, "\u{1b}[2J")]);
                    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\t']), "{shown:?}");
                    assert!(shown.lines().all(|line| line.chars().count() < 120));
                }
            }
        }
    }

    #[test]
    fn a_file_of_any_name_can_be_found_by_what_is_shown_of_it() {
        for place in [None, Some(0..1)] {
            let mut mistakes = Mistakes::of(Path::new("a\nb\u{1b}.toml"), "x");
            mistakes.insert(place, "m".to_owned());
            let shown = mistakes.to_string();
            assert!(shown.contains("--> a\\nb\\u{1b}.toml"), "{shown}");
            assert!(shown.ends_with("`a\\nb\\u{1b}.toml` has 1 mistake"));
        }
    }

    #[test]
    fn what_is_hidden_is_stars() {
        for (value, shown) in [
            ("\"hunter2\"", "\"*******\""),
            ("\"a${B}c\"", "\"*${B}*\""),
            ("\"${A}${B}\"", "\"${A}${B}\""),
            ("\"$${A} ${\"", "\"********\""),
            ("\"${h!}\"", "\"*****\""),
            ("12", "**"),
        ] {
            let text = format!("t = {value}, x = 1");
            let mut mistakes = Mistakes::of(Path::new("h"), &text);
            mistakes.hide(4..4 + value.len());
            mistakes.add(0..1, "m".to_owned());
            let rendered = mistakes.to_string();
            assert!(
                rendered.contains(&format!("t = {shown}, x = 1\n")),
                "{rendered}"
            );
        }
    }
}
