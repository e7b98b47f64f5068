//! Large values of guests (`wasi:blobstore`): what was granted, whole or not at all, within quotas, and after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::guests::UPLOAD;
use crate::support::*;

/// A host whose guest may use `box`, with its state in a place of its own.
fn serve(state: &Path) -> TestHost {
    let flags = format!("--blobstore box --cpu 20s --state {}", state.display());
    TestHost::serve(GREEDY, &flags)
}

/// Does something with `box`.
fn with_box(host: &TestHost, operation: &str, query: &str) -> String {
    with(host, "", "box", operation, query)
}

fn with(host: &TestHost, handler: &str, container: &str, operation: &str, query: &str) -> String {
    let reply = host.get(&format!("{handler}/blob/{operation}?c={container}&{query}"));
    assert_eq!(reply.status(), 200, "{operation} {query}: {}", reply.text());
    reply.text().trim_end().to_owned()
}

/// A file of a host with handlers that may use the containers that are said of each.
fn file(directory: &TempDir, handlers: &[(&str, &str)], rest: &str) -> PathBuf {
    fs::copy(GREEDY.path(), directory.path().join("greedy.wasm")).expect("copied");
    let mut text = format!("[state]\ndirectory = \"state\"\n{rest}");
    for (name, grants) in handlers {
        text += &format!(
            "[handlers.{name}]\nsource = \"greedy.wasm\"\n\
             routes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n{grants}\n"
        );
    }
    let file = directory.path().join("host.toml");
    fs::write(&file, text).expect("written");
    file
}

/// Files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("read").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Nothing is on its way in.
fn settles(state: &Path) {
    eventually("an empty place for what comes in", || {
        files(&state.join("blobs/incoming"))
            .is_empty()
            .then_some(())
    });
}

#[test]
fn what_was_written_is_read_in_whole_and_in_part_and_found_again_after_a_restart() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    assert_eq!(with_box(&host, "exists", ""), "false");
    assert_eq!(with_box(&host, "put", "n=a"), "error: no such container");
    assert_eq!(with_box(&host, "create", ""), "ok");
    assert_eq!(
        with_box(&host, "create", ""),
        "error: the container exists already"
    );
    assert_eq!(with_box(&host, "exists", ""), "true");
    assert_eq!(with_box(&host, "name", ""), "box");
    assert_eq!(with_box(&host, "about", ""), "box true");

    assert_eq!(with_box(&host, "put", "n=a&size=1000"), "ok");
    assert_eq!(with_box(&host, "put-late", "n=b&size=5000000"), "ok");
    assert_eq!(with_box(&host, "put", "n=empty"), "ok");
    let sum = |from: u64, to: u64| (from..to).map(|i| i % 256).sum::<u64>();
    let of = |from, to| format!("{} {}", to - from, sum(from, to));
    assert_eq!(with_box(&host, "get", "n=a"), of(0, 1000));
    assert_eq!(with_box(&host, "get", "n=a&start=10&end=10"), of(10, 11));
    assert_eq!(
        with_box(&host, "get", "n=a&start=990&end=5000"),
        of(990, 1000)
    );
    assert_eq!(with_box(&host, "get", "n=b"), of(0, 5_000_000));
    assert_eq!(
        with_box(&host, "get", "n=b&start=300000&end=4999998"),
        of(300_000, 4_999_999)
    );
    assert_eq!(with_box(&host, "get", "n=empty"), "0 0");
    assert_eq!(with_box(&host, "get-whole", "n=a"), of(0, 1000));
    assert_eq!(
        with_box(&host, "get-whole", "n=b"),
        "error: larger than 4 MiB: read it as a stream"
    );
    for (operation, query) in [("get", "n=a&start=5&end=4"), ("get", "n=a&start=1001")] {
        let answer = with_box(&host, operation, query);
        assert_eq!(answer, "error: the object has no such part", "{query}");
    }
    assert_eq!(with_box(&host, "get", "n=c"), "error: no such object");
    assert_eq!(with_box(&host, "has", "n=a"), "true");
    assert_eq!(with_box(&host, "has", "n=c"), "false");
    assert_eq!(with_box(&host, "info", "n=a"), "box a 1000 true");
    assert_eq!(with_box(&host, "list", ""), "a,b,empty");
    host.stop();

    let host = serve(state.path());
    assert_eq!(with_box(&host, "list", ""), "a,b,empty");
    assert_eq!(with_box(&host, "get", "n=b"), of(0, 5_000_000));
    // Also what is deleted while it is read.
    assert_eq!(with_box(&host, "get-deleted", "n=b"), of(0, 5_000_000));
    assert_eq!(with_box(&host, "list", ""), "a,empty");
}

