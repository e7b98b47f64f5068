//! The operator's door: what is deployed there serves at once and after any crash, what is refused changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redb::{Database, TableDefinition};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::directory::{comes_to_say, greeting, number_in, version};
use crate::support::exposition::Exposition;
use crate::support::guests::{ECHO, RELAY, STATIC_FILES};
use crate::support::program::command_with_open_files;
use crate::support::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A place for a host's state, its socket, its token, and components.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let here = Self(directory());
        fs::write(here.path("token"), format!("{TOKEN}\n")).expect("written");
        here
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn component(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Flags that open the door on a Unix socket.
    fn unix(&self) -> String {
        format!(
            "{} {}",
            flag("--admin", &self.path("admin.sock")),
            flag("--state", &self.path("state"))
        )
    }

    /// Flags that open it on TCP.
    fn tcp(&self) -> String {
        let token = flag("--admin-token-file", &self.path("token"));
        format!(
            "--admin 127.0.0.1:0 {token} {}",
            flag("--state", &self.path("state"))
        )
    }

    /// A subcommand against the Unix socket.
    fn host(&self, words: &str) -> Ended {
        let socket = self.path("admin.sock");
        host_with_env(words, &[("HOST_ADMIN", socket.to_str().expect("a path"))])
    }

    /// The same, which succeeds; what it prints.
    fn done(&self, words: &str) -> String {
        let ended = self.host(words);
        assert_eq!(ended.code, Some(0), "{words}: {ended:?}");
        ended.stdout.join("\n")
    }

    /// The same, which is refused; what it says.
    fn refused(&self, words: &str) -> String {
        let ended = self.host(words);
        assert_eq!(ended.code, Some(1), "{words}: {ended:?}");
        ended.stderr.join("\n")
    }

    fn deploy(&self, file: &Path, flags: &str) -> String {
        self.done(&format!("deploy {} {flags}", file.display()))
    }

    fn listed(&self) -> Value {
        serde_json::from_str(&self.done("list --json")).expect("JSON")
    }

    /// Where the state directory keeps the component of a deployed handler.
    fn kept_component(&self, name: &str) -> PathBuf {
        let listed = self.listed();
        let mut all = listed["handlers"].as_array().expect("handlers").iter();
        let it = all.find(|it| it["name"] == name).expect(name);
        let digest = it["digest"].as_str().expect("a digest");
        self.path(&format!("state/components/{digest}.wasm"))
    }
}

/// The address of an admin door on TCP.
fn admin_of(host: &TestHost) -> SocketAddr {
    let said = host.says("Admin on http://");
    let address = said
        .split_once("http://")
        .and_then(|(_, rest)| rest.strip_suffix('/'));
    address
        .and_then(|address| address.parse().ok())
        .expect("an address")
}

fn head(method: &str, target: &str, length: usize, more: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n{more}\r\n"
    )
}

fn ask(admin: SocketAddr, method: &str, target: &str, more: &str, body: &[u8]) -> Reply {
    let mut connection = Connection::to(admin);
    connection.send(head(method, target, body.len(), more));
    connection.send(body);
    connection.reply()
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{error} in {}", reply.text()))
}

#[test]
fn a_component_is_deployed_listed_shown_rolled_back_and_undeployed() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    host.says("Admin on unix:/");
    let (one, two) = (
        here.component("one.wasm", &version(1)),
        here.component("two.wasm", &version(2)),
    );

    let said = here.deploy(&one, "--name shop");
    assert!(
        said.starts_with("`shop` v1, ") && said.ends_with("is at /shop/*"),
        "{said}"
    );
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(1).trim_end());

    here.deploy(&two, "--name shop --route shop.example/*");
    let mut connection = host.connect();
    connection.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(connection.reply().text().trim_end(), greeting(2).trim_end());
    assert_eq!(
        host.get("/shop/").status(),
        404,
        "its routes are those that were given"
    );

    let list = here.done("list");
    assert!(
        list.lines().count() == 2 && list.contains("shop  v2"),
        "{list}"
    );
    let show = here.done("show shop");
    assert!(
        show.contains("shop.example/*") && show.contains("v1") && show.contains("*  v2"),
        "{show}"
    );
    assert!(
        (list + &show)
            .lines()
            .filter(|line| !line.starts_with("etag"))
            .all(|line| line.chars().count() <= 80)
    );

    here.done("rollback shop");
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(1).trim_end());
    connection.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(
        connection.reply().status(),
        404,
        "its routes are those of then"
    );
    assert!(
        here.refused("rollback shop")
            .contains("no version of `shop` before this one")
    );
    here.done("rollback shop --to v2");
    connection.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(connection.reply().text().trim_end(), greeting(2).trim_end());
    assert!(
        here.refused("rollback shop --to v7")
            .contains("no such version")
    );

    here.done("undeploy shop");
    connection.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(connection.reply().status(), 404);
    assert!(
        here.refused("show shop")
            .contains("no handler `shop` is deployed")
    );
    assert_eq!(
        fs::read_dir(here.path("state/components"))
            .expect("read")
            .count(),
        0
    );
}

#[test]
fn each_command_answers_in_json_when_it_is_asked_to() {
    let here = Place::new();
    let _host = TestHost::serve_nothing(&here.unix());
    let json = |words: &str| -> Value {
        let said = here.done(&format!("{words} --json"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words}: {error} in {said}"))
    };
    for number in [1, 2] {
        let component = here.component("shop.wasm", &version(number));
        let deployed = json(&format!("deploy {}", component.display()));
        assert_eq!(deployed["name"], "shop");
        assert_eq!(deployed["versions"][number - 1]["current"], true);
    }
    assert_eq!(json("rollback shop")["versions"][0]["current"], true);
    assert_eq!(json("list")["handlers"][0]["name"], "shop");
    assert_eq!(json("show shop")["versions"][0]["current"], true);
    assert_eq!(json("undeploy shop")["name"], "shop");
    let refused = here.host("show shop --json");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let problem: Value = serde_json::from_str(&refused.stdout.join("\n")).expect("JSON");
    assert_eq!(problem["status"], 404);
}

#[test]
fn a_rollback_compiles_nothing() {
    let (here, cache) = (Place::new(), directory());
    let flags = format!("{} {}", here.tcp(), flag("--cache", cache.path()));
    let host = TestHost::serve_nothing(&flags);
    let admin = admin_of(&host);
    let compiled = || {
        let page = ask(admin, "GET", "/metrics", "", b"").text();
        Exposition::parse(&page).sum("host_compilations_total", &[])
    };
    for number in [1, 2] {
        let reply = ask(admin, "PUT", "/handlers/shop", "", &version(number));
        assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
    }
    assert_eq!(compiled() as usize, 2);
    let reply = ask(admin, "POST", "/handlers/shop/rollback", "", b"");
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(1).trim_end());
    assert_eq!(compiled() as usize, 2);
}

