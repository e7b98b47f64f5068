//! What the host does around a handler's answer, where a route says so: headers, access lists, CORS, passwords, pages,
//! compression.

use std::fs;
use std::io::{Read as _, Write as _};
use std::thread;

use tempfile::TempDir;

use crate::support::guests::{ECHO, ECHO_P3, METHODS};
use crate::support::*;

/// The file of a host, with guests and other files beside it.
struct File(TempDir);

/// `ann:secret` and `bob:hunter2`, with the least cost that bcrypt has.
fn people() -> String {
    [("ann", "secret"), ("bob", "hunter2")]
        .map(|(name, password)| {
            let hash = bcrypt::hash(password, 4).expect("a hash");
            format!("{name}:{}\n", hash.replace("$2b$", "$2y$"))
        })
        .concat()
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self(directory());
        for (name, guest) in [
            ("hello", HELLO),
            ("echo", ECHO),
            ("echo_p3", ECHO_P3),
            ("methods", METHODS),
            ("faults", FAULTS),
            ("faults_p3", FAULTS_P3),
        ] {
            fs::copy(guest.path(), file.path(name).with_extension("wasm")).expect("copied");
        }
        file.beside("people.htpasswd", &people());
        file.beside("error.html", "<h1>oops, all of us</h1>");
        file.beside("404.html", "<h1>nothing here</h1>");
        file.beside("large.txt", &LARGE.repeat(1000));
        file.say(text);
        file
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn beside(&self, name: &str, text: &str) {
        let new = self.path(".new");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.path(name)).expect("renamed");
    }

    fn say(&self, text: &str) {
        let listen = "[listen]\naccess_log = \"json\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
        self.beside("host.toml", &format!("{listen}{text}"));
    }

    fn serve(&self) -> TestHost {
        TestHost::serve_file(&self.path("host.toml"), "")
    }
}

const LARGE: &str = "All work and no play makes Jack a dull boy.\n";

/// `METHOD TARGET`, then fields, each a line.
fn ask(host: &TestHost, request: &str) -> Reply {
    let (line, fields) = request.split_once('\n').unwrap_or((request, ""));
    let fields: String = fields
        .lines()
        .map(|line| format!("{}\r\n", line.trim()))
        .collect();
    let mut connection = host.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    if line.starts_with("HEAD") {
        let head = connection.head();
        return Reply {
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            is_complete: true,
        };
    }
    connection.reply()
}