#[test]
fn objects_are_replaced_copied_moved_and_deleted() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=10");
    assert_eq!(with_box(&host, "put", "n=a&size=20"), "ok");
    assert_eq!(with_box(&host, "info", "n=a"), "box a 20 true");
    assert_eq!(with_box(&host, "copy", "n=a&d=box&m=b"), "ok");
    assert_eq!(with_box(&host, "move", "n=a&d=box&m=c"), "ok");
    assert_eq!(with_box(&host, "move", "n=c&d=box&m=c"), "ok");
    assert_eq!(with_box(&host, "list", ""), "b,c");
    assert_eq!(with_box(&host, "get", "n=b"), with_box(&host, "get", "n=c"));
    // What is there is replaced.
    with_box(&host, "put", "n=d&size=30");
    assert_eq!(with_box(&host, "move", "n=d&d=box&m=b"), "ok");
    assert_eq!(with_box(&host, "info", "n=b"), "box b 30 true");
    assert_eq!(
        with_box(&host, "move", "n=d&d=box&m=b"),
        "error: no such object"
    );
    assert_eq!(
        with_box(&host, "copy", "n=d&d=box&m=b"),
        "error: no such object"
    );
    assert_eq!(
        with_box(&host, "copy", "n=b&d=other&m=b"),
        "error: the container is not granted"
    );
    assert_eq!(with_box(&host, "delete", "n=b"), "ok");
    assert_eq!(with_box(&host, "delete", "n=b"), "ok");
    assert_eq!(with_box(&host, "list", ""), "c");
    with_box(&host, "put-many", "n=x&many=5");
    assert_eq!(with_box(&host, "delete-all", "n=x&many=4"), "ok");
    assert_eq!(with_box(&host, "list", ""), "c,x4");
    assert_eq!(with_box(&host, "clear", ""), "ok");
    assert_eq!(with_box(&host, "list", ""), "");
    with_box(&host, "put", "n=a&size=10");
    assert_eq!(with_box(&host, "drop", ""), "ok");
    assert_eq!(with_box(&host, "exists", ""), "false");
    assert_eq!(with_box(&host, "list", ""), "error: no such container");
    with_box(&host, "create", "");
    assert_eq!(with_box(&host, "list", ""), "");
    settles(state.path());
}

#[test]
fn a_container_that_was_not_granted_is_refused_and_the_log_says_how_to_grant_it() {
    let host = TestHost::serve(GREEDY, "");
    for operation in ["create", "exists", "put", "drop", "copy"] {
        let answer = with(&host, "", "secrets", operation, "n=a");
        assert_eq!(answer, "error: the container is not granted", "{operation}");
    }
    assert_eq!(
        with(&host, "", "", "nowhere", ""),
        "error: the value was written to no container"
    );
    let said = host.says("may not use the container `secrets`");
    assert!(said.contains("`blobstore.secrets`"), "{said}");
    assert!(said.contains("`--blobstore secrets`"), "{said}");
}

#[test]
fn a_guest_of_0_3_has_containers_as_one_of_0_2_does() {
    let state = directory();
    let flags = format!("--blobstore box {}", flag("--state", state.path()));
    let host = TestHost::serve(PROBE_P3, &flags);
    assert_eq!(host.get("/container?n=100000").text(), "100000 kept\n");
    let host = TestHost::serve(PROBE_P3, "");
    let said = host.get("/container?n=1").text();
    assert!(said.starts_with("refused: "), "{said}");
    host.says("`probe_p3` may not use the container `box`");
}

