//! `host serve HOST.TOML`: one file says what is served, to whom, and how much; what it says of handlers is taken up
//! when it changes.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::guests::{ECHO, METHODS};
use crate::support::*;

/// A file, with the components that it names beside it.
struct File(TempDir);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(directory());
        for (name, guest) in [
            ("hello", HELLO),
            ("echo", ECHO),
            ("methods", METHODS),
            ("faults", FAULTS),
        ] {
            fs::copy(guest.path(), file.path().join(name).with_extension("wasm")).expect("copied");
        }
        file.say(text);
        file
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn say(&self, text: &str) {
        let new = self.path().join(".new");
        fs::write(&new, format!("[listen]\naccess_log = \"json\"\n{text}")).expect("written");
        fs::rename(new, self.file()).expect("renamed");
    }

    fn file(&self) -> std::path::PathBuf {
        self.path().join("host.toml")
    }

    fn serve(&self) -> TestHost {
        TestHost::serve_file(&self.file(), "")
    }
}

const SHOP: &str = r#"
[handlers.shop]
source = "hello.wasm"
routes = ["example.com/shop/*"]
"#;

fn status_at(host: &TestHost, authority: &str, target: &str) -> u16 {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    host.send(request).reply().status()
}

#[test]
fn a_request_goes_where_its_host_its_path_and_its_method_say() {
    let file = File::new(
        r#"
[handlers.exact]
source = "hello.wasm"
routes = ["example.com/shop/*"]
[handlers.any]
source = "echo.wasm"
routes = [{ path = "/shop/{id}", methods = ["POST"] }, "*.example.com/*"]
[handlers.stripped]
source = "methods.wasm"
routes = [{ path = "/m/*", strip_prefix = true }]
"#,
    );
    let host = file.serve();
    assert_eq!(status_at(&host, "Example.com:80", "/shop/1"), 200);
    assert_eq!(host.access_to("/shop/1").text("host.handler"), "exact");
    assert_eq!(status_at(&host, "a.b.example.com", "/whatever"), 200);
    assert_eq!(host.access_to("/whatever").text("host.handler"), "any");
    assert_eq!(status_at(&host, "other.com", "/nowhere"), 404);
    assert_eq!(host.connect().post("/shop/1", "x").text(), "x");
    let refused = host.get("/shop/1");
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.header("allow"), Some("POST"));
    assert_eq!(host.get("/m/hello").status(), 200);
    assert_eq!(
        host.get("/m/hello").header("x-request-id").map(str::len),
        Some(36)
    );
}

#[test]
fn a_fixed_response_and_a_redirect_need_no_guest() {
    let file = File::new(
        r#"
[[routes]]
path = "/"
respond = { content_type = "text/html", body = "<h1>hi</h1>" }
[[routes]]
path = "/old/*"
redirect = { to = "/new/", status = 301 }
"#,
    );
    let host = file.serve();
    let page = host.get("/");
    assert_eq!((page.status(), page.text().as_str()), (200, "<h1>hi</h1>"));
    assert_eq!(page.header("content-type"), Some("text/html"));
    let moved = host.get("/old/place?q=1");
    assert_eq!(
        (moved.status(), moved.header("location")),
        (301, Some("/new/?q=1"))
    );
    let head = host
        .send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .head();
    assert_eq!(head.header("content-length"), Some("11"));
}

#[test]
fn a_changed_file_is_taken_up_and_one_with_mistakes_is_not() {
    let file = File::new(SHOP);
    let host = file.serve();
    assert_eq!(status_at(&host, "example.com", "/shop/"), 200);
    file.say(&SHOP.replace("/shop/", "/store/"));
    eventually("the new route", || {
        (status_at(&host, "example.com", "/store/") == 200).then_some(())
    });
    assert_eq!(status_at(&host, "example.com", "/shop/"), 404);

    file.say(&SHOP.replace("routes", "rotes"));
    host.says("did you mean `routes`?");
    host.says("is not taken up");
    assert_eq!(status_at(&host, "example.com", "/store/"), 200);

    file.say("drain_timeout = \"1s\"");
    host.says("holds after a restart");
    eventually("its end", || {
        (status_at(&host, "example.com", "/store/") == 404).then_some(())
    });
}

