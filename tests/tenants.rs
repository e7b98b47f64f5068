//! Tenants: whose a handler is, what a tenant's token opens and what it does not, how much a tenant may have.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::directory::{greeting, version};
use crate::support::operator::Operator;
use crate::support::*;

const OPERATOR: &str = "operatoroperatoroperator";
const ACME: &str = "acmeacmeacmeacmeacme";
const ACME_NEXT: &str = "acme-next-acme-next";
const BETA: &str = "betabetabetabetabeta";

/// What is said of two tenants.
const BOTH: &str = r#"
[tenants.acme]
routes = ["acme.example/*", "*.acme.example/*", "/acme/*"]
admin_tokens = [{ from_file = "acme.token" }, { from_file = "acme-next.token" }]
[tenants.beta]
routes = ["/beta/*", "/acme/beta/*"]
admin_tokens = [{ from_file = "beta.token" }]
"#;

/// A host with a file, tokens, and a door for operators.
struct Site {
    here: TempDir,
    admin: &'static str,
}

const TCP: &str = "address = \"127.0.0.1:0\"\ntoken = { from_file = \"operator.token\" }";
const SOCKET: &str = "socket = \"admin.sock\"";

impl Site {
    fn new(admin: &'static str, text: &str) -> Self {
        let site = Self {
            here: directory(),
            admin,
        };
        for (name, token) in [
            ("operator", OPERATOR),
            ("acme", ACME),
            ("acme-next", ACME_NEXT),
            ("beta", BETA),
        ] {
            site.put(&format!("{name}.token"), format!("{token}\n").as_bytes());
        }
        site.put("one.wasm", &version(1));
        site.put("two.wasm", &version(2));
        for (name, guest) in [("hello.wasm", HELLO), ("faults.wasm", FAULTS_P3)] {
            fs::copy(guest.path(), site.path(name)).expect("copied");
        }
        site.say(text);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.here.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn say(&self, text: &str) {
        let new = self.path(".new");
        let admin = self.admin;
        let text = format!(
            "{text}\n[listen]\naccess_log = \"json\"\n[state]\ndirectory = \"state\"\n[admin]\n{admin}\n"
        );
        fs::write(&new, text).expect("written");
        fs::rename(new, self.path("host.toml")).expect("renamed");
    }

    /// Says something else, and waits until the host has heard it so often.
    fn say_again(&self, host: &TestHost, text: &str, times: usize) {
        self.say(text);
        eventually("the file is taken up", || {
            let said = host.stderr();
            let taken = said.iter().filter(|line| line.contains("is taken up"));
            (taken.count() > times).then_some(())
        });
    }

    fn serve(&self) -> TestHost {
        TestHost::serve_file(&self.path("host.toml"), "")
    }

    /// A subcommand against the socket, with a token or without.
    fn host(&self, words: &str, token: Option<&str>) -> Ended {
        let socket = self.path("admin.sock");
        let file = token.map(|token| self.path(&format!("{token}.token")));
        let mut environment = vec![("HOST_ADMIN", socket.to_str().expect("a path"))];
        if let Some(file) = &file {
            environment.push(("HOST_ADMIN_TOKEN_FILE", file.to_str().expect("a path")));
        }
        host_with_env(words, &environment)
    }

    fn done(&self, words: &str, token: Option<&str>) -> String {
        let ended = self.host(words, token);
        assert_eq!(ended.code, Some(0), "{words}: {ended:?}");
        ended.stdout.join("\n")
    }

    fn refused(&self, words: &str, token: Option<&str>) -> String {
        let ended = self.host(words, token);
        assert_eq!(ended.code, Some(1), "{words}: {ended:?}");
        ended.stderr.join("\n")
    }

    fn deploy(&self, words: &str, token: Option<&str>) -> String {
        self.done(
            &format!("deploy {}/{words}", self.here.path().display()),
            token,
        )
    }

    fn refused_deploy(&self, words: &str, token: Option<&str>) -> String {
        self.refused(
            &format!("deploy {}/{words}", self.here.path().display()),
            token,
        )
    }
}

/// The operators' door on TCP.
struct Door(SocketAddr);

impl Door {
    fn of(host: &TestHost) -> Self {
        let said = host.says("Admin on http://");
        let address = said
            .split_once("http://")
            .and_then(|(_, rest)| rest.strip_suffix('/'));
        let address = address.and_then(|address| address.parse().ok());
        Self(address.expect("an address"))
    }

    fn ask(&self, token: &str, method: &str, target: &str, more: &str, body: &[u8]) -> Reply {
        let mut connection = Connection::to(self.0);
        let length = body.len();
        connection.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n{more}\r\n"
        ));
        connection.send(body);
        connection.reply()
    }

    fn get(&self, token: &str, target: &str) -> Reply {
        self.ask(token, "GET", target, "", b"")
    }

    fn deploy(&self, token: &str, name: &str, query: &str, component: &[u8]) -> Reply {
        self.ask(
            token,
            "PUT",
            &format!("/handlers/{name}?{query}"),
            "",
            component,
        )
    }

    /// The names that a token lists.
    fn names(&self, token: &str) -> Vec<String> {
        let listed = json(&self.get(token, "/handlers"));
        let handlers = listed["handlers"].as_array().expect("handlers");
        handlers
            .iter()
            .map(|handler| handler["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// What its audit log tells: who, what, of which.
    fn audit(&self, token: &str) -> Vec<String> {
        let log = json(&self.get(token, "/audit"));
        let changes = log["changes"].as_array().expect("changes");
        let word = |change: &Value, name: &str| change[name].as_str().expect("text").to_owned();
        changes
            .iter()
            .map(|it| [word(it, "who"), word(it, "action"), word(it, "handler")].join(": "))
            .collect()
    }
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{error} in {}", reply.text()))
}

fn detail(reply: &Reply) -> String {
    json(reply)["detail"].as_str().expect("a detail").to_owned()
}

/// What is served to a host and a path.
fn at(host: &TestHost, authority: &str, target: &str) -> Reply {
    host.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ))
    .reply()
}