#[test]
fn no_name_is_a_path() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    with_box(&host, "create", "");
    let before = files(state.path()).len();
    let names = [
        "..",
        ".",
        "%2e%2e%2f%2e%2e%2fout",
        "/etc/passwd",
        "a%2fb",
        "a%00b",
        "%0a",
        ".hidden",
        "lock",
        "incoming",
        "A",
        "a",
        "%c3%a9",
        "e%cc%81",
    ];
    for name in names {
        assert_eq!(
            with_box(&host, "put", &format!("n={name}&size=1")),
            "ok",
            "{name}"
        );
    }
    let own = files(&state.path().join("blobs/operator/container-box"));
    assert_eq!(own.len(), names.len());
    assert_eq!(files(state.path()).len(), before + names.len());
    for (name, answer) in [
        (String::new(), "error: not the name of an object"),
        ("x".repeat(190), "ok"),
        ("x".repeat(191), "error: not the name of an object"),
    ] {
        let put = with_box(&host, "put", &format!("n={name}&size=1"));
        assert!(put.starts_with(answer), "{put}");
    }
    // Nor is that of a container.
    for name in [
        "..",
        "%2e%2e%2foperator%2fcontainer-box",
        "box%2f..",
        "BOX",
        "",
    ] {
        let got = with(&host, "", name, "list", "");
        assert_eq!(got, "error: the container is not granted", "{name}");
    }
}

#[test]
fn what_is_not_finished_is_never_seen_and_leaves_nothing() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=10");
    assert_eq!(with_box(&host, "unfinished", "n=a&size=1000000"), "ok");
    assert_eq!(host.get("/blob/trap?c=box&n=a&size=1000000").status(), 500);
    assert_eq!(with_box(&host, "info", "n=a"), "box a 10 true");
    assert_eq!(with_box(&host, "list", ""), "a");
    assert_eq!(
        with_box(&host, "twice", "n=b"),
        "error: the value was written already"
    );
    assert_eq!(with_box(&host, "list", ""), "a");
    settles(state.path());
}

#[test]
fn quotas_hold_and_what_they_refuse_leaves_nothing() {
    let directory = TempDir::new().expect("made");
    let grants = "[handlers.one.blobstore.box]\nmax_objects = 3\nmax_object = \"100KiB\"\nmax_bytes = \"250KiB\"";
    let host = TestHost::serve_file(&file(&directory, &[("one", grants)], ""), "");
    let with_box = |operation, query| with(&host, "/one", "box", operation, query);
    with_box("create", "");
    assert_eq!(with_box("put", "n=a&size=102400"), "ok");
    let refused = with_box("put", "n=b&size=102401");
    assert!(refused.starts_with("error: "), "{refused}");
    assert!(refused.contains("102400 bytes"), "{refused}");
    assert_eq!(with_box("list", ""), "a");
    assert_eq!(with_box("put", "n=b&size=100000"), "ok");
    // Too many bytes together, and room for a few.
    let refused = with_box("put", "n=c&size=60000");
    assert!(refused.starts_with("error: "), "{refused}");
    assert_eq!(with_box("put", "n=c&size=50000"), "ok");
    assert_eq!(
        with_box("put", "n=d"),
        "error: the container may have 3 objects"
    );
    assert_eq!(
        with_box("copy", "n=c&d=box&m=d"),
        "error: the container may have 3 objects"
    );
    // What is there may be replaced, and what is gone makes room.
    assert_eq!(with_box("put", "n=c&size=1"), "ok");
    with_box("delete", "n=a");
    assert_eq!(with_box("put", "n=d&size=100000"), "ok");
    assert_eq!(with_box("list", ""), "b,c,d");
    settles(&directory.path().join("state"));
}

