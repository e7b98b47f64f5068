//! What the host holds for a guest, in bytes: a guest makes the host allocate by making fields, requests and bodies,
//! and pays for that from its own ceiling of memory.

use std::any::Any;

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2;
use wasmtime_wasi::p2::bindings::sockets::udp::{IncomingDatagramStream, OutgoingDatagramStream};
use wasmtime_wasi_http::p2::bindings::http::types::Method;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::{FieldMap, p3};

use super::answers::Answer;
use crate::limits::{BODY_CHUNK, DATAGRAM};

/// Bytes of what is in a table: an estimate, and rather too much than too little.
pub(super) fn of(table: &mut ResourceTable) -> usize {
    let objects = table.iter_mut();
    objects.map(|object| OBJECT + bytes_in(object)).sum()
}

fn bytes_in(object: &mut (dyn Any + Send)) -> usize {
    if let Some(fields) = object.downcast_ref::<FieldMap>() {
        bytes_of(fields)
    } else if let Some(response) = object.downcast_ref::<HostOutgoingResponse>() {
        bytes_of(&response.headers) + usize::from(response.body.is_some()) * UNREAD_BODY
    } else if let Some(request) = object.downcast_ref::<HostOutgoingRequest>() {
        let method = match &request.method {
            Method::Other(name) => name.len(),
            _ => 0,
        };
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        method
            + text(&request.authority)
            + text(&request.path_with_query)
            + bytes_of(&request.headers)
            + usize::from(request.body.is_some()) * UNREAD_BODY
    } else if let Some(response) = object.downcast_ref::<HostIncomingResponse>() {
        bytes_of(&response.headers)
    } else if let Some(Answer::Here(Ok(response))) = object.downcast_ref() {
        bytes_of(response.headers())
    } else if let Some(HostFutureTrailers::Done(Ok(Some(trailers)))) = object.downcast_ref() {
        bytes_of(trailers)
    } else if object.is::<IncomingDatagramStream>()
        || object.is::<OutgoingDatagramStream>()
        || object.is::<p2::TcpSocket>()
    {
        // One that is waited for, or on its way; of a connection, what waits to be written, which is no more.
        DATAGRAM
    } else if object.is::<HostOutgoingBody>() {
        // What the guest has written and nobody has read yet.
        BODY_CHUNK
    } else if let Some(response) = object.downcast_ref::<p3::Response>() {
        bytes_of(&response.headers)
    } else if let Some(request) = object.downcast_ref::<p3::Request>() {
        let authority = request
            .authority
            .as_ref()
            .map_or(0, |text| text.as_str().len());
        let path = request
            .path_with_query
            .as_ref()
            .map_or(0, |text| text.as_str().len());
        request.method.as_str().len() + authority + path + bytes_of(&request.headers)
    } else {
        0
    }
}

fn bytes_of(fields: &HeaderMap) -> usize {
    fields
        .iter()
        .map(|(name, value)| FIELD + name.as_str().len() + value.len())
        .sum()
}

/// An object with its place in the table.
const OBJECT: usize = 512;

/// What a guest can have written of a body before anybody reads it: the channel takes two pieces.
const UNREAD_BODY: usize = 2 * BODY_CHUNK;

/// A field's place in its map.
const FIELD: usize = 128;
