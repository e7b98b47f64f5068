//! The file as a tree whose every value knows its place. What reads it notes mistakes and goes on, so that all of them
//! come out in one run.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{HOST, Shape, Takes, Unsaid};
use super::mistake::Mistakes;
use super::secret::{self, Outside};
use crate::names::{most_alike, short};
use crate::server::TlsConfig;

/// One file that is being read.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// What relative paths start from.
    directory: PathBuf,
    pub(super) outside: &'a Outside<'a>,
    mistakes: RefCell<Mistakes>,
    /// What its doors need, for who wants to know whether they can be opened.
    needed: RefCell<Vec<(Range<usize>, Needed)>>,
    /// Other files whose contents are a part of it.
    parts: RefCell<BTreeSet<PathBuf>>,
    /// Nothing more is noted.
    is_hushed: Cell<bool>,
    #[cfg(test)]
    pub(super) used: RefCell<BTreeSet<String>>,
}

/// What a door needs that is not in the file. It may be gone while the host runs, and is then waited for.
pub(super) enum Needed {
    Certificates(TlsConfig),
    /// A place for a Unix socket.
    Socket(PathBuf),
    /// The same of the operator's door, which makes its directory.
    AdminSocket(PathBuf),
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &Path, text: &'a str, outside: &'a Outside<'a>) -> Self {
        Self {
            text,
            directory: file.parent().unwrap_or(Path::new("")).to_owned(),
            outside,
            mistakes: RefCell::new(Mistakes::of(file, text)),
            needed: RefCell::default(),
            parts: RefCell::default(),
            is_hushed: Cell::new(false),
            #[cfg(test)]
            used: RefCell::default(),
        }
    }

    /// The tree. If it cannot be told what was meant, only that is noted, and nothing of what is read from it.
    pub(super) fn tree(&self) -> Spanned<DeTable<'a>> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        let mut is_readable = true;
        for error in errors {
            let place = error.span().unwrap_or(0..0);
            let is_twice = error.message() == "duplicate key";
            is_readable &= is_twice;
            let message = if is_twice {
                "the same key again: keep one of them".to_owned()
            } else {
                format!("not TOML: {}", error.message())
            };
            self.mistake(place, message);
        }
        self.is_hushed.set(!is_readable);
        tree
    }

    pub(super) fn mistake(&self, place: Range<usize>, message: String) {
        if !self.is_hushed.get() {
            self.mistakes.borrow_mut().add(place, message);
        }
    }

    pub(super) fn needs(&self, place: Range<usize>, needed: Needed) {
        self.needed.borrow_mut().push((place, needed));
    }

    pub(super) fn needed(&self) -> Vec<(Range<usize>, Needed)> {
        self.needed.take()
    }

    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.directory.join(text)
    }

    /// What is in another file, at most so many bytes.
    pub(super) fn contents(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        self.parts.borrow_mut().insert(path.to_owned());
        self.read(path, most)
    }

    /// The same of one that is no part of it.
    pub(super) fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let read = (self.outside.read)(path, most);
        read.inspect_err(|error| self.mistakes.borrow_mut().heed(error))
    }

    /// The other files that were read so.
    pub(super) fn parts(&self) -> Vec<PathBuf> {
        self.parts.borrow().iter().cloned().collect()
    }

    /// What was read, unless there was a mistake. None comes of a mistake only.
    pub(super) fn end<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        self.mistakes.into_inner().or(value)
    }

    /// A text with the variables that it names put in.
    fn expand(&self, text: &str, place: &Range<usize>) -> Option<String> {
        match secret::expand(text, self.outside) {
            Ok(text) => Some(text.into_owned()),
            Err(wrong) => {
                for (what, message) in wrong {
                    // Under the reference itself, if it is written without escapes.
                    let found = self.text[place.clone()].find(&what);
                    let at = found.map_or(place.clone(), |at| {
                        place.start + at..place.start + at + what.len()
                    });
                    self.mistake(at, message);
                }
                None
            }
        }
    }
}

