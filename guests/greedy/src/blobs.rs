//! Values in containers.

use std::io::Write as _;

use crate::Asked;
use crate::bindings::wasi::blobstore::blobstore::{self, ObjectId};
use crate::bindings::wasi::blobstore::container::Container;
use crate::bindings::wasi::blobstore::types::{IncomingValue, OutgoingValue};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// What the path names, with what the query says: `c` is a container, `n` an object, `d` and `m` others.
pub(crate) fn operation(name: &str, asked: &Asked) -> String {
    match done(name, asked) {
        Ok(said) => format!("{said}\n"),
        Err(why) => format!("error: {why}\n"),
    }
}

fn done(name: &str, asked: &Asked) -> Result<String, String> {
    let (c, n) = (asked.decoded("c"), asked.decoded("n"));
    let (from, to) = (
        ObjectId {
            container: c.clone(),
            object: n.clone(),
        },
        ObjectId {
            container: asked.decoded("d"),
            object: asked.decoded("m"),
        },
    );
    let got = || blobstore::get_container(&c);
    let ok = |()| "ok".to_owned();
    match name {
        "create" => blobstore::create_container(&c).map(|_| "ok".to_owned()),
        "exists" => blobstore::container_exists(&c).map(|it| it.to_string()),
        "drop" => blobstore::delete_container(&c).map(ok),
        "copy" => blobstore::copy_object(&from, &to).map(ok),
        "move" => blobstore::move_object(&from, &to).map(ok),
        "name" => got()?.name(),
        "put" => put(&got()?, &n, asked.number("size", 0)).map(ok),
        "put-late" => put_late(&got()?, &n, asked.number("size", 0)).map(ok),
        "put-many" => {
            let container = got()?;
            let mut many = 0..asked.number("many", 1);
            many.try_for_each(|i| put(&container, &format!("{n}{i}"), 1))
                .map(ok)
        }
        "get" => {
            let (start, end) = (asked.number("start", 0), asked.number("end", u64::MAX));
            let (bytes, sum) = sum(got()?.get_data(&n, start, end)?)?;
            Ok(format!("{bytes} {sum}"))
        }
        "get-whole" => {
            let value = got()?.get_data(&n, 0, u64::MAX)?;
            let whole = IncomingValue::incoming_value_consume_sync(value)?;
            Ok(format!("{} {}", whole.len(), Sum::default().of(&whole)))
        }
        "get-deleted" => {
            let container = got()?;
            let value = container.get_data(&n, 0, u64::MAX)?;
            container.delete_object(&n)?;
            let (bytes, sum) = sum(value)?;
            Ok(format!("{bytes} {sum}"))
        }
        "has" => got()?.has_object(&n).map(|it| it.to_string()),
        "info" => {
            let info = got()?.object_info(&n)?;
            let now = wasip2::clocks::wall_clock::now().seconds;
            let is_new = now - info.created_at < 3_600;
            Ok(format!(
                "{} {} {} {is_new}",
                info.container, info.name, info.size
            ))
        }
        "about" => {
            let info = got()?.info()?;
            let now = wasip2::clocks::wall_clock::now().seconds;
            Ok(format!("{} {}", info.name, now - info.created_at < 3_600))
        }
        "delete" => got()?.delete_object(&n).map(ok),
        "delete-all" => {
            let names: Vec<String> = (0..asked.number("many", 0))
                .map(|i| format!("{n}{i}"))
                .collect();
            got()?.delete_objects(&names).map(ok)
        }
        "clear" => got()?.clear().map(ok),
        "list" => list(&got()?, asked.number("page", 100)),
        "skip" => {
            let names = got()?.list_objects()?;
            let (skipped, is_end) = names.skip_stream_object_names(asked.number("many", 1))?;
            Ok(format!("{skipped} {is_end}"))
        }
        "list-while-writing" => list_while_writing(&got()?),
        "unfinished" => unfinished(&got()?, &n, asked.number("size", 0), false).map(ok),
        "trap" => unfinished(&got()?, &n, asked.number("size", 0), true).map(ok),
        "put-last" => put_last(&got()?, &n, &asked.decoded("m")),
        "hoard" => {
            let (values, why) = hoard(&got()?, &n);
            Ok(format!("{}: {why}", values.len()))
        }
        "hoard-values" => {
            let mut values = Vec::new();
            loop {
                values.push(OutgoingValue::new_outgoing_value());
            }
        }
        "twice" => {
            let value = OutgoingValue::new_outgoing_value();
            let container = got()?;
            container.write_data(&n, &value)?;
            container.write_data(&n, &value).map(ok)
        }
        "nowhere" => OutgoingValue::finish(OutgoingValue::new_outgoing_value()).map(ok),
        _ => Err("no such operation".to_owned()),
    }
}

