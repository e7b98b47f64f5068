//! Where a handler may send requests, as written.

use super::keys::{DESTINATION, OUTBOUND};
use super::policy::contents;
use super::reader::{Table, Value};
use crate::capabilities::outbound_http::{
    Authorities, Destination, Identity, OutboundGrants, Pattern, Times,
};
use crate::limits;
use crate::networks::Networks;
use crate::secret::Secret;
use crate::values;

/// What the `outbound` of a handler says. Beside a manifest flags may allow something too.
pub(super) fn outbound(handler: &Table<'_>, is_manifest: bool) -> OutboundGrants {
    let Some(table) = handler.table("outbound", &OUTBOUND) else {
        return OutboundGrants::default();
    };
    let allow = table.list("allow");
    if let Some(value) = table
        .value("allow")
        .filter(|_| allow.len() > limits::DESTINATIONS)
    {
        value.mistake(format_args!(
            "{} are more than can be: write at most {}, or a pattern such as `https://*.example.com`",
            allow.len(),
            limits::DESTINATIONS
        ));
    }
    if let Some(networks) = table.value("networks")
        && table.has("allow")
        && allow.is_empty()
        && !is_manifest
    {
        networks.mistake("it is for destinations that `allow` allows, and there is none: write one there, or leave it out");
    }
    OutboundGrants {
        allow: allow.iter().filter_map(allowed).collect(),
        networks: granted_networks(&table, "networks"),
        requests: table.parsed("max_concurrent_requests", values::count),
        connections: table.parsed("max_connections", values::count),
    }
}

/// Networks that are not public and may be reached all the same.
fn granted_networks(table: &Table<'_>, key: &str) -> Networks {
    let all = table.list(key);
    if let Some(value) = table.value(key).filter(|_| all.len() > limits::NETWORKS) {
        value.mistake(format_args!(
            "{} are more than can be: write at most {}",
            all.len(),
            limits::NETWORKS
        ));
    }
    all.iter()
        .filter_map(|it| it.parsed(values::granted_network))
        .collect()
}

fn allowed(value: &Value<'_>) -> Option<Destination> {
    if !value.is_table() {
        return value
            .place_elsewhere(str::parse::<Pattern>)
            .map(Destination::from);
    }
    let table = value.table(&DESTINATION)?;
    let to = table.value("to");
    let to = to.and_then(|to| to.place_elsewhere(str::parse::<Pattern>));
    let said = Destination {
        to: to?,
        authorities: table.value("ca").and_then(|file| authorities(&file)),
        identity: identity(&table),
        has_h2: table.flag("http2"),
        times: times(&table),
        requests: table.parsed("max_concurrent_requests", values::count),
        connections: table.parsed("max_connections", values::count),
    };
    for key in ["ca", "cert"] {
        if let Some(value) = table.value(key).filter(|_| !said.to.has_tls()) {
            value.mistake("nobody shows a certificate in the clear: write `https://` in `to`, or leave it out");
        }
    }
    if let Some(value) = table
        .value("http2")
        .filter(|_| said.has_h2 && !said.to.has_clear())
    {
        value.mistake("it is for HTTP/2 in the clear, and over TLS both sides agree on a version: leave it out");
    }
    Some(said)
}

fn times(table: &Table<'_>) -> Times {
    let time = |key| table.parsed(key, values::duration);
    let unsaid = Times::default();
    Times {
        connect: time("connect_timeout").unwrap_or(unsaid.connect),
        first_byte: time("first_byte_timeout").unwrap_or(unsaid.first_byte),
        between_bytes: time("between_bytes_timeout").unwrap_or(unsaid.between_bytes),
        total: time("total_timeout"),
    }
}

fn authorities(file: &Value<'_>) -> Option<Authorities> {
    let pem = contents(file, limits::TLS_FILE)?;
    Authorities::new(&pem).map_err(|why| file.mistake(why)).ok()
}

fn identity(table: &Table<'_>) -> Option<Identity> {
    let (cert, key) = match (table.value("cert"), table.value("key")) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return None,
        (Some(one), None) => {
            one.mistake("a certificate without its key: write `key` too");
            return None;
        }
        (None, Some(one)) => {
            one.mistake("a key without its certificate: write `cert` too");
            return None;
        }
    };
    let chain = contents(&cert, limits::TLS_FILE)?;
    let secret = if key.is_table() {
        key.secret()?
    } else {
        let pem = String::from_utf8(contents(&key, limits::TLS_FILE)?);
        let not_pem = |_| key.mistake("the file is no text: name a PEM file with a private key");
        Secret::from(pem.map_err(not_pem).ok()?)
    };
    Identity::new(&chain, secret)
        .map_err(|why| cert.mistake(why))
        .ok()
}
