//! Keys of the host itself: its doors, its logs, its memory, its tenants.

use serde_json::json;

use super::Takes::{Choice, Count, Either, Flag, List, Size, Table, Text};
use super::Unsaid::{Default as Is, Missing, Nothing};
use super::{REFERENCE, Shape, Takes, duration, key, size};
use crate::limits::{self, DoorLimits, HandlerLimits};

fn door() -> DoorLimits {
    DoorLimits::default()
}

pub(in crate::config) static LISTEN: Shape = Shape {
    name: "listen",
    place: "in `[listen]`",
    about: "The public door. A change needs a restart.",
    keys: &[
        key(
            "address",
            Text("127.0.0.1:8080"),
            Is(|| json!(format!("127.0.0.1:{}", limits::PORT))),
            "Where to listen, in the clear; port 0 takes any free one, `:8080` is every address. Not beside `[listeners]`.",
        ),
        key(
            "access_log",
            Choice(ACCESS_LOG),
            Is(|| json!("combined")),
            "The form of the access log; where it goes, `[log]` says.",
        ),
        key(
            "drain_timeout",
            Takes::Duration,
            Is(|| duration(limits::DRAIN)),
            "How long requests in flight have to finish after a signal.",
        ),
        key(
            "max_connections",
            Count,
            Is(|| json!(door().connections)),
            "Connections open at once; more wait to be accepted.",
        ),
        key(
            "max_concurrent_requests",
            Count,
            Is(|| json!(HandlerLimits::default().concurrent_requests)),
            "Requests that all handlers serve at once; others wait for a place.",
        ),
        key(
            "max_connections_per_address",
            Count,
            Nothing,
            "Connections of one address open at once, and of one /64 of IPv6; more are closed. Unsaid, there is no such ceiling.",
        ),
        key(
            "max_request_head",
            Size,
            Is(|| size(door().request_head)),
            "Bytes of a request's head, its first line included.",
        ),
        key(
            "max_request_headers",
            Count,
            Is(|| json!(door().request_headers)),
            "Header fields of a request.",
        ),
        key(
            "first_byte_timeout",
            Takes::Duration,
            Is(|| duration(door().first_byte)),
            "How long a new connection may send nothing.",
        ),
        key(
            "handshake_timeout",
            Takes::Duration,
            Is(|| duration(door().handshake)),
            "How long the handshake of TLS may take.",
        ),
        key(
            "header_timeout",
            Takes::Duration,
            Is(|| duration(door().header_read)),
            "How long a request's head may take, from its first byte to its last.",
        ),
        key(
            "min_body_rate",
            Size,
            Is(|| size(door().body_rate as usize)),
            "Bytes of a request's body that must come each second, over 20 s and until the answer begins; 0 for no minimum.",
        ),
        key(
            "idle_timeout",
            Takes::Duration,
            Is(|| duration(door().idle)),
            "How long a connection may rest between requests.",
        ),
        key(
            "write_timeout",
            Takes::Duration,
            Is(|| duration(door().write_stall)),
            "How long a client may take none of the bytes that wait for it.",
        ),
        key(
            "trusted_proxies",
            List(&Text("10.0.0.0/8")),
            Nothing,
            "Proxies that are believed what they say of their clients, by network or address; `unix` is every client of a Unix \
             socket. Unsaid, none.",
        ),
    ],
};

