//! Buckets in the memory of the host: gone when it ends.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::store::{
    Answer, Change, Changed, Entries, Entry, Former, Listed, Place, Store, Totals, apply, is_full,
};
use super::too_much;
use crate::limits;

/// Buckets by name.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<Arc<str>, Arc<Mutex<Bucket>>>>);

#[derive(Debug, Default)]
struct Bucket {
    entries: Kept,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<Arc<str>, Entry>,
    by_birth: BTreeMap<u64, Arc<str>>,
}

impl Memory {
    fn bucket(&self, place: &Place) -> Arc<Mutex<Bucket>> {
        let mut buckets = lock(&self.0);
        let bucket = buckets.entry(Arc::clone(&place.bucket)).or_default();
        Arc::clone(bucket)
    }
}

impl Store for Memory {
    fn read(&self, place: &Place, keys: Vec<String>) -> Answer<Vec<Option<Entry>>> {
        let bucket = self.bucket(place);
        let bucket = lock(&bucket);
        let mut found = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for key in &keys {
            let entry = bucket.entries.by_key.get(&**key);
            bytes += entry.map_or(0, |entry| entry.value.len());
            if bytes > limits::KEYVALUE_BATCH_BYTES {
                return Box::pin(ready(Err(too_much())));
            }
            found.push(entry.cloned());
        }
        Box::pin(ready(Ok(found)))
    }

    fn has(&self, place: &Place, key: String) -> Answer<bool> {
        let bucket = self.bucket(place);
        let has = lock(&bucket).entries.by_key.contains_key(&*key);
        Box::pin(ready(Ok(has)))
    }

    fn write(&self, place: &Place, change: Change) -> Answer<Changed> {
        let bucket = self.bucket(place);
        let mut bucket = lock(&bucket);
        let Bucket { entries, totals } = &mut *bucket;
        let changed = match apply(entries, totals, place.quota, change) {
            Ok(changed) => changed,
            Err(never) => match never {},
        };
        Box::pin(ready(changed))
    }

    fn list(&self, place: &Place, before: u64) -> Answer<Listed> {
        let bucket = self.bucket(place);
        let bucket = lock(&bucket);
        let (mut listed, mut bytes, mut last) = (Listed::default(), 0, before);
        for (&born, key) in bucket.entries.by_birth.range(..before).rev() {
            if is_full(&listed, bytes) {
                listed.before = Some(last);
                break;
            }
            bytes += key.len();
            last = born;
            listed.keys.push((**key).to_owned());
        }
        Box::pin(ready(Ok(listed)))
    }
}

impl Entries for Kept {
    type Broken = Infallible;

    fn get(&self, key: &str) -> Result<Option<Entry>, Infallible> {
        Ok(self.by_key.get(key).cloned())
    }

    fn look(&self, key: &str) -> Result<Option<Former>, Infallible> {
        Ok(self.by_key.get(key).map(Entry::former))
    }

    fn put(&mut self, key: &str, entry: Entry, former: Option<Former>) -> Result<(), Infallible> {
        if former.is_some()
            && let Some(kept) = self.by_key.get_mut(key)
        {
            *kept = entry;
            return Ok(());
        }
        let key: Arc<str> = Arc::from(key);
        self.by_birth.insert(entry.born, Arc::clone(&key));
        self.by_key.insert(key, entry);
        Ok(())
    }

    fn remove(&mut self, key: &str, former: Former) -> Result<(), Infallible> {
        self.by_key.remove(key);
        self.by_birth.remove(&former.born);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
