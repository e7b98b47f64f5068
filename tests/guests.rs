//! The guests that people learn from: `hello`, `echo`, `methods`, `static-files`.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::support::guests::{BOTH_FETCHES, METHODS, STATIC_FILES, UPLOAD};
use crate::support::*;

fn ask(host: &TestHost, method: &str, target: &str, headers: &str) -> Reply {
    let mut connection = host.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"
    ));
    if method == "HEAD" {
        let head = connection.head();
        assert!(connection.is_silent_for(std::time::Duration::from_millis(50)));
        return Reply {
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            is_complete: true,
        };
    }
    connection.reply()
}

#[test]
fn hello_says_hello_to_any_request() {
    for guest in BOTH_HELLOS {
        let host = TestHost::serve(guest, "");
        for (method, target) in [("GET", "/"), ("POST", "/any/path?at=all"), ("BREW", "/")] {
            let reply = ask(&host, method, target, "");
            assert_eq!(reply.text(), "Hello from WebAssembly!\n", "{guest}");
            assert_eq!(reply.header("content-type"), Some("text/plain"), "{guest}");
        }
    }
}

#[test]
fn echo_gives_back_what_it_got() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "");
        for body in ["", "hello", &"0123456789".repeat(100_000)] {
            let reply = host.connect().post("/", body);
            assert_eq!(reply.status(), 200, "{guest}");
            assert!(
                reply.text() == body,
                "{guest}: {} bytes of {}",
                reply.body.len(),
                body.len()
            );
            assert!(reply.is_complete, "{guest}");
            assert_eq!(
                host.access(&reply).label(),
                "",
                "{guest}: {} bytes",
                body.len()
            );
        }
        let reply = ask(
            &host,
            "POST",
            "/",
            "Content-Type: image/png\r\nContent-Length: 0\r\n",
        );
        assert_eq!(reply.header("content-type"), Some("image/png"), "{guest}");
    }
}

#[test]
fn methods_answers_as_the_tutorial_does() {
    let host = TestHost::serve(METHODS, "");
    for (method, target, status, text) in [
        ("GET", "/", 200, "<h1>Methods</h1>"),
        ("GET", "/hello", 200, "Hello, world!"),
        ("GET", "/goodbye", 200, "Goodbye, world!"),
        ("GET", "/items/7", 200, "item 7"),
        ("GET", "/nowhere", 404, "not found"),
        ("POST", "/items", 201, "created /items/1"),
        ("DELETE", "/items/7", 204, ""),
        ("DELETE", "/hello", 405, "not allowed"),
        ("BREW", "/hello", 501, "no one wrote"),
        ("PATCH", "/items/7", 501, "no one wrote"),
    ] {
        let reply = ask(&host, method, target, "");
        assert_eq!(reply.status(), status, "{method} {target}");
        assert!(
            reply.text().contains(text),
            "{method} {target}: {}",
            reply.text()
        );
        assert_eq!(
            reply.header("x-handler"),
            Some("methods"),
            "{method} {target}"
        );
    }
    assert_eq!(
        ask(&host, "POST", "/items", "").header("location"),
        Some("/items/1")
    );
    assert_eq!(ask(&host, "HEAD", "/hello", "").status(), 200);
    let put = ask(&host, "PUT", "/items/7", "Content-Length: 0\r\n");
    assert_eq!(put.text(), "item 7: 0 bytes\n");
}

#[test]
fn methods_says_what_it_allows() {
    let host = TestHost::serve(METHODS, "");
    let options = ask(&host, "OPTIONS", "/items/7", "Origin: http://b\r\n");
    assert_eq!(options.status(), 204);
    let allowed = Some("GET, HEAD, POST, PUT, DELETE, OPTIONS");
    assert_eq!(options.header("allow"), allowed);
    assert_eq!(options.header("access-control-allow-methods"), allowed);
    assert_eq!(options.header("access-control-allow-origin"), Some("*"));
    let refused = ask(&host, "PUT", "/hello", "Content-Length: 0\r\n");
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
}

/// A directory with one of each, and something outside of it that nobody should see.
fn site() -> TempDir {
    let outside = directory();
    let root = outside.path().join("site");
    fs::create_dir_all(root.join("docs/sub")).expect("made");
    fs::create_dir(root.join("home")).expect("made");
    for (name, text) in [
        ("site/docs/a b.txt", "0123456789"),
        ("site/docs/page.html", "<p>page"),
        ("site/docs/<i>.md", "# odd"),
        ("site/home/index.html", "<p>index"),
        ("secret.txt", "secret"),
    ] {
        fs::write(outside.path().join(name), text).expect("written");
    }
    symlink("../secret.txt", root.join("out.txt")).expect("linked");
    symlink("/etc/passwd", root.join("passwd")).expect("linked");
    symlink("docs/page.html", root.join("inside.html")).expect("linked");
    outside
}

fn serve_site(site: &TempDir) -> TestHost {
    let root = site.path().join("site");
    TestHost::serve(STATIC_FILES, &format!("--dir {}::/", root.display()))
}

