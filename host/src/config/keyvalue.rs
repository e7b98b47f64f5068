//! Stores of a host, and buckets of a handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::handler::one_fits_into_all;
use super::keys::{BUCKET, STORE, STORES};
use super::name::{checked, name};
use super::reader::{Named, Table, Value};
use crate::capabilities::keyvalue::{
    BucketGrant, Durability, FILE, MEMORY, Quota, StoreKind, check_redis,
};
use crate::limits;
use crate::names::short;
use crate::secret::Secret;
use crate::values;

/// Stores by name.
pub(super) type Stores = BTreeMap<Arc<str>, StoreKind>;

pub(super) fn stores(file: &Table<'_>) -> Stores {
    let named = file.named("stores").into_iter();
    named
        .filter_map(|named| {
            let name = name(&named)?;
            if [FILE, MEMORY].contains(&&*name) {
                named.value.reader.mistake(
                    named.place.clone(),
                    format!("the store `{name}` is always there: take another name"),
                );
            }
            // A store with a mistake is a store: no second mistake is made of who names it.
            Some((name, store(&named).unwrap_or(StoreKind::Memory)))
        })
        .collect()
}

fn store(named: &Named<'_>) -> Option<StoreKind> {
    let table = named.value.table(&STORE)?;
    let url = table.value("url");
    let kind = table.parsed("type", |word| match word {
        "file" => Ok(Some(StoreKind::File)),
        "memory" => Ok(Some(StoreKind::Memory)),
        "redis" => Ok(None),
        _ => Err(format!(
            "no kind of a store: write one of `{}`",
            STORES.join("`, `")
        )),
    })?;
    match (kind, url) {
        (Some(kind), None) => Some(kind),
        (Some(_), Some(url)) => {
            url.mistake("it is for a store of `type = \"redis\"`: leave it out");
            None
        }
        (None, Some(url)) => Some(StoreKind::Redis(url_of(&url)?)),
        (None, None) => {
            table.mistake("`url` is missing here: write `url = \"redis://127.0.0.1:6379\"`");
            None
        }
    }
}

/// It may stand here if there is no password in it.
fn url_of(value: &Value<'_>) -> Option<Secret> {
    let has_password = value.as_written().is_some_and(|url| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
    });
    let url = if value.is_table() || has_password {
        value.secret()?
    } else {
        value.hide();
        value.text()?.into()
    };
    check_redis(url.reveal())
        .map_err(|why| value.mistake(why))
        .ok()?;
    Some(url)
}

pub(super) fn buckets(handler: &Table<'_>, stores: &Stores) -> Vec<BucketGrant> {
    let named = handler.named("keyvalue").into_iter();
    named.filter_map(|named| bucket(&named, stores)).collect()
}

fn bucket(named: &Named<'_>, stores: &Stores) -> Option<BucketGrant> {
    let name = checked(named.name)
        .map_err(|message| {
            let reader = named.value.reader;
            reader.mistake(named.place.clone(), format!("a bucket: {message}"));
        })
        .ok();
    if !named.value.is_table() {
        let store = store_of(&named.value, stores);
        return Some(BucketGrant {
            name: name?,
            store: store?,
            quota: Quota::default(),
            durability: Durability::default(),
        });
    }
    let table = named.value.table(&BUCKET)?;
    let store = match table.value("store") {
        Some(store) => store_of(&store, stores),
        None => Some(Arc::from(FILE)),
    };
    let durability = table.parsed("durability", durability);
    if let Some(store) = &store
        && **store != *FILE
        && stores.get(store) != Some(&StoreKind::File)
        && let Some(value) = table.value("durability")
    {
        value.mistake(format_args!(
            "it is for a store that is a file, and `{store}` is none: leave it out"
        ));
    }
    let unsaid = Quota::default();
    let keys = table.parsed("max_keys", values::count);
    let value = table.parsed("max_value", value_size);
    let bytes = table.parsed("max_bytes", values::size);
    let bytes = bytes.unwrap_or(unsaid.bytes);
    one_fits_into_all(&table, "max_value", value, bytes);
    Some(BucketGrant {
        name: name?,
        store: store?,
        quota: Quota {
            keys: keys.map_or(unsaid.keys, |keys| keys as u64),
            value: value.unwrap_or(unsaid.value),
            bytes,
        },
        durability: durability.unwrap_or_default(),
    })
}

/// The store of a bucket, by its name. A URL in place of that may have a password in it and is quoted nowhere.
fn store_of(value: &Value<'_>, stores: &Stores) -> Option<Arc<str>> {
    if value.as_written().is_none_or(|store| store.contains("://")) {
        value.hide();
    }
    value.parsed(|store| known(store, stores))
}

fn known(store: &str, stores: &Stores) -> Result<Arc<str>, String> {
    if store.contains("://") {
        return Err("a URL, which stands in a table `[stores.NAME]` in the file of the host: write it there, and NAME here".to_owned());
    }
    if [FILE, MEMORY].contains(&store) {
        return Ok(Arc::from(store));
    }
    match stores.get_key_value(store) {
        Some((name, _)) => Ok(Arc::clone(name)),
        None => Err(format!(
            "no store `{}`: write `file` or `memory`, or a table `[stores.NAME]` for it in the file of the host",
            short(store).escape_debug()
        )),
    }
}

fn durability(text: &str) -> Result<Durability, String> {
    if text == "each-write" {
        return Ok(Durability::EachWrite);
    }
    match values::duration(text) {
        Ok(time) if time <= limits::KEYVALUE_WITHIN => Ok(Durability::Within(time)),
        _ => Err(format!(
            "neither `each-write` nor a time up to {:?}: write `each-write`, or `50ms`",
            limits::KEYVALUE_WITHIN
        )),
    }
}

/// A call that writes a value has room for its key too.
fn value_size(text: &str) -> Result<u64, String> {
    let most = (limits::KEYVALUE_BATCH_BYTES - limits::KEYVALUE_KEY) as u64;
    match values::size(text)? {
        bytes if bytes > most => Err(format!(
            "a value of more than {most} bytes is not possible: `wasi:blobstore` is for those"
        )),
        bytes => Ok(bytes),
    }
}
