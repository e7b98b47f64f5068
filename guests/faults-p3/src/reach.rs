//! Tries what a sandbox should refuse, and says how it was refused. None of this traps.

use crate::text::kebab;
use std::fmt::Write;
use wasip3::filesystem::preopens::get_directories;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Scheme};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    self, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket,
};
use wasip3::wit_future;

pub(crate) fn preopens() -> String {
    let mut text = String::new();
    for (_, name) in get_directories() {
        writeln!(text, "preopen {name}").ok();
    }
    text
}

/// A GET of `http://TO/`: the answer's status, or the error code's name.
pub(crate) async fn outbound(to: &str) -> String {
    match get(to).await {
        Ok(status) => format!("status {status}\n"),
        Err(code) => format!("{}\n", kebab(&code)),
    }
}

async fn get(to: &str) -> Result<u16, ErrorCode> {
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, no_trailers, None);
    request
        .set_scheme(Some(&Scheme::Http))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request
        .set_authority(Some(to))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request
        .set_path_with_query(Some("/"))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    Ok(client::send(request).await?.get_status_code())
}

/// A request that is never sent, with a method of its own.
pub(crate) fn request_by_method(method: String) -> Request {
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, no_trailers, None);
    request.set_method(&Method::Other(method)).ok();
    request
}

pub(crate) async fn socket() -> String {
    match connect().await {
        Ok(()) => "connected\n".to_owned(),
        Err((step, error)) => format!("{step}: {}\n", kebab(&error)),
    }
}

async fn connect() -> Result<(), (&'static str, types::ErrorCode)> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(|error| ("create", error))?;
    let to = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: 1,
        address: (127, 0, 0, 1),
    });
    socket.connect(to).await.map_err(|error| ("connect", error))
}

pub(crate) async fn dns() -> String {
    match resolve_addresses("localhost".to_owned()).await {
        Ok(found) => format!("{} addresses\n", found.len()),
        Err(error) => format!("{}\n", kebab(&error)),
    }
}