fn all<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    let headers = reply.head.headers.iter();
    headers
        .filter(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

#[test]
fn headers_are_set_added_and_removed_on_every_answer() {
    let file = File::new(
        r#"
[every_route]
headers = { set = { strict-transport-security = "max-age=9" } }
[handlers.methods]
source = "hello.wasm"
routes = [
  { path = "/own/*", headers = { set = { x-frame-options = "DENY", content-type = "text/html" }, add = { vary = "cookie" } } },
  { path = "/less/*", headers = { remove = ["content-type"], set = { strict-transport-security = "max-age=0" } } },
  "/plain/*",
]
[[routes]]
path = "/fixed"
respond = { body = "fixed" }
"#,
    );
    let host = file.serve();
    let own = host.get("/own/");
    assert_eq!(own.status(), 200);
    assert_eq!(all(&own, "content-type"), ["text/html"]);
    assert_eq!(all(&own, "x-frame-options"), ["DENY"]);
    assert_eq!(all(&own, "vary"), ["cookie"]);
    assert_eq!(all(&own, "strict-transport-security"), ["max-age=9"]);
    let less = host.get("/less/");
    assert_eq!(all(&less, "content-type"), [""; 0]);
    assert_eq!(all(&less, "strict-transport-security"), ["max-age=0"]);
    // Also what the host answers itself, and where there is nothing.
    for (target, status) in [("/plain/", 200), ("/fixed", 200), ("/nowhere", 404)] {
        let reply = host.get(target);
        assert_eq!(reply.status(), status, "{target}");
        assert_eq!(
            all(&reply, "strict-transport-security"),
            ["max-age=9"],
            "{target}"
        );
    }
    // And what no request came of.
    let large = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    for (sent, status) in [
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (&large, 431),
    ] {
        let reply = host.send(sent).reply();
        assert_eq!(reply.status(), status);
        assert_eq!(
            all(&reply, "strict-transport-security"),
            ["max-age=9"],
            "{status}"
        );
    }
}

#[test]
fn what_the_operator_sets_stays_beside_a_cors_policy() {
    let file = File::new(
        r#"
[handlers.faults]
source = "faults.wasm"
[[handlers.faults.routes]]
path = "/*"
headers = { set = { access-control-allow-private-network = "true" } }
cors = { origins = ["https://a.example"] }
"#,
    );
    let host = file.serve();
    let reply = ask(&host, "GET /ok\nOrigin: https://a.example");
    assert_eq!(
        all(&reply, "access-control-allow-origin"),
        ["https://a.example"]
    );
    assert_eq!(
        all(&reply, "access-control-allow-private-network"),
        ["true"]
    );
}

#[test]
fn an_access_list_is_about_the_client_and_not_its_proxy() {
    let file = File::new(
        r#"
[handlers.hello]
source = "hello.wasm"
routes = [
  { path = "/office/*", allow = ["192.0.2.0/24", "2001:db8::/32"], deny = ["192.0.2.66"] },
  { path = "/all-but/*", deny = ["192.0.2.66", "127.0.0.1"] },
]
"#,
    );
    let host = file.serve();
    for (client, office, all_but) in [
        ("192.0.2.1", 200, 200),
        ("::ffff:192.0.2.1", 200, 200),
        ("192.0.2.66", 403, 403),
        ("6.6.6.6, 192.0.2.66", 403, 403),
        ("192.0.2.1, 198.51.100.1", 403, 200),
        ("2001:db8::1", 200, 200),
        ("unknown", 403, 403),
    ] {
        for (target, status) in [("/office/", office), ("/all-but/", all_but)] {
            let reply = ask(&host, &format!("GET {target}\nX-Forwarded-For: {client}"));
            assert_eq!(reply.status(), status, "{client} {target}");
            if status == 403 {
                let line = host.access(&reply);
                assert_eq!((line.label(), line.text("host.handler")), ("denied", ""));
            }
        }
    }
}

#[test]
fn what_a_route_says_holds_for_every_spelling_of_its_path() {
    let file = File::new(
        r#"
[handlers.faults]
source = "faults.wasm"
routes = [
  "/*",
  { path = "/admin/*", deny = ["127.0.0.1"] },
  { path = "/%72%65ports/*", basic_auth = { file = "people.htpasswd" } },
  { path = "/short/*", strip_prefix = true },
]
"#,
    );
    let host = file.serve();
    for (target, status) in [
        ("/admin/ok", 403),
        ("/%61dmin/ok", 403),
        ("/%61%64%6D%69%6e/", 403),
        ("/reports/ok", 401),
        ("/r%65ports/ok", 401),
        // Other paths, which the guest does not have.
        ("/%41dmin/ok", 404),
        ("/admin%2Fok", 404),
        ("/%2561dmin/ok", 404),
        // The guest has `/ok`, and gets the path as it was written.
        ("/%6Fk", 404),
        ("/short/%6Fk", 404),
        ("/sh%6Frt/ok", 200),
    ] {
        assert_eq!(host.get(target).status(), status, "{target}");
    }
    let seen = host.get("/%73hor%74/request?a=%61").text();
    assert!(
        seen.ends_with("\npath_with_query: /request?a=%61\n"),
        "{seen}"
    );
    assert_eq!(
        host.access_to("/%73hor%74/request").text("http.route"),
        "/short/*"
    );
}

#[test]
fn who_is_not_let_in_takes_no_place() {
    let file = File::new(
        r#"
[handlers.faults]
source = "faults.wasm"
routes = ["/sleep", { path = "/*", deny = ["127.0.0.1"] }]
[handlers.faults.limits]
max_concurrent_requests = 1
max_waiting_requests = 1
"#,
    );
    let host = file.serve();
    let mut busy = host.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(host.get("/ok").status(), 403);
    }
    assert_eq!(busy.reply().status(), 200);
}

