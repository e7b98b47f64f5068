//! Tries what a sandbox should refuse, and says how it was refused. None of this traps.

use crate::text::kebab;
use std::fmt::Write;
use wasip2::filesystem::preopens::get_directories;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{self, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

pub(crate) fn preopens() -> String {
    let mut text = String::new();
    for (_, name) in get_directories() {
        writeln!(text, "preopen {name}").ok();
    }
    text
}

/// A GET of `http://TO/`: the answer's status, or the error code's name.
pub(crate) fn outbound(to: &str) -> String {
    match get(to) {
        Ok(status) => format!("status {status}\n"),
        Err(code) => format!("{}\n", kebab(&code)),
    }
}

fn get(to: &str) -> Result<u16, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    request
        .set_scheme(Some(&Scheme::Http))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request
        .set_authority(Some(to))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request
        .set_path_with_query(Some("/"))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    Ok(response
        .get()
        .expect("the wait is over")
        .expect("asked once")?
        .status())
}

/// A request that is never sent, with a method of its own.
pub(crate) fn request_by_method(method: String) -> OutgoingRequest {
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Other(method)).ok();
    request
}

/// One that is not sent, with as much of a body as the host takes.
pub(crate) fn request_with_body(piece: &[u8]) -> OutgoingRequest {
    let request = OutgoingRequest::new(Fields::new());
    let body = request.body().expect("the body is taken once");
    let stream = body.write().expect("one writer");
    while let Ok(most @ 1..) = stream.check_write() {
        let most = piece.len().min(most as usize);
        if stream.write(&piece[..most]).is_err() {
            break;
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).ok();
    request
}

pub(crate) fn socket() -> String {
    match connect() {
        Ok(()) => "connected\n".to_owned(),
        Err((step, error)) => format!("{step}: {}\n", error.name()),
    }
}

fn connect() -> Result<(), (&'static str, network::ErrorCode)> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(|error| ("create", error))?;
    let to = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: 1,
        address: (127, 0, 0, 1),
    });
    socket
        .start_connect(&instance_network(), to)
        .map_err(|error| ("connect", error))?;
    socket.subscribe().block();
    socket
        .finish_connect()
        .map(|_| ())
        .map_err(|error| ("connect", error))
}

pub(crate) fn dns() -> String {
    match resolve() {
        Ok(found) => format!("{found} addresses\n"),
        Err(error) => format!("{}\n", error.name()),
    }
}

fn resolve() -> Result<usize, network::ErrorCode> {
    let addresses = resolve_addresses(&instance_network(), "localhost")?;
    let mut found = 0;
    loop {
        addresses.subscribe().block();
        match addresses.resolve_next_address()? {
            Some(_) => found += 1,
            None => return Ok(found),
        }
    }
}
