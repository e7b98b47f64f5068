//! By `wasi:keyvalue` 0.2.0-draft.

use crate::{Asked, shown};

wit_bindgen::generate!({
    path: "../../wit/deps/wasi-keyvalue-0.2.0-draft.wit",
    world: "wasi:keyvalue/imports",
});

use wasi::keyvalue::atomics::increment;
use wasi::keyvalue::batch::{delete_many, get_many, set_many};
use wasi::keyvalue::store::{Error, open};

pub(crate) fn did(asked: &Asked) -> Result<String, String> {
    run(asked).map_err(|error| match error {
        Error::NoSuchStore => "no-such-store".to_owned(),
        Error::AccessDenied => "access-denied".to_owned(),
        Error::Other(why) => format!("other: {why}"),
    })
}

fn run(asked: &Asked) -> Result<String, Error> {
    let bucket = open(asked.bucket())?;
    let key = asked.key();
    match &*asked.operation {
        "get" => bucket.get(key).map(shown),
        "set" => bucket.set(key, &asked.value()).map(|()| String::new()),
        "delete" => bucket.delete(key).map(|()| String::new()),
        "exists" => bucket.exists(key).map(|is_there| is_there.to_string()),
        "increment" => {
            let delta = asked.word("delta").parse().unwrap_or(1);
            increment(&bucket, key, delta).map(|sum| sum.to_string())
        }
        "set-many" => {
            let keys = asked.keys();
            let value = asked.value();
            let entries: Vec<_> = keys.into_iter().map(|key| (key, value.clone())).collect();
            set_many(&bucket, &entries).map(|()| String::new())
        }
        "get-many" => {
            let found = get_many(&bucket, &asked.keys())?;
            let there = found.iter().flatten().count();
            Ok(format!("{there} of {}", found.len()))
        }
        "delete-many" => delete_many(&bucket, &asked.keys()).map(|()| String::new()),
        "list" => {
            let (mut keys, mut pages, mut cursor) = (0, 0, None);
            loop {
                let page = bucket.list_keys(cursor)?;
                keys += page.keys.len();
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            Ok(format!("{keys} keys, {pages} pages"))
        }
        other => Err(Error::Other(format!("no operation {other}"))),
    }
}