const CORS: &str = r#"
[handlers.methods]
source = "methods.wasm"
[[handlers.methods.routes]]
path = "/api/*"
methods = ["GET", "PUT"]
basic_auth = { file = "people.htpasswd" }
[handlers.methods.routes.cors]
origins = ["https://app.example.com"]
methods = ["GET", "PUT"]
headers = ["x-token"]
expose = ["x-total"]
credentials = true
max_age = "1h"
[[handlers.methods.routes]]
path = "/open/*"
cors = { origins = ["*"] }
[[handlers.methods.routes]]
path = "/plain/*"
"#;

#[test]
fn what_a_browser_asks_before_a_request_is_answered_without_the_guest() {
    let host = File::new(CORS).serve();
    let question = |target: &str, origin: &str, method: &str| {
        let fields = format!(
            "Origin: {origin}\nAccess-Control-Request-Method: {method}\nAccess-Control-Request-Headers: x-a,x-b"
        );
        ask(&host, &format!("OPTIONS {target}\n{fields}"))
    };
    // The route has no OPTIONS, and needs a password that no question comes with.
    let yes = question("/api/x", "https://app.example.com", "PUT");
    assert_eq!(yes.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-token"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(yes.header(name), Some(value), "{name}");
    }
    assert!(all(&yes, "vary").contains(&"origin"), "{yes:?}");
    let line = host.access(&yes);
    assert_eq!(
        (line.text("http.route"), line.text("host.handler")),
        ("/api/*", "")
    );
    let no = question("/api/x", "https://evil.example.com", "PUT");
    assert_eq!(
        (no.status(), no.header("access-control-allow-origin")),
        (204, None)
    );
    assert!(all(&no, "vary").contains(&"origin"), "{no:?}");
    let open = question("/open/x", "https://evil.example.com", "DELETE");
    assert_eq!(open.header("access-control-allow-origin"), Some("*"));
    assert_eq!(open.header("access-control-allow-credentials"), None);
    assert_eq!(open.header("access-control-allow-headers"), Some("x-a,x-b"));
    // Without a policy it is the guest's business.
    let guests = question("/plain/x", "https://evil.example.com", "GET");
    assert_ne!(host.access(&guests).text("host.handler"), "");
    // OPTIONS that is no question is a request as any other.
    let options = "OPTIONS /api/x\nOrigin: https://app.example.com";
    assert_eq!(ask(&host, options).status(), 401);
    let ann = "Authorization: Basic YW5uOnNlY3JldA==";
    let refused = ask(&host, &format!("{options}\n{ann}"));
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD, PUT"));
    // A page that may read the answer may read this refusal too.
    assert_eq!(
        all(&refused, "access-control-allow-origin"),
        ["https://app.example.com"]
    );
}

#[test]
fn who_is_not_let_in_does_not_learn_of_other_methods() {
    let file = File::new(
        r#"
[every_route]
error_pages = { 405 = "error.html" }
[handlers.faults]
source = "faults.wasm"
routes = [
  { path = "/ok", methods = ["GET"], deny = ["192.0.2.66"], headers = { set = { x-own = "yes" } }, error_pages = { 405 = "404.html" } },
  { path = "/*", methods = ["GET", "PUT"] },
]
"#,
    );
    let host = file.serve();
    let post = |target: &str, client: &str| {
        let fields = format!("X-Forwarded-For: {client}\nAccept: text/html");
        ask(&host, &format!("POST {target}\n{fields}"))
    };
    for target in ["/ok", "/%6Fk"] {
        let denied = post(target, "192.0.2.66");
        assert_eq!(denied.status(), 403, "{target}");
        assert_eq!(denied.header("allow"), None, "{target}");
        assert_eq!(all(&denied, "x-own"), ["yes"], "{target}");
    }
    let refused = post("/ok", "192.0.2.1");
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    assert_eq!(all(&refused, "x-own"), ["yes"]);
    assert_eq!(refused.text(), "<h1>nothing here</h1>");
    let other = post("/other", "192.0.2.66");
    assert_eq!(other.status(), 405);
    assert_eq!(other.text(), "<h1>oops, all of us</h1>");
}