pub(in crate::config) static LISTENER: Shape = Shape {
    name: "listener",
    place: "in `[listeners.NAME]`",
    about: "A place where clients come in: an `address`, a `socket` or a socket of `systemd`. A change needs a restart, other than of what its `tls` says.",
    keys: &[
        key(
            "address",
            Text("[::]:443"),
            Nothing,
            "Where to listen; port 0 takes any free one, `[::]` takes IPv4 too unless another listener has its port.",
        ),
        key(
            "socket",
            Text("/run/host/http.sock"),
            Nothing,
            "In place of `address`: a Unix socket; a path from this file. What a dead process has left there is replaced.",
        ),
        key(
            "mode",
            Text("0660"),
            Is(|| json!(format!("{:04o}", limits::SOCKET_MODE))),
            "Who may connect to `socket`: the rights of its file.",
        ),
        key(
            "systemd",
            Text("web"),
            Nothing,
            "In place of `address`: the sockets that systemd passes under this name (`FileDescriptorName=`).",
        ),
        key(
            "proxy_protocol",
            Flag,
            Is(|| json!(false)),
            "Whoever connects is a proxy and first says for whom, by the PROXY protocol, version 1 or 2; it must be one of `trusted_proxies`. Others are refused.",
        ),
        key("tls", Table(&TLS), Nothing, TLS.about),
    ],
};