#[test]
fn a_store_that_a_file_names_anew_is_said_to_need_a_restart() {
    let file = File::new(SHOP);
    let host = file.serve();
    file.say(&format!("{SHOP}[stores.fast]\ntype = \"memory\"\n"));
    let said = host.says("holds after a restart");
    assert!(said.contains("`[stores]`"), "{said}");
    assert_eq!(status_at(&host, "example.com", "/shop/"), 200);
}

#[test]
fn a_component_that_is_replaced_is_taken_up() {
    let file = File::new(SHOP);
    let host = file.serve();
    assert_eq!(status_at(&host, "example.com", "/shop/x"), 200);
    let new = file.path().join("new");
    fs::copy(file.path().join("methods.wasm"), &new).expect("copied");
    fs::rename(new, file.path().join("hello.wasm")).expect("renamed");
    eventually("the new component", || {
        (status_at(&host, "example.com", "/shop/x") == 404).then_some(())
    });
}

#[test]
fn files_that_are_deleted_while_they_are_served_take_nothing_with_them() {
    let file = File::new(SHOP);
    let host = file.serve();
    fs::remove_file(file.path().join("hello.wasm")).expect("deleted");
    host.says("`shop` is not replaced");
    assert_eq!(status_at(&host, "example.com", "/shop/x"), 200);
    fs::remove_file(file.file()).expect("deleted");
    host.says("what is deployed goes on serving");
    assert_eq!(status_at(&host, "example.com", "/shop/x"), 200);
    // What comes back is taken up.
    fs::copy(HELLO.path(), file.path().join("hello.wasm")).expect("copied");
    file.say(&SHOP.replace("/shop/", "/store/"));
    eventually("the new route", || {
        (status_at(&host, "example.com", "/store/x") == 200).then_some(())
    });
}

#[test]
fn two_handlers_cannot_have_one_route() {
    let twice = format!("{SHOP}{}", SHOP.replace("handlers.shop", "handlers.store"));
    let file = File::new(&twice);
    let refused = host(&format!("serve {}", file.file().display()));
    assert_eq!(refused.code, Some(78));
    let said = refused.stderr_text();
    assert!(
        said.contains("shop") && said.contains("store") && said.contains("host.toml:"),
        "{said}"
    );
}

#[test]
fn flags_that_a_file_says_are_refused_beside_it() {
    let file = File::new(SHOP);
    let refused = host(&format!("serve {} --timeout 1s", file.file().display()));
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr_text().contains("`--timeout`"),
        "{}",
        refused.stderr_text()
    );
}

#[test]
fn a_tenant_gets_so_many_requests_a_second() {
    let file = File::new(
        r#"
[tenants.acme]
requests_per_second = 3
[handlers.shop]
source = "hello.wasm"
tenant = "acme"
routes = ["/shop"]
[handlers.other]
source = "hello.wasm"
routes = ["/other"]
"#,
    );
    let host = file.serve();
    let mut connection = host.connect();
    let refused = eventually("a refusal", || {
        let reply = connection.get("/shop");
        (reply.status() != 200).then_some(reply)
    });
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        host.access_of(refused.header("x-request-id").expect("an id"))
            .label(),
        "rate-limited"
    );
    assert_eq!(host.get("/other").status(), 200);
    eventually("room for more", || {
        (connection.get("/shop").status() == 200).then_some(())
    });
}

/// A file whose tenant `acme` has one handler that can be held and one that says hello, and who is not a tenant.
fn file_with_tenant(ceiling: &str) -> File {
    let text = format!(
        r#"
[tenants.acme]
{ceiling}
[handlers.held]
source = "faults.wasm"
tenant = "acme"
routes = [{{ path = "/held/*", strip_prefix = true }}]
[handlers.shop]
source = "hello.wasm"
tenant = "acme"
routes = ["/shop"]
[handlers.other]
source = "hello.wasm"
routes = ["/other"]
"#
    );
    File::new(&text)
}

const HOLD: &str = "GET /held/drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn the_handlers_of_a_tenant_share_its_places() {
    let file = file_with_tenant("max_concurrent_requests = 1");
    let host = file.serve();
    assert_eq!(host.get("/shop").status(), 200);
    let mut held = host.send(HOLD);
    assert_eq!(held.head().status, 200);
    // One may wait, so that the other is refused, or both are in the end.
    let _waiting = host.send("GET /shop HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = host.get("/shop");
    assert_eq!(refused.status(), 503);
    assert_eq!(host.get("/other").status(), 200);
}