#[test]
fn answers_say_which_pages_may_read_them() {
    let host = File::new(CORS).serve();
    let ann = "Authorization: Basic YW5uOnNlY3JldA==";
    let mine = ask(
        &host,
        &format!("GET /api/x\nOrigin: https://app.example.com\n{ann}"),
    );
    assert_eq!(
        all(&mine, "access-control-allow-origin"),
        ["https://app.example.com"]
    );
    assert_eq!(
        mine.header("access-control-expose-headers"),
        Some("x-total")
    );
    assert_eq!(
        mine.header("access-control-allow-credentials"),
        Some("true")
    );
    assert!(all(&mine, "vary").contains(&"origin"));
    // A page that may read the answer may read the refusal.
    let refused = ask(&host, "GET /api/x\nOrigin: https://app.example.com");
    assert_eq!(
        (
            refused.status(),
            all(&refused, "access-control-allow-origin").len()
        ),
        (401, 1)
    );
    for fields in ["Origin: https://evil.example.com", "Origin: null", ""] {
        let other = ask(&host, &format!("GET /api/x\n{ann}\n{fields}"));
        assert_eq!(
            all(&other, "access-control-allow-origin"),
            [""; 0],
            "{fields}"
        );
        assert!(all(&other, "vary").contains(&"origin"), "{fields}");
    }
    // What the guest says of it does not count.
    let open = ask(
        &host,
        "OPTIONS /open/hello\nOrigin: https://evil.example.com",
    );
    assert_ne!(host.access(&open).text("host.handler"), "");
    assert_eq!(all(&open, "access-control-allow-origin"), ["*"]);
    assert_eq!(all(&open, "access-control-allow-headers"), [""; 0]);
}

const AUTH: &str = r#"
[handlers.faults]
source = "faults.wasm"
routes = [{ path = "/*", basic_auth = { file = "people.htpasswd", realm = "the office" } }]
"#;