#[test]
fn what_guests_do_with_containers_is_counted() {
    let directory = TempDir::new().expect("made");
    let grants = "[handlers.one.blobstore.box]\nmax_objects = 1";
    let admin = "[admin]\nsocket = \"admin.sock\"\n";
    let host = TestHost::serve_file(&file(&directory, &[("one", grants)], admin), "");
    for (container, operation, query) in [
        ("box", "create", ""),
        ("box", "create", ""),
        ("box", "put", "n=a&size=1000"),
        ("box", "put", "n=b&size=1000"),
        ("box", "get", "n=a"),
        ("box", "get", "n=a&start=10&end=10"),
        ("box", "get", "n=b"),
        ("other", "exists", ""),
    ] {
        with(&host, "/one", container, operation, query);
    }
    let page = Connection::to_unix(&directory.path().join("admin.sock"))
        .get("/metrics")
        .text();
    let counted = |line: &str| page.lines().any(|it| it.starts_with(line));
    for (operation, outcome, count) in [
        ("create-container", "ok", 1),
        ("create-container", "invalid", 1),
        ("container-exists", "denied", 1),
        ("finish", "ok", 1),
        ("get-data", "ok", 2),
        ("get-data", "not-found", 1),
    ] {
        let line = format!(
            "host_blobstore_operations_total{{host_handler=\"one\",host_operation=\"{operation}\",host_outcome=\"{outcome}\"}} {count}"
        );
        assert!(counted(&line), "{line} in {page}");
    }
    assert!(page.contains("host_outcome=\"over-quota\""), "{page}");
    let line = "host_blobstore_bytes_total{host_handler=\"one\",host_operation=\"read\"} 1001";
    assert!(counted(line), "{line} in {page}");
    let line = "host_blobstore_bytes_total{host_handler=\"one\",host_operation=\"write\"} ";
    assert!(counted(line), "{line} in {page}");
}

#[test]
fn handlers_share_a_container_with_their_tenant_and_with_nobody_else() {
    let directory = TempDir::new().expect("made");
    let grants = |tenant: &str| format!("{tenant}\nblobstore = {{ box = {{}} }}");
    let (none, ada, bob) = (
        grants(""),
        grants("tenant = \"ada\""),
        grants("tenant = \"bob\""),
    );
    let handlers = [
        ("one", &*none),
        ("two", &*none),
        ("ada", &*ada),
        ("ada2", &*ada),
        ("bob", &*bob),
        ("nothing", "tenant = \"ada\""),
    ];
    let host = TestHost::serve_file(
        &file(&directory, &handlers, "[tenants.ada]\n[tenants.bob]\n"),
        "",
    );
    let list = |handler: &str| with(&host, handler, "box", "list", "");
    with(&host, "/one", "box", "create", "");
    with(&host, "/one", "box", "put", "n=of-operator&size=1");
    assert_eq!(list("/two"), "of-operator");
    for other in ["/ada", "/bob"] {
        assert_eq!(list(other), "error: no such container", "{other}");
    }
    with(&host, "/ada", "box", "create", "");
    with(&host, "/ada", "box", "put", "n=of-ada&size=1");
    assert_eq!(list("/ada2"), "of-ada");
    assert_eq!(list("/one"), "of-operator");
    with(&host, "/bob", "box", "create", "");
    assert_eq!(list("/bob"), "");
    assert_eq!(list("/nothing"), "error: the container is not granted");
}

#[test]
fn a_kill_while_values_are_written_leaves_whole_objects_and_no_rest() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=1000");
    let mut writing =
        host.send("GET /blob/put?c=box&n=a&size=200000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("a value on its way", || {
        let coming = files(&state.path().join("blobs/incoming"));
        let bytes = coming.iter().filter_map(|file| file.metadata().ok());
        (bytes.map(|about| about.len()).sum::<u64>() > 1_000_000).then_some(())
    });
    host.signal(Signal::KILL);
    assert!(writing.is_closed());
    host.ended();
    assert!(!files(&state.path().join("blobs/incoming")).is_empty());

    let host = serve(state.path());
    assert_eq!(
        files(&state.path().join("blobs/incoming")),
        Vec::<PathBuf>::new()
    );
    assert_eq!(with_box(&host, "info", "n=a"), "box a 1000 true");
    assert_eq!(with_box(&host, "list", ""), "a");
}