#[test]
fn what_is_not_said_stays_and_what_is_the_same_changes_nothing() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    let faults = FAULTS.path();
    here.deploy(&faults, "--name f --env COLOUR=blue --timeout 2s");
    assert!(host.get("/f/env").text().contains("COLOUR=blue"));
    let before = here.done("show f --json");
    assert!(
        !before.contains("blue"),
        "the values of variables are not shown: {before}"
    );
    here.deploy(&faults, "--name f");
    assert_eq!(here.done("show f --json"), before);
    here.deploy(&faults, "--name f --env SIZE=large");
    let (seen, shown) = (host.get("/f/env").text(), here.done("show f"));
    assert!(
        seen.contains("SIZE=large") && !seen.contains("COLOUR"),
        "{seen}"
    );
    assert!(
        shown.contains("timeout 2s") && shown.contains("v1") && shown.contains("*  v2"),
        "{shown}"
    );
}

#[test]
fn a_rollback_brings_back_component_routes_and_settings_and_twice_goes_back_twice() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    let faults = FAULTS.path();
    let one = here.component("one.wasm", &version(1));
    here.deploy(&one, "--name f --allow-new-imports");
    here.deploy(
        &faults,
        "--name f --env COLOUR=blue --route /two/* --strip-prefix --allow-new-imports",
    );
    here.deploy(&faults, "--name f --env COLOUR=red --timeout 3s");
    assert!(host.get("/two/env").text().contains("COLOUR=red"));
    let shown: Value = serde_json::from_str(&here.done("show f --json")).expect("JSON");
    let differs: Vec<&Value> = shown["versions"]
        .as_array()
        .expect("versions")
        .iter()
        .map(|version| &version["differs"])
        .collect();
    let expected = serde_json::json!([
        ["component", "routes"],
        ["component", "routes", "env.COLOUR"],
        ["timeout", "env.COLOUR"]
    ]);
    assert_eq!(serde_json::json!(differs), expected);
    assert_eq!(shown["versions"][2]["routes"][0]["route"], "/two/*");
    let text = here.done("show f");
    for line in ["       timeout 3s", "       env     COLOUR"] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
    assert!(!text.contains("red") && !text.contains("blue"), "{text}");

    here.done("rollback f");
    assert!(host.get("/two/env").text().contains("COLOUR=blue"));
    assert!(here.done("list").contains("f     v2"));
    here.done("rollback f");
    assert_eq!(host.get("/f/").text().trim_end(), greeting(1).trim_end());
    assert_eq!(host.get("/two/env").status(), 404);

    // What follows a rollback goes back to what served then, and not to what had been left.
    here.deploy(&here.component("four.wasm", &version(4)), "--name f");
    here.done("rollback f");
    assert!(here.done("list").contains("f     v1"));

    // Its routes may be somebody else's by now.
    here.deploy(&one, "--name other --route /two/*");
    let before = here.listed();
    assert!(
        here.refused("rollback f --to v3")
            .contains("both have the route")
    );
    assert_eq!(here.listed(), before);
    let digest = before["handlers"][0]["versions"][1]["digest"].clone();
    here.done("undeploy other");
    here.done(&format!(
        "rollback f --to {}",
        digest.as_str().expect("a digest")
    ));
    assert!(here.done("list").contains("f     v3"), "the latest with it");
    host.stop();
    let host = TestHost::serve_nothing(&here.unix());
    assert!(host.get("/two/env").text().contains("COLOUR=red"));
}

#[test]
fn a_refused_deploy_changes_nothing_and_says_why() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    let good = here.component("good.wasm", &version(1));
    here.deploy(&good, "--name shop");
    here.deploy(&good, "--name other");
    let before = here.listed();
    let text = here.component("text.wasm", b"no component");
    let cut = here.component("cut.wasm", &version(2)[..2000]);
    let two = here.component("two.wasm", &version(2));
    for (file, flags, why) in [
        (&text, "--name shop", "not WebAssembly"),
        (&cut, "--name shop", "cut short"),
        (&text, "--name new", "not WebAssembly"),
        (&two, "--name shop --route /other/*", "both have the route"),
        (&two, "--name new --route /shop/*", "both have the route"),
        (
            &two,
            "--name shop --memory 1GiB",
            "raise `--memory` of `host serve`",
        ),
        (
            &two,
            "--name shop --if-match \"no.1\"",
            "has changed meanwhile",
        ),
    ] {
        let said = here.refused(&format!("deploy {} {flags}", file.display()));
        assert!(said.contains(why), "{flags}: {said}");
        assert!(
            !said.contains("/components/"),
            "no paths of the host: {said}"
        );
        host.says(why);
    }
    assert_eq!(here.listed(), before);
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(1).trim_end());
    eventually("an end of what was refused", || {
        let files = fs::read_dir(here.path("state/components")).expect("read");
        (files.count() == 1).then_some(())
    });
}

#[test]
fn a_component_that_is_too_large_is_refused_in_words() {
    let here = Place::new();
    let flags = format!("{} --max-component-size 64KiB", here.unix());
    let _host = TestHost::serve_nothing(&flags);
    let large = here.component("large.wasm", &vec![0; 8 << 20]);
    for more in ["", "--json"] {
        let said = here.refused(&format!("deploy {} {more}", large.display()));
        assert!(said.contains("more than 65536 bytes"), "{said}");
    }
    here.deploy(&here.component("small.wasm", &version(1)), "");
    assert_eq!(here.listed()["handlers"][0]["name"], "small");
}

#[test]
fn a_version_that_wants_more_needs_to_be_allowed() {
    let here = Place::new();
    let _host = TestHost::serve_nothing(&here.unix());
    here.deploy(&HELLO.path(), "--name shop");
    // It has a clock more, which is everybody's.
    let more = STATIC_FILES.path();
    let said = here.refused(&format!("deploy {} --name shop", more.display()));
    assert!(
        said.contains("v2 also wants files") && said.contains("--allow-new-imports"),
        "{said}"
    );
    here.deploy(&more, "--name shop --allow-new-imports");
    here.deploy(&ECHO.path(), "--name shop");
}

#[test]
fn what_a_version_wants_and_is_not_granted_is_told_with_what_grants_it() {
    let here = Place::new();
    let wants = "wants files, not granted: add --dir to `host serve`";
    let host = TestHost::serve_nothing(&here.unix());
    let said = here.deploy(&STATIC_FILES.path(), "--name shop");
    assert!(
        said.starts_with("`shop` v1, ") && said.contains(wants),
        "{said}"
    );
    host.says(&format!("`shop` {wants}"));
    let shown = here.done("show shop");
    assert!(shown.contains("\nwants   files, not granted"), "{shown}");
    let said = here.deploy(&HELLO.path(), "--name greet");
    assert!(!said.contains("wants"), "{said}");
    host.stop();

    // The same versions, where all are granted a directory.
    let granted = format!("{} --dir {}::/", here.unix(), here.path("").display());
    let _host = TestHost::serve_nothing(&granted);
    let shown = here.done("show shop");
    assert!(shown.contains("\ndirs    /\n"), "{shown}");
    assert!(!shown.contains("not granted"), "{shown}");
}