#[test]
fn a_route_with_passwords_opens_to_who_has_one() {
    let file = File::new(AUTH);
    let host = file.serve();
    let shown = |credentials: &str| {
        ask(
            &host,
            &format!("GET /headers\nAuthorization: {credentials}"),
        )
    };
    let refused = host.get("/headers");
    assert_eq!(refused.status(), 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"the office\", charset=\"UTF-8\"")
    );
    let line = host.access(&refused);
    assert_eq!(
        (line.label(), line.text("host.handler")),
        ("unauthorized", "")
    );
    for wrong in [
        "Basic YW5uOndyb25n",     // ann:wrong
        "Basic Ym9iOnNlY3JldA==", // bob:secret
        "Basic ZXZlOnNlY3JldA==", // eve:secret
        "Basic YW5u",             // ann
        "Basic OnNlY3JldA==",     // :secret
        "Basic !",
        "Bearer YW5uOnNlY3JldA==",
    ] {
        assert_eq!(shown(wrong).status(), 401, "{wrong}");
    }
    for _ in 0..2 {
        // ann:secret
        let reply = shown("Basic YW5uOnNlY3JldA==");
        assert_eq!(reply.status(), 200);
        let seen = reply.text();
        assert!(
            !seen.contains("authorization\t"),
            "the guest needs no password: {seen}"
        );
        assert!(seen.contains("x-forwarded-user\t616e6e\n"), "{seen}");
        assert_eq!(host.access(&reply).text("user.name"), "ann");
    }
    let said = [host.stdout(), host.stderr()].concat().join("\n");
    for secret in ["secret", "wrong", "eve", "hunter2", "bob", "YW5u", "$2y$"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[test]
fn a_changed_file_of_passwords_is_taken_up_and_one_with_mistakes_is_not() {
    let file = File::new(AUTH);
    let host = file.serve();
    let status = |credentials: &str| {
        ask(
            &host,
            &format!("GET /ok\nAuthorization: Basic {credentials}"),
        )
        .status()
    };
    let (ann, bob) = ("YW5uOnNlY3JldA==", "Ym9iOmh1bnRlcjI=");
    assert_eq!((status(ann), status(bob)), (200, 200));
    file.beside("people.htpasswd", "ann:secret\n");
    host.says("not taken up");
    assert_eq!((status(ann), status(bob)), (200, 200));
    let only_bob = people().lines().nth(1).map(str::to_owned).expect("bob");
    file.beside("people.htpasswd", &only_bob);
    eventually("ann is gone", || (status(ann) == 401).then_some(()));
    assert_eq!(status(bob), 200);
}

#[test]
fn of_a_flood_of_wrong_passwords_most_are_refused_and_who_was_right_is_let_in() {
    let file = File::new(AUTH);
    // What a check costs by default.
    let slow = bcrypt::hash("secret", 11).expect("a hash");
    file.beside("people.htpasswd", &format!("ann:{slow}\n"));
    let host = file.serve();
    let ann = "GET /ok\nAuthorization: Basic YW5uOnNlY3JldA==";
    assert_eq!(ask(&host, ann).status(), 200);
    let mut flood: Vec<_> = (0..100)
        .map(|_| {
            host.send("GET /ok HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YW5uOndyb25n\r\n\r\n")
        })
        .collect();
    // Who was right a moment ago is not checked anew.
    assert_eq!(ask(&host, ann).status(), 200);
    let statuses: Vec<u16> = flood.iter_mut().map(|one| one.reply().status()).collect();
    assert!(
        statuses.iter().all(|status| matches!(status, 401 | 503)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&503), "{statuses:?}");
    assert_eq!(ask(&host, ann).status(), 200);
}

#[test]
fn pages_of_ones_own_are_for_browsers_and_for_the_hosts_errors() {
    let file = File::new(
        r#"
[every_route]
error_pages = { 404 = "404.html", 4xx = "error.html", 5xx = "error.html" }
[handlers.faults]
source = "faults.wasm"
routes = ["/*"]
"#,
    );
    let host = file.serve();
    let browser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    let trap = ask(&host, &format!("GET /trap\n{browser}"));
    assert_eq!(
        (trap.status(), trap.text().as_str()),
        (500, "<h1>oops, all of us</h1>")
    );
    assert_eq!(
        trap.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let program = host.get("/trap");
    assert_eq!(
        program.header("content-type"),
        Some("application/problem+json")
    );
    // The guest's own answer is the guest's.
    let guests = ask(&host, &format!("GET /nowhere\n{browser}"));
    assert_eq!(
        (guests.status(), guests.text().as_str()),
        (404, "no such fault\n")
    );
    file.say("[every_route]\nerror_pages = { 404 = \"404.html\" }\n");
    eventually("the new file", || {
        let nowhere = ask(&host, &format!("GET /ok\n{browser}"));
        (nowhere.status() == 404 && nowhere.text() == "<h1>nothing here</h1>").then_some(())
    });
    file.beside("404.html", "<h1>moved</h1>");
    eventually("the new page", || {
        (ask(&host, &format!("GET /ok\n{browser}")).text() == "<h1>moved</h1>").then_some(())
    });
}

const COMPRESSED: &str = r#"
[every_route]
compress = true
[handlers.echo]
source = "echo.wasm"
routes = ["/echo"]
[handlers.echo_p3]
source = "echo_p3.wasm"
routes = ["/echo-p3"]
[handlers.faults]
source = "faults.wasm"
routes = [{ path = "/0.2/*", strip_prefix = true, headers = { set = { content-type = "text/plain" } } }]
[handlers.faults_p3]
source = "faults_p3.wasm"
routes = [{ path = "/0.3/*", strip_prefix = true, headers = { set = { content-type = "text/plain" } } }]
[[routes]]
path = "/large"
respond = { body_file = "large.txt" }
[[routes]]
path = "/small"
respond = { body = "small" }
[[routes]]
path = "/plain"
respond = { body_file = "large.txt" }
compress = false
[[routes]]
path = "/picture"
respond = { body_file = "large.txt", content_type = "image/png" }
[[routes]]
path = "/fixed"
respond = { body_file = "large.txt" }
headers = { set = { cache-control = "no-transform" } }
[[routes]]
path = "/tagged"
respond = { body_file = "large.txt" }
headers = { set = { etag = '"x"' } }
"#;

/// What comes out of `body` before it ends or breaks off, and whether it was whole.
fn unpacked(coding: &str, body: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        "zstd" => zstd::stream::read::Decoder::new(body)
            .expect("a decoder")
            .read_to_end(&mut plain),
        other => panic!("{other}"),
    };
    (plain, read.is_ok())
}

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

#[test]
fn an_answer_is_compressed_for_who_takes_it() {
    let host = File::new(COMPRESSED).serve();
    let large = LARGE.repeat(1000);
    for coding in CODINGS {
        let reply = ask(&host, &format!("GET /large\nAccept-Encoding: {coding}"));
        assert_eq!(reply.header("content-encoding"), Some(coding));
        assert_eq!(reply.header("content-length"), None, "{coding}");
        assert!(all(&reply, "vary").contains(&"accept-encoding"), "{coding}");
        assert!(reply.body.len() < 2000, "{coding}: {}", reply.body.len());
        assert_eq!(
            unpacked(coding, &reply.body),
            (large.clone().into_bytes(), true),
            "{coding}"
        );
        let sent = host.access(&reply).number("http.response.body.size");
        assert_eq!(sent as usize, reply.body.len(), "{coding}");

        let request = http::Request::get("http://a/large").header("accept-encoding", coding);
        let reply = host
            .h2()
            .exchange(request.body(()).expect("a request"), b"", None);
        assert_eq!(
            unpacked(coding, &reply.body).0.len(),
            large.len(),
            "{coding}"
        );
        assert_eq!(reply.reset, None);
    }
    let tagged = ask(&host, "GET /tagged\nAccept-Encoding: gzip");
    assert_eq!(tagged.header("etag"), Some("W/\"x\""));
    let best = ask(
        &host,
        "GET /large\nAccept-Encoding: gzip;q=0.5, br;q=0.9, zstd;q=0",
    );
    assert_eq!(best.header("content-encoding"), Some("br"));
    for (request, varies) in [
        ("GET /large", true),
        ("GET /large\nAccept-Encoding: identity", true),
        ("GET /large\nAccept-Encoding: gzip;q=0", true),
        ("GET /large\nAccept-Encoding: deflate", true),
        ("HEAD /large\nAccept-Encoding: gzip", true),
        ("GET /plain\nAccept-Encoding: gzip", false),
        ("GET /small\nAccept-Encoding: gzip", false),
        ("GET /picture\nAccept-Encoding: gzip", false),
        ("GET /fixed\nAccept-Encoding: gzip", false),
        ("GET /0.2/no-body-status/204\nAccept-Encoding: gzip", false),
        ("GET /0.2/no-body-status/304\nAccept-Encoding: gzip", false),
        ("GET /0.2/bytes-length?n=10\nAccept-Encoding: gzip", false),
    ] {
        let reply = ask(&host, request);
        assert_eq!(reply.header("content-encoding"), None, "{request}");
        assert_eq!(
            all(&reply, "vary").contains(&"accept-encoding"),
            varies,
            "{request}"
        );
    }
    let must = ask(&host, "GET /small\nAccept-Encoding: gzip, identity;q=0");
    assert_eq!(unpacked("gzip", &must.body).0, b"small");
}

#[test]
fn what_a_guest_has_written_goes_out_when_it_pauses() {
    let host = File::new(COMPRESSED).serve();
    for target in ["/echo", "/echo-p3"] {
        for coding in CODINGS {
            let mut connection = host.send(format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: text/event-stream\r\nAccept-Encoding: {coding}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            ));
            let (mut packed, mut sent) = (Vec::new(), Vec::new());
            let mut head = None;
            for nth in 0..5 {
                let event = format!("data: {nth}\n\n");
                connection.send(format!("{:x}\r\n{event}\r\n", event.len()));
                sent.extend(event.bytes());
                let head = head.get_or_insert_with(|| connection.head());
                assert_eq!(head.header("content-encoding"), Some(coding), "{target}");
                while unpacked(coding, &packed).0 != sent {
                    packed.extend(connection.chunk().expect("more of the stream"));
                }
                assert!(!unpacked(coding, &packed).1, "{target} {coding} goes on");
            }
            connection.send("0\r\n\r\n");
            let rest = connection.reply_after(head.expect("a head"));
            packed.extend(rest.body);
            assert!(rest.is_complete, "{target} {coding}");
            assert_eq!(unpacked(coding, &packed), (sent, true), "{target} {coding}");
        }
    }
}

