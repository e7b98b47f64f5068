//! From nothing to a handler that serves: `new`, `build`, and `dev` with its saves.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::support::program::{command, without_settings};
use crate::support::*;

/// A directory for a crate, empty, and the same in each run: what cargo has built there is of use again.
fn desk(name: &str) -> PathBuf {
    // Building the guests fetches all that the crates here depend on.
    HELLO.path();
    let desk = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("desks")
        .join(name);
    match std::fs::remove_dir_all(&desk) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => std::fs::create_dir_all(&desk).expect("made"),
    }
    desk
}

/// Cargo takes the versions that it finds here.
fn lock(directory: &Path) {
    let locked = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    std::fs::copy(locked, directory.join("Cargo.lock")).expect("copied");
}

/// Cargo, for itself or for the program, builds into a directory of these tests and fetches nothing.
fn at_the_desk(command: Command) -> Command {
    let mut command = without_settings(command);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("desks/target");
    command
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_WRAPPER");
    command
}

/// Runs the program to its end; compiling has no deadline.
fn host_at(desk: &Path, words: &str) -> Output {
    at_the_desk(command())
        .args(words.split_whitespace())
        .current_dir(desk)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const HANDLER: &str = include_str!("../guests/hello/src/lib.rs");

/// A crate as small as `guests/hello`, whose answer a test can change.
struct Shop(PathBuf);

impl Shop {
    /// Under a name that no other test has: cargo names what it builds after it.
    fn open(name: &str, answer: &str) -> Self {
        let shop = Self(desk(name));
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [lib]\ncrate-type = [\"cdylib\"]\n\n\
             [dependencies]\nwasip2 = \"2.0.1\"\n\n[workspace]\n"
        );
        std::fs::write(shop.0.join("Cargo.toml"), manifest).expect("written");
        std::fs::create_dir(shop.0.join("src")).expect("made");
        lock(&shop.0);
        shop.save(&saying(answer));
        shop
    }

    fn save(&self, source: &str) {
        std::fs::write(self.0.join("src/lib.rs"), source).expect("written");
    }

    fn dev(&self) -> TestHost {
        TestHost::dev(at_the_desk(command()), &self.0)
    }
}

/// A handler whose answer is this.
fn saying(answer: &str) -> String {
    HANDLER.replace("Hello from WebAssembly!\\n", answer)
}

/// What a browser gets.
fn page(host: &TestHost, path: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    host.send(request).reply()
}

/// What a browser does with a page that is open: runs its script, which asks the host and may load the page again. That much of a
/// browser is in node, if there is one.
fn opened(host: &TestHost, page: &Reply) -> Option<(Program, tempfile::TempDir)> {
    const BROWSER: &str = r#"
        const [, page, host] = process.argv;
        const ask = fetch;
        globalThis.fetch = (path, how) => ask(host + path, how);
        globalThis.location = { reload() { console.log("loaded again"); process.exit(); } };
        const text = require("fs").readFileSync(page, "utf8");
        eval(/<script>([^]*)<\/script>/.exec(text)[1]);
    "#;
    let can_ask = Command::new("node").args(["-e", "fetch"]).output();
    if !can_ask.is_ok_and(|node| node.status.success()) {
        skipped(
            "a page that is open in a browser: there is no `node` from 18 up: `apt-get install nodejs`",
        );
        return None;
    }
    let directory = directory();
    let file = directory.path().join("page.html");
    std::fs::write(&file, &page.body).expect("written");
    let mut node = Command::new("node");
    node.args(["-e", BROWSER]).arg(&file);
    node.arg(format!("http://{}", host.address));
    Some((Program::start(node), directory))
}

/// Waits until the next request is answered with this.
fn assert_comes_to_say(host: &TestHost, answer: &str) {
    eventually(&format!("`{answer}`"), || {
        (host.get("/").text() == answer).then_some(())
    });
}

#[test]
fn a_new_crate_builds_and_passes_its_own_test() {
    for template in ["rust", "rust-p3"] {
        let desk = desk(&format!("new-{template}"));
        let name = format!("shop-{template}");
        let made = host_at(&desk, &format!("new {name} --template {template}"));
        assert!(made.status.success(), "{made:?}");
        assert!(text(&made.stdout).contains(&name), "{made:?}");
        assert!(made.stderr.is_empty(), "{made:?}");
        let directory = desk.join(&name);
        lock(&directory);

        let built = host_at(&desk, &format!("build {name}"));
        assert!(built.status.success(), "{}", text(&built.stderr));
        let path = text(&built.stdout);
        let component = Path::new(path.strip_suffix('\n').expect("a line"));
        assert!(component.is_file(), "{path}");
        assert!(text(&built.stderr).contains("Finished"), "{built:?}");

        let tested = at_the_desk(Command::new(env!("CARGO")))
            .arg("test")
            .env("HOST", env!("CARGO_BIN_EXE_host"))
            .env("XDG_CACHE_HOME", desk.join("cache"))
            .current_dir(&directory)
            .output()
            .expect("cargo starts");
        assert!(tested.status.success(), "{}", text(&tested.stderr));
        let said = text(&tested.stdout);
        assert!(said.contains("2 passed"), "{said}");
    }
}

#[test]
fn new_refuses_what_is_there_and_a_name_that_is_none() {
    let directory = directory();
    std::fs::create_dir(directory.path().join("shop")).expect("made");
    for (name, hint) in [("shop", "already"), ("2shop", "begin with a letter")] {
        let refused = host_at(directory.path(), &format!("new {name}"));
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stdout.is_empty(), "{refused:?}");
        let said = text(&refused.stderr);
        assert!(said.contains(name) && said.contains(hint), "{said}");
    }
    let left = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(left, 1, "nothing was made");
}