#[test]
fn mistakes_of_the_command_line_are_told_before_anything_is_sent() {
    let here = Place::new();
    for words in [
        "deploy x.wasm --name ../shop",
        "deploy x.wasm --name sh\u{43e}p",
        "deploy x.wasm --route shop",
        "deploy x.wasm --timeout never",
        "rollback",
        "serve",
        "serve x.wasm --state somewhere",
        "serve --admin nowhere",
    ] {
        assert_eq!(here.host(words).code, Some(2), "{words}");
    }
    let said = here.refused("list");
    assert!(
        said.contains("no host answers at") && said.contains("host serve --admin"),
        "{said}"
    );
}

#[test]
fn a_change_to_a_state_that_is_gone_is_refused() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let put =
        |number: usize, more: &str| ask(admin, "PUT", "/handlers/shop", more, &version(number));
    assert_eq!(put(1, "If-Match: *\r\n").status(), 412);
    let first = put(1, "If-None-Match: *\r\n");
    assert_eq!(first.status(), 201, "{}", first.text());
    assert_eq!(put(2, "If-None-Match: *\r\n").status(), 412);
    let tag = first.header("etag").expect("a tag").to_owned();
    assert_eq!(
        ask(admin, "GET", "/handlers/shop", "", b"").header("etag"),
        Some(&*tag)
    );
    let second = put(2, &format!("If-Match: {tag}\r\n"));
    assert_eq!(second.status(), 200, "{}", second.text());
    let third = put(3, &format!("If-Match: {tag}\r\n"));
    assert_eq!(third.status(), 412, "{}", third.text());
    assert_eq!(
        third.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        ask(
            admin,
            "DELETE",
            "/handlers/shop",
            &format!("If-Match: {tag}\r\n"),
            b""
        )
        .status(),
        412
    );
    let back = ask(admin, "POST", "/handlers/shop/rollback", "", b"");
    // The component is the first again, and yet it is another state.
    assert_ne!(back.header("etag"), Some(&*tag));
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(1).trim_end());
    let tag = back.header("etag").expect("a tag");
    assert_eq!(
        ask(
            admin,
            "DELETE",
            "/handlers/shop",
            &format!("If-Match: {tag}\r\n"),
            b""
        )
        .status(),
        200
    );
}

#[test]
fn a_tag_of_a_handler_that_is_gone_fits_no_other_of_its_name() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let put = |admin| ask(admin, "PUT", "/handlers/shop", "", &version(1));
    let tag = put(admin).header("etag").expect("a tag").to_owned();
    let with_tag = format!("If-Match: {tag}\r\n");
    let undeployed = ask(admin, "DELETE", "/handlers/shop", &with_tag, b"");
    assert_eq!(undeployed.status(), 200, "{}", undeployed.text());
    host.stop();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    // The same component, and yet another handler.
    assert_eq!(put(admin).status(), 201);
    let refused = ask(admin, "DELETE", "/handlers/shop", &with_tag, b"");
    assert_eq!(refused.status(), 412, "{}", refused.text());
}

#[test]
fn of_two_deploys_of_one_name_one_wins_and_the_other_is_told() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let bytes = version(1);
    let mut slow = Connection::to(admin);
    slow.send(head(
        "PUT",
        "/handlers/shop",
        bytes.len(),
        "Expect: 100-continue\r\n",
    ));
    assert_eq!(slow.head().status, 100, "it has begun");
    slow.send(&bytes[..1000]);
    // Who sends slowly is in nobody's way.
    assert_eq!(
        ask(admin, "PUT", "/handlers/shop", "", &version(2)).status(),
        201
    );
    slow.send(&bytes[1000..]);
    let slow = slow.reply();
    assert_eq!(slow.status(), 409);
    assert!(
        json(&slow)["detail"]
            .as_str()
            .expect("detail")
            .contains("by somebody else"),
        "{}",
        slow.text()
    );
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(2).trim_end());

    // One who leaves half way has changed nothing, and is in nobody's way.
    let mut left = Connection::to(admin);
    left.send(head("PUT", "/handlers/shop", bytes.len(), ""));
    left.send(&bytes[..1000]);
    drop(left);
    eventually("the turn of the next", || {
        let reply = ask(admin, "PUT", "/handlers/shop", "", &version(3));
        (reply.status() == 200).then_some(())
    });
}

#[test]
fn of_three_who_want_one_route_at_once_one_has_it_and_two_are_told_whose_it_is() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let names = ["ann", "ben", "cid"];
    let replies = std::thread::scope(|scope| {
        let deploy = |name: &'static str| {
            scope.spawn(move || {
                let target = format!("/handlers/{name}?route=/wanted/*");
                ask(admin, "PUT", &target, "", &version(1))
            })
        };
        let asking = names.map(deploy);
        asking.map(|one| one.join().expect("an answer"))
    });
    let (won, refused): (Vec<_>, Vec<_>) = names
        .iter()
        .zip(&replies)
        .partition(|(_, reply)| reply.status() == 201);
    let [(winner, _)] = won[..] else {
        panic!("{} have it", won.len())
    };
    for (name, reply) in refused {
        assert_eq!(reply.status(), 409, "{name}");
        let detail = json(reply)["detail"].to_string();
        assert!(detail.contains(&format!("`{winner}`")), "{detail}");
    }
    assert_eq!(host.get("/wanted/").status(), 200);
}

#[test]
fn strangers_who_say_nothing_keep_nobody_out() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    // As `host::limits::ADMIN_CONNECTIONS`, twice.
    let _silent: Vec<Connection> = (0..64).map(|_| Connection::to(admin)).collect();
    let mut known = Connection::to(admin);
    for _ in 0..2 {
        known.send(head("GET", "/handlers", 0, ""));
        assert_eq!(known.reply().status(), 200);
        let _more: Vec<Connection> = (0..64).map(|_| Connection::to(admin)).collect();
        assert_eq!(ask(admin, "GET", "/handlers", "", b"").status(), 200);
    }
}

#[test]
fn a_flood_from_one_address_keeps_nobody_of_another_out() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let mut slow = Connection::to(admin);
    let from_elsewhere = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let here = SocketAddr::from(([127, 0, 0, 2], 0));
        socket.bind(&here.into()).expect("bound");
        socket.connect(&admin.into()).expect("connected");
        Connection::to_stream(socket.into())
    };
    // As `host::limits::ADMIN_CONNECTIONS`, twice.
    let mut flood: Vec<Connection> = (0..64).map(|_| from_elsewhere()).collect();
    // So many had to give up their places.
    assert!(flood[..32].iter_mut().all(Connection::is_closed));
    slow.send(head("GET", "/handlers", 0, ""));
    assert_eq!(slow.reply().status(), 200);
}

#[test]
fn a_deploy_tells_each_step() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let steps = |bytes: &[u8]| {
        let reply = ask(
            admin_of(&host),
            "PUT",
            "/handlers/shop",
            "Accept: application/x-ndjson\r\n",
            bytes,
        );
        assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
        let text = reply.text();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let step = |line: &Value| {
            (
                line["step"].as_str().expect("a step").to_owned(),
                line["status"].clone(),
            )
        };
        lines.map(|line| step(&line)).collect::<Vec<_>>()
    };
    let step = |name: &str, status: Value| (name.to_owned(), status);
    let nothing = Value::Null;
    let good = [
        step("received", nothing.clone()),
        step("compiled", nothing.clone()),
        step("deployed", 201.into()),
    ];
    assert_eq!(steps(&version(1)), good);
    assert_eq!(
        steps(b"no component"),
        [step("received", nothing), step("refused", 422.into())]
    );
}

