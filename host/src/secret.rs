//! A text that nobody may see by accident: not in a log, not in a message, not in a dump of settings.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::{files, limits};

/// A password, a token, a variable of a guest. What prints it prints stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Arc<str>,
    /// Where it is kept, if that is a file. What is there may change.
    file: Option<Arc<Path>>,
}

impl Secret {
    /// The text itself: for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is in a file of at most [`limits::SECRET_BYTES`], without a newline at its end.
    ///
    /// # Errors
    /// Why it cannot be read, with its name and without a byte of it.
    pub fn in_file(path: &Path) -> Result<Self, String> {
        Self::of_bytes(path, files::read(path, limits::SECRET_BYTES))
    }

    pub(crate) fn of_bytes(path: &Path, read: std::io::Result<Vec<u8>>) -> Result<Self, String> {
        let shown = path.display();
        let bytes = read.map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| format!("`{shown}` is not UTF-8: put a text there"))?;
        // Editors and `echo` end a file with one.
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        Ok(Self {
            text: line.into(),
            file: Some(path.into()),
        })
    }

    /// The file that it was read from, if it was.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self {
            text: text.into(),
            file: None,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_printed_as_stars_and_its_length_is_not_told() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "*** *** ***");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn of_a_file_one_newline_at_its_end_is_left_out() {
        for (bytes, text) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("", ""),
            ("\n", ""),
        ] {
            let read = Secret::of_bytes(Path::new("x"), Ok(bytes.into())).expect("a text");
            assert_eq!(read.reveal(), text, "{bytes:?}");
        }
        let hidden = Secret::of_bytes(Path::new("x"), Ok(b"hunter2\xff".into()));
        assert_eq!(
            hidden.expect_err("no text"),
            "`x` is not UTF-8: put a text there"
        );
    }
}
