//! Faults of the machine, as `strace` injects them into the running program: what fails meanwhile is what must, the process
//! lives, and two seconds after the cause is gone it serves as before.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::directory::{comes_to_say, greeting, version};
use crate::support::guests::HELLO;
use crate::support::operator::{Office, Operator};
use crate::support::*;

/// How soon all is well again when the cause has gone.
const SOON: Duration = Duration::from_secs(2);
/// What [`HELLO`] answers.
const HELLO_SAYS: &str = "Hello from WebAssembly!";
/// How long a fault lasts.
const WHILE: Duration = Duration::from_millis(400);

/// Calls that fail, until it is dropped.
struct Fault {
    strace: Child,
    /// Where it tells of each call.
    told: TempDir,
}

impl Fault {
    /// Nothing where `strace` is missing or may not look into other processes, which is said.
    fn inject(host: &TestHost, calls: &str, error: &str) -> Option<Self> {
        Self::begin(Command::new("strace"), host, calls, error)
    }

    /// Of calls for one file alone.
    fn inject_at(file: &Path, host: &TestHost, calls: &str, error: &str) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.arg("-P").arg(file);
        Self::begin(strace, host, calls, error)
    }

    fn begin(mut strace: Command, host: &TestHost, calls: &str, error: &str) -> Option<Self> {
        let told = directory();
        let started = strace
            .args(["-f", "-qq", "-o"])
            .arg(told.path().join("calls"))
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{error}")])
            .args(["-p", &host.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut strace = match started {
            Ok(strace) => strace,
            Err(error) => {
                skipped(&format!(
                    "faults of the machine: `strace` does not start ({error}): `apt-get install strace`"
                ));
                return None;
            }
        };
        let start = Instant::now();
        loop {
            let is_traced = threads_of(host.pid()).is_some_and(|threads| {
                threads.iter().all(|it| {
                    // A thread that is looked into has its tracer's number in its status.
                    it.lines()
                        .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
                })
            });
            if is_traced {
                return Some(Self { strace, told });
            }
            if strace.try_wait().is_ok_and(|ended| ended.is_some()) || start.elapsed() > PATIENCE {
                let mut said = String::new();
                let _ = strace
                    .stderr
                    .take()
                    .map(|mut it| it.read_to_string(&mut said));
                let said = said.lines().next().unwrap_or_default();
                skipped(&format!(
                    "faults of the machine: `strace` may not attach ({said}): run as root, or set `kernel.yama.ptrace_scope` to 0"
                ));
                return None;
            }
            thread::yield_now();
        }
    }
}

/// What the system says of each thread of a process.
fn threads_of(pid: u32) -> Option<Vec<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    // One that has ended meanwhile is nobody's.
    let statuses = threads.filter_map(|it| fs::read_to_string(it.ok()?.path().join("status")).ok());
    Some(statuses.collect())
}

impl Fault {
    /// When no call fails any more, and how many have failed.
    fn end(mut self) -> (Instant, usize) {
        self.stop();
        let gone = Instant::now();
        let told = fs::read(self.told.path().join("calls")).expect("what `strace` tells");
        let failed = String::from_utf8_lossy(&told).matches("(INJECTED)").count();
        (gone, failed)
    }