#[test]
fn names_and_routes_of_hostile_people_are_refused_in_few_words() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let (admin, bytes) = (admin_of(&host), version(1));
    let refused = |target: &str, expected: &[u16]| {
        let reply = ask(admin, "PUT", target, "", &bytes);
        let shown: String = target.chars().take(80).collect();
        assert!(
            expected.contains(&reply.status()),
            "{shown}: {} {}",
            reply.status(),
            reply.text()
        );
        assert!(reply.body.len() < 3000, "{shown}: {}", reply.body.len());
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\n';
        assert!(
            !reply.body.iter().any(is_control),
            "{shown}: {}",
            reply.text()
        );
    };
    for name in [
        "..",
        ".",
        "%2e%2e",
        "%2e%2e%2fshop",
        "a%00b",
        "a%0Ab",
        "%1b%5b31m",
        "sh%D0%BEp",
        "shop%20",
        "-x",
        "",
    ] {
        refused(&format!("/handlers/{name}"), &[400]);
    }
    refused("/handlers/../../etc/passwd", &[404]);
    refused("/handlers/a\u{1}b", &[400]);
    refused(&format!("/handlers/{}", "a".repeat(64)), &[400]);
    refused(&format!("/handlers/{}", "a".repeat(10_000)), &[400]);
    for route in [
        "",
        "shop",
        "/..%2f",
        "/a%0A",
        "%2F%2Fx",
        "/x%3Fy",
        "sh%D0%BEp.example/*",
        "/*/x",
        "http://a/",
    ] {
        refused(&format!("/handlers/shop?route={route}"), &[400]);
    }
    refused(
        &format!("/handlers/shop?route=/{}", "a".repeat(10_000)),
        &[400],
    );
    refused("/handlers/shop?route=/a/*&route=/a/*", &[409]);
    // All at once.
    let reply = ask(
        admin,
        "PUT",
        "/handlers/shop?route=x&cpu=never&memory=1",
        "",
        &bytes,
    );
    assert_eq!(
        json(&reply)["mistakes"].as_array().map(Vec::len),
        Some(3),
        "{}",
        reply.text()
    );
    // A megabyte is no head, and what is sent of it is not waited for.
    let mut connection = Connection::to(admin);
    let _ = connection
        .sender()
        .write_all(head("PUT", &format!("/handlers/{}", "a".repeat(1 << 20)), 0, "").as_bytes());
    if let Some(head) = connection.try_head() {
        assert!(matches!(head.status, 400 | 414 | 431), "{}", head.status);
    }
    let list = ask(admin, "GET", "/handlers", "", b"");
    assert_eq!(
        json(&list)["handlers"].as_array().map(Vec::len),
        Some(0),
        "{}",
        list.text()
    );
}

#[test]
fn on_tcp_only_who_has_the_token_comes_in() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let ask_with = |field: &str, target: &str| {
        let mut connection = Connection::to(admin);
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
        connection.reply()
    };
    for field in [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer 0123456789abcdef0123456789abcdee\r\n",
        "Authorization: Basic MDEyMzQ1Njc4OWFiY2RlZg==\r\n",
    ] {
        let reply = ask_with(field, "/handlers");
        assert_eq!(reply.status(), 401, "{field}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(ask_with("", "/healthz").status(), 200);
    assert_eq!(ask(admin, "GET", "/handlers", "", b"").status(), 200);
    let document = json(&ask(admin, "GET", "/openapi.json", "", b""));
    assert!(
        document["paths"]["/handlers/{name}"]["put"].is_object(),
        "{document}"
    );
    let token = flag("--admin-token-file", &here.path("token"));
    let listed = host_with_env(&format!("list --admin {admin} {token}"), &[]);
    assert_eq!(listed.code, Some(0), "{listed:?}");

    let state = flag("--state", &here.path("other"));
    let open = host_with_env(&format!("serve --admin 127.0.0.1:0 {state}"), &[]);
    assert_eq!(open.code, Some(1));
    assert!(
        open.stderr.join("\n").contains("--admin-token-file"),
        "{open:?}"
    );
    fs::write(here.path("token"), "short").expect("written");
    let open = host_with_env(&format!("serve --admin 127.0.0.1:0 {state} {token}"), &[]);
    assert!(
        open.code == Some(1) && open.stderr.join("\n").contains("16 characters"),
        "{open:?}"
    );
}

#[test]
fn a_socket_and_a_state_directory_are_their_owners_alone() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    host.says("Admin on");
    let mode = |name: &str| {
        fs::metadata(here.path(name))
            .expect("there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("admin.sock"), 0o600);
    assert_eq!(mode("state"), 0o700);
    assert_eq!(mode("state/catalog.redb"), 0o600);
    let second = host_with_env(&format!("serve {}", here.unix()), &[]);
    assert_eq!(second.code, Some(1));
    assert!(
        second
            .stderr
            .join("\n")
            .contains("another host uses the state directory"),
        "{second:?}"
    );
    let elsewhere = here.unix().replace("/state", "/elsewhere");
    let second = host_with_env(&format!("serve {elsewhere}"), &[]);
    assert!(
        second
            .stderr
            .join("\n")
            .contains("a host that runs has the admin door"),
        "{second:?}"
    );
    assert_eq!(host.stop().code, Some(0));
    assert!(!here.path("admin.sock").exists());
}

#[test]
fn a_socket_that_is_removed_is_bound_again_unless_somebody_else_answers_there() {
    let here = Place::new();
    let (run, state) = (here.path("run"), here.path("state"));
    let socket = run.join("admin.sock");
    let flags = format!("{} {}", flag("--admin", &socket), flag("--state", &state));
    let host = TestHost::serve(HELLO, &flags);
    let list = format!("list {}", flag("--admin", &socket));
    let says = |part: &str| {
        let said = host.stderr().into_iter();
        said.filter(|line| line.contains(part)).count()
    };
    let removals: [&dyn Fn(); 2] = [&|| fs::remove_file(&socket).expect("removed"), &|| {
        fs::remove_dir_all(&run).expect("removed")
    }];
    for (nth, remove) in removals.iter().enumerate() {
        assert_eq!(crate::support::host(&list).code, Some(0));
        remove();
        eventually("the socket", || {
            assert_eq!(host.get("/").status(), 200);
            socket.exists().then_some(())
        });
        assert_eq!(crate::support::host(&list).code, Some(0));
        let mode = fs::metadata(&socket).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        eventually("a line", || {
            (says("taken away: it is bound again") > nth).then_some(())
        });
        assert_eq!(says("taken away: it is bound again"), nth + 1);
    }
    let other = here.path("other.sock");
    let _answers = UnixListener::bind(&other).expect("bound");
    let inode = |path: &Path| fs::metadata(path).expect("there").ino();
    let theirs = inode(&other);
    fs::rename(&other, &socket).expect("renamed");
    host.says("a host that runs has the admin door");
    assert_eq!(host.get("/").status(), 200);
    assert_eq!(host.stop().code, Some(0));
    assert_eq!(inode(&socket), theirs, "it is not the host's to remove");
}

#[test]
fn a_file_has_no_admin_door_unless_it_is_asked_for() {
    let host = TestHost::serve(HELLO, "");
    assert_eq!(host.get("/").status(), 200);
    assert!(host.stderr().iter().all(|line| !line.contains("Admin on")));
}

#[test]
fn a_name_is_the_files_or_the_admins_and_never_both() {
    let here = Place::new();
    let files = here.path("files");
    fs::create_dir(&files).expect("made");
    fs::write(files.join("greet.wasm"), version(1)).expect("written");
    let host = TestHost::serve_file(&files, &here.unix());
    host.says("Admin on");
    let two = here.component("two.wasm", &version(2));
    let said = here.refused(&format!("deploy {} --name greet", two.display()));
    assert!(said.contains("served from a file"), "{said}");
    assert!(
        here.refused("undeploy greet")
            .contains("served from a file")
    );
    here.deploy(&two, "--name shop");
    let said = here.refused(&format!("deploy {} --name Shop", two.display()));
    assert!(
        said.contains("`Shop` differs from the handler `shop` only in upper and lower case"),
        "{said}"
    );
    let list = here.done("list");
    assert!(
        list.contains("greet  file") && list.contains("shop   v1"),
        "{list}"
    );
    fs::write(files.join("shop.wasm"), version(3)).expect("written");
    host.says("`shop` was deployed through the admin door");
    fs::remove_file(files.join("shop.wasm")).expect("removed");
    fs::write(files.join("last.wasm"), version(4)).expect("written");
    comes_to_say(&host, "/last/", &greeting(4));
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(2).trim_end());
}

#[test]
fn every_change_is_in_the_audit_log_with_who_and_from_which_digest_to_which() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    for number in 1..=2 {
        ask(admin, "PUT", "/handlers/shop", "", &version(number));
    }
    ask(admin, "PUT", "/handlers/shop", "", b"no component");
    ask(admin, "POST", "/handlers/shop/rollback", "", b"");
    ask(admin, "DELETE", "/handlers/shop", "", b"");
    let log = json(&ask(admin, "GET", "/audit?last=10", "", b""));
    let changes = log["changes"].as_array().expect("changes");
    let actions: Vec<&str> = changes
        .iter()
        .filter_map(|change| change["action"].as_str())
        .collect();
    assert_eq!(actions, ["undeploy", "rollback", "deploy", "deploy"]);
    assert!(
        changes
            .iter()
            .all(|change| change["who"] == "token" && change["handler"] == "shop"),
        "{log}"
    );
    assert_eq!(changes[3]["from"], Value::Null);
    assert!(
        changes
            .windows(2)
            .all(|pair| pair[0]["from"] == pair[1]["to"]),
        "{log}"
    );
    assert_eq!(changes[1]["to"], changes[3]["to"]);
    let numbers = |change: &Value| {
        (
            change["from_version"].as_u64(),
            change["to_version"].as_u64(),
        )
    };
    let numbers: Vec<_> = changes.iter().map(numbers).collect();
    let (one, two) = (Some(1), Some(2));
    assert_eq!(numbers, [(one, None), (two, one), (one, two), (None, one)]);

    let page = |query: &str| json(&ask(admin, "GET", &format!("/audit?{query}"), "", b""));
    let latest = page("last=2");
    assert_eq!(
        latest["changes"].as_array().expect("changes"),
        &changes[..2]
    );
    let at = latest["changes"][1]["at"].as_str().expect("a time");
    let earlier = page(&format!("before={at}"));
    assert_eq!(
        earlier["changes"].as_array().expect("changes"),
        &changes[2..]
    );
    let refused = page("last=many&before=noon");
    assert_eq!(
        refused["mistakes"].as_array().map(Vec::len),
        Some(2),
        "{refused}"
    );
}

