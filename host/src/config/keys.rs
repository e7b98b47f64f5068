//! Every key of the file: what it takes, what holds when it is not said, a line about it.
//!
//! The reader refuses what is not here and the schema prints what is, so the two cannot disagree.

use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::{self, DoorLimits, HandlerLimits, KIB, MIB, Reuse};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Shape {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// How its head is written, for whoever put a key elsewhere.
    pub(super) place: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) unsaid: Unsaid,
    pub(super) about: &'static str,
}

/// What may stand to the right of a key.
#[derive(Debug)]
pub(super) enum Takes {
    /// A text, such as this one.
    Text(&'static str),
    /// `true` or `false`.
    Flag,
    /// A number from 1.
    Count,
    /// A status of HTTP, from one to another.
    Status(u16, u16),
    Duration,
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    Table(&'static Shape),
    /// A table whose keys are names that the operator chooses.
    Named(&'static Takes),
    List(&'static Takes),
    Either(&'static Takes, &'static Takes),
}

/// What holds when a key is not there.
#[derive(Debug)]
pub(super) enum Unsaid {
    /// It means nothing, or the line about it says what.
    Nothing,
    /// A mistake, with an example to follow.
    Missing(&'static str),
    Default(fn() -> Value),
}

const fn key(name: &'static str, takes: Takes, unsaid: Unsaid, about: &'static str) -> Key {
    Key {
        name,
        takes,
        unsaid,
        about,
    }
}

use Takes::{Choice, Count, Either, Flag, List, Named, Size, Status, Table, Text};
use Unsaid::{Default as Is, Missing, Nothing};

fn duration(duration: Duration) -> Value {
    json!(humantime::format_duration(duration).to_string())
}

fn size(bytes: usize) -> Value {
    json!(match bytes {
        bytes if bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        bytes if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        bytes => bytes.to_string(),
    })
}

fn door() -> DoorLimits {
    DoorLimits::default()
}

fn handler() -> HandlerLimits {
    HandlerLimits::default()
}

pub(super) static HOST: Shape = Shape {
    name: "host",
    place: "at the top of the file, before the first `[table]`",
    about: "A whole host: its listener, its defaults, its tenants and its handlers.",
    keys: &[
        key("listen", Table(&LISTEN), Nothing, LISTEN.about),
        key(
            "listeners",
            Named(&Table(&LISTENER)),
            Nothing,
            "Where clients come in, by name, if that is more than one place or not in the clear. `[listen]` says what holds for all of them.",
        ),
        key(
            "admin",
            Either(&Choice(&["off"]), &Table(&ADMIN)),
            Nothing,
            ADMIN.about,
        ),
        key("state", Table(&STATE), Nothing, STATE.about),
        key("log", Table(&LOG), Nothing, LOG.about),
        key(
            "stores",
            Named(&Table(&STORE)),
            Nothing,
            "Where buckets of `wasi:keyvalue` can be, by name, besides `file` and `memory`, which are always there. A change needs a restart.",
        ),
        key(
            "defaults",
            Table(&LIMITS),
            Nothing,
            "Limits of every handler that does not say its own.",
        ),
        key(
            "every_route",
            Table(&EVERY_ROUTE),
            Nothing,
            EVERY_ROUTE.about,
        ),
        key(
            "tenants",
            Named(&Table(&TENANT)),
            Nothing,
            "Who owns handlers, by name.",
        ),
        key(
            "handlers",
            Named(&Table(&HANDLER)),
            Nothing,
            "What is deployed, by name.",
        ),
        key(
            "routes",
            List(&Table(&FIXED)),
            Nothing,
            "Routes that are answered without a guest.",
        ),
    ],
};

pub(super) static LISTEN: Shape = Shape {
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
            Is(|| json!(handler().concurrent_requests)),
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

pub(super) static LISTENER: Shape = Shape {
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

pub(super) static TLS: Shape = Shape {
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

pub(super) static CERTIFICATE: Shape = Shape {
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

pub(super) static CLIENT_CERTIFICATES: Shape = Shape {
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
pub(super) const ACCESS_LOG: &[&str] = &["combined", "json", "off"];

pub(super) static ADMIN: Shape = Shape {
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

pub(super) static STATE: Shape = Shape {
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
pub(super) const LOG_FORMATS: &[&str] = &["text", "json"];

pub(super) static LOG: Shape = Shape {
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

pub(super) static LIMITS: Shape = Shape {
    name: "limits",
    place: "in `limits` of a handler, or in `[defaults]`",
    about: "What one handler may use. What is not said here holds as `[defaults]` says it.",
    keys: &[
        key(
            "timeout",
            Takes::Duration,
            Is(|| duration(handler().deadline)),
            "Time to the response's headers, wait for a place and start included.",
        ),
        key(
            "body_timeout",
            Takes::Duration,
            Nothing,
            "How long a body, either way, may go without a byte moving; unsaid, that of `timeout`.",
        ),
        key(
            "cpu",
            Takes::Duration,
            Is(|| duration(handler().cpu)),
            "CPU time of one request.",
        ),
        key(
            "memory",
            Size,
            Is(|| size(handler().memory)),
            "Memory of one instance: all its memories and tables, and what the host holds for it.",
        ),
        key(
            "max_body",
            Size,
            Is(|| size(handler().request_body as usize)),
            "Bytes of a request's body, which is streamed and not kept.",
        ),
        key(
            "max_response_head",
            Size,
            Is(|| size(limits::FIELDS_BYTES)),
            "Bytes of a response's headers, or of any other set of them that the guest makes.",
        ),
        key(
            "max_concurrent_requests",
            Count,
            Nothing,
            "Requests served at once; others wait for a place. If it is not said, a quarter of those of `[listen]`, so that \
             one handler leaves room for the others.",
        ),
        key(
            "max_waiting_requests",
            Count,
            Nothing,
            "Requests that wait for a place, others get a 503 at once; unsaid, that of `max_concurrent_requests`.",
        ),
        key(
            "queue_timeout",
            Takes::Duration,
            Is(|| duration(handler().permit_wait)),
            "How long a request waits for a place before it gets a 503.",
        ),
        key(
            "max_instance_reuse_count",
            Count,
            Nothing,
            "Requests that one instance serves before it is dropped; unsaid, 1 for wasi:http 0.2, 128 for 0.3.",
        ),
        key(
            "max_instance_concurrent_reuse_count",
            Count,
            Is(|| json!(Reuse::default().concurrent)),
            "Requests that one instance serves at the same time, wasi:http 0.3 only.",
        ),
        key(
            "idle_instance_timeout",
            Takes::Duration,
            Is(|| duration(Reuse::default().idle)),
            "How long an unused instance is kept.",
        ),
    ],
};

pub(super) static TENANT: Shape = Shape {
    name: "tenant",
    place: "in `[tenants.NAME]`",
    about: "Someone who owns handlers. What is not said has no ceiling but those of the host.",
    keys: &[
        key(
            "max_memory",
            Size,
            Nothing,
            "Memory of all instances of all its handlers together.",
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

const SOURCE: &str = "The component's file; a path from this file.";
const TENANT_OF: Key = key(
    "tenant",
    Text("acme"),
    Nothing,
    "Who owns it: a name of `[tenants]`.",
);
const ROUTES: &str = "The requests that are for it.";
const ROUTE_LIST: Takes = List(&Either(&Text("example.com/shop/*"), &Table(&ROUTE)));
static VARIABLE: Takes = Either(&Text("value"), &Table(&REFERENCE));
static DIRECTORY_TABLE: Takes = Table(&DIRECTORY);
const ENV: Key = key(
    "env",
    Named(&VARIABLE),
    Nothing,
    "Its environment variables; it gets none of the host's.",
);
const CONFIG: Key = key(
    "config",
    Named(&VARIABLE),
    Nothing,
    "What it reads with `wasi:config`, by key.",
);
const DIRS: Key = key(
    "dirs",
    List(&DIRECTORY_TABLE),
    Nothing,
    "Directories that it may use.",
);
const SCRATCH: Key = key(
    "scratch",
    Size,
    Nothing,
    "Bytes of a directory `/tmp` that each of its instances has to itself, gone with it; at least 4KiB. Unsaid, there is none.",
);
const SOCKETS: Key = key(
    "sockets",
    List(&Text("tcp://db.example.com:5432")),
    Nothing,
    "Where it may connect to, or send datagrams: `tcp://` or `udp://`, a name, `*.` and a name, an address or a network (none wider than `/8`, or `/7` of IPv6), and a port or `*`.",
);
const CALLS: Key = key(
    "calls",
    List(&Text("cart")),
    Nothing,
    "Other handlers of its tenant that it may call, by name: requests to `http://NAME.handler.internal`.",
);
const OUTBOUND_OF: Key = key("outbound", Table(&OUTBOUND), Nothing, OUTBOUND.about);
static BUCKET_TABLE: Takes = Either(&Text("file"), &Table(&BUCKET));
const KEYVALUE: Key = key(
    "keyvalue",
    Named(&BUCKET_TABLE),
    Nothing,
    "Buckets of `wasi:keyvalue` that it may use, by name, each with its store or a table. Handlers of its tenant that have one of the same name share it.",
);
static CONTAINER_TABLE: Takes = Table(&CONTAINER);
const BLOBSTORE: Key = key(
    "blobstore",
    Named(&CONTAINER_TABLE),
    Nothing,
    "Containers of `wasi:blobstore` that it may use, by name. They are in the directory of `[state]`. Handlers of its tenant that have one of the same name share it.",
);
const WARM_UP_OF: Key = key("warm_up", Table(&WARM_UP), Nothing, WARM_UP.about);
const REQUIRED: Key = key(
    "required",
    Flag,
    Is(|| json!(false)),
    "The host is not ready (`/readyz`) while it cannot be served.",
);
const LIMITS_OF: Key = key("limits", Table(&LIMITS), Nothing, LIMITS.about);

pub(super) static HANDLER: Shape = Shape {
    name: "handler",
    place: "in `[handlers.NAME]`",
    about: "A component, the requests that are for it, and what it may use and reach.",
    keys: &[
        key(
            "source",
            Text("shop.wasm"),
            Missing(r#"source = "shop.wasm""#),
            SOURCE,
        ),
        TENANT_OF,
        key(
            "routes",
            ROUTE_LIST,
            Missing(r#"routes = ["example.com/shop/*"]"#),
            ROUTES,
        ),
        ENV,
        CONFIG,
        DIRS,
        SCRATCH,
        SOCKETS,
        CALLS,
        OUTBOUND_OF,
        KEYVALUE,
        BLOBSTORE,
        WARM_UP_OF,
        REQUIRED,
        LIMITS_OF,
    ],
};

static ALLOWED: Takes = Either(&Text("https://api.example.com"), &Table(&DESTINATION));
const NETWORKS_OF: Key = key(
    "networks",
    List(&Text("10.0.0.0/8")),
    Nothing,
    "Networks and addresses that are not public and that it may reach all the same: this machine's own, private ones. What hands out a machine's credentials, such as `169.254.169.254`, is granted by its address alone. None wider than `/8`, or `/7` of IPv6.",
);

pub(super) static OUTBOUND: Shape = Shape {
    name: "outbound",
    place: "in `[handlers.NAME.outbound]`",
    about: "Where it may send requests over HTTP, other handlers aside.",
    keys: &[
        key(
            "allow",
            List(&ALLOWED),
            Missing(r#"allow = ["https://api.example.com"]"#),
            "Destinations by scheme, host and port: `https://api.example.com`, `https://*.example.com:8443` for all names below, `http://127.0.0.1:*` for every port, `everywhere`. Of several that allow one, the first says how it is reached.",
        ),
        NETWORKS_OF,
        key(
            "max_concurrent_requests",
            Count,
            Is(|| json!(limits::OUTBOUND_REQUESTS)),
            "Requests of all its instances on their way at once; others wait for a place, as long as for a connection.",
        ),
        key(
            "max_connections",
            Count,
            Is(|| json!(limits::OUTBOUND_CONNECTIONS)),
            "Connections that are open for it at once.",
        ),
    ],
};

pub(super) static DESTINATION: Shape = Shape {
    name: "destination",
    place: "in a table of `allow` of `[handlers.NAME.outbound]`",
    about: "Destinations that are reached in the same way.",
    keys: &[
        key(
            "to",
            Text("https://*.example.com:8443"),
            Missing(r#"to = "https://api.example.com""#),
            "Which, as in `allow`.",
        ),
        key(
            "ca",
            Text("ca.pem"),
            Nothing,
            "The authorities that sign their certificates, in PEM; a path from this file. Unsaid, those that this system trusts.",
        ),
        key(
            "cert",
            Text("client.pem"),
            Nothing,
            "The certificate that they are shown if they ask for one, and those that lead from it to an authority, in PEM; a path from this file.",
        ),
        key(
            "key",
            Either(&Text("client-key.pem"), &Table(&REFERENCE)),
            Nothing,
            "Its private key, in PEM and without a passphrase; a path from this file, or a reference.",
        ),
        key(
            "http2",
            Flag,
            Is(|| json!(false)),
            "Whether they speak HTTP/2 in the clear, without being asked. Over TLS both sides agree on a version.",
        ),
        key(
            "connect_timeout",
            Takes::Duration,
            Is(|| duration(limits::OUTBOUND_CONNECT)),
            "How long it may take until there is a connection: the wait for a place, the lookup of the name, TCP and TLS. Of this and the next two, a guest's own word holds if it is shorter.",
        ),
        key(
            "first_byte_timeout",
            Takes::Duration,
            Is(|| duration(limits::OUTBOUND_FIRST_BYTE)),
            "How long the head of the response may take, from the last piece of the request that was taken.",
        ),
        key(
            "between_bytes_timeout",
            Takes::Duration,
            Is(|| duration(limits::OUTBOUND_BETWEEN_BYTES)),
            "How long the body of a response may pause.",
        ),
        key(
            "total_timeout",
            Takes::Duration,
            Nothing,
            "How long a request may take as a whole, with the body of its response; unsaid, as long as bytes come.",
        ),
        key(
            "max_concurrent_requests",
            Count,
            Is(|| json!(limits::OUTBOUND_REQUESTS)),
            "Requests to one host and port at once.",
        ),
        key(
            "max_connections",
            Count,
            Is(|| json!(limits::OUTBOUND_HOST_CONNECTIONS)),
            "Connections to one host and port at once.",
        ),
    ],
};

/// The text beside a component in a directory that is served.
pub(super) static MANIFEST: Shape = Shape {
    name: "manifest",
    place: "at the top of the manifest",
    about: "A component in a directory that is served: the requests that are for it, and what it may use and reach.",
    keys: &[
        key(
            "source",
            Text("shop.wasm"),
            Nothing,
            "The component's file; unsaid, the one of the same name.",
        ),
        TENANT_OF,
        key(
            "routes",
            ROUTE_LIST,
            Nothing,
            "The requests that are for it; unsaid, what the directory says.",
        ),
        ENV,
        CONFIG,
        DIRS,
        SCRATCH,
        SOCKETS,
        CALLS,
        OUTBOUND_OF,
        KEYVALUE,
        BLOBSTORE,
        WARM_UP_OF,
        REQUIRED,
        LIMITS_OF,
    ],
};

const HOST_OF: Key = key(
    "host",
    Text("*.example.com"),
    Nothing,
    "The host's name, or `*.` and a name; unsaid, any.",
);
const PATH: Key = key(
    "path",
    Text("/a/{id}"),
    Missing(r#"path = "/shop/*""#),
    "A path; `{name}` is one segment, `/*` at the end is all that follows.",
);
const METHODS: Key = key(
    "methods",
    List(&Text("GET")),
    Nothing,
    "Methods; unsaid, every method.",
);

pub(super) static ROUTE: Shape = Shape {
    name: "route",
    place: "in a table of `routes` of `[handlers.NAME]`",
    about: "Requests that are for a handler.",
    keys: &[
        HOST_OF,
        PATH,
        METHODS,
        key(
            "strip_prefix",
            Flag,
            Is(|| json!(false)),
            "The guest sees the path without what stands before `/*`.",
        ),
        HEADERS,
        ALLOW,
        DENY,
        CORS_OF,
        BASIC_AUTH_OF,
        ERROR_PAGES,
        COMPRESS,
    ],
};

const HEADERS: Key = key(
    "headers",
    Table(&HEADER_CHANGES),
    Nothing,
    HEADER_CHANGES.about,
);
const ALLOW: Key = key(
    "allow",
    List(&Text("10.0.0.0/8")),
    Nothing,
    "Networks and addresses whose requests are answered, others get a 403; `unix` is every client of a Unix socket. Unsaid, all.",
);
const DENY: Key = key(
    "deny",
    List(&Text("192.0.2.0/24")),
    Nothing,
    "Networks and addresses whose requests get a 403, also if `allow` has them.",
);
const CORS_OF: Key = key("cors", Table(&CORS), Nothing, CORS.about);
const BASIC_AUTH_OF: Key = key("basic_auth", Table(&BASIC_AUTH), Nothing, BASIC_AUTH.about);
const ERROR_PAGES: Key = key(
    "error_pages",
    Named(&Text("error.html")),
    Nothing,
    "Files of HTML in place of the host's own errors, for browsers: by status, such as `404`, or `4xx` and `5xx` for the others.",
);
const COMPRESS: Key = key(
    "compress",
    Flag,
    Is(|| json!(false)),
    "Whether answers are compressed for clients that take it: with zstd, brotli or gzip.",
);

pub(super) static EVERY_ROUTE: Shape = Shape {
    name: "every_route",
    place: "in `[every_route]`",
    about: "What the host does on every route that does not say its own, and where there is no route.",
    keys: &[
        HEADERS,
        ALLOW,
        DENY,
        CORS_OF,
        BASIC_AUTH_OF,
        ERROR_PAGES,
        COMPRESS,
    ],
};

pub(super) static HEADER_CHANGES: Shape = Shape {
    name: "headers",
    place: "in `headers` of a route",
    about: "Changes of the answer's headers, whoever answers.",
    keys: &[
        key(
            "set",
            Named(&Text("max-age=31536000")),
            Nothing,
            "Headers in place of those that are there.",
        ),
        key(
            "add",
            Named(&Text("value")),
            Nothing,
            "Headers beside those that are there.",
        ),
        key(
            "remove",
            List(&Text("server")),
            Nothing,
            "Headers that are left out.",
        ),
    ],
};

pub(super) static CORS: Shape = Shape {
    name: "cors",
    place: "in `cors` of a route",
    about: "Which pages of other origins may use it: the host answers what browsers ask, and the guest's own word does not count.",
    keys: &[
        key(
            "origins",
            List(&Text("https://app.example.com")),
            Missing(r#"origins = ["https://app.example.com"]"#),
            "The origins of the pages; `*` is every one.",
        ),
        key(
            "methods",
            List(&Text("GET")),
            Is(|| json!(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])),
            "The methods that they may use.",
        ),
        key(
            "headers",
            List(&Text("x-token")),
            Nothing,
            "The headers that they may send; unsaid, those that they ask for.",
        ),
        key(
            "expose",
            List(&Text("x-total")),
            Nothing,
            "The headers of answers that they may read besides the usual ones.",
        ),
        key(
            "credentials",
            Flag,
            Is(|| json!(false)),
            "Whether cookies and passwords go with it.",
        ),
        key(
            "max_age",
            Takes::Duration,
            Nothing,
            "How long a browser need not ask again; unsaid, some seconds.",
        ),
    ],
};

pub(super) static BASIC_AUTH: Shape = Shape {
    name: "basic_auth",
    place: "in `basic_auth` of a route",
    about: "A name and a password, which every client must show.",
    keys: &[
        key(
            "file",
            Text("people.htpasswd"),
            Missing(r#"file = "people.htpasswd""#),
            "Names and hashes of bcrypt, as `htpasswd -B` makes them; a path from this file.",
        ),
        key(
            "realm",
            Text("restricted"),
            Is(|| json!("restricted")),
            "What browsers tell people it is for.",
        ),
    ],
};

pub(super) static FIXED: Shape = Shape {
    name: "fixed",
    place: "in `[[routes]]`",
    about: "A route that needs no guest: it has `respond` or `redirect`.",
    keys: &[
        HOST_OF,
        PATH,
        METHODS,
        key("respond", Table(&RESPOND), Nothing, RESPOND.about),
        key("redirect", Table(&REDIRECT), Nothing, REDIRECT.about),
        HEADERS,
        ALLOW,
        DENY,
        CORS_OF,
        BASIC_AUTH_OF,
        ERROR_PAGES,
        COMPRESS,
    ],
};

pub(super) static RESPOND: Shape = Shape {
    name: "respond",
    place: "in `respond` of `[[routes]]`",
    about: "The response itself.",
    keys: &[
        key("status", Status(200, 599), Is(|| json!(200)), "Its status."),
        key(
            "content_type",
            Text("text/html"),
            Is(|| json!("text/plain; charset=utf-8")),
            "Its content type.",
        ),
        key("body", Text("<h1>hi</h1>"), Nothing, "Its body."),
        key(
            "body_file",
            Text("index.html"),
            Nothing,
            "In place of `body`: a file with it, read once; a path from this file.",
        ),
    ],
};

pub(super) static REDIRECT: Shape = Shape {
    name: "redirect",
    place: "in `redirect` of `[[routes]]`",
    about: "Another place to look.",
    keys: &[
        key(
            "to",
            Text("https://example.com/new/"),
            Missing(r#"to = "https://example.com/""#),
            "The `location`: a URL, or a path of this host.",
        ),
        key(
            "status",
            Status(300, 399),
            Is(|| json!(308)),
            "301, 302, 303, 307 or 308, which keeps the method and is for good.",
        ),
    ],
};

// What the lines about networks say.
const _: () = assert!(limits::GRANTED_V4_BITS == 8 && limits::GRANTED_V6_BITS == 7);
// What the line about `max_value` says.
const _: () = assert!(limits::KEYVALUE_BATCH_BYTES - limits::KEYVALUE_KEY == 4095 * KIB);

pub(super) static BUCKET: Shape = Shape {
    name: "bucket",
    place: "in `keyvalue` of `[handlers.NAME]`",
    about: "A bucket of `wasi:keyvalue`.",
    keys: &[
        key(
            "store",
            Text("file"),
            Is(|| json!("file")),
            "Where it is: `file`, `memory`, or a name of `[stores]`.",
        ),
        key(
            "max_keys",
            Count,
            Is(|| json!(limits::KEYVALUE_KEYS)),
            "Keys that may be in it.",
        ),
        key(
            "max_value",
            Size,
            Is(|| size(limits::KEYVALUE_VALUE as usize)),
            "Bytes of one value, at most 4095KiB.",
        ),
        key(
            "max_bytes",
            Size,
            Is(|| size(limits::KEYVALUE_BYTES as usize)),
            "Bytes of all keys and values in it.",
        ),
        key(
            "durability",
            Either(&Choice(&["each-write"]), &Takes::Duration),
            Is(|| json!("each-write")),
            "When what was written is on disk: before it is acknowledged, or at most so much later, such as `50ms`. For a store that is a file.",
        ),
    ],
};

/// The words for the kinds of a store.
pub(super) const STORES: &[&str] = &["file", "memory", "redis"];

pub(super) static STORE: Shape = Shape {
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

pub(super) static WARM_UP: Shape = Shape {
    name: "warm_up",
    place: "in `warm_up` of `[handlers.NAME]`",
    about: "A request that it must answer before it is put in place.",
    keys: &[
        key(
            "path",
            Text("/ready"),
            Missing(r#"path = "/ready""#),
            "The path and query, as the guest sees them.",
        ),
        key(
            "status",
            Status(200, 599),
            Is(|| json!(200)),
            "The status that the answer must have.",
        ),
        key("method", Text("GET"), Is(|| json!("GET")), "The method."),
    ],
};

pub(super) static CONTAINER: Shape = Shape {
    name: "container",
    place: "in `blobstore` of `[handlers.NAME]`",
    about: "A container of `wasi:blobstore`, and how much may be in it.",
    keys: &[
        key(
            "max_objects",
            Count,
            Is(|| json!(limits::BLOBS)),
            "Objects that may be in it.",
        ),
        key(
            "max_object",
            Size,
            Is(|| size(limits::BLOB_BYTES as usize)),
            "Bytes of one object.",
        ),
        key(
            "max_bytes",
            Size,
            Is(|| size(limits::BLOBS_BYTES as usize)),
            "Bytes of all objects in it. As many may be on their way in besides.",
        ),
    ],
};

pub(super) static DIRECTORY: Shape = Shape {
    name: "directory",
    place: "in a table of `dirs` of `[handlers.NAME]`",
    about: "A directory that a guest may use.",
    keys: &[
        key(
            "host",
            Text("public"),
            Missing(r#"host = "public""#),
            "Where it is; a path from this file.",
        ),
        key(
            "guest",
            Text("/public"),
            Missing(r#"guest = "/public""#),
            "What the guest calls it.",
        ),
        key(
            "writable",
            Flag,
            Is(|| json!(false)),
            "Whether the guest may write there too.",
        ),
    ],
};

static TOKEN: Takes = Either(&Table(&REFERENCE), &Text("${TOKEN}"));

/// A text that is kept elsewhere.
pub(super) static REFERENCE: Shape = Shape {
    name: "reference",
    place: "in place of a secret",
    about: "A text that is kept elsewhere and never shown: one of the three.",
    keys: &[
        key(
            "from_env",
            Text("TOKEN"),
            Nothing,
            "The variable of the host's environment with this name.",
        ),
        key(
            "from_file",
            Text("token"),
            Nothing,
            "What is in this file, without a newline at its end; a path from this file.",
        ),
        key(
            "from_credential",
            Text("token"),
            Nothing,
            "The same of a file in `$CREDENTIALS_DIRECTORY`, where systemd puts them.",
        ),
    ],
};

impl Shape {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// This table and those that can stand in it, each once.
    pub(super) fn family(&'static self) -> Vec<&'static Shape> {
        let mut found = vec![self];
        let mut next = 0;
        while let Some(shape) = found.get(next) {
            for key in shape.keys {
                for inner in key.takes.tables() {
                    if !found.iter().any(|known| std::ptr::eq(*known, inner)) {
                        found.push(inner);
                    }
                }
            }
            next += 1;
        }
        found
    }
}

impl Takes {
    fn tables(&self) -> Vec<&'static Shape> {
        match self {
            Table(shape) => vec![shape],
            Named(inner) | List(inner) => inner.tables(),
            Either(one, other) => [one.tables(), other.tables()].concat(),
            _ => Vec::new(),
        }
    }
}