    fn stop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            // It lets go of the process before it ends.
            let _ = kill_process(Pid::from_child(&self.strace), Signal::INT);
            let _ = self.strace.wait();
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A new connection is taken and answered as before, soon after the cause has gone.
fn assert_answers_again(host: &TestHost, path: &str, said: &str, (gone, after): (Instant, &str)) {
    loop {
        let mut connection = host.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        // No try lasts longer than all of them may.
        let left = SOON.saturating_sub(gone.elapsed());
        let is_silent = connection.is_silent_for(left.max(Duration::from_millis(1)));
        let head = if is_silent {
            None
        } else {
            connection.try_head()
        };
        let is_well = head.is_some_and(|head| {
            let reply = connection.reply_after(head);
            reply.status() == 200 && reply.text().trim_end() == said
        });
        assert!(gone.elapsed() < SOON, "{path}: not yet after {after}");
        if is_well {
            return;
        }
    }
}

/// Whoever reads the line that says where it serves may stop the host at once: each write takes long here, so that it is
/// asked while the line is hardly said.
#[test]
fn a_host_that_says_where_it_serves_can_be_stopped_in_order() {
    let slow = ["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=write"];
    let slow = slow.iter().chain(&["-e", "inject=write:delay_exit=200000"]);
    let can = Command::new("strace")
        .args(slow.clone())
        .arg("true")
        .output();
    if !can.is_ok_and(|it| it.status.success()) {
        skipped("stopping a host at once: `strace` does not start: `apt-get install strace`");
        return;
    }
    let mut command = Command::new("strace");
    command.args(slow).arg(env!("CARGO_BIN_EXE_host"));
    let ended = TestHost::serve_as(command, HELLO, "").stop();
    assert_eq!(ended.code, Some(0), "{:#?}", ended.stderr);
}

#[test]
fn whatever_call_fails_the_process_lives_and_serves_soon_after() {
    alone();
    let host = TestHost::serve(FAULTS, "--max-instance-reuse-count 1");
    assert_eq!(host.get("/ok").text(), "ok\n");
    // The calls, and whether a connection that is there already is answered meanwhile.
    for (calls, error, is_harmless) in [
        ("accept4", "error=EMFILE", true),
        ("accept4", "error=ENFILE", true),
        ("accept4", "error=ENOBUFS", true),
        ("accept4", "error=ECONNABORTED", true),
        ("accept4", "error=EPERM", true),
        ("recvfrom", "error=EIO", false),
        ("recvfrom", "error=ECONNRESET", false),
        ("recvfrom", "error=EINTR:when=1+2", false),
        ("sendto,writev,sendmsg", "error=EPIPE", false),
        ("sendto,writev,sendmsg", "error=ENOBUFS", false),
        ("setsockopt", "error=ENOPROTOOPT", true),
    ] {
        let what = format!("{calls} {error}");
        let mut kept = host.connect();
        assert_eq!(kept.get("/ok").text(), "ok\n", "before {what}");
        let Some(fault) = Fault::inject(&host, calls, error) else {
            return;
        };
        // There is something to accept.
        let _newcomer = host.connect();
        let start = Instant::now();
        let mut tried = 0;
        while start.elapsed() < WHILE || tried < 5 {
            tried += 1;
            if is_harmless {
                let status = kept.get("/ok").status();
                assert!(matches!(status, 200 | 500 | 503), "{status} during {what}");
            } else {
                // Whatever becomes of it.
                let victim = host.connect();
                let _ = std::io::Write::write_all(
                    &mut victim.sender(),
                    b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                );
                victim.is_silent_for(Duration::from_millis(50));
            }
        }
        let (gone, failed) = fault.end();
        assert!(failed > 0, "no call was made that fails by {what}");
        assert_answers_again(&host, "/ok", "ok", (gone, &what));
        if is_harmless {
            assert_eq!(kept.get("/ok").text(), "ok\n", "after {what}");
        }
    }
    let ended = host.stop();
    assert_eq!(ended.code, Some(0));
    let panicked = ended.stderr.iter().find(|line| line.contains("panicked"));
    assert_eq!(panicked, None);
}

#[test]
fn a_connection_that_cannot_be_accepted_is_counted_and_served_later() {
    let office = Office::new();
    let host = TestHost::serve(FAULTS, &office.flags());
    let operator = Operator::of(&host);
    let errors = || operator.metrics().sum("host_accept_errors_total", &[]);
    assert_eq!(errors(), 0.0);
    let Some(fault) = Fault::inject(&host, "accept4", "error=EMFILE") else {
        return;
    };
    let mut waits = host.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(waits.is_silent_for(WHILE));
    drop(fault);
    assert!(!waits.is_silent_for(SOON), "not yet");
    assert_eq!(waits.reply().text(), "ok\n");
    assert!(errors() >= 1.0);
}

#[test]
fn a_read_or_a_write_that_fails_costs_its_own_connection_and_no_other() {
    for calls in ["recvfrom", "writev,sendto,sendmsg"] {
        let host = TestHost::serve(FAULTS, "");
        let mut others: Vec<_> = (0..5).map(|_| host.connect()).collect();
        for other in &mut others {
            assert_eq!(other.get("/ok").text(), "ok\n");
        }
        let mut victim = host.connect();
        assert_eq!(victim.get("/ok").text(), "ok\n");
        let Some(fault) = Fault::inject(&host, calls, "error=EIO") else {
            return;
        };
        victim.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(victim.is_closed(), "{calls}");
        let (gone, _) = fault.end();
        for other in &mut others {
            assert_eq!(other.get("/ok").text(), "ok\n", "{calls}");
        }
        assert_answers_again(&host, "/ok", "ok", (gone, calls));
    }
}

#[test]
fn a_disk_that_takes_nothing_refuses_a_deploy_and_what_serves_goes_on() {
    alone();
    let here = directory();
    let path = |name: &str| here.path().join(name);
    let flags = format!(
        "{} {}",
        flag("--admin", &path("admin.sock")),
        flag("--state", &path("state"))
    );
    let host = TestHost::serve_nothing(&flags);
    let socket = path("admin.sock");
    let environment = [("HOST_ADMIN", socket.to_str().expect("a path"))];
    let deploy = |name: &str| {
        let component = HELLO.path();
        let words = format!("deploy {} --name {name}", component.display());
        host_with_env(&words, &environment)
    };
    let first = deploy("hello");
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(host.get("/hello/").status(), 200);
    for (name, calls, error) in [
        ("second", "fsync,fdatasync", "error=EIO"),
        ("third", "pwrite64,ftruncate,fallocate", "error=ENOSPC"),
    ] {
        let Some(fault) = Fault::inject(&host, calls, error) else {
            return;
        };
        let refused = deploy(name);
        assert_ne!(refused.code, Some(0), "{calls}: {refused:?}");
        assert_eq!(host.get("/hello/").status(), 200, "{calls}");
        let (gone, _) = fault.end();
        let again = deploy(name);
        assert_eq!(again.code, Some(0), "{calls}: {again:?}");
        assert_answers_again(&host, &format!("/{name}/"), HELLO_SAYS, (gone, calls));
    }
    assert_eq!(host.get("/hello/").status(), 200);
}

#[test]
fn a_bucket_on_a_disk_that_fails_is_unavailable_and_works_soon_after() {
    let here = directory();
    let flags = format!("--keyvalue default {}", flag("--state", here.path()));
    let host = TestHost::serve(BUCKETS, &flags);
    let set = |key: &str| host.get(&format!("/set?key={key}&value=1")).text();
    assert_eq!(set("before").trim_end(), "ok");
    // What is read may be in memory.
    for (calls, error, is_felt) in [
        ("fsync,fdatasync", "error=EIO", true),
        ("pwrite64,ftruncate,fallocate", "error=ENOSPC", true),
        ("pread64", "error=EIO", false),
    ] {
        let Some(fault) = Fault::inject(&host, calls, error) else {
            return;
        };
        let refused = set("during");
        assert!(!is_felt || !refused.starts_with("ok"), "{calls}: {refused}");
        let (gone, _) = fault.end();
        assert_answers_again(&host, "/set?key=after&value=1", "ok", (gone, calls));
        let kept = host.get("/get?key=before").text();
        assert_eq!(kept.trim_end(), "ok `1`", "{calls}");
    }
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn a_handler_that_cannot_be_loaded_for_now_is_served_soon_after() {
    let here = directory();
    let handlers = here.path().join("handlers");
    fs::create_dir(&handlers).expect("created");
    for (guest, name) in [(FAULTS, "index.wasm"), (HELLO, "cold.wasm")] {
        fs::copy(guest.path(), handlers.join(name)).expect("copied");
    }
    let flags = format!(
        "{} {}",
        flag("--cache", &here.path().join("cache")),
        flag("--state", &here.path().join("state"))
    );
    // What was made before is loaded when it is asked for.
    let serve = || TestHost::serve_file(&handlers, &flags);
    assert_eq!(serve().stop().code, Some(0));
    // All need memory, and one file is one handler's.
    for (calls, error, strikes_all) in [
        ("openat", "error=EMFILE", false),
        ("mmap", "error=ENOMEM", true),
    ] {
        let host = serve();
        let mut kept = host.connect();
        assert_eq!(kept.get("/ok").text(), "ok\n");
        let Some(fault) = Fault::inject(&host, calls, error) else {
            return;
        };
        let status = kept.get("/cold/").status();
        assert!(matches!(status, 500 | 503), "{calls}: {status}");
        let status = kept.get("/ok").status();
        let is_well = status == 200 || strikes_all && matches!(status, 500 | 503);
        assert!(is_well, "{calls}: the other: {status}");
        let (gone, failed) = fault.end();
        assert!(failed > 0, "{calls}");
        assert_answers_again(&host, "/cold/", HELLO_SAYS, (gone, calls));
        assert_eq!(kept.get("/ok").text(), "ok\n", "{calls}");
        assert_eq!(host.stop().code, Some(0), "{calls}");
    }
}

/// However a file is opened; not all machines have the first.
const OPENING: &str = "?open,openat";

/// A file that is there whole or not at all.
fn put(directory: &Path, name: &str, bytes: &[u8]) {
    let new = directory.join(".new");
    fs::write(&new, bytes).expect("written");
    fs::rename(new, directory.join(name)).expect("renamed");
}

#[test]
fn a_file_that_cannot_be_opened_for_now_is_taken_up_when_it_can() {
    let here = directory();
    let (file, component) = (here.path().join("host.toml"), here.path().join("a.wasm"));
    let put = |name: &str, bytes: &[u8]| put(here.path(), name, bytes);
    let say = |route: &str| {
        let text = format!(
            "[listen]\naccess_log = \"json\"\n[handlers.a]\nsource = \"a.wasm\"\nroutes = [\"{route}\"]\n"
        );
        put("host.toml", text.as_bytes());
    };
    put("a.wasm", &version(1));
    say("/one");
    let host = TestHost::serve_file(&file, "");
    comes_to_say(&host, "/one", &greeting(1));

    let Some(fault) = Fault::inject_at(&file, &host, OPENING, "error=EMFILE") else {
        return;
    };
    say("/two");
    host.says("is not taken up");
    assert!(fault.end().1 > 0);
    // What is none of its files makes it look sooner than it would.
    put("other", b"");
    comes_to_say(&host, "/two", &greeting(1));

    let Some(fault) = Fault::inject_at(&component, &host, OPENING, "error=EMFILE") else {
        return;
    };
    put("a.wasm", &version(2));
    host.says("`a` is not replaced");
    assert!(fault.end().1 > 0);
    put("other", b"");
    comes_to_say(&host, "/two", &greeting(2));
}

#[test]
fn a_component_that_cannot_be_started_for_now_is_taken_up_when_it_can() {
    let (here, granted) = (directory(), directory());
    let put = |name: &str, bytes: &[u8]| put(here.path(), name, bytes);
    put("index.wasm", &version(1));
    let flags = format!("--dir {}::/data", granted.path().display());
    let host = TestHost::serve_file(here.path(), &flags);
    comes_to_say(&host, "/", &greeting(1));
    let Some(fault) = Fault::inject_at(granted.path(), &host, OPENING, "error=EMFILE") else {
        return;
    };
    put("index.wasm", &version(2));
    let told = host.says("`index` is not replaced");
    assert!(told.contains("no room to start it for now"), "{told}");
    assert!(told.contains("`ulimit -Hn`"), "{told}");
    assert!(fault.end().1 > 0);
    // As above.
    put("other", b"");
    comes_to_say(&host, "/", &greeting(2));
}

#[test]
fn a_certificate_that_cannot_be_opened_for_now_is_taken_up_when_it_can() {
    let here = directory();
    let authority = Authority::new("a test");
    let (cert, key) = authority.sign(&["localhost"]).write(here.path(), "cert");
    let flags = [flag("--tls-cert", &cert), flag("--tls-key", &key)].join(" ");
    let host = TestHost::serve(FAULTS, &flags);
    let Some(fault) = Fault::inject_at(&cert, &host, OPENING, "error=EMFILE") else {
        return;
    };
    let new = authority.sign(&["localhost", "another.example"]);
    new.write(here.path(), "cert");
    host.says("are not taken up");
    assert!(fault.end().1 > 0);
    // As above.
    fs::write(here.path().join("other"), "").expect("written");
    host.says(&format!("the certificate `{}` is taken up", cert.display()));
}

#[test]
fn a_scratch_directory_that_no_descriptor_is_left_for_is_no_failure_of_the_handler() {
    let host = TestHost::serve(FAULTS, "--scratch 1MiB --max-instance-reuse-count 1");
    assert_eq!(host.get("/ok").text(), "ok\n");
    let Some(fault) = Fault::inject(&host, "openat", "error=EMFILE") else {
        return;
    };
    let reply = host.get("/ok");
    assert_eq!(reply.status(), 503);
    assert_eq!(host.access(&reply).label(), "overload");
    let (gone, failed) = fault.end();
    assert!(failed > 0, "nothing was opened");
    assert_answers_again(&host, "/ok", "ok", (gone, "`openat`"));
}

#[test]
fn a_component_that_the_cache_has_no_room_for_is_served_and_a_later_one_is_kept() {
    let here = directory();
    let (handlers, cache) = (here.path().join("handlers"), here.path().join("cache"));
    fs::create_dir(&handlers).expect("created");
    let put = |name: &str, bytes: &[u8]| put(&handlers, name, bytes);
    put("index.wasm", &fs::read(FAULTS.path()).expect("a component"));
    let host = TestHost::serve_file(&handlers, &flag("--cache", &cache));
    let entries = |part: &str| {
        let entries = fs::read_dir(&cache).expect("a cache").flatten();
        let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(part)).count()
    };
    comes_to_say(&host, "/ok", "ok");
    assert_eq!(entries(".cwasm"), 1);
    let Some(fault) = Fault::inject(&host, "copy_file_range,sendfile", "error=ENOSPC") else {
        return;
    };
    put("first.wasm", &version(1));
    comes_to_say(&host, "/first/", &greeting(1));
    host.says("component is not cached and will be compiled again next time");
    assert_eq!(host.get("/ok").text(), "ok\n", "the other serves");
    assert_eq!((entries(".cwasm"), entries(".draft")), (1, 0));
    let (gone, _) = fault.end();
    assert_answers_again(&host, "/ok", "ok", (gone, "a cache without room"));
    put("second.wasm", &version(2));
    comes_to_say(&host, "/second/", &greeting(2));
    assert_eq!((entries(".cwasm"), entries(".draft")), (2, 0));
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn a_log_on_a_disk_that_is_full_for_a_while_is_written_again() {
    let here = directory();
    let log = here.path().join("access.log");
    let host = TestHost::serve(FAULTS, &flag("--access-log-file", &log));
    let is_written = |path: &str| fs::read_to_string(&log).is_ok_and(|text| text.contains(path));
    assert_eq!(host.get("/ok?before").status(), 200);
    eventually("the first line", || is_written("/ok?before").then_some(()));
    let Some(fault) = Fault::inject_at(&log, &host, "write,writev", "error=ENOSPC") else {
        return;
    };
    assert_eq!(host.get("/ok?during").status(), 200);
    host.says(&format!("the log `{}` cannot be written", log.display()));
    let (gone, _) = fault.end();
    while !is_written("/ok?after") {
        assert!(gone.elapsed() < SOON, "not yet");
        assert_answers_again(&host, "/ok?after", "ok", (gone, "a full disk"));
    }
    assert!(!is_written("/ok?during"), "what was lost is lost");
}

#[test]
fn a_state_directory_that_is_removed_refuses_a_deploy_and_what_serves_goes_on() {
    let here = directory();
    let state = here.path().join("state");
    let socket = here.path().join("admin.sock");
    let flags = format!("{} {}", flag("--admin", &socket), flag("--state", &state));
    let host = TestHost::serve_nothing(&flags);
    let environment = [("HOST_ADMIN", socket.to_str().expect("a path"))];
    let deploy = |guest: Guest, name: &str| {
        let words = format!("deploy {} --name {name}", guest.path().display());
        host_with_env(&words, &environment)
    };
    assert_eq!(deploy(HELLO, "hello").code, Some(0));
    fs::remove_dir_all(&state).expect("removed");
    for name in ["hello", "another"] {
        let refused = deploy(FAULTS, name);
        let said = refused.stderr.concat();
        assert_eq!(refused.code, Some(1), "{said}");
        assert!(
            said.contains("the state directory cannot be used"),
            "{said}"
        );
    }
    let refused = host_with_env("undeploy hello", &environment);
    let said = refused.stderr.concat();
    assert_eq!(refused.code, Some(1), "{said}");
    assert!(
        said.contains("the state directory cannot be used"),
        "{said}"
    );
    assert_eq!(host.get("/hello/").status(), 200);
    assert_eq!(host.get("/another/").status(), 404);
    // It is made anew at the next start.
    assert_eq!(host.stop().code, Some(0));
    let _host = TestHost::serve_nothing(&flags);
    assert_eq!(deploy(HELLO, "hello").code, Some(0));
}

/// Its output goes to a pipe that nobody reads for a while.
#[test]
fn a_log_that_nobody_reads_stops_no_request_and_is_written_again() {
    alone();
    let mut host = program::command()
        .args(["serve", "--addr", "127.0.0.1:0", "--cache"])
        .arg(cache())
        .arg(FAULTS.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stdout = host.stdout.take().expect("piped");
    let mut stderr = BufReader::new(host.stderr.take().expect("piped"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("a line"), 0, "it ended");
        if let Some(address) = host::address_in(&line) {
            break address;
        }
    };
    // Far more than a pipe holds, on stdout and on stderr.
    let mut connection = Connection::to(address);
    let long = "x".repeat(1_500);
    connection.get("/flood");
    let slowest = (0..1_500)
        .map(|_| {
            let start = Instant::now();
            connection.get(&format!("/ok?{long}"));
            start.elapsed()
        })
        .max();
    assert!(slowest < Some(SOON), "{slowest:?}");

    // Somebody reads again.
    let gone = Instant::now();
    let (found, is_found) = mpsc::channel();
    let reader = thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        for line in lines.filter(|line| line.contains("the-last-one")) {
            // One is enough.
            let _ = found.send(line);
        }
    });
    let errors = thread::spawn(move || {
        let mut read = Vec::new();
        let _ = stderr.read_to_end(&mut read);
    });
    while is_found.try_recv().is_err() {
        assert!(gone.elapsed() < SOON, "the log is not written again");
        connection.get("/ok?the-last-one");
    }
    kill_process(Pid::from_child(&host), Signal::TERM).expect("signalled");
    drop(connection);
    let ended = host.wait().expect("its end");
    reader.join().expect("the reader");
    errors.join().expect("the reader");
    assert_eq!(ended.code(), Some(0));
}

/// A library that tells the program another time; Debian's `faketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

#[test]
fn a_clock_that_jumps_costs_no_connection() {
    if !std::path::Path::new(FAKETIME).is_file() {
        skipped(&format!(
            "a clock that jumps: there is no `{FAKETIME}`: `apt-get install libfaketime`"
        ));
        return;
    }
    let here = directory();
    let clock = here.path().join("clock");
    fs::write(&clock, "+0").expect("written");
    let mut command = program::command();
    command
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        // What the system promises not to jump.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let host = TestHost::serve_as(command, FAULTS, "--idle-timeout 20s");
    let mut kept = host.connect();
    assert_eq!(kept.get("/ok").text(), "ok\n");
    let mut slow = host.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n");
    for jump in ["+10y", "-10y", "-1d", "+0"] {
        fs::write(&clock, jump).expect("written");
        assert_eq!(kept.get("/ok").text(), "ok\n", "{jump}");
        assert_eq!(host.get("/ok").text(), "ok\n", "{jump}");
        let reply = host.get("/ok");
        let line = host.access(&reply);
        let took = line.number("http.server.request.duration");
        assert!((0.0..5.0).contains(&took), "{jump}: {took}");
    }
    assert_eq!(slow.reply().text(), "slept\n");
    assert_eq!(host.stop().code, Some(0));
}