/// A table whose keys are known.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    shape: &'static Shape,
    entries: &'a DeTable<'a>,
    start: usize,
    end: usize,
}

impl<'a> Table<'a> {
    /// Keys that the shape has not, and those that must be there, are looked at here.
    pub(super) fn open(
        reader: &'a Reader<'a>,
        shape: &'static Shape,
        entries: &'a DeTable<'a>,
        place: Range<usize>,
    ) -> Self {
        for key in entries.keys() {
            if shape.key(key.get_ref()).is_none() {
                reader.mistake(key.span(), unknown_key(shape, key.get_ref()));
            }
        }
        for key in shape.keys {
            if let Unsaid::Missing(example) = key.unsaid
                && !entries.contains_key(key.name)
            {
                let message = format!("`{}` is missing here: write `{example}`", key.name);
                reader.mistake(place.clone(), message);
            }
        }
        Self {
            reader,
            shape,
            entries,
            start: place.start,
            end: place.end,
        }
    }

    pub(super) fn place(&self) -> Range<usize> {
        self.start..self.end
    }

    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.reader.mistake(self.place(), message.into());
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// # Panics
    /// In tests, when a key is asked for that the schema does not tell of.
    pub(super) fn value(&self, key: &str) -> Option<Value<'a>> {
        let known = self.shape.key(key);
        debug_assert!(known.is_some(), "`{key}` is no key of {}", self.shape.name);
        let (raw, known) = (self.entries.get(key)?, known?);
        #[cfg(test)]
        {
            let used = format!("{}.{key}", self.shape.name);
            self.reader.used.borrow_mut().insert(used);
        }
        Some(Value {
            reader: self.reader,
            name: known.name,
            takes: &known.takes,
            raw,
        })
    }

    pub(super) fn parsed<T, E: Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.value(key)?.parsed(parse)
    }

    /// A path from the directory of the file.
    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.value(key)?.path()
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.value(key)
            .and_then(|value| value.flag())
            .unwrap_or(false)
    }

    pub(super) fn table(&self, key: &str, shape: &'static Shape) -> Option<Table<'a>> {
        self.value(key)?.table(shape)
    }

    pub(super) fn list(&self, key: &str) -> Vec<Value<'a>> {
        self.value(key)
            .map(|value| value.list())
            .unwrap_or_default()
    }

    pub(super) fn named(&self, key: &str) -> Vec<Named<'a>> {
        self.value(key)
            .map(|value| value.named())
            .unwrap_or_default()
    }
}

/// What stands to the right of a key, or in a list.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// The key, for messages.
    name: &'a str,
    takes: &'static Takes,
    raw: &'a Spanned<DeValue<'a>>,
}