#[test]
fn two_hosts_do_not_take_each_others_values_for_rests() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    let flags = format!("--blobstore box --state {}", state.path().display());
    let ended = crate::support::host(&format!(
        "serve --addr 127.0.0.1:0 {flags} {}",
        GREEDY.path().display()
    ));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr_text();
    assert!(said.contains("another host has them"), "{said}");
    assert!(said.contains("`--state`"), "{said}");
    assert_eq!(with_box(&host, "create", ""), "ok");
}

/// A file system of its own, for as long as it is looked at.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // At once where nothing is open there, and else when that is closed.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_for_the_guest_and_leaves_nothing() {
    let state = TempDir::new().expect("made");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(state.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        skipped("a full disk: `mount -t tmpfs` is refused: run as root");
        return;
    }
    let _mounted = Mounted(state.path());
    let host = serve(state.path());
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=1000000");
    let refused = with_box(&host, "put", "n=b&size=50000000");
    let said = host.says("could not use a container: no space is left");
    let listed = with_box(&host, "list", "");
    settles(state.path());
    let fits = with_box(&host, "put", "n=c&size=1000000");
    host.stop();
    assert!(refused.contains("no space left"), "{refused}");
    assert!(said.contains("handler=\"greedy\""), "{said}");
    let place = state.path().join("blobs");
    assert!(said.contains(&place.display().to_string()), "{said}");
    assert_eq!((&*listed, &*fits), ("a", "ok"));
}

#[test]
fn what_one_instance_has_open_is_bounded() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=1");
    let answer = with_box(&host, "hoard", "n=a");
    assert_eq!(
        answer,
        "16: too many values are open: 16 at once are allowed"
    );
    // They are the instance's, and gone with it.
    assert_eq!(with_box(&host, "hoard", "n=a"), answer);
    let reply = host.get("/blob/hoard-values?c=box");
    assert_eq!(reply.status(), 500);
    assert_eq!(host.access(&reply).label(), "memory-limit");
    assert_eq!(with_box(&host, "get", "n=a"), "1 0");
}

#[test]
fn a_value_that_has_arrived_is_finished_though_no_other_file_may_be_opened() {
    let state = TempDir::new().expect("made");
    let flags = format!("--blobstore box --state {}", state.path().display());
    // Twenty are for guests, and fifteen of them for one: fewer than the values that an instance may have.
    let host = TestHost::serve_with_open_files(80, GREEDY, &flags);
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=1");
    assert_eq!(
        with_box(&host, "put-last", "n=a&m=b"),
        "too many files are open: close some, or try again later"
    );
    assert_eq!(with_box(&host, "has", "n=b"), "true");
}

#[test]
fn a_listing_ends_whatever_comes_meanwhile_and_pages_are_bounded() {
    let directory = TempDir::new().expect("made");
    let many = "[handlers.many.blobstore.box]\nmax_objects = 1500";
    let few = "[handlers.few.blobstore.other]\nmax_objects = 20";
    let handlers = [("many", many), ("few", few)];
    let host = TestHost::serve_file(&file(&directory, &handlers, ""), "");
    let with_box = |operation, query| with(&host, "/many", "box", operation, query);
    with_box("create", "");
    // Each would be on the disk before the next is written.
    let place = directory.path().join("state/blobs/operator/container-box");
    for i in 0..1100 {
        let name = URL_SAFE_NO_PAD.encode(format!("x{i}"));
        fs::write(place.join(name), "").expect("written");
    }
    let all = with_box("list", "page=18446744073709551615");
    assert_eq!(all.split(',').count(), 1100);
    assert_eq!(with_box("list", "page=7"), all);
    assert_eq!(with_box("skip", "many=5"), "5 false");
    assert_eq!(with_box("skip", "many=100000"), "1000 false");
    assert_eq!(
        with_box("delete-all", "n=x&many=1001"),
        "error: too many at once: 1000 are allowed"
    );
    with(&host, "/few", "other", "create", "");
    assert_eq!(
        with(&host, "/few", "other", "list-while-writing", ""),
        "true"
    );
}