#[test]
fn build_and_dev_say_that_there_is_no_crate() {
    let directory = directory();
    std::fs::create_dir(directory.path().join("empty")).expect("made");
    for (what, hint) in [
        ("empty", "has no Cargo.toml"),
        ("nowhere", "there is no directory"),
    ] {
        for subcommand in ["build", "dev --addr 127.0.0.1:0"] {
            let refused = host_at(directory.path(), &format!("{subcommand} {what}"));
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(refused.stdout.is_empty(), "{refused:?}");
            let said = text(&refused.stderr);
            assert_eq!(said.lines().count(), 1, "one message: {said}");
            assert!(said.contains(what) && said.contains(hint), "{said}");
        }
    }
}

#[test]
fn build_says_that_a_crate_does_not_compile() {
    let shop = Shop::open("shop-that-does-not-build", "");
    shop.save("fn price() -> u32 { \"free\" }");
    let refused = host_at(&shop.0, "build .");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stdout.is_empty(), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("mismatched types"), "{said}");
    let last = said.lines().next_back().expect("a message");
    assert!(
        last.contains("`shop-that-does-not-build` does not compile"),
        "{said}"
    );
}

#[test]
fn a_save_is_served_and_no_request_fails_meanwhile() {
    alone();
    const VERSIONS: [&str; 3] = ["one", "two", "three"];
    let shop = Shop::open("shop-of-saves", VERSIONS[0]);
    let host = shop.dev();
    let seen = Mutex::new(Vec::new());
    thread::scope(|scope| {
        // Asks all the time, on a connection that stays and on new ones.
        let client = scope.spawn(|| {
            let (mut kept, start) = (host.connect(), Instant::now());
            while !has_seen(&seen, VERSIONS[2]) && start.elapsed() < 3 * PATIENCE {
                for reply in [kept.get("/"), host.get("/")] {
                    assert_eq!(reply.status(), 200, "{}", reply.text());
                    let mut seen = seen.lock().expect("not poisoned");
                    if seen.last() != Some(&reply.text()) {
                        seen.push(reply.text());
                    }
                }
            }
        });
        let is_compiled = |line: &&String| line.contains("Finished");
        let compiled = || host.stderr().iter().filter(is_compiled).count();
        let live = VERSIONS.map(|version| {
            let before = compiled();
            shop.save(&saying(version));
            eventually("the compiler's end", || (compiled() > before).then_some(()));
            let finished = Instant::now();
            eventually(version, || has_seen(&seen, version).then_some(()));
            finished.elapsed()
        });
        client.join().expect("no request failed");
        // The first was there before; the better of two, since on a busy machine it is we who are late.
        assert!(live[1..].iter().any(|took| took.as_secs() < 1), "{live:?}");
    });
    let seen = seen.into_inner().expect("not poisoned");
    assert_eq!(seen, VERSIONS, "each version in its turn");
}

