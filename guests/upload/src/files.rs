//! Files in the container.

use crate::answer::Answer;
use crate::bindings::wasi::blobstore::blobstore::{create_container, get_container};
use crate::bindings::wasi::blobstore::container::Container;
use crate::bindings::wasi::blobstore::types::{IncomingValue, OutgoingValue};
use wasip2::io::streams::OutputStream;

const CONTAINER: &str = "uploads";

/// The container is made for the first file.
fn container() -> Result<Container, Answer> {
    let there = get_container(CONTAINER).or_else(|_| create_container(CONTAINER));
    there
        // Somebody else may have made it meanwhile.
        .or_else(|_| get_container(CONTAINER))
        .map_err(|why| failed("using the container `uploads`", &why))
}

fn failed(what: &str, why: &str) -> Answer {
    Answer::text(500, &format!("{what}: {why}\n"))
}

fn not_kept(why: &str) -> Answer {
    Answer::text(507, &format!("the file is not kept: {why}\n"))
}

/// Keeps what is written, if that ends well.
pub(crate) fn write(
    name: &str,
    written: impl FnOnce(&OutputStream) -> Result<(), Answer>,
) -> Result<(), Answer> {
    let value = OutgoingValue::new_outgoing_value();
    let stream = value.outgoing_value_write_body();
    let stream = stream.map_err(|()| not_kept("too much is being written"))?;
    container()?
        .write_data(name, &value)
        .map_err(|why| not_kept(&why))?;
    written(&stream)?;
    drop(stream);
    OutgoingValue::finish(value).map_err(|why| not_kept(&why))
}

pub(crate) fn read(name: &str) -> Result<Answer, Answer> {
    let container = container()?;
    if !matches!(container.has_object(name), Ok(true)) {
        return Err(Answer::text(404, "no such file\n"));
    }
    let read = |why: String| failed("reading the file", &why);
    let value = container.get_data(name, 0, u64::MAX).map_err(read)?;
    let size = value.size();
    let stream = IncomingValue::incoming_value_consume_async(value).map_err(read)?;
    Ok(Answer::file(stream, size))
}

pub(crate) fn delete(name: &str) -> Result<(), Answer> {
    let deleted = container()?.delete_object(name);
    deleted.map_err(|why| failed("deleting the file", &why))
}

pub(crate) fn names() -> Result<Vec<String>, Answer> {
    let list = |why: String| failed("listing the files", &why);
    let listing = container()?.list_objects().map_err(list)?;
    let mut all = Vec::new();
    loop {
        let (names, is_end) = listing.read_stream_object_names(1_000).map_err(list)?;
        all.extend(names);
        if is_end {
            all.sort_unstable();
            return Ok(all);
        }
    }
}
