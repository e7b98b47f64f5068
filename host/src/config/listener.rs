//! Where clients come in: one address, or several listeners by name.

use super::keys::{CERTIFICATE, CLIENT_CERTIFICATES, LISTENER, TLS};
use super::name::name;
use super::reader::{Named, Needed, Table, Value};
use crate::limits;
use crate::server::{CertificateFiles, ClientCertificates, ListenerConfig, Place, TlsConfig};
use crate::values;

/// Those of `[listeners]`, or else the one of `[listen]`. None: nothing is said of any.
pub(super) fn listeners(
    file: &Table<'_>,
    listen: Option<&Table<'_>>,
) -> Option<Vec<ListenerConfig>> {
    let of_listen = listen.and_then(|table| table.value("address"));
    let address = of_listen.and_then(|value| value.parsed(values::address));
    let Some(several) = file.value("listeners") else {
        let place = Place::Address(address?);
        return Some(vec![ListenerConfig::at(place)]);
    };
    if let Some(address) = of_listen {
        address
            .mistake("it is for a file without `[listeners]`: give it a listener of its own there");
    }
    let mut named = several.named();
    // As they are written.
    named.sort_by_key(|it| it.place.start);
    if named.is_empty() {
        several.mistake("nobody could come in: write `[listeners.NAME]` with an `address`");
    }
    if named.len() > limits::LISTENERS {
        several.mistake(format_args!(
            "{} are more than can be: write at most {}",
            named.len(),
            limits::LISTENERS
        ));
    }
    let is_anyone_trusted = listen.is_some_and(|listen| listen.has("trusted_proxies"));
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for it in &named {
        let Some(listener) = listener(it, is_anyone_trusted) else {
            continue;
        };
        if listeners.iter().any(|it| meet(&it.place, &listener.place)) {
            it.value.mistake(format_args!(
                "another listener is at `{}` already: give each a place of its own",
                listener.place
            ));
        }
        listeners.push(listener);
    }
    Some(listeners)
}

/// Whether only one of them can be had.
pub(super) fn meet(one: &Place, other: &Place) -> bool {
    match (one, other) {
        // A port of 0 is another each time, and the two families keep out of each other's way.
        (Place::Address(one), Place::Address(other)) => {
            let (of_one, of_other) = (one.ip(), other.ip());
            let is_same =
                of_one == of_other || of_one.is_unspecified() || of_other.is_unspecified();
            one.port() == other.port()
                && one.port() != 0
                && one.is_ipv4() == other.is_ipv4()
                && is_same
        }
        (Place::Unix { path: one, .. }, Place::Unix { path: other, .. }) => one == other,
        (Place::Systemd(one), Place::Systemd(other)) => one == other,
        _ => false,
    }
}

fn listener(named: &Named<'_>, is_anyone_trusted: bool) -> Option<ListenerConfig> {
    name(named);
    let table = named.value.table(&LISTENER)?;
    let tls = table.value("tls").map(tls);
    let proxy_protocol = table.flag("proxy_protocol");
    if let Some(said) = table
        .value("proxy_protocol")
        .filter(|_| proxy_protocol && !is_anyone_trusted)
    {
        said.mistake("nobody could come in: write the proxies that say for whom they come in `[listen] trusted_proxies`");
    }
    let place = place(&table);
    Some(ListenerConfig {
        place: place?,
        proxy_protocol,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
    })
}

fn place(table: &Table<'_>) -> Option<Place> {
    let places = ["address", "socket", "systemd"].map(|key| table.value(key));
    if let (Some(mode), None) = (table.value("mode"), &places[1]) {
        mode.mistake("it is for a `socket`: leave it out");
    }
    match places {
        [Some(address), None, None] => address.parsed(values::address).map(Place::Address),
        [None, Some(socket), None] => {
            let mode = table.value("mode");
            let mode = match mode {
                Some(mode) => mode.parsed(values::mode)?,
                None => limits::SOCKET_MODE,
            };
            let path = socket.path()?;
            let needed = Needed::Socket(path.clone());
            socket.reader.needs(socket.place(), needed);
            Some(Place::Unix { path, mode })
        }
        [None, None, Some(systemd)] => {
            let name = systemd.text()?;
            if name.is_empty() {
                systemd
                    .mistake("no name: write that of `FileDescriptorName=` in the `.socket` unit");
                return None;
            }
            Some(Place::Systemd(name))
        }
        _ => {
            table.mistake("a listener is an `address`, a `socket` or a socket of `systemd`: write one of them");
            None
        }
    }
}

/// What a door has for TLS.
pub(super) fn tls(said: Value<'_>) -> Option<TlsConfig> {
    let table = said.table(&TLS)?;
    let certificates = table.list("certificates");
    if let Some(value) = table.value("certificates") {
        if value.is_empty_list() {
            value.mistake(
                "there is nothing to show to clients: write `[{ cert = \"…\", key = \"…\" }]`",
            );
        }
        if certificates.len() > limits::CERTIFICATES {
            value.mistake(format_args!(
                "{} are more than can be: write at most {}",
                certificates.len(),
                limits::CERTIFICATES
            ));
        }
    }
    let certificate = |value: &Value<'_>| {
        let table = value.table(&CERTIFICATE)?;
        Some(CertificateFiles {
            cert: table.path("cert")?,
            key: table.path("key")?,
        })
    };
    let files: Vec<_> = certificates.iter().filter_map(certificate).collect();
    let clients = table.table("client_certificates", &CLIENT_CERTIFICATES);
    let clients = clients.map(|table| {
        let required = table.value("required").is_none() || table.flag("required");
        let ca = table.path("ca")?;
        Some(ClientCertificates { ca, required })
    });
    let client_certificates = match clients {
        Some(clients) => Some(clients?),
        None => None,
    };
    let tls = TlsConfig {
        certificates: files,
        client_certificates,
    };
    // What is in them is looked at by who asks for it.
    let is_whole = tls.certificates.len() == certificates.len() && !certificates.is_empty();
    is_whole.then(|| {
        let needed = Needed::Certificates(tls.clone());
        said.reader.needs(said.place(), needed);
        tls
    })
}
