//! Keys of a route: which requests, and what the host does around the answer.

use serde_json::json;

use super::Takes::{Flag, List, Named, Status, Table, Text};
use super::Unsaid::{Default as Is, Missing, Nothing};
use super::{Key, Shape, Takes, key};

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

pub(in crate::config) static ROUTE: Shape = Shape {
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

pub(in crate::config) static EVERY_ROUTE: Shape = Shape {
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

pub(in crate::config) static HEADER_CHANGES: Shape = Shape {
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

pub(in crate::config) static CORS: Shape = Shape {
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

pub(in crate::config) static BASIC_AUTH: Shape = Shape {
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

pub(in crate::config) static FIXED: Shape = Shape {
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

pub(in crate::config) static RESPOND: Shape = Shape {
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

pub(in crate::config) static REDIRECT: Shape = Shape {
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
