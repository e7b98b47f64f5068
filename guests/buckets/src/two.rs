//! By `wasi:keyvalue` 0.2.0-draft2.

use crate::{Asked, shown};

wit_bindgen::generate!({
    path: "../../wit/deps/wasi-keyvalue-0.2.0-draft2.wit",
    world: "wasi:keyvalue/imports",
});

use wasi::keyvalue::atomics::{Cas, CasError, increment, swap};
use wasi::keyvalue::batch::{delete_many, get_many, set_many};
use wasi::keyvalue::store::{Bucket, Error, open};

pub(crate) fn did(asked: &Asked) -> Result<String, String> {
    run(asked).map_err(said)
}

fn said(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no-such-store".to_owned(),
        Error::AccessDenied => "access-denied".to_owned(),
        Error::Other(why) => format!("other: {why}"),
    }
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
            let mut sum = 0;
            for _ in 0..asked.times() {
                sum = increment(&bucket, key, asked.number("delta"))?;
            }
            Ok(sum.to_string())
        }
        "set-many" => {
            let keys = asked.keys();
            let value = asked.value();
            let entries: Vec<_> = keys.into_iter().map(|key| (key, value.clone())).collect();
            set_many(&bucket, &entries).map(|()| String::new())
        }
        "get-many" => {
            let found = get_many(&bucket, &asked.keys())?;
            let there = found.iter().filter(|(_, value)| value.is_some()).count();
            Ok(format!("{there} of {}", found.len()))
        }
        "delete-many" => delete_many(&bucket, &asked.keys()).map(|()| String::new()),
        "list" => list(&bucket, asked),
        "page" => {
            let cursor = Some(asked.word("cursor").to_owned()).filter(|it| !it.is_empty());
            let page = bucket.list_keys(cursor.as_deref())?;
            Ok(format!(
                "{} {}",
                page.keys.len(),
                page.cursor.unwrap_or_default()
            ))
        }
        "swap" => swap_many(&bucket, asked),
        // What was there is read, somebody writes, and then it is swapped.
        "stale" => {
            let cas = Cas::new(&bucket, key)?;
            let before = shown(cas.current()?);
            match asked.word("between") {
                "same" => {
                    let now = bucket.get(key)?.unwrap_or_default();
                    bucket.set(key, &now)?;
                }
                "delete" => bucket.delete(key)?,
                "set" => bucket.set(key, b"between")?,
                _ => {}
            }
            Ok(match swap(cas, &asked.value()) {
                Ok(()) => format!("{before} swapped"),
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(again)) => {
                    let now = shown(again.current()?);
                    match swap(again, &asked.value()) {
                        Ok(()) => format!("{before} {now} swapped"),
                        Err(_) => format!("{before} {now} not swapped"),
                    }
                }
            })
        }
        "hold-swaps" => {
            let mut held = Vec::new();
            for _ in 0..asked.times() {
                held.push(Cas::new(&bucket, key)?);
            }
            Ok(held.len().to_string())
        }
        "hold-buckets" => {
            let mut held = Vec::new();
            for _ in 0..asked.times() {
                held.push(open(asked.bucket())?);
            }
            Ok(held.len().to_string())
        }
        other => Err(Error::Other(format!("no operation {other}"))),
    }
}

/// All keys; with `between=more` others are written from page to page.
fn list(bucket: &Bucket, asked: &Asked) -> Result<String, Error> {
    let (mut keys, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        keys.extend(page.keys);
        pages += 1;
        if asked.word("between") == "more" {
            let more: Vec<_> = (0..1_000)
                .map(|nth| (format!("between-{pages}-{nth}"), Vec::new()))
                .collect();
            set_many(bucket, &more)?;
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    Ok(format!(
        "{all} keys, {} different, {pages} pages",
        keys.len()
    ))
}

/// Counts a value up by swapping it, again and again until it was swapped.
fn swap_many(bucket: &Bucket, asked: &Asked) -> Result<String, Error> {
    let mut failed = 0;
    for _ in 0..asked.times() {
        let mut cas = Cas::new(bucket, asked.key())?;
        loop {
            let now = cas.current()?.unwrap_or_default();
            let now: i64 = String::from_utf8_lossy(&now).parse().unwrap_or(0);
            match swap(cas, (now + 1).to_string().as_bytes()) {
                Ok(()) => break,
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(again)) => {
                    failed += 1;
                    cas = again;
                }
            }
        }
    }
    Ok(format!("{failed} failed"))
}