fn comes_to(host: &TestHost, target: &str, status: u16) {
    eventually(&format!("{status} at {target}"), || {
        (host.get(target).status() == status).then_some(())
    });
}

#[test]
fn the_operator_deploys_for_a_tenant_whose_the_handler_stays() {
    let site = Site::new(SOCKET, BOTH);
    let host = site.serve();
    site.deploy("one.wasm --name shop --tenant acme", None);
    site.deploy("one.wasm --name own", None);
    assert_eq!(host.get("/shop/").status(), 200);
    assert_eq!(host.access_to("/shop/").text("host.tenant"), "acme");
    assert_eq!(host.get("/own/").status(), 200);
    assert!(host.access_to("/own/").0.get("host.tenant").is_none());
    let listed = site.done("list", None);
    assert!(
        listed.contains("TENANT") && listed.contains("acme"),
        "{listed}"
    );
    assert!(site.done("show shop", None).contains("tenant  acme"));
    let shown: Value = serde_json::from_str(&site.done("show shop --json", None)).expect("JSON");
    assert_eq!(shown["tenant"], "acme");

    site.deploy("two.wasm --name shop", None);
    site.deploy("one.wasm --name shop --tenant acme", None);
    assert!(site.done("show shop", None).contains("tenant  acme"));
    let refused = site.refused_deploy("one.wasm --name shop --tenant beta", None);
    assert!(
        refused.contains("`shop` belongs to tenant `acme`")
            && refused.contains("undeploy it first"),
        "{refused}"
    );
    let refused = site.refused_deploy("one.wasm --name own --tenant acme", None);
    assert!(
        refused.contains("`own` belongs to the operator"),
        "{refused}"
    );
    let refused = site.refused_deploy("one.wasm --name new --tenant nobody", None);
    assert!(
        refused.contains("no tenant `nobody`: there are `acme`, `beta`"),
        "{refused}"
    );
    site.done("undeploy shop", None);
    site.deploy("one.wasm --name shop --tenant beta", None);
    assert!(site.done("show shop", None).contains("tenant  beta"));
}

#[test]
fn a_host_without_tenants_deploys_for_none() {
    let site = Site::new(SOCKET, "");
    let _host = site.serve();
    let refused = site.refused_deploy("one.wasm --name shop --tenant acme", None);
    assert!(refused.contains("write `[tenants.acme]`"), "{refused}");
    site.deploy("one.wasm --name shop", None);
    assert!(!site.done("list", None).contains("TENANT"));
}

#[test]
fn what_guests_of_a_tenant_print_and_why_they_fail_is_told_with_its_name() {
    let site = Site::new(SOCKET, BOTH);
    let host = site.serve();
    site.deploy("faults.wasm --name shop --tenant acme", None);
    host.get("/shop/say");
    let line = host.says("to stdout");
    assert!(line.contains("handler=\"shop\" tenant=\"acme\""), "{line}");
    host.get("/shop/trap");
    let line = host.says("label=trap");
    assert!(line.contains("tenant=\"acme\""), "{line}");
    site.deploy("faults.wasm --name own", None);
    host.get("/own/say");
    let line = host.says("handler=\"own\"");
    assert!(!line.contains("tenant"), "{line}");
}

#[test]
fn a_token_of_a_tenant_opens_both_doors_to_its_handlers() {
    let site = Site::new(SOCKET, BOTH);
    let host = site.serve();
    site.deploy("one.wasm --name own", None);
    site.deploy("one.wasm --name shop --route acme.example/*", Some("acme"));
    site.deploy("one.wasm --name theirs --route /beta/*", Some("beta"));
    assert_eq!(at(&host, "acme.example", "/").status(), 200);
    for (token, shown, hidden) in [
        ("acme-next", "shop", ["own", "theirs"]),
        ("beta", "theirs", ["own", "shop"]),
    ] {
        let listed = site.done("list", Some(token));
        assert!(listed.contains(shown), "{listed}");
        assert!(hidden.iter().all(|name| !listed.contains(name)), "{listed}");
    }
    site.put("wrong.token", b"wrongwrongwrongwrong");
    let refused = site.refused("list", Some("wrong"));
    assert!(refused.contains("none of this host's"), "{refused}");

    site.deploy("two.wasm --name shop", Some("acme"));
    assert_eq!(
        at(&host, "acme.example", "/").text().trim_end(),
        greeting(2).trim_end()
    );
    site.done("rollback shop", Some("acme-next"));
    assert_eq!(
        at(&host, "acme.example", "/").text().trim_end(),
        greeting(1).trim_end()
    );
    site.done("undeploy shop", Some("acme"));
    assert_eq!(at(&host, "acme.example", "/").status(), 404);
}