#[test]
fn a_handler_with_two_spellings_of_one_path_is_served_also_after_a_restart() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    let routes = "--route /%67reet/* --route /greet/*";
    let one = here.component("one.wasm", &version(1));
    here.deploy(&one, &format!("--name one {routes}"));
    let refused = here.refused(&format!(
        "deploy {} --name two --route /gr%65et/*",
        one.display()
    ));
    assert!(refused.contains("both have the route"), "{refused}");
    host.stop();
    // Both are written down, as they were before one was told from the other.
    let host = TestHost::serve_nothing(&here.unix());
    for target in ["/greet/", "/%67reet/", "/gree%74/"] {
        assert_eq!(host.get(target).text().trim_end(), greeting(1).trim_end());
    }
    let show = here.done("show one");
    assert!(
        show.contains("/%67reet/*") && show.contains("/greet/*"),
        "{show}"
    );
}

#[test]
fn a_handler_whose_file_is_damaged_is_told_and_the_others_are_back() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    here.deploy(&here.component("one.wasm", &version(1)), "--name one");
    here.deploy(&here.component("two.wasm", &version(2)), "--name two");
    let component = here.kept_component("one");
    host.stop();
    fs::write(component, b"damaged").expect("written");
    let host = TestHost::serve_nothing(&here.unix());
    let said = host.says("`one` is not deployed");
    assert!(said.contains("is damaged: deploy it again"), "{said}");
    assert_eq!(host.get("/one/").status(), 503);
    assert_eq!(host.get("/two/").text().trim_end(), greeting(2).trim_end());
    assert!(
        here.done("list").contains("one   failed"),
        "{}",
        here.done("list")
    );
    // The same component again mends it.
    here.deploy(&here.path("one.wasm"), "--name one");
    assert_eq!(host.get("/one/").text().trim_end(), greeting(1).trim_end());
}

#[test]
fn what_cannot_be_made_at_a_start_keeps_its_name_and_its_routes_until_it_is_undeployed() {
    let here = Place::new();
    let files = here.path("files");
    fs::create_dir(&files).expect("made");
    let host = TestHost::serve_file(&files, &here.unix());
    host.says("Admin on");
    let one = here.component("one.wasm", &version(1));
    here.deploy(&one, "--name one");
    let component = here.kept_component("one");
    host.stop();
    fs::write(component, b"damaged").expect("written");
    // A file wants its name, another its route.
    fs::write(files.join("one.wasm"), version(3)).expect("written");
    fs::write(files.join("two.wasm"), version(2)).expect("written");
    fs::write(files.join("two.toml"), "routes = [\"/one/*\"]\n").expect("written");
    let host = TestHost::serve_file(&files, &here.unix());
    host.says("`one` was deployed through the admin door: undeploy it");
    let said = host.says("`two` is not deployed");
    assert!(said.contains("one") && said.contains("/one/*"), "{said}");
    let list = here.done("list");
    assert!(list.contains("failed"), "{list}");
    let deploy = |name: &str| format!("deploy {} --name {name} --route /one/*", one.display());
    let said = here.refused(&deploy("three"));
    assert!(said.contains("one") && said.contains("three"), "{said}");
    assert_eq!(host.get("/one/").status(), 503);
    // Whose it is takes its place.
    here.deploy(&one, "--name one");
    assert_eq!(host.get("/one/").text().trim_end(), greeting(1).trim_end());
    here.done("undeploy one");
    fs::write(files.join("last.wasm"), version(4)).expect("written");
    comes_to_say(&host, "/one/", &greeting(3));
}

