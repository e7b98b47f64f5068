//! Answers that may be kept, for as long as they say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of one answer that is kept, and how many there are.
const BYTES: usize = 256 * 1024;
const ANSWERS: usize = 64;

/// A header, by its name in lower case.
pub(crate) type Field = (String, Vec<u8>);

#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) fields: Vec<Field>,
    pub(crate) body: Vec<u8>,
    pub(crate) until: Instant,
}

thread_local! {
    static CACHE: RefCell<BTreeMap<String, Kept>> = RefCell::default();
}

/// What is kept for a path and its query, and is still good.
pub(crate) fn find(target: &str) -> Option<Kept> {
    let found = CACHE.with_borrow(|cache| cache.get(target).cloned());
    found.filter(|kept| Instant::now() < kept.until)
}

/// Keeps an answer. If there are too many, those that are over go; if there are none, nothing is kept.
pub(crate) fn keep(target: String, kept: Kept) {
    CACHE.with_borrow_mut(|cache| {
        if cache.len() >= ANSWERS {
            let now = Instant::now();
            cache.retain(|_, kept| now < kept.until);
        }
        if cache.len() < ANSWERS {
            cache.insert(target, kept);
        }
    });
}

/// How long an answer may be kept for everybody: only what is whole, short, the same for all, and says so.
pub(crate) fn age(status: u16, fields: &[Field]) -> Option<Duration> {
    let has = |name: &str| fields.iter().any(|(own, _)| own == name);
    let text = |name: &str| {
        let values = fields.iter().filter(|(own, _)| own == name);
        let values = values.map(|(_, value)| String::from_utf8_lossy(value));
        values.collect::<Vec<_>>().join(",").to_ascii_lowercase()
    };
    let length: usize = text("content-length").parse().ok()?;
    if status != 200 || length > BYTES || has("vary") || has("set-cookie") {
        return None;
    }
    let control = text("cache-control");
    let words: Vec<_> = control.split(',').map(str::trim).collect();
    if ["private", "no-store", "no-cache"]
        .iter()
        .any(|word| words.contains(word))
    {
        return None;
    }
    let seconds = words.iter().find_map(|word| word.strip_prefix("max-age="));
    let seconds: u64 = seconds?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(86_400)))
}

impl Kept {
    /// Its headers, and whether it was here.
    pub(crate) fn headers(&self, how: &str) -> Vec<Field> {
        let kept = self.fields.iter().filter(|(name, _)| name != "x-cache");
        let how = ("x-cache".to_owned(), how.as_bytes().to_vec());
        kept.cloned().chain([how]).collect()
    }
}
