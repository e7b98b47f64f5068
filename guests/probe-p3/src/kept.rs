//! What is kept: `wasi:keyvalue` and `wasi:blobstore`.

use crate::asked::Asked;
use crate::bindings::wasi::blobstore::blobstore::{create_container, get_container};
use crate::bindings::wasi::blobstore::types::{IncomingValue, OutgoingValue};
use crate::bindings::wasi::keyvalue::atomics::increment;
use crate::bindings::wasi::keyvalue::store::{Error, open};

/// Keeps a value in the bucket `default` and counts there: what it was before, what it is now, and how often.
pub(crate) fn bucket(asked: &Asked<'_>) -> String {
    let kept = || -> Result<String, Error> {
        let bucket = open("default")?;
        let before = bucket.get("value")?.unwrap_or_default();
        bucket.set("value", asked.text("value").as_bytes())?;
        let now = bucket.get("value")?.unwrap_or_default();
        let times = increment(&bucket, "times", 1)?;
        let [before, now] = [before, now].map(|it| String::from_utf8_lossy(&it).into_owned());
        Ok(format!("`{before}` `{now}` {times}\n"))
    };
    kept().unwrap_or_else(|error| format!("refused: {error:?}\n"))
}

/// Keeps so many bytes in the container `box`: how many are there.
pub(crate) fn container(asked: &Asked<'_>) -> String {
    let kept = || -> Result<String, String> {
        let container = get_container("box").or_else(|_| create_container("box"))?;
        let value = OutgoingValue::new_outgoing_value();
        let body = value.outgoing_value_write_body();
        let body = body.map_err(|()| "no stream".to_owned())?;
        container.write_data("value", &value)?;
        let bytes = vec![b'x'; asked.number("n", 10) as usize];
        for piece in bytes.chunks(4_096) {
            let written = body.blocking_write_and_flush(piece);
            written.map_err(|error| format!("{error:?}"))?;
        }
        drop(body);
        OutgoingValue::finish(value)?;
        let value = container.get_data("value", 0, u64::MAX)?;
        let there = IncomingValue::incoming_value_consume_sync(value)?;
        Ok(format!("{} kept\n", there.len()))
    };
    kept().unwrap_or_else(|why| format!("refused: {why}\n"))
}
