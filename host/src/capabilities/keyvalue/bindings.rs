//! The interface in both of its versions, for guests.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use super::counts::{Operation, Outcome};
use super::store::{Change, Changed, Entry, Error, Listed};
use super::{Bucket, unavailable};
use crate::capabilities::Granted;
use crate::limits;

mod draft {
    wasmtime::component::bindgen!({
        path: "../wit/deps/wasi-keyvalue-0.2.0-draft.wit",
        world: "wasi:keyvalue/imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Opened },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Refusal },
    });
}

mod draft2 {
    wasmtime::component::bindgen!({
        path: "../wit/deps/wasi-keyvalue-0.2.0-draft2.wit",
        world: "wasi:keyvalue/imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Opened,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Refusal },
    });
}

use draft::wasi::keyvalue as v1;
use draft2::wasi::keyvalue as v2;

/// Buckets of one instance.
pub(crate) struct KeyValue {
    granted: Arc<Granted>,
    /// Bytes of values in handles for compare-and-swap.
    held: usize,
}

/// A bucket that a guest has opened.
#[expect(unreachable_pub, reason = "the bindings pass it on")]
pub struct Opened(Arc<Bucket>);

/// A handle for compare-and-swap: a key, and what was there when the handle was made.
#[expect(unreachable_pub, reason = "the bindings pass it on")]
pub struct Cas {
    bucket: Arc<Bucket>,
    key: String,
    then: Option<Entry>,
}

impl Cas {
    fn holds(&self) -> usize {
        self.key.len() + self.then.as_ref().map_or(0, |then| then.value.len())
    }
}

impl KeyValue {
    /// Of an instance that has opened none.
    pub(crate) fn new(granted: Arc<Granted>) -> Self {
        Self { granted, held: 0 }
    }

    /// Bytes that the host holds for its handles.
    pub(crate) fn holds(&self) -> usize {
        self.held
    }
}

/// What an instance calls.
pub(crate) struct View<'a> {
    /// Its buckets.
    pub(crate) keyvalue: &'a mut KeyValue,
    /// Its objects.
    pub(crate) table: &'a mut ResourceTable,
}

struct Has;

impl HasData for Has {
    type Data<'a> = View<'a>;
}

/// Links both versions.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> View<'_>,
) -> wasmtime::Result<()> {
    v1::store::add_to_linker::<T, Has>(linker, view)?;
    v1::atomics::add_to_linker::<T, Has>(linker, view)?;
    v1::batch::add_to_linker::<T, Has>(linker, view)?;
    v2::store::add_to_linker::<T, Has>(linker, view)?;
    v2::atomics::add_to_linker::<T, Has>(linker, view)?;
    v2::batch::add_to_linker::<T, Has>(linker, view)
}

/// What a call does not give.
#[expect(unreachable_pub, reason = "the bindings pass it on")]
pub enum Refusal {
    Denied,
    Failed(Error),
    Trap(wasmtime::Error),
}

type Given<T> = Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<wasmtime::component::ResourceTableError> for Refusal {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        match error {
            wasmtime::component::ResourceTableError::Full => {
                invalid("too many things are open: close some").into()
            }
            error => Self::Trap(error.into()),
        }
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::Invalid(why.into())
}

fn checked(key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > limits::KEYVALUE_KEY {
        return Err(invalid(format!(
            "a key has 1 to {} bytes",
            limits::KEYVALUE_KEY
        )));
    }
    Ok(())
}

