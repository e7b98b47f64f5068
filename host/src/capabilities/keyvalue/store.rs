//! What every kind of store can do, and the rules that are the same in all of them.
//!
//! A bucket is a map from keys to values. Each entry has a *revision*, which changes with each write of it, and is *born*
//! at one that it keeps: both are numbers of one counter of the bucket, which only grows. So a value that was changed and
//! changed back is told from one that was left alone, and keys are listed by birth, the youngest first: keys that come
//! while somebody lists are younger than all that is left to list, and every listing ends.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::grant::{Durability, Quota};
use crate::capabilities::share::Share;
use crate::limits;

/// A store: some place for buckets.
pub(super) trait Store: Send + Sync + fmt::Debug {
    /// What is at these keys, in their order; at most [`limits::KEYVALUE_BATCH_BYTES`] of values.
    fn read(&self, place: &Place, keys: Vec<String>) -> Answer<Vec<Option<Entry>>>;

    /// Whether there is something at a key.
    fn has(&self, place: &Place, key: String) -> Answer<bool>;

    /// Changes all that is said or nothing. Dropping the future does not take back what was begun.
    fn write(&self, place: &Place, change: Change) -> Answer<Changed>;

    /// A page of keys that were born before this.
    fn list(&self, place: &Place, before: u64) -> Answer<Listed>;

    /// What was written is on disk, as far as that is this store's to do. Waits for it.
    fn close(&self) {}
}

pub(super) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Where a bucket is in its store, and what holds there for a handler.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Names the bucket, whose it is too: see [`Place::of`].
    pub(super) bucket: Arc<str>,
    pub(super) quota: Quota,
    pub(super) durability: Durability,
    /// Of bytes on their way to the store.
    pub(super) room: Share,
    /// Of reads that wait for a disk.
    pub(super) readers: Share,
}

impl Place {
    /// A tenant's name has no slash and is not empty, so no bucket of one is named like one of another or of the operator.
    pub(super) fn of(tenant: Option<&str>, name: &str) -> Arc<str> {
        format!("{}/{name}", tenant.unwrap_or("")).into()
    }
}

/// What is at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) born: u64,
    pub(super) value: Vec<u8>,
}

impl Entry {
    pub(super) fn former(&self) -> Former {
        Former {
            revision: self.revision,
            born: self.born,
            bytes: self.value.len() as u64,
        }
    }
}

/// What is at a key, without its value, which may be large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Former {
    pub(super) revision: u64,
    pub(super) born: u64,
    /// Of the value.
    pub(super) bytes: u64,
}

/// A write.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(BTreeMap<String, Vec<u8>>),
    Delete(Vec<String>),
    Increment {
        key: String,
        by: i128,
        /// What the sum may be.
        within: (i128, i128),
    },
    /// If the entry still has this revision; 0 if there was none.
    Swap {
        key: String,
        revision: u64,
        value: Vec<u8>,
    },
}

impl Change {
    /// What it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        let one = |key: &str, value: usize| ROOM + key.len() + value;
        ROOM + match self {
            Self::Put(entries) => {
                let entries = entries.iter();
                entries.map(|(key, value)| one(key, value.len())).sum()
            }
            Self::Delete(keys) => keys.iter().map(|key| one(key, 0)).sum(),
            Self::Increment { key, .. } => one(key, 0),
            Self::Swap { key, value, .. } => one(key, value.len()),
        }
    }
}

/// What a change takes besides keys and values, and each of its keys. Keys of a byte take the writer as long as others, and so a
/// transaction has a bounded number of them.
const ROOM: usize = 256;

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    Done,
    Sum(i128),
    /// Somebody else was first; what is there now.
    Stale(Option<Entry>),
}

/// A page of keys.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) keys: Vec<String>,
    /// The birth of the last of them, if there are more.
    pub(super) before: Option<u64>,
}

/// Why a store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// The bucket has no room, and what is full.
    Full(String),
    /// What was asked for is not possible.
    Invalid(String),
    /// The store is not there, or broken: in words for the guest, which name nothing of the host's.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) | Self::Invalid(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// What is in a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) keys: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
    /// The last number that was given to an entry.
    pub(super) last: u64,
}

/// The entries of one bucket, as some kind of store keeps them.
pub(super) trait Entries {
    type Broken;

    /// Copies the value.
    fn get(&self, key: &str) -> Result<Option<Entry>, Self::Broken>;

    /// Copies nothing.
    fn look(&self, key: &str) -> Result<Option<Former>, Self::Broken>;