#[test]
fn a_request_for_what_cannot_be_made_at_a_start_reaches_no_wider_route_of_another() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    let shop = here.component("shop.wasm", &version(1));
    here.deploy(&shop, "--name shop");
    let wide = here.component("wide.wasm", &version(2));
    here.deploy(&wide, "--name wide --route /*");
    here.deploy(&RELAY.path(), "--name relay --allow-call shop");
    let component = here.kept_component("shop");
    host.stop();
    fs::write(component, b"damaged").expect("written");
    let host = TestHost::serve_nothing(&here.unix());
    let reply = host.get("/shop/");
    assert_eq!(reply.status(), 503);
    assert!(reply.text().contains("urn:host:failure:not-made"));
    assert_eq!(reply.header("retry-after"), None);
    let access = host.access(&reply);
    assert_eq!(
        (access.text("host.handler"), access.text("http.route")),
        ("shop", "/shop/*")
    );
    assert_eq!(host.get("/relay/shop/").status(), 503, "a call of it");
    // A look forgets the numbers of handlers that are gone, and this one is not.
    eventually("the request to be counted", || {
        let mut door = Connection::to_unix(&here.path("admin.sock"));
        door.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        let page = door.reply().text();
        let mut lines = page.lines();
        let is_it = |line: &str| line.contains("\"shop\"") && line.contains("\"not-made\"");
        lines.any(is_it).then_some(())
    });
    let says = |target: &str, number: usize| {
        let said = host.get(target).text();
        assert_eq!(said.trim_end(), greeting(number).trim_end(), "{target}");
    };
    says("/other/", 2);
    here.deploy(&shop, "--name shop");
    says("/shop/", 1);
    here.done("undeploy shop");
    says("/shop/", 2);
}

#[test]
fn an_answer_of_the_host_that_gives_way_to_what_cannot_be_made_is_told_once() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    let one = here.component("one.wasm", &version(1));
    here.deploy(&one, "--name one");
    let component = here.kept_component("one");
    host.stop();
    fs::write(component, b"damaged").expect("written");
    fs::write(here.path("two.wasm"), version(2)).expect("written");
    let say = |target: &str| {
        let door = "[admin]\nsocket = \"admin.sock\"\n[state]\ndirectory = \"state\"\n";
        let two = format!("[handlers.two]\nsource = \"two.wasm\"\nroutes = [\"{target}\"]\n");
        let own = "[[routes]]\npath = \"/one/*\"\nrespond = { body = \"own\" }\n";
        here.component("host.toml", format!("{door}{two}{own}").as_bytes())
    };
    let host = TestHost::serve_file(&say("/two/*"), "");
    host.says("`[[routes]]` is not deployed");
    // It is tried again whenever something else is put in place.
    fs::write(here.path("two.wasm"), version(3)).expect("written");
    comes_to_say(&host, "/two/", &greeting(3));
    say("/zwei/*");
    comes_to_say(&host, "/zwei/", &greeting(3));
    let said = host.stderr();
    let told = said.iter().filter(|line| line.contains("`[[routes]]`"));
    assert_eq!(told.count(), 1, "{said:?}");
    assert_eq!(host.get("/one/").status(), 503);
    // He gives it up.
    here.done("undeploy one");
    say("/deux/*");
    comes_to_say(&host, "/one/", "own");
}

#[test]
fn what_an_earlier_host_could_not_bring_back_takes_no_route_from_others_at_the_first_start() {
    let here = Place::new();
    let files = here.path("files");
    fs::create_dir(&files).expect("made");
    let host = TestHost::serve_file(&files, &here.unix());
    host.says("Admin on");
    let one = here.component("one.wasm", &version(1));
    here.deploy(&one, "--name one");
    let component = here.kept_component("one");
    host.stop();
    fs::write(component, b"damaged").expect("written");
    fs::write(files.join("two.wasm"), version(2)).expect("written");
    fs::write(files.join("two.toml"), "routes = [\"/one/*\"]\n").expect("written");
    // What tells a directory of this host from one of an earlier.
    let database = Database::open(here.path("state/catalog.redb")).expect("opened");
    let transaction = database.begin_write().expect("begun");
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let mut meta = transaction.open_table(meta).expect("a table");
    assert!(meta.remove("revision").expect("removed").is_some());
    drop(meta);
    transaction.commit().expect("committed");
    drop(database);
    let host = TestHost::serve_file(&files, &here.unix());
    host.says("`one` is not deployed");
    assert_eq!(host.get("/one/").text().trim_end(), greeting(2).trim_end());
}

#[test]
fn a_component_that_cannot_be_read_or_is_gone_is_not_called_damaged() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    here.deploy(&here.component("one.wasm", &version(1)), "--name one");
    here.deploy(&here.component("two.wasm", &version(2)), "--name two");
    let [one, two] = ["one", "two"].map(|name| here.kept_component(name));
    host.stop();
    fs::remove_file(&one).expect("removed");
    // It is there, and nobody can open it.
    fs::remove_file(&two).expect("removed");
    symlink(&two, &two).expect("linked");
    let host = TestHost::serve_nothing(&here.unix());
    let said = host.says("`one` is not deployed");
    let shown = one.display().to_string();
    assert!(said.contains(&shown), "{said}");
    assert!(said.contains("is gone: deploy it again"), "{said}");
    let said = host.says("`two` is not deployed");
    let shown = two.display().to_string();
    assert!(said.contains(&shown), "{said}");
    assert!(said.contains("cannot be read"), "{said}");
    assert!(said.contains("`host rollback two --to v1`"), "{said}");
    let said = here.refused("rollback two --to v1");
    assert!(said.contains("cannot be read"), "{said}");
    assert!(said.contains("try again"), "{said}");
    let said = here.refused("rollback one --to v1");
    assert!(said.contains("is gone: deploy it again"), "{said}");
    fs::remove_file(&two).expect("removed");
    fs::copy(here.path("two.wasm"), &two).expect("copied");
    here.done("rollback two --to v1");
    assert_eq!(host.get("/two/").text().trim_end(), greeting(2).trim_end());
}

#[test]
fn what_takes_long_to_compile_anew_holds_up_no_start_and_is_served_when_it_is_made() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    here.deploy(&here.component("one.wasm", &version(1)), "--name one");
    host.stop();
    // Nothing that was compiled is kept.
    let flags = format!("{} --no-cache", here.unix());
    let host = TestHost::serve_nothing(&format!("{flags} --restore-timeout 1ms"));
    host.says("still being made: 1 handler of the state directory");
    eventually("the handler", || {
        let list = here.done("list");
        assert!(list.contains("starting") || list.contains("v1"), "{list}");
        let mut door = Connection::to_unix(&here.path("admin.sock"));
        door.send("GET /readyz/one HTTP/1.1\r\nHost: a\r\n\r\n");
        let probed = door.reply();
        match probed.status() {
            503 => assert!(probed.text().contains("starting"), "{}", probed.text()),
            other => assert_eq!(other, 200, "{}", probed.text()),
        }
        // What has begun to serve does not start again.
        if list.contains("v1") {
            assert!(
                !probed.text().contains("\"why\":\"starting\""),
                "{}",
                probed.text()
            );
        }
        let reply = host.get("/one/");
        // It is not said that there is none.
        assert!(matches!(reply.status(), 200 | 503), "{}", reply.text());
        (reply.text().trim_end() == greeting(1).trim_end()).then_some(())
    });
    host.says("`one` is deployed again");
    eventually("an end of the start", || {
        (host.get("/other/").status() == 404).then_some(())
    });
    host.stop();
    // One that waits has it from its first request on.
    let host = TestHost::serve_nothing(&flags);
    assert_eq!(host.get("/one/").text().trim_end(), greeting(1).trim_end());
}