impl Bucket {
    /// Waits for the store, but not for ever, and counts what becomes of it.
    async fn ask<T>(
        &self,
        operation: Operation,
        asked: impl Future<Output = Result<T, Error>>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Result<T, Error> {
        let (counted, answer) = match tokio::time::timeout(limits::KEYVALUE_TIME, asked).await {
            Ok(Ok(answer)) => (outcome(&answer), Ok(answer)),
            Ok(Err(error)) => (Outcome::of_error(&error), Err(error)),
            Err(_) => {
                let why = format!(
                    "the store has not answered within {:?}; what was asked for may be done yet",
                    limits::KEYVALUE_TIME
                );
                (Outcome::Timeout, Err(Error::Unavailable(why)))
            }
        };
        self.counts.add(operation, counted);
        answer
    }

    async fn read(&self, keys: Vec<String>) -> Result<Vec<Option<Entry>>, Error> {
        let read = async {
            many(keys.len())?;
            keys.iter().try_for_each(|key| checked(key))?;
            self.store.read(&self.place, keys).await
        };
        self.ask(Operation::Get, read, |_| Outcome::Ok).await
    }

    async fn one(&self, key: &str) -> Result<Option<Entry>, Error> {
        let found = self.read(vec![key.to_owned()]).await?;
        found.into_iter().next().ok_or_else(unavailable)
    }

    async fn has(&self, key: String) -> Result<bool, Error> {
        let has = async {
            checked(&key)?;
            self.store.has(&self.place, key).await
        };
        self.ask(Operation::Exists, has, |_| Outcome::Ok).await
    }

    async fn put(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        let put = async {
            many(entries.len())?;
            let bytes = |(key, value): &(String, Vec<u8>)| key.len() + value.len();
            let all: usize = entries.iter().map(bytes).sum();
            if all > limits::KEYVALUE_BATCH_BYTES {
                let most = limits::KEYVALUE_BATCH_BYTES;
                return Err(invalid(format!(
                    "{all} bytes are too many at once: {most} are possible"
                )));
            }
            for (key, value) in &entries {
                checked(key)?;
                self.fits(value)?;
            }
            // Of equal keys the last stays, as if they were written in order.
            let change = Change::Put(entries.into_iter().collect());
            self.store.write(&self.place, change).await
        };
        self.ask(Operation::Set, put, Outcome::of_change)
            .await
            .map(drop)
    }

    fn fits(&self, value: &[u8]) -> Result<(), Error> {
        if value.len() as u64 > self.place.quota.value {
            return Err(Error::Full(format!(
                "a value of {} bytes is too large for the bucket: it may have {}",
                value.len(),
                self.place.quota.value
            )));
        }
        Ok(())
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), Error> {
        let delete = async {
            many(keys.len())?;
            keys.iter().try_for_each(|key| checked(key))?;
            self.store.write(&self.place, Change::Delete(keys)).await
        };
        self.ask(Operation::Delete, delete, Outcome::of_change)
            .await
            .map(drop)
    }

    async fn increment(&self, key: String, by: i128, within: (i128, i128)) -> Result<i128, Error> {
        let increment = async {
            checked(&key)?;
            let change = Change::Increment { key, by, within };
            match self.store.write(&self.place, change).await? {
                Changed::Sum(sum) => Ok(sum),
                _ => Err(unavailable()),
            }
        };
        self.ask(Operation::Increment, increment, |_| Outcome::Ok)
            .await
    }

    async fn swap(&self, key: String, revision: u64, value: Vec<u8>) -> Result<Changed, Error> {
        let swap = async {
            self.fits(&value)?;
            let change = Change::Swap {
                key,
                revision,
                value,
            };
            self.store.write(&self.place, change).await
        };
        self.ask(Operation::Swap, swap, Outcome::of_change).await
    }

    async fn list(&self, before: Option<u64>) -> Result<Listed, Error> {
        let listed = self.store.list(&self.place, before.unwrap_or(u64::MAX));
        self.ask(Operation::ListKeys, listed, |_| Outcome::Ok).await
    }
}

fn many(count: usize) -> Result<(), Error> {
    if count > limits::KEYVALUE_BATCH {
        return Err(invalid(format!(
            "{count} keys are too many at once: {} are possible",
            limits::KEYVALUE_BATCH
        )));
    }
    Ok(())
}

/// A Redis counts no further, and so does no other store.
const UNSIGNED: (i128, i128) = (0, i64::MAX as i128);
const SIGNED: (i128, i128) = (i64::MIN as i128, i64::MAX as i128);

impl View<'_> {
    fn open(&mut self, name: &str) -> Given<Resource<Opened>> {
        let buckets = &self.keyvalue.granted.buckets;
        let found = buckets.find(name);
        let outcome = match found {
            Some(_) => Outcome::Ok,
            None => Outcome::Denied,
        };
        buckets.counts.add(Operation::Open, outcome);
        Ok(self.table.push(Opened(found.ok_or(Refusal::Denied)?))?)
    }

    fn bucket(&self, opened: &Resource<Opened>) -> Given<Arc<Bucket>> {
        Ok(Arc::clone(&self.table.get(opened)?.0))
    }

    fn hold(&mut self, cas: Cas) -> Given<Resource<Cas>> {
        let bytes = cas.holds();
        if self.keyvalue.held + bytes > limits::KEYVALUE_HELD {
            return Err(invalid("handles for compare-and-swap hold too much: drop some").into());
        }
        let held = self.table.push(cas)?;
        self.keyvalue.held += bytes;
        Ok(held)
    }

    fn let_go(&mut self, cas: Resource<Cas>) -> Given<Cas> {
        let cas = self.table.delete(cas)?;
        self.keyvalue.held = self.keyvalue.held.saturating_sub(cas.holds());
        Ok(cas)
    }
}