    /// `former` is what was there.
    fn put(&mut self, key: &str, entry: Entry, former: Option<Former>) -> Result<(), Self::Broken>;

    fn remove(&mut self, key: &str, former: Former) -> Result<(), Self::Broken>;
}

/// Changes a bucket, if its quota allows all of it. The inner error changes nothing. Others wait meanwhile, so no value is copied
/// that nobody gets.
pub(super) fn apply<E: Entries>(
    entries: &mut E,
    totals: &mut Totals,
    quota: Quota,
    change: Change,
) -> Result<Result<Changed, Error>, E::Broken> {
    let (put, changed) = match change {
        Change::Put(put) => (put, Changed::Done),
        Change::Swap {
            key,
            revision,
            value,
        } => {
            if entries.look(&key)?.map_or(0, |now| now.revision) != revision {
                return Ok(Ok(Changed::Stale(entries.get(&key)?)));
            }
            (BTreeMap::from([(key, value)]), Changed::Done)
        }
        Change::Increment { key, by, within } => {
            let now = entries.look(&key)?;
            if now.is_some_and(|now| now.bytes > DIGITS) {
                return Ok(Err(not_a_number()));
            }
            let now = entries.get(&key)?;
            let sum = match sum(now.as_ref().map(|now| &*now.value), by, within) {
                Ok(sum) => sum,
                Err(error) => return Ok(Err(error)),
            };
            let put = BTreeMap::from([(key, sum.to_string().into_bytes())]);
            (put, Changed::Sum(sum))
        }
        Change::Delete(keys) => {
            for key in keys {
                if let Some(former) = entries.look(&key)? {
                    totals.keys -= 1;
                    totals.bytes -= key.len() as u64 + former.bytes;
                    entries.remove(&key, former)?;
                }
            }
            return Ok(Ok(Changed::Done));
        }
    };
    // All of it is there afterwards, whatever it replaces: what is too much by itself is refused before anything is read.
    let bytes = |(key, value): (&String, &Vec<u8>)| (key.len() + value.len()) as u64;
    let least = Totals {
        keys: put.len() as u64,
        bytes: put.iter().map(bytes).sum(),
        last: totals.last,
    };
    if let Err(error) = quota.allows(totals, &least) {
        return Ok(Err(error));
    }
    let mut after = *totals;
    let mut formers = Vec::with_capacity(put.len());
    for (key, value) in &put {
        let former = entries.look(key)?;
        match former {
            Some(former) => after.bytes -= former.bytes,
            None => {
                after.keys += 1;
                after.bytes += key.len() as u64;
            }
        }
        after.bytes += value.len() as u64;
        formers.push(former);
    }
    if let Err(error) = quota.allows(totals, &after) {
        return Ok(Err(error));
    }
    for ((key, value), former) in put.into_iter().zip(formers) {
        after.last += 1;
        let entry = Entry {
            revision: after.last,
            born: former.map_or(after.last, |former| former.born),
            value,
        };
        entries.put(&key, entry, former)?;
    }
    *totals = after;
    Ok(Ok(changed))
}

/// The longest counter.
const DIGITS: u64 = 20;

/// Counters are numbers in decimal, as Redis has them, of no more than [`DIGITS`].
fn sum(now: Option<&[u8]>, by: i128, (least, most): (i128, i128)) -> Result<i128, Error> {
    let now = match now {
        None => 0,
        Some(text) => {
            let number = std::str::from_utf8(text).ok();
            let number = number.and_then(|text| Some((text, text.parse::<i128>().ok()?)));
            // Written otherwise, Redis takes it for none.
            let number = number.filter(|(text, number)| number.to_string() == **text);
            number.ok_or_else(not_a_number)?.1
        }
    };
    let sum: i128 = now + by;
    let within = least..=most;
    if !within.contains(&now) || !within.contains(&sum) {
        return Err(too_large());
    }
    Ok(sum)
}

pub(super) fn not_a_number() -> Error {
    Error::Invalid("the value is no whole number in decimal".to_owned())
}

pub(super) fn too_large() -> Error {
    Error::Invalid("the sum is too large or too small for a counter".to_owned())
}