#[test]
fn the_instances_of_a_tenant_share_its_memory() {
    let file = file_with_tenant("max_memory = \"2MiB\"");
    let host = file.serve();
    assert_eq!(host.get("/shop").status(), 200);
    let mut held = host.send(HOLD);
    assert_eq!(held.head().status, 200);
    let refused = host.get("/shop");
    assert_eq!(refused.status(), 503);
    assert_eq!(
        host.access_of(refused.header("x-request-id").expect("an id"))
            .label(),
        "overload"
    );
    assert_eq!(host.get("/other").status(), 200);
    drop(held);
    eventually("room again", || {
        (host.get("/shop").status() == 200).then_some(())
    });
}

#[test]
fn a_handler_may_have_more_memory_than_a_place_in_the_pool() {
    let file = File::new(
        r#"
[handlers.large]
source = "hello.wasm"
routes = ["/"]
limits = { memory = "1GiB" }
"#,
    );
    let host = file.serve();
    assert_eq!(host.get("/").status(), 200);
}

#[test]
fn a_manifest_says_what_the_handler_beside_it_may_and_gets() {
    let files = directory();
    fs::copy(METHODS.path(), files.path().join("shop.wasm")).expect("copied");
    fs::write(
        files.path().join("shop.toml"),
        "routes = [\"/store/*\"]\nlimits = { timeout = \"5s\" }",
    )
    .expect("written");
    let host = TestHost::serve_file(files.path(), "");
    assert_eq!(host.get("/shop/hello").status(), 404);
    assert_eq!(host.get("/store/hello").status(), 404);
    assert_eq!(host.access_to("/store/hello").text("host.handler"), "shop");
    fs::write(files.path().join("shop.toml"), "route = 1").expect("written");
    host.says("its manifest is wrong");
    host.says("did you mean `routes`?");
    host.get("/store/hello/again");
    assert_eq!(
        host.access_to("/store/hello/again").text("host.handler"),
        "shop"
    );
    fs::remove_file(files.path().join("shop.toml")).expect("removed");
    eventually("its own place", || {
        (host.get("/shop/hello").status() == 200).then_some(())
    });
}

#[test]
fn a_file_opens_the_door_of_the_operator() {
    let file = File::new(
        r#"
[admin]
socket = "admin.sock"
[state]
directory = "state"
"#,
    );
    let served = file.serve();
    let door = file.path().join("admin.sock");
    let deploy = format!(
        "deploy {} --name shop --admin {}",
        HELLO.path().display(),
        door.display()
    );
    served.says("Admin on");
    let deployed = host(&deploy);
    assert_eq!(deployed.code, Some(0), "{}", deployed.stderr_text());
    assert_eq!(served.get("/shop/").status(), 200);
    served.stop();
    assert_eq!(file.serve().get("/shop/").status(), 200);
}

#[test]
fn two_handlers_may_swap_their_routes_while_one_of_them_is_made_anew() {
    const SWAP: &str = r#"
[handlers.one]
source = "hello.wasm"
routes = ["/x"]
[handlers.two]
source = "echo.wasm"
routes = ["/y"]
"#;
    let file = File::new(SWAP);
    let host = file.serve();
    assert_eq!(host.connect().post("/y", "said").text(), "said");
    let swapped = SWAP
        .replace("/x", "/z")
        .replace("/y", "/x")
        .replace("/z", "/y");
    file.say(&format!("{swapped}limits = {{ timeout = \"7s\" }}"));
    eventually("the swap", || {
        (host.connect().post("/x", "said").text() == "said").then_some(())
    });
    assert_eq!(host.get("/y").text(), "Hello from WebAssembly!\n");
}

#[test]
fn what_never_ends_is_not_read_and_nobody_waits_for_it() {
    let file = File::new(SHOP);
    let host = file.serve();
    let fifo = file.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("made");
    file.say(&format!("{SHOP}env = {{ A = {{ from_file = \"fifo\" }} }}"));
    host.says("no regular file");
    assert_eq!(status_at(&host, "example.com", "/shop/"), 200);
}