#[test]
fn values_are_never_whole_in_memory() {
    let state = TempDir::new().expect("made");
    let host = serve(state.path());
    with_box(&host, "create", "");
    with_box(&host, "put", "n=a&size=1000");
    with_box(&host, "get", "n=a");
    let before = host.memory();
    assert_eq!(with_box(&host, "put", "n=b&size=60000000"), "ok");
    assert_eq!(with_box(&host, "copy", "n=b&d=box&m=c"), "ok");
    assert!(with_box(&host, "get", "n=c").starts_with("60000000 "));
    let more = host.memory().saturating_sub(before);
    assert!(more < 40 * 1024 * 1024, "{more} bytes more");
}

#[test]
fn upload_takes_files_by_form_and_put_and_gives_them_back() {
    let state = TempDir::new().expect("made");
    let flags = format!("--blobstore uploads --state {}", state.path().display());
    let host = TestHost::serve(UPLOAD, &flags);
    let page = host.get("/");
    assert_eq!(page.status(), 200, "{}", page.text());
    assert!(page.text().contains("multipart/form-data"));

    let body = "--B\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nnot a file\r\n\
         --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a <b>.txt\"\r\n\
         Content-Type: text/plain\r\n\r\nfirst\r\n--Bogus\r\n\r\nlast\r\n--B--\r\n";
    let form = |body: &str| {
        host.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .reply()
    };
    let kept = form(body);
    // `--Bogus` begins as the boundary does, and RFC 2046 says that it is one.
    assert_eq!(kept.status(), 303, "{}", kept.text());
    let page = host.get("/").text();
    assert!(page.contains("a &lt;b&gt;.txt"), "{page}");
    assert!(page.contains("files/a%20%3Cb%3E.txt"), "{page}");
    let file = host.get("/files/a%20%3Cb%3E.txt");
    assert_eq!(file.text(), "first");
    assert_eq!(file.header("content-disposition"), Some("attachment"));
    assert_eq!(file.header("content-length"), Some("5"));

    // A form that breaks off keeps nothing.
    let broken = form(&body[..body.len() - 30].replace("a <b>", "broken"));
    assert_eq!(broken.status(), 400);
    assert!(!host.get("/").text().contains("broken"));

    let large: String = "0123456789".repeat(300_000);
    let put = host
        .send(format!(
            "PUT /files/large HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{large}",
            large.len()
        ))
        .reply();
    assert_eq!(put.status(), 201, "{}", put.text());
    let file = host.get("/files/large");
    assert!(file.text() == large && file.is_complete);

    let by_form = large.replace('5', "\r\n--A");
    let kept = form(&format!(
        "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"form\"\r\n\r\n{by_form}\r\n--B--\r\n"
    ));
    assert_eq!(kept.status(), 303, "{}", kept.text());
    assert!(host.get("/files/form").text() == by_form);

    let deleted = host
        .send("DELETE /files/large HTTP/1.1\r\nHost: a\r\n\r\n")
        .reply();
    assert_eq!(deleted.status(), 204);
    assert_eq!(host.get("/files/large").status(), 404);
    assert_eq!(host.connect().post("/files/form", "").status(), 303);
    assert_eq!(host.get("/files/form").status(), 404);
    settles(state.path());
}

#[test]
fn upload_says_that_it_was_granted_nothing() {
    let host = TestHost::serve(UPLOAD, "");
    let page = host.get("/");
    assert_eq!(page.status(), 500);
    assert!(
        page.text().contains("the container is not granted"),
        "{}",
        page.text()
    );
}