/// What a page of keys has room for.
pub(super) fn is_full(listed: &Listed, bytes: usize) -> bool {
    listed.keys.len() >= limits::KEYVALUE_PAGE || bytes >= limits::KEYVALUE_PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    /// Entries that know how often they were looked at, and copied.
    #[derive(Default)]
    struct Seen {
        there: BTreeMap<String, Entry>,
        looks: Cell<usize>,
        copies: Cell<usize>,
    }

    impl Entries for Seen {
        type Broken = Infallible;

        fn get(&self, key: &str) -> Result<Option<Entry>, Infallible> {
            self.copies.update(|copies| copies + 1);
            Ok(self.there.get(key).cloned())
        }

        fn look(&self, key: &str) -> Result<Option<Former>, Infallible> {
            self.looks.update(|looks| looks + 1);
            Ok(self.there.get(key).map(Entry::former))
        }

        fn put(&mut self, key: &str, entry: Entry, _: Option<Former>) -> Result<(), Infallible> {
            self.there.insert(key.to_owned(), entry);
            Ok(())
        }

        fn remove(&mut self, key: &str, _: Former) -> Result<(), Infallible> {
            self.there.remove(key);
            Ok(())
        }
    }

    const QUOTA: Quota = Quota {
        keys: 2,
        value: 100,
        bytes: 100,
    };

    fn put(entries: &[(&str, usize)]) -> Change {
        let entries = entries.iter();
        let entries = entries.map(|(key, bytes)| ((*key).to_owned(), vec![b'x'; *bytes]));
        Change::Put(entries.collect())
    }

    /// What becomes of a change of a bucket with `a` and `b`, how often it looks at an entry, and how many it copies.
    fn changed(quota: Quota, change: Change) -> (Result<Changed, Error>, usize, usize) {
        let (mut entries, mut totals) = (Seen::default(), Totals::default());
        let begun = apply(
            &mut entries,
            &mut totals,
            QUOTA,
            put(&[("a", 49), ("b", 49)]),
        );
        assert_eq!(begun, Ok(Ok(Changed::Done)));
        let (before, there) = (totals, entries.there.clone());
        entries.looks.set(0);
        let Ok(answer) = apply(&mut entries, &mut totals, quota, change);
        if !matches!(answer, Ok(Changed::Done | Changed::Sum(_))) {
            assert_eq!((totals, &entries.there), (before, &there));
        }
        (answer, entries.looks.get(), entries.copies.get())
    }

    fn swap(revision: u64) -> Change {
        Change::Swap {
            key: "a".to_owned(),
            revision,
            value: vec![b'y'; 49],
        }
    }

    #[test]
    fn no_value_is_copied_that_nobody_gets() {
        let increment = Change::Increment {
            key: "a".to_owned(),
            by: 1,
            within: (0, 9),
        };
        for (change, answer) in [
            (put(&[("a", 50)]), Err(QUOTA.no_more_bytes())),
            (put(&[("a", 0), ("c", 0)]), Err(QUOTA.no_more_keys())),
            (put(&[("a", 9), ("b", 9)]), Ok(Changed::Done)),
            (increment, Err(not_a_number())),
            (Change::Delete(vec!["a".to_owned()]), Ok(Changed::Done)),
            (swap(1), Ok(Changed::Done)),
        ] {
            let (is, _, copies) = changed(QUOTA, change.clone());
            assert_eq!((is, copies), (answer, 0), "{change:?}");
        }
        let (stale, _, copies) = changed(QUOTA, swap(9));
        assert!(matches!(stale, Ok(Changed::Stale(Some(_)))), "{stale:?}");
        assert_eq!(copies, 1);
    }

    #[test]
    fn what_is_too_much_by_itself_is_refused_before_anything_is_read() {
        let bytes = put(&[("a", 60), ("b", 60)]);
        assert_eq!(changed(QUOTA, bytes), (Err(QUOTA.no_more_bytes()), 0, 0));
        let keys = put(&[("a", 0), ("b", 0), ("c", 0)]);
        assert_eq!(changed(QUOTA, keys), (Err(QUOTA.no_more_keys()), 0, 0));
        // A bucket that is too large already may be made smaller, if only a little.
        let lowered = Quota { bytes: 50, ..QUOTA };
        let smaller = put(&[("a", 49), ("b", 48)]);
        assert_eq!(changed(lowered, smaller).0, Ok(Changed::Done));
    }

    #[test]
    fn one_transaction_has_a_bounded_number_of_keys_however_short_they_are() {
        let keys: Vec<String> = vec!["k".to_owned(); limits::KEYVALUE_BATCH];
        let each = Change::Delete(keys).bytes() / limits::KEYVALUE_BATCH;
        assert!(limits::KEYVALUE_WRITES_BYTES / each < 100_000, "{each}");
        let each = put(&[("a", 0), ("b", 0), ("c", 0), ("d", 0)]).bytes() / 4;
        assert!(limits::KEYVALUE_WRITES_BYTES / each < 100_000, "{each}");
    }
}