/// An entry whose key the operator chose.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) place: Range<usize>,
    pub(super) value: Value<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn place(&self) -> Range<usize> {
        self.raw.span()
    }

    pub(super) fn mistake(&self, message: impl Display) {
        let mut message = message.to_string();
        if let Some(text) = self.as_written() {
            message = secret::unexpanded(message, text, self.reader.outside);
        }
        self.reader
            .mistake(self.place(), format!("`{}`: {message}", short(self.name)));
    }

    /// The value is quoted nowhere.
    pub(super) fn hide(&self) {
        self.reader.mistakes.borrow_mut().hide(self.place());
    }

    pub(super) fn is_table(&self) -> bool {
        self.raw.get_ref().is_table()
    }

    pub(super) fn is_empty_list(&self) -> bool {
        let list = self.raw.get_ref().as_array();
        list.is_some_and(|items| items.is_empty())
    }

    /// The text as it is written, without the variables that it names.
    pub(super) fn as_written(&self) -> Option<&'a str> {
        self.raw.get_ref().as_str()
    }

    /// A text, or a number where the key takes one, as `parse` takes it.
    pub(super) fn parsed<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = match self.raw.get_ref() {
            DeValue::String(text) => Cow::Owned(self.reader.expand(text, &self.place())?),
            // A parser of texts may take any, and so the `5`, `true` or `?` that stands below for a value of another type.
            _ if self.takes.text().is_some() => return self.not_a_text(),
            DeValue::Integer(number) if number.radix() == 10 => Cow::Borrowed(number.as_str()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Cow::Borrowed("too large"), |number| {
                    Cow::Owned(number.to_string())
                }),
            DeValue::Float(number) => Cow::Borrowed(number.as_str()),
            DeValue::Boolean(true) => Cow::Borrowed("true"),
            DeValue::Boolean(false) => Cow::Borrowed("false"),
            // The parser says what it takes.
            DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => Cow::Borrowed("?"),
        };
        parse(&text).map_err(|error| self.mistake(error)).ok()
    }

    /// Where a guest may go. Who writes a password or a token there does not see it again.
    pub(super) fn place_elsewhere<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let written = self.as_written();
        if written.is_none_or(|it| it.contains(['@', '?', '#'])) {
            self.hide();
        }
        self.parsed(parse)
    }

    pub(super) fn text(&self) -> Option<String> {
        match self.raw.get_ref() {
            DeValue::String(text) => self.reader.expand(text, &self.place()),
            _ => self.not_a_text(),
        }
    }

    fn not_a_text<T>(&self) -> Option<T> {
        let kind = kind(self.raw.get_ref());
        let example = self.takes.text().unwrap_or_default();
        self.mistake(format_args!(
            "{kind}, not a text: write one in quotes, as in `{example:?}`"
        ));
        None
    }

    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() || text.contains('\0') {
            self.mistake("not a path: name a file or a directory");
            return None;
        }
        Some(self.reader.path(&text))
    }

    fn flag(&self) -> Option<bool> {
        let flag = self.raw.get_ref().as_bool();
        if flag.is_none() {
            self.mistake("neither `true` nor `false`: write one of them, without quotes");
        }
        flag
    }

    pub(super) fn table(&self, shape: &'static Shape) -> Option<Table<'a>> {
        let entries = self.entries()?;
        Some(Table::open(self.reader, shape, entries, self.place()))
    }

    fn entries(&self) -> Option<&'a DeTable<'a>> {
        let entries = self.raw.get_ref().as_table();
        if entries.is_none() {
            let kind = kind(self.raw.get_ref());
            self.mistake(format_args!(
                "{kind}, not a table: write `{{ key = value }}` or a `[table]`"
            ));
        }
        entries
    }

    pub(super) fn named(&self) -> Vec<Named<'a>> {
        let entries = self.entries().into_iter().flatten();
        entries
            .map(|(key, raw)| Named {
                name: key.get_ref(),
                place: key.span(),
                value: Value {
                    reader: self.reader,
                    name: key.get_ref(),
                    takes: self.takes.inner(),
                    raw,
                },
            })
            .collect()
    }

    pub(super) fn list(&self) -> Vec<Value<'a>> {
        let Some(items) = self.raw.get_ref().as_array() else {
            let kind = kind(self.raw.get_ref());
            self.mistake(format_args!("{kind}, not a list: put it in `[` and `]`"));
            return Vec::new();
        };
        let takes = self.takes.inner();
        let item = |raw| Value {
            takes,
            raw,
            ..*self
        };
        items.iter().map(item).collect()
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Under this likeness another key is not what was meant.
const ALIKE: f64 = 0.6;

/// With the table that has such a key, or the key that was most likely meant.
fn unknown_key(shape: &'static Shape, name: &str) -> String {
    let shown = short(name);
    let names = || shape.keys.iter().map(|key| key.name);
    if let Some(other) = HOST.family().iter().find(|other| other.key(name).is_some()) {
        return format!("`{shown}` is no key here: it stands {}", other.place);
    }
    match most_alike(name, names().map(str::to_owned), ALIKE) {
        Some(nearest) => format!("no key `{shown}` here: did you mean `{nearest}`?"),
        None => format!(
            "no key `{shown}` here: there are `{}`",
            names().collect::<Vec<_>>().join("`, `")
        ),
    }
}
