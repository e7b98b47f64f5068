//! Claims about whole files.

use std::collections::BTreeSet;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;

use super::*;
use crate::capabilities::blobstore::{ContainerGrant, Quota};
use crate::capabilities::keyvalue::Durability;
use crate::catalog::OwnAnswer;
use crate::client::Peer;
use crate::engine::Directory;
use crate::limits::HandlerLimits;
use crate::observe::access_log::Format;
use crate::server::{ListenerConfig, Place};

const EXAMPLE: &str = include_str!("example.toml");

const PEOPLE: &[u8] =
    b"# of the office\nann:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n";

/// A certificate and its key.
fn identity() -> &'static (String, String) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).expect("made");
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
}

/// Reads `text` as a host's file in a directory that has a directory `public`.
fn read<T>(
    text: &str,
    look: impl FnOnce(&Reader<'_>, &Config) -> T,
) -> (T, Result<Config, Mistakes>) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("public")).expect("public");
    let variable = |name: &str| {
        let value = match name {
            "USER" => "ada",
            "TOKEN" => "hunter2",
            "LONG_TOKEN" => LONG_TOKEN,
            "REDIS_URL" => "rediss://host:hunter2@redis.example.com:6380/0",
            "EMPTY" => "",
            "COUNT" => "12",
            "CREDENTIALS_DIRECTORY" => "/run/credentials",
            _ => return None,
        };
        Some(value.into())
    };
    let files = |path: &Path, _: usize| {
        let name = path.file_name().and_then(|name| name.to_str());
        match name {
            Some("admin.token") => Ok(b"open-sesame-open-sesame-open-sesame\n".to_vec()),
            Some("acme") if path.starts_with("/run/credentials") => Ok(b"acme's\r\n".to_vec()),
            Some("acme.token") => Ok(b"0123456789abcdef0123456789abcdef\n".to_vec()),
            Some("robots.txt") => Ok(b"User-agent: *\n".to_vec()),
            Some("people.htpasswd") => Ok(PEOPLE.to_vec()),
            Some("404.html" | "error.html") => Ok(b"<h1>oops</h1>".to_vec()),
            Some("pay-ca.pem" | "pay.pem") => Ok(identity().0.clone().into_bytes()),
            Some("pay-key.pem") => Ok(identity().1.clone().into_bytes()),
            Some("binary") => Ok(vec![0xff]),
            Some("busy") => Err(Errno::MFILE.into()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    };
    let outside = Outside {
        variable: &variable,
        read: &files,
    };
    let file = directory.path().join("host.toml");
    let reader = Reader::new(&file, text, &outside);
    let config = config(&reader);
    let seen = look(&reader, &config);
    (seen, reader.end(Some(config)))
}

fn fine(text: &str) -> Config {
    match read(text, |_, _| ()).1 {
        Ok(config) => config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

fn mistakes(text: &str) -> Mistakes {
    read(text, |_, _| ()).1.expect_err(text)
}

#[test]
fn what_cannot_be_opened_for_now_may_be_no_mistake_later() {
    for (name, is_so) in [("busy", true), ("absent", false)] {
        for text in [
            format!("[admin]\naddress = \"127.0.0.1:9090\"\ntoken = {{ from_file = \"{name}\" }}"),
            format!(
                "[[routes]]\npath = \"/\"\nrespond = {{ content_type = \"text/plain\", body_file = \"{name}\" }}"
            ),
        ] {
            assert_eq!(mistakes(&text).is_for_now(), is_so, "{text}");
        }
    }
}

/// What is said, with the text that is underlined.
fn said(text: &str) -> Vec<(String, String)> {
    let rendered = mistakes(text).to_string();
    let lines: Vec<_> = rendered.lines().collect();
    let mut said = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(message) = line.strip_prefix("error: ") {
            let (shown, under) = (lines[at + 3], lines[at + 4]);
            let under = under.find('^').map_or(0..0, |at| at..under.len());
            let underlined = shown.get(under).unwrap_or_default();
            said.push((message.to_owned(), underlined.to_owned()));
        }
    }
    said
}

/// Every `table.key` that the reader has asked for and found.
pub(super) fn keys_used_by_the_example() -> Vec<String> {
    let other_doors = "[listen]\naddress = \":80\"\n[admin]\nsocket = \"admin.sock\"";
    let used = |text| read(text, |reader, _| reader.used.borrow().clone()).0;
    let used: BTreeSet<String> = &used(EXAMPLE) | &used(other_doors);
    used.into_iter().collect()
}

#[test]
fn an_empty_file_is_a_host_with_what_limits_says() {
    let config = fine("");
    assert_eq!(config.door, Door::default());
    assert_eq!(config.admin, None);
    assert_eq!(config.state, State::default());
    assert!(config.handlers.is_empty() && config.tenants.is_empty() && config.fixed.is_empty());
}

#[test]
fn the_host_is_as_the_example_says() {
    let config = fine(EXAMPLE);
    let places = config.door.listeners.iter();
    let places: BTreeSet<_> = places.map(|it| it.place.to_string()).collect();
    assert!(places.contains("127.0.0.1:9000") && places.contains("systemd:web"));
    assert!(
        places.contains("[::1]:9443") && places.len() == 4,
        "{places:?}"
    );
    let with = |is_it: fn(&&ListenerConfig) -> bool| {
        let mut those = config.door.listeners.iter().filter(is_it);
        let one = those.next().expect("there");
        assert_eq!(those.next(), None);
        one
    };
    let proxies = with(|it| it.proxy_protocol);
    assert!(
        matches!(&proxies.place, Place::Unix { path, mode: 0o666 } if path.ends_with("run/http.sock"))
    );
    let tls = with(|it| it.tls.is_some()).tls.as_ref().expect("TLS");
    let keys: Vec<_> = tls
        .certificates
        .iter()
        .map(|it| it.key.file_name())
        .collect();
    assert_eq!(
        keys,
        ["example.com.key", "example.org.key"].map(|it| Some(it.as_ref()))
    );
    let clients = tls.client_certificates.as_ref().expect("said");
    assert!(clients.ca.ends_with("clients.pem") && !clients.required);
    assert_eq!(config.door.access_log, Format::Json);
    assert_eq!(config.door.drain, Duration::from_secs(20));
    let door = &config.door.limits;
    assert_eq!((door.connections, door.request_headers), (5_000, 50));
    assert_eq!(door.request_head, 32 << 10);
    assert_eq!(
        [
            door.first_byte,
            door.header_read,
            door.idle,
            door.write_stall,
            door.handshake
        ],
        [1, 2, 3, 4, 5].map(Duration::from_secs)
    );
    assert!(config.door.trusted_proxies.hold(&Peer::Unix));
    let Some(Admin::Address {
        address,
        token: Some(token),
        tls: Some(tls),
    }) = &config.admin
    else {
        panic!("{:?}", config.admin);
    };
    assert!(tls.certificates[0].cert.ends_with("admin.pem"));
    assert_eq!(
        (address.port(), token.reveal()),
        (9090, "open-sesame-open-sesame-open-sesame")
    );
    let directory = config.state.directory.as_ref().expect("said");
    assert!(directory.is_absolute() && directory.ends_with("state"));
    let files = [&config.log.own.file, &config.log.access_log_file];
    let files = files.map(|file| file.as_ref().expect("said"));
    assert!(files[0].ends_with("host.log") && files[1].ends_with("access.log"));
    assert!(files.iter().all(|file| file.is_absolute()));
    assert_eq!(config.log.own.format, crate::observe::log::Format::Json);
    let [acme] = &*config.tenants else {
        panic!("{:?}", config.tenants);
    };
    assert_eq!((&*acme.name, acme.max_memory), ("acme", Some(1 << 30)));
    assert_eq!(acme.max_concurrent_requests, Some(100));
    assert_eq!(acme.requests_per_second, Some(50));
    assert_eq!(acme.max_handlers, Some(20));
    assert_eq!(acme.max_stored_bytes, Some(200 << 20));
    assert_eq!(acme.routes[1].to_string(), "*.acme.example.com/*");
    let [token] = &*acme.admin_tokens else {
        panic!("{:?}", acme.admin_tokens);
    };
    assert_eq!(token.reveal(), "0123456789abcdef0123456789abcdef");
    assert_eq!(config.tenants()[0].handlers_of_files, 1);
}

#[test]
fn a_handler_is_as_the_example_says() {
    let config = fine(EXAMPLE);
    let [shop] = &*config.handlers else {
        panic!("{:?}", config.handlers);
    };
    assert_eq!(
        (&*shop.name, shop.tenant.as_deref()),
        ("shop", Some("acme"))
    );
    let base = shop.source.parent().expect("a directory");
    assert!(shop.source.ends_with("shop.wasm") && base.is_absolute());
    assert_eq!(shop.routes[0].to_string(), "example.com/shop/*");
    assert_eq!(shop.routes[1].to_string(), "*.example.com/a/{id}");
    assert_eq!(shop.routes[1].methods, ["GET", "POST"]);
    assert!(shop.routes[1].strip_prefix && !shop.routes[0].strip_prefix);
    let limits = HandlerLimits {
        deadline: Duration::from_secs(10),
        body_deadline: Duration::from_secs(11),
        cpu: Duration::from_millis(500),
        memory: 64 << 20,
        request_body: 1 << 20,
        concurrent_requests: 10,
        waiting_requests: 20,
        permit_wait: Duration::from_secs(1),
    };
    assert_eq!(shop.limits, limits);
    assert_eq!((shop.guest.memory, shop.guest.fields), (64 << 20, 16 << 10));
    let reuse = &shop.guest.reuse;
    assert_eq!((reuse.requests, reuse.concurrent), (Some(7), 2));
    assert_eq!(reuse.idle, Duration::from_secs(5));
    let variables = shop.guest.environment.iter();
    let variables: Vec<_> = variables
        .map(|(name, value)| (&**name, value.reveal()))
        .collect();
    let said = [
        ("KEY", "value of ada"),
        ("KEY_FILE", "acme's"),
        ("TOKEN", "hunter2"),
    ];
    assert_eq!(variables, said);
    let public = Directory {
        host: base.join("public"),
        guest: "/public".to_owned(),
        writable: true,
    };
    assert_eq!(shop.guest.directories, [public]);
    assert_eq!(shop.guest.grants.calls, ["cart", "stock"].map(Arc::from));
    let outbound = &shop.guest.grants.outbound;
    let to: Vec<_> = outbound.allow.iter().map(|it| it.to.to_string()).collect();
    let patterns = [
        "https://api.example.com",
        "http://127.0.0.1:*",
        "https://*.pay.example.com:8443",
        "http://rpc.internal:50051",
    ];
    assert_eq!(to, patterns);
    assert_eq!(
        (outbound.connections, outbound.requests),
        (Some(20), Some(200))
    );
    assert!(outbound.networks.hold_address([10, 1, 2, 3].into()));
    let pay = &outbound.allow[2];
    assert!(pay.authorities.is_some() && pay.identity.is_some() && !pay.has_h2);
    assert_eq!((pay.connections, pay.requests), (Some(4), Some(40)));
    assert_eq!(pay.times.between_bytes, Duration::from_secs(3));
    assert_eq!(pay.times.total, Some(Duration::from_secs(60)));
    assert!(outbound.allow[3].has_h2);
    let buckets = shop.guest.grants.keyvalue.iter();
    let stores: Vec<_> = buckets.map(|it| (&*it.name, &*it.store)).collect();
    assert_eq!(
        stores,
        [
            ("carts", "shared"),
            ("orders", "file"),
            ("visits", "memory")
        ]
    );
    let orders = &shop.guest.grants.keyvalue[1];
    assert_eq!(
        (orders.quota.keys, orders.quota.value, orders.quota.bytes),
        (1_000, 64 << 10, 16 << 20)
    );
    assert_eq!(
        orders.durability,
        Durability::Within(Duration::from_millis(50))
    );
    assert!(
        matches!(&config.stores["shared"], StoreKind::Redis(url) if url.reveal().contains("hunter2"))
    );
    let pictures = ContainerGrant {
        name: Arc::from("pictures"),
        quota: Quota {
            objects: 100,
            object: 2 << 20,
            bytes: 20 << 20,
        },
    };
    assert_eq!(shop.guest.grants.blobstore, [pictures]);
    assert!(shop.required && shop.spec().required);
    let warm_up = shop.warm_up.as_ref().map(ToString::to_string);
    assert_eq!(warm_up.as_deref(), Some("HEAD /ready=204"));
}

#[test]
fn what_a_route_does_not_say_of_its_policy_every_route_says() {
    let config = fine(EXAMPLE);
    assert!(config.door.trusted_proxies.hold(&Peer::Unix));
    let [shop] = &*config.handlers else {
        panic!("{:?}", config.handlers);
    };
    let every = config.defaults.every.as_ref().expect("said");
    assert_eq!(shop.routes[0].policy.as_ref(), Some(every));
    assert_eq!(shop.routes[1].policy.as_ref(), Some(every));
    let own = shop.routes[2].policy.as_ref().expect("its own");
    let names = |fields: &[(http::HeaderName, http::HeaderValue)]| {
        let all = fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
        all.collect::<Vec<_>>()
    };
    assert_eq!(
        names(&own.headers.set),
        ["strict-transport-security: max-age=0"]
    );
    assert_eq!(names(&own.headers.add), ["link: </a.css>"]);
    assert_eq!(own.headers.remove, ["server", "x-powered-by"]);
    let at = |address: &str| {
        Peer::Address((address.parse::<std::net::IpAddr>().expect(address), 1).into())
    };
    assert!(own.access.admits(&at("2001:db8::2")) && !own.access.admits(&at("2001:db8::1")));
    assert!(!own.access.admits(&at("10.0.0.1")) && every.access.admits(&at("10.0.0.1")));
    let cors = own.cors.as_ref().expect("cors");
    assert_eq!(
        (cors.credentials, &cors.max_age),
        (true, &Some(3600.into()))
    );
    assert_eq!(cors.methods, "GET, PUT");
    assert_eq!(cors.headers.as_ref().expect("said"), "x-token");
    let page = |status: u16| own.pages.of(status.try_into().expect("a status")).is_some();
    assert!(page(404) && page(500) && page(503) && !page(403));
    let fixed = config.fixed[2].route.policy.as_ref().expect("its own");
    assert!(!fixed.compress && fixed.pages.of(http::StatusCode::FORBIDDEN).is_some());
    assert_eq!(
        fixed.basic_auth.as_ref().expect("auth").challenge,
        "Basic realm=\"old things\", charset=\"UTF-8\""
    );
    let parts: Vec<_> = config
        .parts
        .iter()
        .filter_map(|path| path.file_name())
        .collect();
    assert_eq!(
        parts,
        [
            "404.html",
            "error.html",
            "pay-ca.pem",
            "pay-key.pem",
            "pay.pem",
            "people.htpasswd"
        ]
    );
}

#[test]
fn what_is_wrong_with_a_policy_is_said() {
    for (keys, message) in [
        (r#"allow = ["10.0.0.1/8"]"#, "`10.0.0.0/8`"),
        (r#"deny = ["everybody"]"#, "not a network"),
        (
            r#"cors = { origins = ["*"], credentials = true }"#,
            "no browser takes `*`",
        ),
        (r#"cors = { origins = ["*", "https://a"] }"#, "every origin"),
        (
            r#"cors = { origins = ["https://a.example/"] }"#,
            "not an origin",
        ),
        (r#"cors = { origins = ["a.example"] }"#, "not an origin"),
        (r#"cors = { origins = [] }"#, "no origin"),
        (r#"cors = { }"#, "`origins` is missing"),
        (
            r#"headers = { set = { content-length = "5" } }"#,
            "the host's own",
        ),
        (
            r#"headers = { set = { "a b" = "5" } }"#,
            "no name of a header",
        ),
        (
            r#"headers = { add = { x = "café" } }"#,
            "not the value of a header",
        ),
        (
            r#"headers = { remove = ["x-request-id"] }"#,
            "the host's own",
        ),
        (r#"basic_auth = { file = "nowhere" }"#, "cannot be read"),
        (
            r#"basic_auth = { file = "robots.txt" }"#,
            "line 1 is not one of bcrypt",
        ),
        (r#"basic_auth = { file = "binary" }"#, "not UTF-8"),
        (
            r#"basic_auth = { file = "people.htpasswd", realm = 'a"b' }"#,
            "not a realm",
        ),
        (
            r#"error_pages = { 200 = "404.html" }"#,
            "not the status of an error",
        ),
        (r#"error_pages = { 404 = "nowhere" }"#, "cannot be read"),
        (r#"compress = "yes""#, "neither `true` nor `false`"),
    ] {
        let said = mistakes(&format!("[every_route]\n{keys}")).to_string();
        assert!(said.contains(message), "{keys}: {said}");
    }
    let said = mistakes("[listen]\ntrusted_proxies = [\"10.0.0.0/40\"]").to_string();
    assert!(said.contains("not a network"), "{said}");
}

#[test]
fn routes_without_a_guest_are_as_the_example_says() {
    let config = fine(EXAMPLE);
    let [page, robots, old] = &*config.fixed else {
        panic!("{:?}", config.fixed);
    };
    assert_eq!(page.route.to_string(), "example.com/");
    assert_eq!(page.route.methods, ["GET"]);
    let respond = |status: u16, content_type, body: &str| OwnAnswer::Fixed {
        status: http::StatusCode::from_u16(status).expect("a status"),
        content_type: Some(http::HeaderValue::from_static(content_type)),
        body: body.to_owned().into(),
    };
    assert_eq!(page.answer, respond(404, "text/html", "<h1>hi</h1>"));
    let plain = "text/plain; charset=utf-8";
    assert_eq!(robots.answer, respond(200, plain, "User-agent: *\n"));
    let to = http::HeaderValue::from_static("https://example.com/new/");
    let status = http::StatusCode::FOUND;
    assert_eq!(old.answer, OwnAnswer::Redirect { to, status });
}

#[test]
fn every_key_of_the_table_is_in_the_example() {
    let all: BTreeSet<String> = HOST
        .family()
        .iter()
        .flat_map(|shape| {
            shape
                .keys
                .iter()
                .map(|key| format!("{}.{}", shape.name, key.name))
        })
        .collect();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        keys_used_by_the_example()
    );
}

/// A handler, and what is said of it.
const SHOP: &str = "[tenants.acme]\n[handlers.shop]\nsource = \"shop.wasm\"\n";
const ROUTED: &str = "[handlers.shop]\nsource = \"shop.wasm\"\nroutes = [\"/*\"]\n";

#[test]
fn a_mistake_is_said_once_at_its_place_with_what_to_do() {
    for (before, text, under, hint) in [
        ("", "lisen = 1", "lisen", "did you mean `listen`?"),
        ("", "[lisen]", "lisen", "did you mean `listen`?"),
        (
            "",
            "qqqqqq = 1",
            "qqqqqq",
            "there are `listen`, `listeners`, `admin`",
        ),
        (
            "",
            "address = \":80\"",
            "address",
            "it stands in `[listen]`",
        ),
        ("", "listen = 3", "3", "a number, not a table"),
        ("", "[[listen]]", "[[listen]]", "a list, not a table"),
        (
            "",
            "[listen]\naddress = \"nonsense\"",
            "\"nonsense\"",
            "127.0.0.1:8080",
        ),
        (
            "",
            "[listen]\naccess_log = \"xml\"",
            "\"xml\"",
            "`combined`, `json`, `off`",
        ),
        (
            "",
            "[listen]\nidle_timeout = \"5 parsecs\"",
            "\"5 parsecs\"",
            "write `30s`",
        ),
        ("", "[listen]\nidle_timeout = 0", "0", "at least `1ms`"),
        ("", "[listen]\nidle_timeout = -1", "-1", "write `30s`"),
        ("", "[listen]\nidle_timeout = 1.5", "1.5", "write `30s`"),
        ("", "[listen]\nidle_timeout = [1]", "[1]", "write `30s`"),
        (
            "",
            "[listen]\nidle_timeout = 1979-05-27",
            "1979-05-27",
            "write `30s`",
        ),
        (
            "",
            "[listen]\nmax_request_head = \"64KB\"",
            "\"64KB\"",
            "write `128MiB`",
        ),
        (
            "",
            "[listen]\nmax_request_head = \"1B\"",
            "\"1B\"",
            "less than 1KiB",
        ),
        (
            "",
            "[listen]\nmax_connections = \"many\"",
            "\"many\"",
            "from 1 to",
        ),
        ("", "[listen]\nmax_connections = 0x0", "0x0", "at least 1"),
        (
            "",
            "[listen]\nmax_connections = 99999999999999999999",
            "99999999999999999999",
            "from 1 to",
        ),
        ("", "[defaults]\nmemory = \"1K\"", "\"1K\"", "64KiB"),
        ("", "[defaults]\ntimeout = true", "true", "write `30s`"),
        ("", "listeners = {}", "{}", "nobody could come in"),
        ("", "[listeners.a]", "[listeners.a]", "write one of them"),
        (
            "[listen]\naddress = \":1\"\n[listeners.a]\naddress = \":2\"",
            "",
            "\":1\"",
            "without `[listeners]`",
        ),
        (
            "[listeners.a]\naddress = \":2\"",
            "mode = \"0600\"",
            "\"0600\"",
            "it is for a `socket`",
        ),
        (
            "[listeners.a]\nsocket = \"s\"",
            "mode = \"rw\"",
            "\"rw\"",
            "write `\"0660\"`",
        ),
        (
            "",
            "[listeners.a]\naddress = \":2\"\nsocket = \"s\"",
            "[listeners.a]",
            "write one of them",
        ),
        (
            "[listeners.a]\naddress = \":2\"\n[listeners.b]",
            "address = \"127.0.0.1:2\"",
            "[listeners.b]",
            "another listener is at `127.0.0.1:2` already",
        ),
        (
            "[listeners.a]\nsocket = \"s\"",
            "[admin]\nsocket = \"s\"",
            "[admin]",
            "a place of its own",
        ),
        (
            "[log]",
            "file = \"none/host.log\"",
            "\"none/host.log\"",
            "make it first",
        ),
        (
            "[log]",
            "access_log_file = \"/\"",
            "\"/\"",
            "name a file in it",
        ),
        (
            "[listeners.a]",
            "systemd = \"\"",
            "\"\"",
            "FileDescriptorName",
        ),
        (
            "[listeners.a]\naddress = \":2\"",
            "tls = {}",
            "{}",
            "write `certificates = ",
        ),
        (
            "[listeners.a]\naddress = \":2\"",
            "tls = { certificates = [] }",
            "[]",
            "nothing to show",
        ),
        (
            "[listeners.a]\naddress = \":2\"",
            "tls = { certificates = [{ cert = \"c\" }] }",
            "{ cert = \"c\" }",
            "write `key = ",
        ),
        ("[listeners.\"A b\"]\naddress = \":2\"", "", "\"A b\"", ""),
        ("", "[admin]", "[admin]", "`socket` or an `address`"),
        (
            "",
            "[admin]\naddress = \"127.0.0.1:1\"",
            "[admin]",
            "needs a `token`",
        ),
        (
            "[admin]\nsocket = \"s\"",
            "tls = { certificates = [{ cert = \"c\", key = \"k\" }] }",
            "{ certificates = [{ cert = \"c\", key = \"k\" }] }",
            "leave it out",
        ),
        (
            "",
            "[admin]\naddress = \":1\"\ntls = { certificates = [{ cert = \"c\", key = \"k\" }] }",
            "[admin]",
            "`client_certificates`",
        ),
        ("", "[admin]\nsocket = \"\"", "\"\"", "not a path"),
        (
            "[admin]\nsocket = \"s\"",
            "token = \"${TOKEN}\"",
            "\"${TOKEN}\"",
            "leave it out",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = \"${EMPTY}\"",
            "\"${EMPTY}\"",
            "it is empty",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = \"${NOT}\"",
            "${NOT}",
            "`NOT` is not set",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = \"hunter2\"",
            "\"*******\"",
            "from_file",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = {}",
            "{}",
            "one of `from_env`",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = { from_env = \"TOKEN\", from_file = \"f\" }",
            "{ from_env = \"TOKEN\", from_file = \"f\" }",
            "comes from one place",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = { from_file = \"none\" }",
            "\"none\"",
            "cannot be read",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = { from_file = \"binary\" }",
            "\"binary\"",
            "not UTF-8",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = { from_credential = \"../x\" }",
            "\"../x\"",
            "without `/` and `..`",
        ),
        (
            "[admin]\naddress = \":1\"",
            "token = { from_env = \"A B\" }",
            "\"A B\"",
            "no name of a variable",
        ),
        ("", "[tenants.\"-acme\"]", "\"-acme\"", "at most 63"),
        ("", "[tenants.a]\nmax_memory = 1", "1", "64KiB"),
        (
            "",
            "[handlers.\"a/b\"]\nsource = \"a\"\nroutes = [\"/*\"]",
            "\"a/b\"",
            "at most 63",
        ),
        (
            "[handlers.shop]",
            "routes = [\"/*\"]",
            "",
            "write `source = \"shop.wasm\"`",
        ),
        (SHOP, "", "", "write `routes = "),
        (
            "",
            "[state]\ndirectory = \"/etc/passwd\"",
            "\"/etc/passwd\"",
            "name a directory",
        ),
        (SHOP, "routes = []", "[]", "never reached"),
        (SHOP, "routes = \"/*\"", "\"/*\"", "a text, not a list"),
        (
            SHOP,
            "routes = [\"shop\"]",
            "\"shop\"",
            "write `[HOST]/PATH`",
        ),
        (
            SHOP,
            "routes = [{ path = \"shop\" }]",
            "\"shop\"",
            "put one before it",
        ),
        (
            SHOP,
            "routes = [{ host = \"a\" }]",
            "{ host = \"a\" }",
            "write `path = ",
        ),
        (
            SHOP,
            "routes = [{ path = \"/\", host = \"a:1\" }]",
            "\"a:1\"",
            "leave a port out",
        ),
        (
            SHOP,
            "routes = [{ path = \"/\", methods = [\"get\"] }]",
            "\"get\"",
            "`GET`",
        ),
        (
            SHOP,
            "routes = [{ path = \"/\", strip_prefix = \"yes\" }]",
            "\"yes\"",
            "without quotes",
        ),
        (
            SHOP,
            "routes = [\"/*\"]\ntenant = \"acmee\"",
            "\"acmee\"",
            "did you mean `acme`?",
        ),
        (
            SHOP,
            "routes = [\"/*\"]\ntenant = \"zzz\"",
            "\"zzz\"",
            "`[tenants.NAME]`",
        ),
        (
            ROUTED,
            "timeout = \"1s\"",
            "timeout",
            "`limits` of a handler",
        ),
        (ROUTED, "rotes = []", "rotes", "did you mean `routes`?"),
        (ROUTED, "env = { A = 1 }", "*", "write one in quotes"),
        (ROUTED, "env = { \"A=B\" = \"\" }", "\"A=B\"", "without `=`"),
        (
            ROUTED,
            "env = { \"A\\u0000\" = \"\" }",
            "",
            "and control characters",
        ),
        (
            ROUTED,
            "config = { \"\\u001b[2J\" = \"\" }",
            "",
            "and control characters",
        ),
        (ROUTED, "env = { A = \"a\\u0000b\" }", "", "with a NUL"),
        (
            ROUTED,
            "blobstore = { a = { max_object = \"2GiB\" } }",
            "\"2GiB\"",
            "`max_bytes`, which is 1073741824 bytes",
        ),
        (
            ROUTED,
            "blobstore = { a = { max_object = \"2MiB\", max_bytes = \"1MiB\" } }",
            "\"2MiB\"",
            "raise that, or lower this",
        ),
        (
            ROUTED,
            "keyvalue = { a = { max_value = \"2KiB\", max_bytes = \"1KiB\" } }",
            "\"2KiB\"",
            "raise that, or lower this",
        ),
        (ROUTED, "calls = [\"a/b\"]", "\"a/b\"", "is no name"),
        (
            ROUTED,
            "outbound = { allow = [\"*\"] }",
            "\"*\"",
            "write `everywhere` if that is meant",
        ),
        (
            ROUTED,
            "outbound = { allow = [\"https://*.com\"] }",
            "\"https://*.com\"",
            "every host below `com`",
        ),
        (
            ROUTED,
            "outbound = { allow = [\"https://a.example/v1\"] }",
            "\"https://a.example/v1\"",
            "leave the rest out",
        ),
        (
            ROUTED,
            "outbound = { networks = [\"10.0.0.0/8\"] }",
            "{ networks = [\"10.0.0.0/8\"] }",
            "`allow` is missing here",
        ),
        (
            ROUTED,
            "outbound = { allow = [], networks = [\"10.0.0.0/8\"] }",
            "[\"10.0.0.0/8\"]",
            "write one there, or leave it out",
        ),
        (
            ROUTED,
            "outbound = { allow = [\"https://a.example\"], networks = [\"8000::/1\"] }",
            "\"8000::/1\"",
            "write those that are meant",
        ),
        (
            ROUTED,
            "outbound = { allow = [\"https://a.example\"], networks = [\"0.0.0.0/0\"] }",
            "\"0.0.0.0/0\"",
            "write those that are meant",
        ),
        (
            ROUTED,
            "outbound = { allow = [\"https://a.example\"], networks = [\"unix\"] }",
            "\"unix\"",
            "not a network",
        ),
        (
            ROUTED,
            "outbound = { allow = [{ to = \"https://a.example\", cert = \"pay.pem\" }] }",
            "\"pay.pem\"",
            "write `key` too",
        ),
        (
            ROUTED,
            "outbound = { allow = [{ to = \"https://a.example\", ca = \"robots.txt\" }] }",
            "\"robots.txt\"",
            "holds no certificate",
        ),
        (
            ROUTED,
            "outbound = { allow = [{ to = \"http://a.example\", ca = \"pay-ca.pem\" }] }",
            "\"pay-ca.pem\"",
            "nobody shows a certificate in the clear",
        ),
        (
            ROUTED,
            "outbound = { allow = [{ to = \"https://a.example\", http2 = true }] }",
            "true",
            "over TLS both sides agree",
        ),
        (
            ROUTED,
            "warm_up = { path = \"ready\" }",
            "\"ready\"",
            "begins with `/`",
        ),
        (
            ROUTED,
            "warm_up = { path = \"/\", status = 100 }",
            "100",
            "from 200 to 599",
        ),
        (
            ROUTED,
            "dirs = [{ host = \"public\" }]",
            "{ host = \"public\" }",
            "write `guest = ",
        ),
        (
            ROUTED,
            "dirs = [{ host = \"none\", guest = \"/\" }]",
            "\"none\"",
            "make it first",
        ),
        (
            ROUTED,
            "dirs = [{ host = \"public\", guest = \"public\" }]",
            "\"public\"",
            "begin it with `/`",
        ),
        (
            ROUTED,
            "dirs = [{ host = \"public\", guest = \"/a\" }, { host = \".\", guest = \"/a/\" }]",
            "{ host = \".\", guest = \"/a/\" }",
            "a `guest` of its own",
        ),
        (
            "",
            "[[routes]]\npath = \"/\"",
            "[[routes]]",
            "`respond` or `redirect`",
        ),
        (
            "[[routes]]\npath = \"/\"",
            "respond = { status = 99 }",
            "99",
            "from 200 to 599",
        ),
        (
            "[[routes]]\npath = \"/\"",
            "respond = { content_type = \"a\\nb\" }",
            "\"a\\nb\"",
            "visible",
        ),
        (
            "[[routes]]\npath = \"/\"",
            "respond = { body_file = \"none\" }",
            "\"none\"",
            "cannot be read",
        ),
        (
            "[[routes]]\npath = \"/\"",
            "redirect = { to = \"/\", status = 304 }",
            "304",
            "307 or 308",
        ),
        (
            "[[routes]]\npath = \"/\"",
            "redirect = { to = \"\" }",
            "\"\"",
            "a URL or a path",
        ),
        (
            ROUTED,
            "[[routes]]\npath = \"/*\"\nredirect = { to = \"/\" }",
            "[[routes]]",
            "both have the route",
        ),
        (
            "",
            "[listen]\naddress = \":1\"\naddress = \":2\"",
            "address",
            "keep one of them",
        ),
        ("", "[listen", "", "not TOML"),
        ("", "a = \"", "", "not TOML"),
        ("", "= 1", "", "not TOML"),
    ] {
        let text = format!("{before}\n{text}\n");
        let said = said(&text);
        let [(message, underlined)] = &*said else {
            panic!("not one mistake in\n{text}\n{}", mistakes(&text));
        };
        assert!(message.contains(hint), "{message}");
        assert!(
            under.is_empty() || underlined == under,
            "`{underlined}` in\n{}",
            mistakes(&text)
        );
        assert!(
            !message.contains("hunter2") && !message.ends_with('.'),
            "{message}"
        );
    }
}

#[test]
fn a_value_of_another_type_than_its_key_takes_is_refused_where_it_stands() {
    const LIST: &str = "[\"a\"]";
    const TABLE: &str = "{ x = 1 }";
    const DATE: &str = "1979-05-27";
    let no_text = [LIST, TABLE, DATE, "true", "7", "1.5"];
    // Where a table may stand too.
    let neither = [LIST, DATE, "true", "7", "1.5"];
    let no_number = [LIST, TABLE, DATE, "true", "1.5"];
    let no_flag = [LIST, TABLE, DATE, "\"true\"", "1"];
    let no_list = ["\"a\"", TABLE, DATE, "true", "7"];
    let no_table = ["\"a\"", LIST, DATE, "true", "7"];
    let listener = "[listeners.a]\naddress = \":2\"\n";
    let of_handler = |key: &str| format!("{ROUTED}\n{key}");
    let text = "not a text: write one in quotes";
    for (written, wrong, hint) in [
        ("[log]\nfile = @".to_owned(), &no_text[..], text),
        ("[listeners.a]\naddress = @".to_owned(), &no_text, text),
        ("[listeners.a]\nsystemd = @".to_owned(), &no_text, text),
        (
            "[listeners.a]\nsocket = \"s\"\nmode = @".to_owned(),
            &no_text,
            text,
        ),
        (
            format!("{listener}tls = {{ certificates = [{{ cert = @, key = \"k\" }}] }}"),
            &no_text,
            text,
        ),
        (
            "[every_route]\nbasic_auth = { file = \"people.htpasswd\", realm = @ }".to_owned(),
            &no_text,
            text,
        ),
        (
            "[[routes]]\npath = \"/\"\nrespond = { content_type = @ }".to_owned(),
            &no_text,
            text,
        ),
        (of_handler("tenant = @"), &no_text, text),
        (
            of_handler("dirs = [{ host = \"public\", guest = @ }]"),
            &no_text,
            text,
        ),
        (
            of_handler("warm_up = { path = \"/\", method = @ }"),
            &no_text,
            text,
        ),
        (of_handler("keyvalue = { a = @ }"), &neither, text),
        (
            "[stores.a]\ntype = \"redis\"\nurl = @".to_owned(),
            &neither,
            text,
        ),
        (
            "[admin]\naddress = \":1\"\ntoken = @".to_owned(),
            &neither,
            "write `{ from_file",
        ),
        // Lists of texts.
        (
            "[every_route]\nheaders = { remove = [@] }".to_owned(),
            &no_text,
            text,
        ),
        ("[listen]\ntrusted_proxies = [@]".to_owned(), &no_text, text),
        (of_handler("calls = [@]"), &no_text, text),
        (of_handler("sockets = [@]"), &no_text, text),
        (of_handler("outbound = { allow = [@] }"), &neither, text),
        // Texts by name.
        (
            "[every_route]\nheaders = { set = { x-a = @ } }".to_owned(),
            &no_text,
            text,
        ),
        (
            "[every_route]\nerror_pages = { 404 = @ }".to_owned(),
            &no_text,
            text,
        ),
        (of_handler("env = { A = @ }"), &neither, text),
        (of_handler("config = { a = @ }"), &neither, text),
        // Everything else.
        (
            "[listen]\nmax_connections = @".to_owned(),
            &no_number,
            "from 1 to",
        ),
        (
            "[listen]\nidle_timeout = @".to_owned(),
            &no_number,
            "write `30s`",
        ),
        (
            "[listen]\nmax_request_head = @".to_owned(),
            &no_number,
            "write `128MiB`",
        ),
        (
            of_handler("warm_up = { path = \"/\", status = @ }"),
            &no_number,
            "from 200 to 599",
        ),
        (
            "[every_route]\ncompress = @".to_owned(),
            &no_flag,
            "without quotes",
        ),
        (
            "[listen]\naccess_log = @".to_owned(),
            &no_text,
            "write one of",
        ),
        (
            "[every_route]\nallow = @".to_owned(),
            &no_list,
            "not a list",
        ),
        ("log = @".to_owned(), &no_table, "not a table"),
    ] {
        for value in wrong {
            let text = written.replace('@', value);
            let said = said(&text);
            let [(message, underlined)] = &*said else {
                panic!("not one mistake in\n{text}\n{}", mistakes(&text));
            };
            assert!(message.contains(hint), "{text}\n{message}");
            let is_hidden = underlined.contains('*');
            assert!(underlined == value || is_hidden, "{}", mistakes(&text));
        }
    }
}

#[test]
fn all_mistakes_of_all_tables_come_out_at_once() {
    let text = "
[listen]
idle_timeout = \"soon\"
[handlers.shop]
sorce = \"shop.wasm\"
routes = [\"shop\", \"/*\", \"a b/\"]
env = { A = \"${X} ${Y}\" }
";
    let said = said(text);
    let under: Vec<_> = said.iter().map(|(_, under)| &**under).collect();
    let all = [
        "\"soon\"",
        "[handlers.shop]",
        "sorce",
        "\"shop\"",
        "\"a b/\"",
        "${X}",
        "${Y}",
    ];
    assert_eq!(under, all);
}

#[test]
fn a_variable_can_be_any_value() {
    let config = fine("[listen]\nmax_connections = \"${COUNT}\"\nidle_timeout = \"${COUNT}s\"");
    assert_eq!(config.door.limits.connections, 12);
    assert_eq!(config.door.limits.idle, Duration::from_secs(12));
}

/// More of it than a message quotes.
const LONG_TOKEN: &str = "hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2\
                          hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2";

#[test]
fn no_secret_is_shown_by_a_mistake_beside_it_or_by_a_dump() {
    for text in [
        "[handlers.a]\nenv = { T = \"hunter2\", U = 5 }",
        "[handlers.a]\nenv = { T = \"hunter2\", T = \"\" }",
        "[handlers.a]\nenv = { T = \"hunter2\" } x",
        "[admin]\ntoken = \"hunter2\"",
        "[handlers.a]\nroutes = [\"${TOKEN}\"]",
        "[handlers.a]\nroutes = [{ path = \"/x\", host = \"${TOKEN} x\" }]",
        "[handlers.a]\nlimits = { timeout = \"${TOKEN}\" }",
        "[handlers.a]\noutbound = { allow = [\"${LONG_TOKEN}\"] }",
        "[handlers.a]\noutbound = { allow = [\"x${LONG_TOKEN}\"] }",
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"hunter2\"\n[defaults]\ntimeout = \"${NOT}\"",
    ] {
        let rendered = mistakes(text).to_string();
        assert!(!rendered.contains("hunter2"), "{rendered}");
    }
    let dump = format!("{:?}", fine(EXAMPLE));
    for secret in ["hunter2", "sesame", "acme's", "value of"] {
        assert!(!dump.contains(secret), "{dump}");
    }
}

#[test]
fn a_tenant_has_no_more_handlers_than_it_may() {
    let handler = |name: &str| {
        format!("[handlers.{name}]\nsource = \"a\"\ntenant = \"a\"\nroutes = [\"/{name}\"]\n")
    };
    let text = format!(
        "[tenants.a]\nmax_handlers = 1\n{}{}",
        handler("x"),
        handler("y")
    );
    let said = said(&text);
    assert_eq!(said.len(), 1);
    assert!(said[0].0.contains("2 handlers and may have 1"), "{said:?}");
}

#[test]
fn a_manifest_is_a_handler_beside_its_component() {
    let defaults = fine("[defaults]\ncpu = \"1s\"\n[tenants.acme]").defaults;
    let path = Path::new("/srv/shop.toml");
    let text = "tenant = \"acme\"\nenv = { A = \"b\" }\n[limits]\ntimeout = \"2s\"";
    let shop = manifest(path, text, &defaults).expect("a handler");
    assert_eq!(
        (&*shop.name, shop.tenant.as_deref()),
        ("shop", Some("acme"))
    );
    assert_eq!(shop.source, Path::new("/srv/shop.wasm"));
    assert!(shop.routes.is_empty());
    assert_eq!(shop.limits.cpu, Duration::from_secs(1));
    assert_eq!(shop.limits.deadline, Duration::from_secs(2));

    let other = manifest(path, "source = \"v2/shop.wasm\"", &defaults).expect("a handler");
    assert_eq!(other.source, Path::new("/srv/v2/shop.wasm"));
    for (path, text, hint) in [
        (
            "/srv/shop.toml",
            "tenant = \"nobody\"",
            "no tenant `nobody`",
        ),
        (
            "/srv/shop.toml",
            "timeout = \"2s\"",
            "`limits` of a handler",
        ),
        ("/srv/My Shop.toml", "", "at most 63"),
    ] {
        let mistakes = manifest(Path::new(path), text, &defaults).expect_err(text);
        assert_eq!(mistakes.count(), 1, "{mistakes}");
        assert!(mistakes.to_string().contains(hint), "{mistakes}");
    }
}

#[test]
fn two_names_of_handlers_that_differ_in_case_only_are_a_mistake() {
    let handler =
        |name: &str| format!("[handlers.{name}]\nsource = \"a.wasm\"\nroutes = [\"/{name}\"]\n");
    let said = said(&(handler("Shop") + &handler("shop")));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].0.contains("only in upper and lower case"),
        "{said:?}"
    );
}

#[test]
fn two_spellings_of_one_path_are_a_mistake_where_they_say_two_things() {
    let handler = |name: &str, routes: &str| {
        format!("[handlers.{name}]\nsource = \"a.wasm\"\nroutes = [{routes}]\n")
    };
    fine(&handler("a", "\"/%67reet/*\", \"/greet/*\""));
    let differing = [
        "\"/%67reet/*\", { path = \"/greet/*\", deny = [\"10.0.0.0/8\"] }",
        "\"/%67reet/*\", { path = \"/greet/*\", strip_prefix = true }",
        "{ path = \"/%67reet/*\", methods = [\"GET\"] }, { path = \"/greet/*\", methods = [\"GET\", \"PUT\"] }",
    ];
    for routes in differing {
        let said = said(&handler("a", routes));
        let message = "`a` has the route `/greet/*` twice, also as `/%67reet/*`: leave one out";
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, message);
    }
    let of_two = handler("a", "\"/%67reet/*\"") + &handler("b", "\"/greet/*\"");
    let said = said(&of_two);
    assert!(said[0].0.starts_with("`a` and `b` both have"), "{said:?}");
}