#[test]
fn static_files_serves_files_indexes_and_listings() {
    let site = site();
    let host = serve_site(&site);
    let file = ask(&host, "GET", "/docs/a%20b.txt", "");
    assert_eq!((file.status(), file.text().as_str()), (200, "0123456789"));
    assert_eq!(
        file.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(file.header("content-length"), Some("10"));
    assert_eq!(ask(&host, "GET", "/inside.html", "").text(), "<p>page");

    let index = ask(&host, "GET", "/home/", "");
    assert_eq!(index.text(), "<p>index");
    assert_eq!(
        index.header("content-type"),
        Some("text/html; charset=utf-8")
    );

    let listing = ask(&host, "GET", "/docs/", "").text();
    for part in [
        "href=\"./a%20b.txt\"",
        "./sub/",
        "page.html",
        "&lt;i&gt;.md",
        "href=\"../\"",
    ] {
        assert!(listing.contains(part), "no {part} in {listing}");
    }
    assert!(!listing.contains("<i>"), "{listing}");

    let moved = ask(&host, "GET", "/docs", "");
    assert_eq!(
        (moved.status(), moved.header("location")),
        (301, Some("./docs/"))
    );
    assert_eq!(ask(&host, "GET", "/nothing", "").status(), 404);
    let post = ask(&host, "POST", "/docs/page.html", "");
    assert_eq!(
        (post.status(), post.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn static_files_sends_the_part_that_is_asked_for() {
    let site = site();
    let host = serve_site(&site);
    for (range, status, text, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=8-99", 206, "89", "bytes 8-9/10"),
        ("bytes=10-", 416, "no such range\n", "bytes */10"),
    ] {
        let reply = ask(
            &host,
            "GET",
            "/docs/a%20b.txt",
            &format!("Range: {range}\r\n"),
        );
        assert_eq!(
            (reply.status(), reply.text().as_str()),
            (status, text),
            "{range}"
        );
        assert_eq!(
            reply.header("content-range"),
            Some(content_range),
            "{range}"
        );
    }
    let odd = ask(&host, "GET", "/docs/a%20b.txt", "Range: lines=1-2\r\n");
    assert_eq!((odd.status(), odd.text().as_str()), (200, "0123456789"));
}

#[test]
fn static_files_sends_nothing_that_the_client_has() {
    let site = site();
    let host = serve_site(&site);
    let first = ask(&host, "GET", "/docs/page.html", "");
    let modified = first.header("last-modified").expect("a date").to_owned();
    let since = |date: &str| {
        ask(
            &host,
            "GET",
            "/docs/page.html",
            &format!("If-Modified-Since: {date}\r\n"),
        )
        .status()
    };
    assert_eq!(since(&modified), 304);
    assert_eq!(since("Thu, 01 Jan 1970 00:00:00 GMT"), 200);
    assert_eq!(since("yesterday"), 200);
    let head = ask(&host, "HEAD", "/docs/page.html", "");
    assert_eq!(
        (head.status(), head.header("content-length")),
        (200, Some("7"))
    );
}

#[test]
fn no_path_leads_out_of_the_directory_of_static_files() {
    let site = site();
    let host = serve_site(&site);
    for target in [
        "/../secret.txt",
        "/docs/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/docs/..%5c..%5csecret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/out.txt",
        "/passwd",
    ] {
        let reply = ask(&host, "GET", target, "");
        assert!(
            matches!(reply.status(), 400 | 403 | 404),
            "{target}: {}",
            reply.status()
        );
        let text = reply.text();
        assert!(
            !text.contains("secret") && !text.contains("root:"),
            "{target}: {text}"
        );
    }
}

#[test]
fn static_files_without_a_directory_says_so() {
    let host = TestHost::serve(STATIC_FILES, "");
    let reply = ask(&host, "GET", "/", "");
    assert_eq!(reply.status(), 500);
    assert!(reply.text().contains("granted none"), "{}", reply.text());
}

#[test]
fn the_manifest_beside_each_example_grants_what_it_needs() {
    let [fetch, fetch_p3] = BOTH_FETCHES;
    let [config, config_p3] = BOTH_CONFIGS;
    for (guest, shows) in [
        (COUNTER, Some(("/count/x", "1"))),
        (GUESTBOOK, Some(("/guestbook/", "<form"))),
        (config, Some(("/config/greeting", "hello"))),
        (config_p3, Some(("/config_p3/greeting", "hello"))),
        (UPLOAD, Some(("/upload/", "multipart/form-data"))),
        // What it shows is somebody else's.
        (fetch, None),
        (fetch_p3, None),
    ] {
        let (here, name) = (directory(), guest.handler());
        let handlers = here.path().join("handlers");
        fs::create_dir(&handlers).expect("made");
        fs::copy(guest.path(), handlers.join(&name).with_extension("wasm")).expect("copied");
        let own = format!(
            "{}/../guests/{guest}/{name}.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let manifest = handlers.join(&name).with_extension("toml");
        fs::copy(own, &manifest).expect("copied");
        let checked = host(&format!("check {}", manifest.display()));
        assert_eq!(checked.code, Some(0), "{guest}: {checked:?}");
        let state = flag("--state", &here.path().join("state"));
        let host = TestHost::serve_file(&handlers, &state);
        if let Some((target, part)) = shows {
            let reply = host.get(target);
            let seen = reply.text();
            assert_eq!(reply.status(), 200, "{guest}: {seen}");
            assert!(seen.contains(part), "{guest}: {seen}");
        }
    }
}