#[test]
fn a_compressed_answer_that_breaks_off_never_looks_complete() {
    let host = File::new(COMPRESSED).serve();
    for guest in ["/0.2", "/0.3"] {
        for coding in CODINGS {
            let target = format!("{guest}/trap-mid-body");
            let reply = ask(&host, &format!("GET {target}\nAccept-Encoding: {coding}"));
            assert_eq!(reply.header("content-encoding"), Some(coding), "{guest}");
            assert!(!reply.is_complete, "{guest} {coding}");
            assert!(!unpacked(coding, &reply.body).1, "{guest} {coding}");
            assert_eq!(
                host.access(&reply).label(),
                "trap,after-headers",
                "{guest} {coding}"
            );
        }
    }
}

#[test]
fn a_large_answer_is_compressed_in_little_memory() {
    let host = File::new(COMPRESSED).serve();
    let before = host.memory();
    let body = LARGE.repeat(500_000);
    for coding in CODINGS {
        let mut connection = host.send(format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nAccept-Encoding: {coding}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        ));
        let mut sender = connection.sender();
        let bytes = body.clone();
        let sending = thread::spawn(move || {
            sender.write_all(bytes.as_bytes()).expect("sent");
        });
        let reply = connection.reply();
        sending.join().expect("all sent");
        assert!(reply.is_complete, "{coding}");
        assert!(
            unpacked(coding, &reply.body) == (body.clone().into_bytes(), true),
            "{coding}"
        );
    }
    let grown = host.memory().saturating_sub(before);
    assert!(grown < 40 << 20, "it has grown by {} KiB", grown >> 10);
}