/// The parts of the two versions that differ in nothing but their names.
macro_rules! alike {
    ($version:ident, $cursor:ty, $parse:expr, $print:expr) => {
        impl $version::store::Host for View<'_> {
            async fn open(&mut self, identifier: String) -> Given<Resource<Opened>> {
                View::open(self, &identifier)
            }

            fn convert_error(
                &mut self,
                refusal: Refusal,
            ) -> wasmtime::Result<$version::store::Error> {
                match refusal {
                    Refusal::Denied => Ok($version::store::Error::AccessDenied),
                    Refusal::Failed(error) => Ok($version::store::Error::Other(error.to_string())),
                    Refusal::Trap(trap) => Err(trap),
                }
            }
        }

        impl $version::store::HostBucket for View<'_> {
            async fn get(
                &mut self,
                opened: Resource<Opened>,
                key: String,
            ) -> Given<Option<Vec<u8>>> {
                let entry = self.bucket(&opened)?.one(&key).await?;
                Ok(entry.map(|entry| entry.value))
            }

            async fn set(
                &mut self,
                opened: Resource<Opened>,
                key: String,
                value: Vec<u8>,
            ) -> Given<()> {
                Ok(self.bucket(&opened)?.put(vec![(key, value)]).await?)
            }

            async fn delete(&mut self, opened: Resource<Opened>, key: String) -> Given<()> {
                Ok(self.bucket(&opened)?.delete(vec![key]).await?)
            }

            async fn exists(&mut self, opened: Resource<Opened>, key: String) -> Given<bool> {
                Ok(self.bucket(&opened)?.has(key).await?)
            }

            async fn list_keys(
                &mut self,
                opened: Resource<Opened>,
                cursor: Option<$cursor>,
            ) -> Given<$version::store::KeyResponse> {
                let parse: fn($cursor) -> Result<u64, Error> = $parse;
                let before = cursor.map(parse).transpose()?;
                let Listed { keys, before } = self.bucket(&opened)?.list(before).await?;
                Ok($version::store::KeyResponse {
                    keys,
                    cursor: before.map($print),
                })
            }

            async fn drop(&mut self, opened: Resource<Opened>) -> wasmtime::Result<()> {
                self.table.delete(opened)?;
                Ok(())
            }
        }
    };
}

alike!(v1, u64, Ok, |before| before);
alike!(
    v2,
    String,
    |cursor| cursor
        .parse()
        .map_err(|_| invalid("the cursor is not one that a listing gave")),
    |before: u64| before.to_string()
);

impl v1::atomics::Host for View<'_> {
    async fn increment(&mut self, opened: Resource<Opened>, key: String, delta: u64) -> Given<u64> {
        let bucket = self.bucket(&opened)?;
        let sum = bucket.increment(key, delta.into(), UNSIGNED).await?;
        Ok(u64::try_from(sum).map_err(|_| super::store::too_large())?)
    }
}

impl v2::atomics::Host for View<'_> {
    async fn increment(&mut self, opened: Resource<Opened>, key: String, delta: i64) -> Given<i64> {
        let bucket = self.bucket(&opened)?;
        let sum = bucket.increment(key, delta.into(), SIGNED).await?;
        Ok(i64::try_from(sum).map_err(|_| super::store::too_large())?)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), v2::atomics::CasError>> {
        use v2::atomics::CasError;
        use v2::store::Host as _;
        let swapped = async {
            let Cas { bucket, key, then } = self.let_go(cas)?;
            let revision = then.map_or(0, |then| then.revision);
            match bucket.swap(key.clone(), revision, value).await? {
                Changed::Stale(now) => {
                    let then = now;
                    Ok(Some(self.hold(Cas { bucket, key, then })?))
                }
                _ => Ok(None),
            }
        };
        match swapped.await {
            Ok(None) => Ok(Ok(())),
            Ok(Some(again)) => Ok(Err(CasError::CasFailed(again))),
            Err(refusal) => Ok(Err(CasError::StoreError(self.convert_error(refusal)?))),
        }
    }
}

impl v2::atomics::HostCas for View<'_> {
    async fn new(&mut self, opened: Resource<Opened>, key: String) -> Given<Resource<Cas>> {
        let bucket = self.bucket(&opened)?;
        let then = bucket.one(&key).await?;
        self.hold(Cas { bucket, key, then })
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Given<Option<Vec<u8>>> {
        let then = self.table.get(&cas)?.then.as_ref();
        Ok(then.map(|then| then.value.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        match self.let_go(cas) {
            Err(Refusal::Trap(trap)) => Err(trap),
            _ => Ok(()),
        }
    }
}

impl v1::batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        opened: Resource<Opened>,
        keys: Vec<String>,
    ) -> Given<Vec<Option<(String, Vec<u8>)>>> {
        let found = self.bucket(&opened)?.read(keys.clone()).await?;
        let found = found.into_iter().zip(keys);
        Ok(found
            .map(|(entry, key)| entry.map(|entry| (key, entry.value)))
            .collect())
    }

    async fn set_many(
        &mut self,
        opened: Resource<Opened>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Given<()> {
        Ok(self.bucket(&opened)?.put(entries).await?)
    }

    async fn delete_many(&mut self, opened: Resource<Opened>, keys: Vec<String>) -> Given<()> {
        Ok(self.bucket(&opened)?.delete(keys).await?)
    }
}

impl v2::batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        opened: Resource<Opened>,
        keys: Vec<String>,
    ) -> Given<Vec<(String, Option<Vec<u8>>)>> {
        let found = self.bucket(&opened)?.read(keys.clone()).await?;
        let found = keys.into_iter().zip(found);
        Ok(found
            .map(|(key, entry)| (key, entry.map(|entry| entry.value)))
            .collect())
    }

    async fn set_many(
        &mut self,
        opened: Resource<Opened>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Given<()> {
        Ok(self.bucket(&opened)?.put(entries).await?)
    }

    async fn delete_many(&mut self, opened: Resource<Opened>, keys: Vec<String>) -> Given<()> {
        Ok(self.bucket(&opened)?.delete(keys).await?)
    }
}
