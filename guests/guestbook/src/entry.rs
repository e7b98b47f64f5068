//! What somebody wrote, and where it is kept: under its number, as `NAME`, a zero byte, and the text.

use crate::bindings::wasi::keyvalue::atomics::increment;
use crate::bindings::wasi::keyvalue::batch::get_many;
use crate::bindings::wasi::keyvalue::store::{Error, open};

pub(crate) struct Entry {
    pub(crate) number: i64,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Entries of a page.
const PAGE: i64 = 20;

const BUCKET: &str = "guestbook";

/// Counts the entries: each takes its number here, and then has its key alone.
const LAST: &str = "last";

fn key(number: i64) -> String {
    format!("entry-{number}")
}

impl Entry {
    /// A page of them, the newest first, and whether there are older ones. One that is being written now may be missing.
    pub(crate) fn before(before: Option<i64>) -> Result<(Vec<Self>, bool), Error> {
        let bucket = open(BUCKET)?;
        let last = match bucket.get(LAST)? {
            Some(number) => String::from_utf8_lossy(&number).parse().unwrap_or(0),
            None => 0,
        };
        let newest = before.map_or(last, |before| last.min(before.saturating_sub(1)));
        let oldest = newest.saturating_sub(PAGE - 1).max(1);
        let numbers: Vec<i64> = (oldest..=newest).rev().collect();
        let keys: Vec<String> = numbers.iter().map(|&number| key(number)).collect();
        let found = get_many(&bucket, &keys)?;
        let entries = numbers.into_iter().zip(found);
        let entries = entries.filter_map(|(number, (_, entry))| Self::read(number, entry?));
        Ok((entries.collect(), oldest > 1))
    }

    fn read(number: i64, bytes: Vec<u8>) -> Option<Self> {
        let entry = String::from_utf8(bytes).ok()?;
        let (name, text) = entry.split_once('\0')?;
        Some(Self {
            number,
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }

    /// What keeps it from being written, in words for its author.
    pub(crate) fn wrong(name: &str, text: &str) -> Option<&'static str> {
        if name.is_empty() || text.is_empty() {
            Some("write your name and a few words")
        } else if name.chars().count() > 60 {
            Some("a name has at most 60 characters")
        } else if text.chars().count() > 2_000 {
            Some("an entry has at most 2000 characters")
        } else if name.contains('\0') || text.contains('\0') {
            Some("there is a character in it that cannot be shown")
        } else {
            None
        }
    }

    pub(crate) fn write(name: &str, text: &str) -> Result<(), Error> {
        let bucket = open(BUCKET)?;
        let number = increment(&bucket, LAST, 1)?;
        bucket.set(&key(number), format!("{name}\0{text}").as_bytes())
    }
}