#[test]
fn what_takes_long_to_compile_anew_gives_way_to_the_files_of_a_start_and_keeps_its_routes() {
    let here = Place::new();
    let files = here.path("files");
    fs::create_dir(&files).expect("made");
    fs::write(files.join("wide.wasm"), version(2)).expect("written");
    fs::write(files.join("wide.toml"), "routes = [\"/*\"]\n").expect("written");
    let host = TestHost::serve_file(&files, &here.unix());
    host.says("Admin on");
    let one = here.component("one.wasm", &version(1));
    let names = ["one", "two", "three"];
    for name in names {
        here.deploy(&one, &format!("--name {name}"));
    }
    host.stop();
    let flags = format!("{} --no-cache --restore-timeout 1ms", here.unix());
    let host = TestHost::serve_file(&files, &flags);
    eventually("the handlers", || {
        let replies = names.map(|name| host.get(&format!("/{name}/")));
        for reply in &replies {
            if reply.status() == 503 {
                let said = reply.text();
                assert!(said.contains("urn:host:failure:starting"), "{said}");
                assert_eq!(reply.header("retry-after"), Some("1"));
            } else {
                assert_eq!(reply.text().trim_end(), greeting(1).trim_end());
            }
        }
        let is_all = replies.iter().all(|reply| reply.status() == 200);
        is_all.then_some(())
    });
    host.says("is deployed again");
    let said = host.stderr();
    let first = |part: &str| said.iter().position(|line| line.contains(part));
    let (of_files, restored) = (first("1 handler of `"), first("is deployed again"));
    assert!(of_files.is_some() && of_files < restored, "{said:?}");
}

#[test]
fn what_is_compiled_anew_is_served_also_when_a_deploy_of_its_name_is_refused_meanwhile() {
    let here = Place::new();
    let faults = fs::read(FAULTS.path()).expect("read");
    let put = |host: &TestHost, query: &str| {
        let target = format!("/handlers/f?{query}");
        ask(admin_of(host), "PUT", &target, "", &faults).status()
    };
    let host = TestHost::serve_nothing(&here.tcp());
    assert_eq!(put(&host, "timeout=9s"), 201);
    host.stop();
    let flags = format!("{} --no-cache --restore-timeout 1ms", here.tcp());
    let host = TestHost::serve_nothing(&flags);
    // It has the turn until its warm-up is given up.
    let refused = put(&host, "timeout=1s&warm_up=%2Fnever");
    assert!(matches!(refused, 409 | 422), "{refused}");
    eventually("the handler", || {
        (host.get("/f/ok").status() == 200).then_some(())
    });
}

#[test]
fn a_version_that_only_fails_is_rolled_back_by_the_host_for_good() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.unix());
    here.deploy(&here.component("one.wasm", &version(1)), "--name shop");
    assert_eq!(host.get("/shop/").status(), 200);
    here.deploy(&FAULTS.path(), "--name shop --allow-new-imports");
    eventually("the version before", || {
        (host.get("/shop/trap").status() == 200).then_some(())
    });
    assert!(here.done("list").contains("shop  v1"));
    let digest = here.listed()["handlers"][0]["digest"].clone();
    host.signal(Signal::KILL);
    host.ended();
    let host = TestHost::serve_nothing(&here.unix());
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(1).trim_end());
    assert_eq!(here.listed()["handlers"][0]["digest"], digest);
    // It is kept, for who wants to look at it again.
    here.done("rollback shop --to v2");
}

#[test]
fn a_version_that_only_fails_gives_way_to_the_one_before_with_its_settings_also_when_that_has_to_wait()
 {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let faults = fs::read(FAULTS.path()).expect("read");
    let put = |variable: &str| {
        let target = format!("/handlers/f?env={variable}");
        let reply = ask(admin, "PUT", &target, "", &faults);
        assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
    };
    put("COLOUR%3Dblue");
    assert!(host.get("/f/env").text().contains("COLOUR=blue"));
    put("COLOUR%3Dred");
    // Somebody has the turn to change it while it fails: his deploy waits for an answer that never comes.
    let mut slow = Connection::to(admin);
    let target = "/handlers/f?warm_up=%2Fnever&timeout=4s";
    slow.send(head("PUT", target, faults.len(), ""));
    slow.send(&faults);
    eventually("a busy handler", || {
        let reply = ask(
            admin,
            "DELETE",
            "/handlers/f",
            "If-Match: \"no.1\"\r\n",
            b"",
        );
        (reply.status() == 409).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(host.get("/f/trap").status(), 500);
    }
    host.says("not rolled back yet");
    let is_current = |nth: usize| {
        let shown = json(&ask(admin, "GET", "/handlers/f", "", b""));
        shown["versions"][nth]["current"] == true
    };
    assert!(is_current(1));
    drop(slow);
    eventually("the version before", || is_current(0).then_some(()));
    assert!(host.get("/f/env").text().contains("COLOUR=blue"));
    let log = json(&ask(admin, "GET", "/audit?last=1", "", b""));
    let last = &log["changes"][0];
    assert_eq!(
        (&last["who"], &last["action"]),
        (&"host".into(), &"rollback".into())
    );
}

/// A deploy that may be cut off: whether it was acknowledged.
fn deploys(admin: SocketAddr, number: usize) -> bool {
    let bytes = version(number);
    let Ok(mut stream) = TcpStream::connect(admin) else {
        return false;
    };
    let mut connection = Connection::to_stream(stream.try_clone().expect("a clone"));
    let sent = stream
        .write_all(head("PUT", "/handlers/shop", bytes.len(), "").as_bytes())
        .and_then(|()| stream.write_all(&bytes));
    let answered = sent.is_ok().then(|| connection.try_head()).flatten();
    answered.is_some_and(|head| matches!(head.status, 200 | 201))
}

#[test]
fn a_version_that_is_slow_to_come_back_keeps_no_other_waiting() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    let faults = fs::read(FAULTS.path()).expect("read");
    for target in [
        // It is asked again when it comes back.
        "/handlers/slow?warm_up=%2Fsleep%3Fms%3D5000",
        "/handlers/slow?warm_up=%2Fok",
        "/handlers/quick",
        "/handlers/quick?env=COLOUR%3Dred",
    ] {
        let reply = ask(admin, "PUT", target, "", &faults);
        assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
    }
    for target in ["/slow/trap", "/quick/trap"] {
        for _ in 0..10 {
            assert_eq!(host.get(target).status(), 500);
        }
    }
    let is_current = |name: &str, nth: usize| {
        let shown = json(&ask(admin, "GET", &format!("/handlers/{name}"), "", b""));
        shown["versions"][nth]["current"] == true
    };
    eventually("the quick one", || is_current("quick", 0).then_some(()));
    assert!(is_current("slow", 1));
    eventually("the slow one", || is_current("slow", 0).then_some(()));
}