fn has_seen(seen: &Mutex<Vec<String>>, version: &str) -> bool {
    let seen = seen.lock().expect("not poisoned");
    seen.last().is_some_and(|last| last == version)
}

#[test]
fn a_save_that_does_not_compile_leaves_the_last_version_and_shows_a_browser_why() {
    let shop = Shop::open("shop-that-breaks", "open");
    let host = shop.dev();
    assert_eq!(page(&host, "/").text(), "open");

    shop.save(&HANDLER.replace("Fields::new()", "Fields::nonsense()"));
    host.says("the last good version goes on serving");
    let shown = page(&host, "/");
    assert_eq!(shown.status(), 500);
    assert!(
        shown.text().contains("does not compile"),
        "{}",
        shown.text()
    );
    assert!(shown.text().contains("nonsense"), "{}", shown.text());
    host.says("no function or associated item named `nonsense`");
    let reply = host.get("/");
    assert_eq!((reply.status(), reply.text().as_str()), (200, "open"));

    let open = opened(&host, &shown);
    shop.save(&saying("open again"));
    assert_comes_to_say(&host, "open again");
    assert_eq!(page(&host, "/").text(), "open again");
    if let Some((node, _page)) = open {
        let ended = node.ended();
        assert_eq!(ended.stdout_text(), "loaded again", "{ended:?}");
    }
}

#[test]
fn a_first_version_that_does_not_compile_is_served_once_it_does() {
    let shop = Shop::open("shop-that-opens-late", "");
    shop.save("nonsense");
    let host = shop.dev();
    host.says("there is nothing to serve yet");
    let reply = host.get("/");
    assert_eq!(reply.status(), 500);
    assert!(
        reply.text().contains("does not compile"),
        "{}",
        reply.text()
    );

    shop.save(&saying("open"));
    assert_comes_to_say(&host, "open");
}

#[test]
fn a_panic_shows_its_backtrace_and_the_last_output() {
    const COUNT: &str = "
#[inline(never)]
fn count_the_apples() -> usize {
    println!(\"counting <apples>\");
    panic!(\"no apples\")
}
";
    let shop = Shop::open("shop-that-panics", "");
    shop.save(&(HANDLER.replace("let headers", "count_the_apples(); let headers") + COUNT));
    let host = shop.dev();

    let shown = page(&host, "/");
    assert_eq!(shown.status(), 500);
    let kind = shown.header("content-type").expect("a type");
    assert!(kind.starts_with("text/html"), "{kind}");
    for part in [
        "<title>the handler panicked: no apples, at src/lib.rs:",
        "count_the_apples",
        "counting &lt;apples&gt;",
    ] {
        assert!(
            shown.text().contains(part),
            "no `{part}` in {}",
            shown.text()
        );
    }
    let reply = host.get("/");
    assert_eq!(reply.status(), 500);
    assert!(
        reply.text().contains("count_the_apples"),
        "{}",
        reply.text()
    );

    for part in ["    in ", "counting <apples>", "no apples"] {
        host.says(part);
    }
    let frames = host.stderr();
    assert!(
        frames
            .iter()
            .any(|line| line.starts_with("    in ") && line.contains("count_the_apples")),
        "{frames:#?}"
    );
}

#[test]
fn a_components_file_that_is_replaced_is_served() {
    alone();
    let directory = directory();
    let file = directory.path().join("shop.wasm");
    let put = |guest: Guest| {
        let new = directory.path().join("new");
        std::fs::copy(guest.path(), &new).expect("copied");
        std::fs::rename(new, &file).expect("renamed");
    };
    put(HELLO);
    let host = TestHost::dev(command(), &file);
    host.says("Stop with Ctrl-C");
    assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
    // Compiled before, each is live within a second; the best of three, since on a busy machine it is we who are late.
    let (hello, faults) = ("Hello from WebAssembly!\n", "no such fault\n");
    let live = [(FAULTS, faults), (HELLO, hello), (FAULTS, faults)].map(|(guest, answer)| {
        put(guest);
        let saved = Instant::now();
        assert_comes_to_say(&host, answer);
        saved.elapsed()
    });
    assert!(live.iter().any(|took| took.as_secs() < 1), "{live:?}");

    std::fs::write(&file, "nonsense").expect("written");
    host.says("the last good version goes on serving");
    assert_eq!(host.get("/").text(), "no such fault\n");
    assert_eq!(page(&host, "/").status(), 500);
}