#[test]
fn flags_do_it_for_one_component_and_for_a_directory() {
    let flags = "--compress --cors-origin https://app.example.com";
    let one = TestHost::serve(ECHO, flags);
    let shop = directory();
    fs::copy(ECHO.path(), shop.path().join("echo.wasm")).expect("copied");
    let many = TestHost::serve_file(shop.path(), flags);
    for (host, target) in [(&one, "/"), (&many, "/echo/")] {
        let body = LARGE.repeat(100);
        let mut connection = host.send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example.com\r\nContent-Type: text/plain\r\n\
             Accept-Encoding: gzip\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let reply = connection.reply();
        assert_eq!(unpacked("gzip", &reply.body), (body.into_bytes(), true));
        assert_eq!(
            reply.header("access-control-allow-origin"),
            Some("https://app.example.com")
        );
    }
    let refused = host("serve x.wasm --cors-origin app.example.com");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr_text().contains("not an origin"));
}

#[test]
fn what_is_deployed_at_the_admin_door_has_what_every_route_has() {
    let file = File::new("[every_route]\ndeny = [\"127.0.0.1\"]\n");
    let host = file.serve();
    let socket = flag("--admin", host.socket());
    let hello = file.path("hello.wasm");
    let deployed = crate::support::host(&format!("deploy {} {socket}", hello.display()));
    assert_eq!(deployed.code, Some(0), "{}", deployed.stderr_text());
    assert_eq!(host.get("/hello/").status(), 403);
    file.say("");
    eventually("the list is gone", || {
        (host.get("/hello/").status() == 200).then_some(())
    });
}

#[test]
fn an_earlier_version_keeps_the_locks_of_its_route() {
    let file = File::new(AUTH);
    let host = file.serve();
    let ann = "GET /ok\nAuthorization: Basic YW5uOnNlY3JldA==";
    assert_eq!(ask(&host, ann).status(), 200);
    let socket = flag("--admin", host.socket());
    // It serves before it is written down, and what is replaced by then is no version.
    eventually("a version", || {
        let list = crate::support::host(&format!("list {socket}"));
        list.stdout_text().contains("file v1").then_some(())
    });
    fs::copy(HELLO.path(), file.path("new")).expect("copied");
    fs::rename(file.path("new"), file.path("faults.wasm")).expect("renamed");
    eventually("the new one", || {
        (!ask(&host, ann).text().starts_with("ok")).then_some(())
    });
    eventually("a rollback", || {
        let back = crate::support::host(&format!("rollback faults {socket}"));
        (back.code == Some(0)).then_some(())
    });
    eventually("the former", || {
        (ask(&host, ann).text() == "ok\n").then_some(())
    });
    assert_eq!(host.get("/ok").status(), 401);
}