#[test]
fn each_sees_his_own_lines_of_the_audit_log() {
    let site = Site::new(TCP, BOTH);
    let host = site.serve();
    let door = Door::of(&host);
    let one = version(1);
    assert_eq!(
        door.deploy(OPERATOR, "shop", "tenant=acme&route=/acme/shop/*", &one)
            .status(),
        201
    );
    assert_eq!(
        door.deploy(ACME_NEXT, "shop", "", &version(2)).status(),
        200
    );
    assert_eq!(door.deploy(OPERATOR, "own", "", &one).status(), 201);
    assert_eq!(
        door.deploy(BETA, "theirs", "route=/beta/*", &one).status(),
        201
    );
    assert_eq!(
        door.ask(ACME, "DELETE", "/handlers/shop", "", b"").status(),
        200
    );
    // The name is free, and what another does with it is not told.
    assert_eq!(
        door.deploy(BETA, "shop", "route=/beta/shop/*", &one)
            .status(),
        201
    );
    let of_acme = [
        "tenant acme, token 1: undeploy: shop",
        "tenant acme, token 2: deploy: shop",
        "token: deploy: shop",
    ];
    assert_eq!(door.audit(ACME), of_acme);
    assert_eq!(
        json(&door.get(ACME, "/audit?last=1"))["changes"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        door.audit(BETA),
        [
            "tenant beta, token 1: deploy: shop",
            "tenant beta, token 1: deploy: theirs"
        ]
    );
    assert_eq!(door.audit(OPERATOR).len(), 6);
    for token in ["", "wrong", &ACME[1..], &format!("{ACME}x"), "acme"] {
        for target in ["/handlers", "/audit", "/openapi.json"] {
            assert_eq!(door.get(token, target).status(), 401, "{token} {target}");
        }
        assert_eq!(door.get(token, "/healthz").status(), 200);
    }
    let mut connection = Connection::to(door.0);
    connection.send(format!("GET /handlers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ACME}\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n"));
    assert_eq!(connection.reply().status(), 401);
}

/// Names that a handler of `beta` has, in forms that somebody may take for it.
const FORMS: &[&str] = &[
    "theirs",
    "theirs/",
    "theirs%00",
    "%74heirs",
    "./theirs",
    "../handlers/theirs",
    "acme/../theirs",
    "theirs/rollback/..",
    "shop%2F..%2Ftheirs",
    "%2e%2e%2ftheirs",
    "theirs?tenant=beta",
    "theirs;tenant=beta",
    "ofbetasfile",
    "own",
    "ofhost",
];

#[test]
fn with_a_tenants_token_nothing_of_others_is_seen_or_changed() {
    let text = format!(
        r#"{BOTH}
[handlers.ofhost]
source = "hello.wasm"
routes = ["/ofhost/*"]
env = {{ HOSTSECRET = "hostvalue" }}
[handlers.ofbetasfile]
source = "hello.wasm"
tenant = "beta"
routes = ["/beta-file/*", "secret.beta.example/*"]
env = {{ BETAFILESECRET = "x" }}
[handlers.ofacmesfile]
source = "hello.wasm"
tenant = "acme"
routes = ["/acme-file/*"]
"#
    );
    let site = Site::new(TCP, &text);
    let host = site.serve();
    let door = Door::of(&host);
    let (one, two) = (version(1), version(2));
    let query = "route=/beta/hidden/*&route=/acme/beta/*&env=BETASECRET%3Dbetavalue&timeout=17s";
    assert_eq!(door.deploy(BETA, "theirs", query, &one).status(), 201);
    assert_eq!(door.deploy(BETA, "theirs", "", &two).status(), 200);
    assert_eq!(
        door.deploy(OPERATOR, "own", "route=/acme/own/*&env=OWNSECRET%3Dx", &one)
            .status(),
        201
    );
    assert_eq!(
        door.deploy(ACME, "shop", "route=/acme/shop/*", &two)
            .status(),
        201
    );
    let state = |token| {
        let all = json(&door.get(token, "/handlers"));
        (all, door.audit(token).len())
    };
    let before = (state(OPERATOR), state(BETA));
    assert_eq!(door.names(ACME), ["ofacmesfile", "shop"]);
    let digest = json(&door.get(BETA, "/handlers/theirs"))["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let tag = door
        .get(BETA, "/handlers/theirs")
        .header("etag")
        .expect("a tag")
        .to_owned();

    // What nobody has looks the same as what another has.
    let absent = |method: &str, suffix: &str, name: &str| {
        let reply = door.ask(ACME, method, &format!("/handlers/{name}{suffix}"), "", b"");
        (reply.status(), reply.text().replace(name, "NAME"))
    };
    for (method, suffix) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/rollback"),
        ("POST", "/rollback?to=v1"),
    ] {
        let of_nobody = absent(method, suffix, "nobodys");
        assert_eq!(of_nobody.0, 404);
        for name in ["theirs", "own", "ofhost", "ofbetasfile"] {
            assert_eq!(
                absent(method, suffix, name),
                of_nobody,
                "{method} {name}{suffix}"
            );
        }
    }
    let tag = format!("If-Match: {tag}\r\n");
    let mut told = Vec::new();
    for form in FORMS {
        for (method, suffix) in [
            ("GET", String::new()),
            ("DELETE", String::new()),
            ("POST", "/rollback".to_owned()),
            ("POST", format!("/rollback?to={digest}")),
            ("PUT", String::new()),
            ("PUT", "?tenant=beta".to_owned()),
            ("PUT", "?tenant=acme".to_owned()),
            ("PUT", "?route=/acme/new/*".to_owned()),
            ("PUT", "?route=/beta/hidden/*".to_owned()),
            ("PATCH", String::new()),
        ] {
            for more in [
                "",
                &tag,
                "If-Match: *\r\n",
                "If-None-Match: *\r\n",
                "X-Tenant: beta\r\n",
            ] {
                let body: &[u8] = if method == "PUT" { &one } else { b"" };
                let reply = door.ask(
                    ACME,
                    method,
                    &format!("/handlers/{form}{suffix}"),
                    more,
                    body,
                );
                let status = reply.status();
                assert!(
                    (400..500).contains(&status),
                    "{method} {form}{suffix} {more}: {status} {}",
                    reply.text()
                );
                told.push(reply.text());
            }
        }
    }
    // In the way of others' routes, which it may take but for that.
    for (query, status) in [
        ("route=/acme/beta/*", 409),
        ("route=/acme/own/*", 409),
        ("route=/acme/beta/*&route=/acme/new/*", 409),
        ("route=/beta/hidden/*", 403),
        ("route=/ofhost/*", 403),
        ("route=/acme/new/*&tenant=beta", 403),
        ("route=/acme/new/*&tenant=nobody", 403),
    ] {
        let reply = door.deploy(ACME, "new", query, &one);
        assert_eq!(reply.status(), status, "{query}: {}", reply.text());
        told.push(reply.text());
    }
    for target in [
        "/handlers",
        "/audit",
        "/audit?last=1000",
        "/handlers/shop",
        "/handlers/ofacmesfile",
    ] {
        told.push(door.get(ACME, target).text());
    }
    for text in &told {
        for secret in [
            "BETASECRET",
            "betavalue",
            "BETAFILESECRET",
            "HOSTSECRET",
            "OWNSECRET",
            "hidden/*\",",
            "17s",
            "token: ",
            "secret.beta",
            "tenant beta",
            "belongs to",
            &*site.here.path().to_string_lossy(),
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let conflicts: Vec<_> = told
        .iter()
        .filter(|text| text.contains("is taken"))
        .collect();
    assert!(!conflicts.is_empty());
    assert!(
        conflicts
            .iter()
            .all(|text| !text.contains("ofbetasfile have") && !text.contains("both have"))
    );
    assert_eq!((state(OPERATOR), state(BETA)), before);
    assert_eq!(
        host.get("/beta/hidden/").text().trim_end(),
        greeting(2).trim_end()
    );
    // Its own, when that is what is in the way, is named.
    let own = detail(&door.deploy(ACME, "new", "route=/acme/shop/*", &one));
    assert!(own.contains("`shop`"), "{own}");
}

#[test]
fn a_tenant_takes_the_routes_that_it_was_given() {
    let site = Site::new(
        TCP,
        &format!("{BOTH}[tenants.poor]\nadmin_tokens = [{{ from_file = \"poor.token\" }}]\n"),
    );
    site.put("poor.token", b"poorpoorpoorpoorpoor");
    // Read when it starts, so before.
    let host = site.serve();
    let door = Door::of(&host);
    let one = version(1);
    let refused = door.deploy("poorpoorpoorpoorpoor", "shop", "route=shop.example/*", &one);
    assert_eq!(refused.status(), 403);
    assert!(
        detail(&refused).contains("`routes = [\"shop.example/*\"]` into `[tenants.poor]`"),
        "{}",
        refused.text()
    );
    for (route, status) in [
        ("/*", 403),
        ("/acme", 403),
        ("/acmes/*", 403),
        ("/{id}/*", 403),
        ("/%2562cme/*", 403),
        ("other.example/*", 403),
        ("*.example/*", 403),
        ("acme.example.evil/*", 403),
        ("/acme/a/*", 200),
        // Another spelling of `/acme/*`.
        ("/%2561cme/*", 200),
        ("/acme/{id}", 200),
        ("a.acme.example/x", 200),
        ("acme.example/*", 200),
        ("any.example/acme/*", 200),
    ] {
        // Not the one that a new handler gets by itself.
        let route = route.replace('{', "%7B").replace('}', "%7D");
        let is_first = door.names(ACME).is_empty();
        let reply = door.deploy(ACME, "shop", &format!("route={route}"), &one);
        let expected = if status == 200 && is_first {
            201
        } else {
            status
        };
        assert_eq!(reply.status(), expected, "{route}: {}", reply.text());
    }
    let refused = door.deploy(ACME, "other", "", &one);
    assert_eq!(refused.status(), 403);
    assert!(
        detail(&refused).contains("`/other/*` is no route") && detail(&refused).contains("--route"),
        "{}",
        refused.text()
    );
    let mixed = door.deploy(ACME, "other", "route=/acme/b/*&route=/c/*&route=/d/*", &one);
    assert_eq!(
        json(&mixed)["mistakes"].as_array().map(Vec::len),
        Some(2),
        "{}",
        mixed.text()
    );
    assert_eq!(door.names(ACME), ["shop"]);

    // The operator gives what he likes, and that stays.
    assert_eq!(
        door.deploy(OPERATOR, "shop", "route=/given/*&route=/also/*", &one)
            .status(),
        200
    );
    assert_eq!(door.deploy(ACME, "shop", "", &version(2)).status(), 200);
    assert_eq!(
        door.deploy(ACME, "shop", "route=/also/*", &version(2))
            .status(),
        200
    );
    assert_eq!(host.get("/also/").status(), 200);
    assert_eq!(
        door.deploy(ACME, "shop", "route=/given/*", &version(2))
            .status(),
        403
    );
    // Also not by going back to what has it.
    assert_eq!(
        door.ask(ACME, "POST", "/handlers/shop/rollback", "", b"")
            .status(),
        403
    );
    assert_eq!(
        door.ask(OPERATOR, "POST", "/handlers/shop/rollback", "", b"")
            .status(),
        200
    );
}

#[test]
fn a_tenant_lowers_limits_and_does_not_raise_them() {
    let text = format!("{BOTH}[defaults]\ntimeout = \"5s\"\ncpu = \"1s\"\nmemory = \"32MiB\"\n");
    let site = Site::new(TCP, &text);
    let host = site.serve();
    let door = Door::of(&host);
    let one = version(1);
    let lower = "route=/acme/*&timeout=2s&cpu=500ms&memory=16MiB";
    assert_eq!(door.deploy(ACME, "shop", lower, &one).status(), 201);
    assert_eq!(
        door.deploy(ACME, "shop", "timeout=5s&cpu=1s&memory=32MiB", &one)
            .status(),
        200
    );
    for query in ["timeout=6s", "cpu=1001ms", "timeout=1h&cpu=1h"] {
        let refused = door.deploy(ACME, "shop", query, &one);
        assert_eq!(refused.status(), 403, "{query}");
        assert!(
            detail(&refused).contains("more than a tenant may ask for"),
            "{}",
            refused.text()
        );
    }
    assert!(door.deploy(ACME, "shop", "memory=33MiB", &one).status() >= 400);
    assert_eq!(
        door.deploy(OPERATOR, "shop", "timeout=10s", &one).status(),
        200
    );
    assert_eq!(door.deploy(ACME, "shop", "", &version(2)).status(), 200);
    assert_eq!(door.deploy(ACME, "shop", "timeout=9s", &one).status(), 200);
    assert_eq!(door.deploy(ACME, "shop", "timeout=11s", &one).status(), 403);
}

#[test]
fn handlers_of_the_file_and_deployed_ones_count_together() {
    let text = |most: usize| {
        format!(
            r#"[tenants.acme]
routes = ["/acme/*"]
admin_tokens = [{{ from_file = "acme.token" }}]
max_handlers = {most}
[handlers.fixed]
source = "hello.wasm"
tenant = "acme"
routes = ["/fixed"]
"#
        )
    };
    let site = Site::new(TCP, &text(2));
    let host = site.serve();
    let door = Door::of(&host);
    let one = version(1);
    // Of several at once one passes.
    let statuses: Vec<u16> = thread::scope(|scope| {
        let deploy = |number: usize| {
            let (door, one) = (&door, &one);
            scope.spawn(move || {
                let query = format!("route=/acme/{number}/*");
                let token = if number == 0 { OPERATOR } else { ACME };
                let query = if number == 0 {
                    format!("{query}&tenant=acme")
                } else {
                    query
                };
                door.deploy(token, &format!("shop-{number}"), &query, one)
                    .status()
            })
        };
        let all: Vec<_> = (0..3).map(deploy).collect();
        all.into_iter()
            .map(|one| one.join().expect("deployed"))
            .collect()
    });
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert!(
        statuses
            .iter()
            .all(|status| [201, 507, 503].contains(status)),
        "{statuses:?}"
    );
    let refused = door.deploy(ACME, "more", "route=/acme/more/*", &one);
    assert_eq!(refused.status(), 507);
    assert!(
        detail(&refused).contains("has 2 handlers and may have 2: undeploy one"),
        "{}",
        refused.text()
    );
    let name = door
        .names(ACME)
        .into_iter()
        .find(|name| name.starts_with("shop"))
        .expect("one");
    assert_eq!(
        door.deploy(ACME, &name, "", &version(2)).status(),
        200,
        "a new version is no new handler"
    );

    site.say_again(&host, &text(3), 1);
    assert_eq!(
        door.deploy(ACME, "more", "route=/acme/more/*", &one)
            .status(),
        201
    );
    assert_eq!(
        door.deploy(ACME, "most", "route=/acme/most/*", &one)
            .status(),
        507
    );
    assert_eq!(
        door.ask(ACME, "DELETE", "/handlers/more", "", b"").status(),
        200
    );
    assert_eq!(
        door.deploy(ACME, "most", "route=/acme/most/*", &one)
            .status(),
        201
    );
}

#[test]
fn components_of_a_tenant_take_so_many_bytes_and_old_versions_go_first() {
    let size = version(1).len();
    let text = |most: usize| {
        format!(
            r#"[tenants.acme]
routes = ["/acme/*"]
admin_tokens = [{{ from_file = "acme.token" }}]
max_stored_bytes = {most}
"#
        )
    };
    let site = Site::new(TCP, &text(3 * size));
    let host = site.serve();
    let door = Door::of(&host);
    let kept = |name: &str| -> Vec<u64> {
        let shown = json(&door.get(ACME, &format!("/handlers/{name}")));
        let versions = shown["versions"].as_array().expect("versions");
        versions
            .iter()
            .map(|version| version["number"].as_u64().expect("a number"))
            .collect()
    };
    for number in 1..=3 {
        assert!(
            door.deploy(ACME, "shop", "route=/acme/shop/*", &version(number))
                .status()
                < 300
        );
    }
    assert_eq!(kept("shop"), [1, 2, 3]);
    assert_eq!(door.deploy(ACME, "shop", "", &version(4)).status(), 200);
    assert_eq!(kept("shop"), [2, 3, 4], "the oldest has made room");
    // What another handler has is the same bytes, and takes no more.
    assert_eq!(
        door.deploy(ACME, "copy", "route=/acme/copy/*", &version(4))
            .status(),
        201
    );
    let refused = door.deploy(ACME, "other", "route=/acme/other/*", &version(5));
    assert_eq!(refused.status(), 507);
    let said = detail(&refused);
    assert!(
        said.contains(&format!("would keep {} bytes", 4 * size))
            && said.contains(&format!("may keep {}", 3 * size))
            && said.contains("undeploy"),
        "{said}"
    );
    let refused = door.deploy(
        OPERATOR,
        "other",
        "route=/acme/other/*&tenant=acme",
        &version(5),
    );
    assert_eq!(refused.status(), 507, "whoever deploys for it");
    assert_eq!(kept("shop"), [2, 3, 4], "a refusal lets nothing go");
    assert_eq!(door.deploy(OPERATOR, "own", "", &version(5)).status(), 201);

    // Of two at once, for which there is room for one.
    site.say_again(&host, &text(4 * size), 1);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let deploy = |number: usize| {
            let door = &door;
            scope.spawn(move || {
                let query = format!("route=/acme/{number}/*");
                door.deploy(ACME, &format!("new-{number}"), &query, &version(number))
                    .status()
            })
        };
        let all: Vec<_> = [7, 8].map(deploy).into_iter().collect();
        all.into_iter()
            .map(|one| one.join().expect("deployed"))
            .collect()
    });
    assert!(
        statuses.contains(&201) && statuses.contains(&507),
        "{statuses:?}"
    );
}

#[test]
fn changed_ceilings_hold_at_once_and_warm_instances_stay() {
    let text = |ceilings: &str| {
        format!(
            r#"[defaults]
idle_instance_timeout = "1m"
max_concurrent_requests = 1
queue_timeout = "100ms"
[tenants.acme]
{ceilings}
[handlers.fixed]
source = "faults.wasm"
tenant = "acme"
routes = [{{ path = "/fixed/*", strip_prefix = true }}]
"#
        )
    };
    let site = Site::new(SOCKET, &text("max_concurrent_requests = 5"));
    let host = site.serve();
    site.deploy("faults.wasm --name shop --tenant acme", None);
    let count = |target: &str| {
        host.get(target)
            .text()
            .trim()
            .parse::<u32>()
            .expect("a number")
    };
    assert_eq!((count("/shop/count"), count("/fixed/count")), (1, 1));
    eventually("both are warm", || {
        (count("/shop/count") > 1 && count("/fixed/count") > 1).then_some(())
    });
    let (shop, fixed) = (count("/shop/count"), count("/fixed/count"));

    site.say_again(&host, &text("requests_per_second = 1"), 1);
    eventually("a refusal", || {
        (host.get("/shop/count").status() == 429).then_some(())
    });
    site.say_again(&host, &text("max_concurrent_requests = 1"), 2);
    assert!(
        count("/shop/count") > shop && count("/fixed/count") > fixed,
        "the same instances"
    );
    let mut held = host.send("GET /shop/drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(held.head().status, 200);
    // One may wait.
    let refused = host.get("/fixed/count");
    assert_eq!(refused.status(), 503);
    site.say_again(&host, &text("max_concurrent_requests = 2"), 3);
    assert_eq!(host.get("/fixed/count").status(), 200);
    drop(held);
    site.say_again(&host, &text("max_memory = \"64KiB\""), 4);
    let refused = eventually("no more memory", || {
        let reply = host.get("/fixed/trap");
        (reply.status() != 500).then_some(reply)
    });
    assert_eq!(host.access(&refused).label(), "overload");
}

/// Two tenants with the same ceiling, whose handlers may read a directory. The limits are those of `new`, of wasi:http 0.3.
fn probes(ceiling: &str, limits: &str) -> Site {
    let probe = |name: &str, source: &str, tenant: &str, limits: &str| {
        format!(
            r#"[handlers.{name}]
source = "{source}.wasm"
tenant = "{tenant}"
routes = [{{ path = "/{name}/*", strip_prefix = true }}]
dirs = [{{ host = "granted", guest = "/data" }}]
limits = {{ {limits} }}
"#
        )
    };
    let text = [
        "[defaults]\nidle_instance_timeout = \"1m\"\n".to_owned(),
        format!("[tenants.acme]\n{ceiling}\n[tenants.beta]\n{ceiling}\n"),
        probe("old", "probe", "acme", ""),
        probe("new", "probe-p3", "acme", limits),
        probe("theirs", "probe", "beta", ""),
    ];
    let site = Site::new(TCP, &text.concat());
    fs::create_dir_all(site.path("granted/inner")).expect("made");
    site.put("granted/inside", b"inside");
    for (name, guest) in [("probe.wasm", PROBE), ("probe-p3.wasm", PROBE_P3)] {
        fs::copy(guest.path(), site.path(name)).expect("copied");
    }
    site
}

/// Has a guest of 0.2 hold streams, with 256 KiB of each in the host's memory.
fn hold(handler: &str, streams: u32) -> String {
    format!("/{handler}/hold?path=/data/inside&n=262144&streams={streams}")
}

/// Has a guest of 0.3 hold as many streams as listings, with 128 KiB of each of these in the host's memory.
fn hoard(handler: &str, listings: u32) -> String {
    format!("/{handler}/hoard?path=/data/inside&in=/data/inner&n={listings}")
}

#[test]
fn what_the_host_holds_for_a_guest_is_its_tenants_memory_until_the_guest_is_gone() {
    let site = probes("max_memory = \"8MiB\"", "max_instance_reuse_count = 1");
    let host = site.serve();
    let operator = Operator::of(&host);
    let all_again = || {
        eventually("nothing is taken", || {
            let metrics = operator.metrics();
            let taken = metrics.sum("host_tenant_memory_bytes", &[("host_tenant", "acme")]);
            (taken == 0.0).then_some(())
        });
    };
    for (little, said, much) in [
        (hold("old", 10), "10 held\n", hold("old", 100)),
        (hoard("new", 10), "20 held\n", hoard("new", 100)),
    ] {
        assert_eq!(host.get(&little).text(), said);
        all_again();
        let refused = host.get(&much);
        assert_eq!(refused.status(), 503, "{much}: {}", refused.text());
        assert_eq!(host.access(&refused).label(), "overload", "{much}");
        assert_eq!(host.get(&hold("theirs", 10)).text(), "10 held\n");
        all_again();
        assert_eq!(host.get(&little).text(), said);
        all_again();
    }
}

#[test]
fn an_instance_that_waits_takes_of_its_tenants_memory_what_it_has_itself() {
    for at_once in [1, 8] {
        let limits = format!("max_instance_concurrent_reuse_count = {at_once}");
        let site = probes("max_memory = \"64MiB\"", &limits);
        let host = site.serve();
        let operator = Operator::of(&host);
        assert_eq!(host.get(&hoard("new", 100)).text(), "200 held\n");
        eventually("nothing but the instance", || {
            let metrics = operator.metrics();
            let taken = metrics.sum("host_tenant_memory_bytes", &[("host_tenant", "acme")]);
            let own = metrics.sum("host_instance_memory_bytes", &[]);
            // A few objects of the host's are the instance's for as long as it lives.
            (own..own + 65_536.0).contains(&taken).then_some(())
        });
    }
}

#[test]
fn tokens_are_changed_while_the_host_runs() {
    let text = |tokens: &str| {
        format!("[tenants.acme]\nroutes = [\"/acme/*\"]\nadmin_tokens = [{tokens}]\n")
    };
    let (old, new) = (
        "{ from_file = \"acme.token\" }",
        "{ from_file = \"acme-next.token\" }",
    );
    let site = Site::new(TCP, &text(old));
    let host = site.serve();
    let door = Door::of(&host);
    let status = |token| door.get(token, "/handlers").status();
    assert_eq!((status(ACME), status(ACME_NEXT)), (200, 401));
    site.say_again(&host, &text(&format!("{old}, {new}")), 1);
    assert_eq!((status(ACME), status(ACME_NEXT)), (200, 200));
    // On a connection that is open already, too.
    let mut connection = Connection::to(door.0);
    let request =
        format!("GET /handlers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ACME}\r\n\r\n");
    connection.send(&request);
    assert_eq!(connection.reply().status(), 200);
    site.say_again(&host, &text(new), 2);
    connection.send(&request);
    assert_eq!(connection.reply().status(), 401);
    assert_eq!(
        (status(ACME), status(ACME_NEXT), status(OPERATOR)),
        (401, 200, 200)
    );
    // A component that is still on its way comes too late.
    let late = version(1);
    let (begun, rest) = late.split_at(100);
    let mut arriving = Connection::to(door.0);
    let length = late.len();
    arriving.send(format!(
        "PUT /handlers/late?route=/acme/* HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ACME_NEXT}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(arriving.head().status, 100);
    arriving.send(begun);
    site.put("acme-next.token", BETA.as_bytes());
    site.say_again(&host, &text(new), 3);
    assert_eq!((status(ACME_NEXT), status(BETA)), (401, 200));
    arriving.send(rest);
    assert_eq!(arriving.reply().status(), 401);
    assert!(door.names(OPERATOR).is_empty());
    site.say_again(&host, &text(""), 4);
    assert_eq!((status(BETA), status(OPERATOR)), (401, 200));
}

#[test]
fn handlers_of_a_tenant_that_is_gone_are_kept_and_not_served_until_it_is_back() {
    let site = Site::new(TCP, BOTH);
    let host = site.serve();
    let door = Door::of(&host);
    let one = version(1);
    assert_eq!(
        door.deploy(ACME, "shop", "route=/acme/shop/*", &one)
            .status(),
        201
    );
    assert_eq!(
        door.deploy(BETA, "theirs", "route=/beta/*", &one).status(),
        201
    );
    let beta =
        "[tenants.beta]\nroutes = [\"/beta/*\"]\nadmin_tokens = [{ from_file = \"beta.token\" }]\n";
    site.say_again(&host, beta, 1);
    comes_to(&host, "/acme/shop/", 404);
    host.says("`shop` is not served: the file of the host has no tenant `acme` any more");
    let last = |who: &str| json(&door.get(who, "/audit?last=1"))["changes"][0].clone();
    let is_noted = |action: &str| {
        let line = last(OPERATOR);
        let is_it = line["who"] == "files" && line["handler"] == "shop";
        (is_it && line["action"] == action && line["tenant"] == "acme").then_some(line)
    };
    let gone = eventually("a line of its end", || is_noted("undeploy"));
    assert_eq!(
        (&gone["from_version"], &gone["to"]),
        (&1.into(), &Value::Null)
    );
    assert_eq!(host.get("/beta/").status(), 200);
    assert_eq!(door.get(ACME, "/handlers").status(), 401);
    let shown = json(&door.get(OPERATOR, "/handlers/shop"));
    assert_eq!(
        (&shown["tenant"], &shown["serving"]),
        (&"acme".into(), &false.into())
    );
    let refused = door.deploy(OPERATOR, "shop", "", &version(2));
    assert_eq!(refused.status(), 400);
    assert!(
        detail(&refused).contains("no tenant `acme`"),
        "{}",
        refused.text()
    );
    assert_eq!(
        door.ask(OPERATOR, "POST", "/handlers/shop/rollback?to=v1", "", b"")
            .status(),
        400
    );
    assert_eq!(
        door.deploy(BETA, "shop", "route=/beta/shop/*", &one)
            .status(),
        409,
        "the name is still taken"
    );

    site.say_again(&host, BOTH, 2);
    comes_to(&host, "/acme/shop/", 200);
    host.says("`shop` is served again");
    assert_eq!(door.names(ACME), ["shop"]);
    let back = eventually("a line of its return", || is_noted("deploy"));
    assert_eq!(
        (&back["from"], &back["to_version"]),
        (&Value::Null, &1.into())
    );

    // The same over a restart.
    host.stop();
    site.say(beta);
    let host = site.serve();
    host.says("`shop` is not served");
    assert_eq!(host.get("/acme/shop/").status(), 404);
    assert_eq!(host.get("/beta/").status(), 200);
    site.say_again(&host, BOTH, 1);
    comes_to(&host, "/acme/shop/", 200);
    // And one that the operator has done with.
    let door = Door::of(&host);
    site.say_again(&host, beta, 2);
    comes_to(&host, "/acme/shop/", 404);
    assert_eq!(
        door.ask(OPERATOR, "DELETE", "/handlers/shop", "", b"")
            .status(),
        200
    );
    site.say_again(&host, BOTH, 3);
    assert!(door.names(ACME).is_empty());
}

#[test]
fn of_two_that_had_one_route_the_one_that_had_it_last_has_it_after_a_start() {
    let site = Site::new(TCP, BOTH);
    let host = site.serve();
    let door = Door::of(&host);
    let route = "route=/acme/x";
    let deployed = door.deploy(ACME, "able", route, &version(1));
    assert_eq!(deployed.status(), 201, "{}", deployed.text());
    site.say_again(&host, "", 1);
    comes_to(&host, "/acme/x", 404);
    let deployed = door.deploy(OPERATOR, "baker", route, &version(2));
    assert_eq!(deployed.status(), 201, "{}", deployed.text());
    host.stop();
    site.say(BOTH);
    let host = site.serve();
    host.says("`able` is not deployed");
    assert_eq!(
        host.get("/acme/x").text().trim_end(),
        greeting(2).trim_end()
    );
}

#[test]
fn mistakes_in_what_is_said_of_tenants_are_found() {
    let site = Site::new(
        TCP,
        r#"
[tenants.acme]
max_stored_bytes = "much"
routes = ["acme.example", "/acme/*"]
admin_tokens = ["plain", { from_file = "nothing.token" }, { from_file = "short.token" }, { from_file = "operator.token" }]
[tenants.beta]
admin_tokens = [{ from_file = "beta.token" }]
[tenants.gamma]
admin_tokens = [{ from_file = "beta.token" }]
"#,
    );
    site.put("short.token", b"short");
    let ended = host(&format!("check {}", site.path("host.toml").display()));
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let said = ended.stderr_text() + &ended.stdout_text();
    for mistake in [
        "`max_stored_bytes`: not a size",
        "`routes`: `acme.example` is no route",
        "`admin_tokens`: a secret that whoever reads this file can see",
        "nothing.token` cannot be read",
        "`admin_tokens`: it has no token: write one line of 16 characters",
        "`admin_tokens`: a token that is somebody's already",
        "has 7 mistakes",
    ] {
        assert!(said.contains(mistake), "{mistake} in {said}");
    }
    assert_eq!(said.matches("somebody's already").count(), 2, "{said}");
}
