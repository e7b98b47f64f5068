//! Keys of a handler: what it may use and reach, in the file of a host and in a manifest.

use serde_json::json;

use super::Takes::{Choice, Count, Either, Flag, List, Named, Size, Status, Table, Text};
use super::Unsaid::{Default as Is, Missing, Nothing};
use super::{Key, REFERENCE, ROUTE, Shape, Takes, duration, key, size};
use crate::limits::{self, HandlerLimits, KIB, Reuse};

fn handler() -> HandlerLimits {
    HandlerLimits::default()
}

pub(in crate::config) static LIMITS: Shape = Shape {
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

pub(in crate::config) static HANDLER: Shape = Shape {
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

pub(in crate::config) static OUTBOUND: Shape = Shape {
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

pub(in crate::config) static DESTINATION: Shape = Shape {
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
pub(in crate::config) static MANIFEST: Shape = Shape {
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

// What the lines about networks say.
const _: () = assert!(limits::GRANTED_V4_BITS == 8 && limits::GRANTED_V6_BITS == 7);
// What the line about `max_value` says.
const _: () = assert!(limits::KEYVALUE_BATCH_BYTES - limits::KEYVALUE_KEY == 4095 * KIB);

pub(in crate::config) static BUCKET: Shape = Shape {
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

pub(in crate::config) static WARM_UP: Shape = Shape {
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

pub(in crate::config) static CONTAINER: Shape = Shape {
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

pub(in crate::config) static DIRECTORY: Shape = Shape {
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
            "What the guest calls it, from its root: it begins with `/`.",
        ),
        key(
            "writable",
            Flag,
            Is(|| json!(false)),
            "Whether the guest may write there too.",
        ),
    ],
};