#[test]
fn a_host_that_is_killed_at_any_point_starts_again_with_the_last_acknowledged_catalog() {
    const KILLS: u64 = 16;
    const COMPONENTS: usize = 5;
    let here = Place::new();
    let (mut acknowledged, mut next) = (None, 0);
    for kill in 0..KILLS {
        let host = TestHost::serve_nothing(&here.tcp());
        let admin = admin_of(&host);
        let shown = ask(admin, "GET", "/handlers", "", b"");
        let there = json(&shown)["handlers"].as_array().map_or(0, Vec::len);
        let said = host.get("/shop/");
        match acknowledged {
            None => assert_eq!(there, usize::from(next > 0 && said.status() == 200)),
            // The one that was under way may have come through, and nobody was told so.
            Some(last) => {
                let now = number_in(&said.text());
                assert!(
                    now == last || now == next % COMPONENTS,
                    "{now} after {last}, then {next}"
                );
                acknowledged = Some(now);
                let shown = json(&shown);
                let versions = shown["handlers"][0]["versions"].as_array();
                let named: BTreeSet<String> = versions
                    .into_iter()
                    .flatten()
                    .filter_map(|version| Some(format!("{}.wasm", version["digest"].as_str()?)))
                    .collect();
                let files: BTreeSet<String> = fs::read_dir(here.path("state/components"))
                    .expect("read")
                    .map(|file| {
                        file.expect("read")
                            .file_name()
                            .to_string_lossy()
                            .into_owned()
                    })
                    .collect();
                assert_eq!(
                    files, named,
                    "every version has its file, and nothing else does"
                );
            }
        }
        let began = host.writes();
        thread::scope(|scope| {
            let deploying = scope.spawn(move || {
                let (mut last, mut number) = (None, next);
                loop {
                    number += 1;
                    if !deploys(admin, number % COMPONENTS) {
                        return (last, number);
                    }
                    last = Some(number % COMPONENTS);
                }
            });
            // At another of its writes each time: of a component, of the database, of a log.
            let last = began + 40 + 61 * kill % 149;
            while host.writes() < last {
                assert!(!deploying.is_finished(), "the host answers no more");
            }
            host.signal(Signal::KILL);
            let (last, number) = deploying.join().expect("it ends");
            acknowledged = last.or(acknowledged);
            next = number;
        });
        host.ended();
    }
    assert!(
        acknowledged.is_some(),
        "nothing was deployed between the kills"
    );
    assert!(next > 2 * KILLS as usize, "{next} deploys are few");
}

#[test]
fn the_door_answers_and_deploys_while_clients_have_all_open_files() {
    const OPEN_FILES: u32 = 200;
    let here = Place::new();
    let program = command_with_open_files(OPEN_FILES);
    let host = TestHost::serve_as(program, HELLO, &here.unix());
    let crowd: Vec<_> = (0..2 * OPEN_FILES)
        .map(|_| TcpStream::connect(host.address).expect("in the backlog at least"))
        .collect();
    host.says("kept for the operator");
    // It is compiled, which takes some more.
    let file = here.component("shop.wasm", &version(1));
    here.deploy(&file, "--name shop --route /shop/*");
    assert!(here.done("list").contains("shop"));
    drop(crowd);
    assert_eq!(host.get("/shop/").status(), 200, "others come in again");
}

#[test]
fn the_door_answers_while_guests_spin_on_every_core_and_every_place_is_taken() {
    alone();
    const PLACES: usize = 16;
    const SPINNING: usize = 12;
    const CROWD: usize = 12;
    const LOOKS: usize = 100;
    let here = Place::new();
    let flags = format!(
        "{} --max-concurrent-requests {PLACES} --cpu 1m --timeout 1m",
        here.tcp()
    );
    let host = TestHost::serve(FAULTS, &flags);
    let admin = admin_of(&host);
    let _spinning: Vec<Connection> = (0..SPINNING)
        .map(|_| host.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let end = Instant::now() + PATIENCE;
    let look = || {
        let start = Instant::now();
        assert_eq!(ask(admin, "GET", "/handlers", "", b"").status(), 200);
        start.elapsed()
    };
    let times = thread::scope(|scope| {
        // More than there are places left for: they wait for one another.
        for _ in 0..CROWD {
            scope.spawn(|| {
                let mut kept = host.connect();
                while !is_over.load(Ordering::Relaxed) && Instant::now() < end {
                    assert_eq!(kept.get("/ok").status(), 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut times = Vec::new();
        while Instant::now() < end
            && (times.len() < LOOKS || asked.load(Ordering::Relaxed) <= LOOKS)
        {
            times.push(look());
        }
        is_over.store(true, Ordering::Relaxed);
        times.sort();
        times
    });
    let (looks, asked) = (times.len(), asked.into_inner());
    eprintln!(
        "admin door beside {SPINNING} loops and {asked} requests: median {:?}, most {:?}",
        times[looks / 2],
        times[looks - 1]
    );
    assert!(
        looks >= LOOKS && asked > LOOKS,
        "{looks} looks, {asked} requests"
    );
    assert!(times[looks - 1] < Duration::from_millis(100), "{times:?}");
    // A deploy takes its time among them, and comes through.
    let start = Instant::now();
    let reply = ask(admin, "PUT", "/handlers/shop", "", &version(1));
    assert_eq!(reply.status(), 201, "{}", reply.text());
    eprintln!("a deploy beside loops: {:?}", start.elapsed());
}

#[test]
fn no_request_fails_through_deploys_and_rollbacks() {
    let here = Place::new();
    let host = TestHost::serve_nothing(&here.tcp());
    let admin = admin_of(&host);
    assert_eq!(
        ask(admin, "PUT", "/handlers/shop", "", &version(0)).status(),
        201
    );
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut kept, mut asked) = (host.connect(), 0);
                    while !is_over.load(Ordering::Relaxed) {
                        for reply in [kept.get("/shop/"), host.get("/shop/")] {
                            assert_eq!(reply.status(), 200, "{}", reply.text());
                            asked += 1;
                        }
                    }
                    asked
                })
            })
            .collect();
        for number in 1..=8 {
            assert_eq!(
                ask(admin, "PUT", "/handlers/shop", "", &version(number)).status(),
                200
            );
            assert_eq!(
                number_in(&host.get("/shop/").text()),
                number,
                "what is acknowledged serves"
            );
            assert_eq!(
                ask(admin, "POST", "/handlers/shop/rollback", "", b"").status(),
                200
            );
            assert_eq!(number_in(&host.get("/shop/").text()), number - 1);
            ask(
                admin,
                "POST",
                &format!("/handlers/shop/rollback?to=v{}", number + 1),
                "",
                b"",
            );
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("no request failed") > 16, "no traffic");
        }
    });
}