pub(in crate::config) static TLS: Shape = Shape {
    name: "tls",
    place: "in `[listeners.NAME.tls]` or `[admin.tls]`",
    about: "HTTPS: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. Files that change are taken up without a restart.",
    keys: &[
        key(
            "certificates",
            List(&CERTIFICATE_TABLE),
            Missing(r#"certificates = [{ cert = "cert.pem", key = "key.pem" }]"#),
            "What is shown to clients, by the name that they ask for; the first also to who asks for no name or another one.",
        ),
        key(
            "client_certificates",
            Table(&CLIENT_CERTIFICATES),
            Nothing,
            CLIENT_CERTIFICATES.about,
        ),
    ],
};

static CERTIFICATE_TABLE: Takes = Table(&CERTIFICATE);

pub(in crate::config) static CERTIFICATE: Shape = Shape {
    name: "certificate",
    place: "in `certificates` of a `tls`",
    about: "A certificate and its key.",
    keys: &[
        key(
            "cert",
            Text("cert.pem"),
            Missing(r#"cert = "cert.pem""#),
            "The certificate, and those that lead from it to an authority, in PEM; a path from this file.",
        ),
        key(
            "key",
            Text("key.pem"),
            Missing(r#"key = "key.pem""#),
            "Its private key, in PEM and without a passphrase; a path from this file.",
        ),
    ],
};

pub(in crate::config) static CLIENT_CERTIFICATES: Shape = Shape {
    name: "client_certificates",
    place: "in `client_certificates` of a `tls`",
    about: "Clients are asked for certificates. At `[admin]`, who shows one is the operator. At a listener, a guest sees the one that was verified in `client-cert` and its subject in `x-client-cert-subject`.",
    keys: &[
        key(
            "ca",
            Text("clients.pem"),
            Missing(r#"ca = "clients.pem""#),
            "The authorities that sign them, in PEM; a path from this file.",
        ),
        key(
            "required",
            Flag,
            Is(|| json!(true)),
            "Who has none is not let in.",
        ),
    ],
};

/// The words for the forms of the access log.
pub(in crate::config) const ACCESS_LOG: &[&str] = &["combined", "json", "off"];

pub(in crate::config) static ADMIN: Shape = Shape {
    name: "admin",
    place: "in `[admin]`",
    about: "The operator's door. If nothing is said of it, it is a socket at `$XDG_RUNTIME_DIR/host/admin.sock`, or `/run/host/admin.sock`; `admin = \"off\"` is for a host without one. A change needs a restart.",
    keys: &[
        key(
            "socket",
            Text("/run/host/admin.sock"),
            Nothing,
            "A Unix socket; who may open the file may enter.",
        ),
        key(
            "address",
            Text("127.0.0.1:9090"),
            Nothing,
            "In place of `socket`: an address, which needs a `token`, or `tls` with `client_certificates`.",
        ),
        key(
            "token",
            Either(&Table(&REFERENCE), &Text("${TOKEN}")),
            Nothing,
            "What a client of `address` must show that has shown no certificate.",
        ),
        key("tls", Table(&TLS), Nothing, "HTTPS at `address`."),
    ],
};

pub(in crate::config) static STATE: Shape = Shape {
    name: "state",
    place: "in `[state]`",
    about: "What the host remembers: the versions of handlers and which of them are live, and what guests keep.",
    keys: &[key(
        "directory",
        Text("/var/lib/host"),
        Nothing,
        "Where versions are kept, of what is deployed through `[admin]` and of what this file says, and what guests keep in buckets and containers; a path from this file. If it is not said, `$STATE_DIRECTORY`, or a directory for this file in `$XDG_STATE_HOME/host`.",
    )],
};

/// The words for the forms of the host's own log.
pub(in crate::config) const LOG_FORMATS: &[&str] = &["text", "json"];

pub(in crate::config) static LOG: Shape = Shape {
    name: "log",
    place: "in `[log]`",
    about: "Where and how logs are written. Files are opened anew at SIGHUP, so that they can be rotated. A change here needs a restart.",
    keys: &[
        key(
            "format",
            Choice(LOG_FORMATS),
            Is(|| json!("text")),
            "The form of the host's own log, in which is also what guests print.",
        ),
        key(
            "file",
            Text("/var/log/host/host.log"),
            Nothing,
            "A file for it; a path from this file. Unsaid, stderr.",
        ),
        key(
            "access_log_file",
            Text("/var/log/host/access.log"),
            Nothing,
            "A file for the access log, whose form `[listen]` says; a path from this file. Unsaid, stdout.",
        ),
    ],
};

pub(in crate::config) static TENANT: Shape = Shape {
    name: "tenant",
    place: "in `[tenants.NAME]`",
    about: "Someone who owns handlers. What is not said has no ceiling but those of the host.",
    keys: &[
        key(
            "max_memory",
            Size,
            Nothing,
            "Memory of all instances of all its handlers together, and what the host holds for them.",
        ),
        key(
            "max_concurrent_requests",
            Count,
            Nothing,
            "Requests that all its handlers serve at once.",
        ),
        key(
            "requests_per_second",
            Count,
            Nothing,
            "Requests a second to all its handlers together.",
        ),
        key(
            "coarse_clocks",
            Takes::Duration,
            Nothing,
            "What the clocks of its handlers show at least between two steps, up to 1s, against measuring what others do; unsaid, they are those of the machine.",
        ),
        key(
            "max_handlers",
            Count,
            Nothing,
            "Handlers that it may have: those of this file and those that are deployed, together.",
        ),
        key(
            "max_stored_bytes",
            Size,
            Nothing,
            "Bytes of the components that are deployed for it at the admin door, of all versions that are kept, the same component once.",
        ),
        key(
            "routes",
            List(&Text("acme.example.com/*")),
            Nothing,
            "The routes that it may take with its tokens: those that lie within one of these; unsaid, none.",
        ),
        key(
            "admin_tokens",
            List(&TOKEN),
            Nothing,
            "Who shows one of these at the operator's door is this tenant there, and can do nothing to others.",
        ),
    ],
};

/// The words for the kinds of a store.
pub(in crate::config) const STORES: &[&str] = &["file", "memory", "redis"];

pub(in crate::config) static STORE: Shape = Shape {
    name: "store",
    place: "in `[stores.NAME]`",
    about: "Where buckets of `wasi:keyvalue` are: a file in the directory of `[state]`, the memory of the host, or a Redis or Valkey that several hosts may share.",
    keys: &[
        key(
            "type",
            Choice(STORES),
            Missing(r#"type = "redis""#),
            "What it is.",
        ),
        key(
            "url",
            Either(&Table(&REFERENCE), &Text("redis://127.0.0.1:6379")),
            Nothing,
            "Where the Redis is; `rediss://` for TLS. With a password in it, it is a secret and kept elsewhere.",
        ),
    ],
};

static TOKEN: Takes = Either(&Table(&REFERENCE), &Text("${TOKEN}"));