/// The container is told first, as most guests do.
fn put(container: &Container, name: &str, size: u64) -> Result<(), String> {
    let value = OutgoingValue::new_outgoing_value();
    let stream = value
        .outgoing_value_write_body()
        .map_err(|()| "no stream".to_owned())?;
    container.write_data(name, &value)?;
    let written = write(stream, size);
    OutgoingValue::finish(value)?;
    written
}

/// The bytes come first.
fn put_late(container: &Container, name: &str, size: u64) -> Result<(), String> {
    let value = OutgoingValue::new_outgoing_value();
    let stream = value
        .outgoing_value_write_body()
        .map_err(|()| "no stream".to_owned())?;
    write(stream, size)?;
    container.write_data(name, &value)?;
    OutgoingValue::finish(value)
}

/// A value that is finished when no more can be opened, and why they cannot.
fn put_last(container: &Container, there: &str, name: &str) -> Result<String, String> {
    let value = OutgoingValue::new_outgoing_value();
    let stream = value
        .outgoing_value_write_body()
        .map_err(|()| "no stream".to_owned())?;
    container.write_data(name, &value)?;
    write(stream, 1)?;
    let (_values, why) = hoard(container, there);
    OutgoingValue::finish(value)?;
    Ok(why)
}

/// A value that never is finished.
fn unfinished(container: &Container, name: &str, size: u64, traps: bool) -> Result<(), String> {
    let value = OutgoingValue::new_outgoing_value();
    let stream = value
        .outgoing_value_write_body()
        .map_err(|()| "no stream".to_owned())?;
    container.write_data(name, &value)?;
    write(stream, size)?;
    if traps {
        core::arch::wasm32::unreachable()
    }
    Ok(())
}

/// Byte `i` of a value is `i` in one byte, and so is its place in each piece of 4096.
fn write(mut stream: OutputStream, size: u64) -> Result<(), String> {
    let piece: Vec<u8> = (0..4096).map(|i| i as u8).collect();
    let mut left = size;
    while left > 0 {
        let bytes = left.min(piece.len() as u64);
        stream
            .write_all(&piece[..bytes as usize])
            .map_err(|error| error.to_string())?;
        left -= bytes;
    }
    stream.flush().map_err(|error| error.to_string())
}

/// As many open values as there may be, and why there are no more.
fn hoard(container: &Container, name: &str) -> (Vec<IncomingValue>, String) {
    let mut values = Vec::new();
    loop {
        match container.get_data(name, 0, u64::MAX) {
            Ok(value) => values.push(value),
            Err(why) => return (values, why),
        }
    }
}

fn list(container: &Container, page: u64) -> Result<String, String> {
    let listing = container.list_objects()?;
    let mut all = Vec::new();
    loop {
        let (names, is_end) = listing.read_stream_object_names(page)?;
        all.extend(names);
        if is_end {
            all.sort_unstable();
            return Ok(all.join(","));
        }
    }
}

/// A listing of a container into which two objects come for each that is read.
fn list_while_writing(container: &Container) -> Result<String, String> {
    put(container, "first", 1)?;
    let listing = container.list_objects()?;
    let mut read = 0;
    loop {
        let (names, is_end) = listing.read_stream_object_names(1)?;
        read += names.len();
        if is_end {
            return Ok(format!("{}", read > 0));
        }
        put(container, &format!("{read}a"), 1).ok();
        put(container, &format!("{read}b"), 1).ok();
    }
}

#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn of(&mut self, bytes: &[u8]) -> u64 {
        for byte in bytes {
            self.0 += u64::from(*byte);
        }
        self.0
    }
}

/// How many bytes a value has, and their sum.
fn sum(value: IncomingValue) -> Result<(u64, u64), String> {
    let size = value.size();
    let stream: InputStream = IncomingValue::incoming_value_consume_async(value)?;
    let (mut sum, mut bytes) = (Sum::default(), 0);
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(piece) => {
                bytes += piece.len() as u64;
                sum.of(&piece);
            }
            Err(StreamError::Closed) if bytes == size => return Ok((bytes, sum.0)),
            Err(StreamError::Closed) => return Err("shorter than it said".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
