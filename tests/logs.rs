//! The access log in its three forms, the log of the host as text and JSON, to files that are renamed and pipes that
//! nobody reads, quiet and colours.

use std::process::Command;

use rustix::process::Signal;

use crate::support::host::address_in;
use crate::support::operator::{Office, Operator};
use crate::support::program::without_settings;
use crate::support::*;

#[test]
fn each_exchange_is_one_line_of_json_with_opentelemetrys_names() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--access-log json");
        let reply = host
            .send("GET /ok?a=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nReferer: there\r\n\r\n")
            .reply();
        let line = host.access(&reply);
        assert_eq!(line.text("http.request.method"), "GET", "{guest}");
        assert_eq!(line.text("url.path"), "/ok");
        assert_eq!(line.text("url.query"), "a=1");
        assert_eq!(line.text("network.protocol.version"), "1.1");
        assert_eq!(line.text("user_agent.original"), "me");
        assert_eq!(line.text("http.request.header.referer"), "there");
        assert_eq!(line.text("client.address"), "127.0.0.1");
        assert_eq!(line.text("host.handler"), guest.handler());
        assert_eq!(line.status(), 200);
        assert_eq!(line.number("http.response.body.size"), 3.0);
        assert!(line.number("http.server.request.duration") > 0.0);
        assert!(line.number("host.guest.cpu_time") > 0.0);
        // A memory of a guest has at least a page of 64 KiB.
        assert!(line.number("host.guest.peak_memory") >= 65_536.0);
        assert!(line.number("host.guest.instantiation_time") > 0.0);
        assert!(line.number("host.queue.wait_time") >= 0.0);
        assert_eq!(line.number("http.request.body.size"), 0.0);
        assert!(line.0["host.tried_again"].is_null());
        assert_eq!(line.label(), "");
        assert!(line.text("timestamp").ends_with('Z'));

        host.get("/trap");
        let ended = host.stop();
        assert_eq!(ended.stdout.len(), 2, "{guest}: {ended:?}");
    }
}

#[test]
fn a_line_tells_what_its_exchange_cost_and_nothing_of_what_it_never_came_to() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        let read = host.access(&host.connect().post("/read", "12345"));
        assert_eq!(read.number("http.request.body.size"), 5.0, "{guest}");

        // It grows until it may not, which is 128 MiB.
        let grown = host.access(&host.get("/grow-politely"));
        let peak = grown.number("host.guest.peak_memory");
        let limit = 128.0 * 1024.0 * 1024.0;
        assert!(peak > limit / 2.0 && peak <= limit, "{guest}: {peak}");
        assert!(read.number("host.guest.peak_memory") < limit / 2.0);

        let mut held = host.send("GET /drip?n=1&ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = held.head();
        let waited = host.access(&host.get("/ok"));
        assert!(waited.number("host.queue.wait_time") > 0.0, "{guest}");
        assert!(held.reply_after(head).is_complete);

        let refused = host.send("GET / HTTP/1.1\r\n\r\n").reply();
        let refused = host.access(&refused);
        for name in [
            "http.request.body.size",
            "host.guest.peak_memory",
            "host.guest.instantiation_time",
            "host.queue.wait_time",
        ] {
            assert!(refused.0[name].is_null(), "{guest} {name}: {refused:?}");
        }
    }
}

#[test]
fn the_combined_log_is_apaches_and_then_what_it_cost_label_request_id_handler_and_tenant() {
    let host = TestHost::serve(FAULTS, "--access-log combined");
    let fine = host
        .send("GET /ok?a=%221%22 HTTP/1.1\r\nHost: a\r\nUser-Agent: a \"quote\"\r\n\r\n")
        .reply();
    let trapped = host.get("/trap");
    let refused = host.send("GET / HTTP/1.1\r\n\r\n").reply();
    let lines = host.stop().stdout;
    assert_eq!(lines.len(), 3, "{lines:?}");

    let rest = lines[0].strip_prefix("127.0.0.1 - - [").expect("a client");
    let (date, rest) = rest.split_once("] ").expect("a date");
    assert!(date.ends_with(" +0000"), "{date}");
    let expected = "\"GET /ok?a=%221%22 HTTP/1.1\" 200 3 \"-\" \"a \\x22quote\\x22\" ";
    let rest = rest
        .strip_prefix(expected)
        .unwrap_or_else(|| panic!("{rest}"));
    let words: Vec<&str> = rest.split(' ').collect();
    let [
        duration,
        cpu,
        waited,
        instantiation,
        memory,
        received,
        label,
        id,
        handler,
        tenant,
    ] = words[..]
    else {
        panic!("{rest}")
    };
    let number = |text: &str| text.parse::<f64>().expect("a number");
    assert!(number(duration) > 0.0 && number(cpu) > 0.0, "{rest}");
    assert!(
        number(waited) >= 0.0 && number(instantiation) > 0.0,
        "{rest}"
    );
    assert!(number(memory) >= 65_536.0, "{rest}");
    assert_eq!((received, label), ("0", "-"));
    assert_eq!(Some(id), fine.header("x-request-id"));
    let whose = format!("\"{}\" \"-\"", FAULTS.handler());
    assert_eq!(format!("{handler} {tenant}"), whose);

    let id = trapped.header("x-request-id").expect("an id");
    assert!(lines[1].contains("\" 500 "), "{}", lines[1]);
    let end = format!(" trap {id} {whose}");
    assert!(lines[1].ends_with(&end), "{}", lines[1]);

    // It never came to a guest.
    let id = refused.header("x-request-id").expect("an id");
    let cost = format!(" 0.000000 - - - 0 bad-request {id} \"-\" \"-\"");
    assert!(lines[2].ends_with(&cost), "{}", lines[2]);
}

#[test]
fn no_access_log_is_nothing_on_stdout() {
    let host = TestHost::serve(FAULTS, "--access-log off");
    assert_eq!(host.get("/ok").status(), 200);
    assert_eq!(host.get("/trap").status(), 500);
    assert_eq!(host.stop().stdout_text(), "");
}

#[test]
fn quiet_leaves_out_what_guests_print() {
    for (flags, lines) in [("", 2), ("--quiet", 0)] {
        let host = TestHost::serve(FAULTS, flags);
        assert_eq!(host.get("/say").text(), "said\n");
        let said = host.stop().stderr;
        let printed = said.iter().filter(|line| line.contains("guest: to std"));
        assert_eq!(printed.count(), lines, "{flags}: {said:#?}");
    }
    assert_eq!(host("serve --quiet --verbose a.wasm").code, Some(2));
}

#[test]
fn why_a_request_failed_is_in_the_log_with_its_request_id() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let id = host
            .get("/trap")
            .header("x-request-id")
            .expect("an id")
            .to_owned();
        let line = host.says(&id);
        assert!(line.contains("unreachable"), "{guest}: {line}");
        let handler = format!("handler=\"{}\"", guest.handler());
        assert!(line.contains(&handler), "{guest}: {line}");
        assert!(line.contains("label=trap"), "{guest}: {line}");
    }
}

#[test]
fn a_deadline_is_in_the_log_with_its_request_id_and_the_flag_that_raises_it() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 200ms --body-timeout 300ms");
        for (path, what, flag) in [
            ("/never", "200ms", "`--timeout`"),
            ("/drip?n=2&ms=60000", "300ms", "`--body-timeout`"),
        ] {
            let reply = host.get(path);
            let line = host.says(reply.header("x-request-id").expect("an id"));
            let handler = format!("handler=\"{}\"", guest.handler());
            for part in [&*handler, "label=deadline", what, flag] {
                assert!(line.contains(part), "{guest} {path}: {line}");
            }
        }
    }
}

#[test]
fn colours_are_for_terminals_and_not_with_no_color() {
    let in_a_terminal = |environment: &[(&str, &str)]| {
        let mut command = without_settings(Command::new("script"));
        let serve = format!(
            "exec {} serve {} --addr 127.0.0.1:0 --access-log off --cache {}",
            env!("CARGO_BIN_EXE_host"),
            FAULTS.path().display(),
            cache().display()
        );
        command.args(["-qefc", &serve, "/dev/null"]);
        command
            .env("SHELL", "/bin/sh")
            .envs(environment.iter().copied());
        let program = Program::start(command);
        let address = eventually("an address", || {
            program.stdout().iter().find_map(|line| address_in(line))
        });
        assert_eq!(Connection::to(address).get("/say").text(), "said\n");
        let said = eventually("what the guest said", || {
            program
                .stdout()
                .into_iter()
                .find(|line| line.contains("to stdout"))
        });
        // Killed, `script` would leave the host behind, in a session of its own.
        program.signal(Signal::TERM);
        program.ended();
        said
    };
    if Command::new("script").arg("--version").output().is_err() {
        skipped("colours in a terminal: there is no `script`: `apt-get install bsdutils`");
        return;
    }
    assert!(in_a_terminal(&[]).contains('\x1b'));
    assert!(!in_a_terminal(&[("NO_COLOR", "1")]).contains('\x1b'));

    let host = TestHost::serve(FAULTS, "");
    host.get("/say");
    assert!(!host.says("to stdout").contains('\x1b'));
}

/// Lines of a file, each JSON.
fn lines_of(path: &std::path::Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    whole.collect()
}

#[test]
fn the_hosts_log_as_json_says_whose_guest_printed_what_for_which_request() {
    for guest in BOTH_FAULTS {
        let here = directory();
        let path = here.path().join("host.log");
        let flags = format!("--log-format json {}", flag("--log-file", &path));
        let host = TestHost::serve(guest, &flags);
        let said = host.get("/say");
        let odd = host.get("/control-characters");
        let trapped = host.get("/trap");
        host.stop();
        let lines = lines_of(&path);
        let of = |reply: &Reply| {
            let id = reply.header("x-request-id").expect("an id").to_owned();
            let is_of = move |line: &&serde_json::Value| line["host.request.id"] == *id;
            lines.iter().filter(is_of).collect::<Vec<_>>()
        };
        let printed = of(&said);
        assert_eq!(printed.len(), 2, "{guest}: {lines:#?}");
        for (line, stream) in printed.iter().zip(["stdout", "stderr"]) {
            assert_eq!(line["body"], format!("to {stream}"), "{guest}");
            assert_eq!(line["log.iostream"], stream);
            assert_eq!(line["severity_text"], "INFO");
            assert_eq!(line["scope"], "guest");
            assert_eq!(line["host.handler"], *guest.handler());
            let version = line["host.version"].as_str().expect("a version");
            assert!(version.len() == 12 && version.bytes().all(|it| it.is_ascii_hexdigit()));
            assert!(
                line["timestamp"]
                    .as_str()
                    .is_some_and(|it| it.ends_with('Z'))
            );
        }
        for line in of(&odd) {
            let body = line["body"].as_str().expect("a text");
            assert!(
                body.chars().all(|it| !it.is_control() || it == '\t'),
                "{body:?}"
            );
        }
        let why = of(&trapped);
        assert_eq!(why[0]["error.type"], "trap", "{guest}: {why:?}");
        assert_eq!(why[0]["severity_text"], "WARN");
    }
}

#[test]
fn a_file_that_was_renamed_is_opened_anew_at_sighup_and_no_line_is_lost() {
    let here = directory();
    let path = here.path().join("access.log");
    let flags = format!("--access-log json {}", flag("--access-log-file", &path));
    let host = TestHost::serve(HELLO, &flags);
    let mut sent = 0;
    for turn in 0..5 {
        let mut connection = host.connect();
        for nth in 0..50 {
            connection.get("/");
            sent += 1;
            if nth == 20 {
                std::fs::rename(&path, here.path().join(format!("access.{turn}")))
                    .expect("renamed");
            }
            if nth == 30 {
                host.signal(Signal::HUP);
                eventually("a new file", || path.exists().then_some(()));
            }
        }
    }
    let ended = host.stop();
    assert_eq!(ended.stdout_text(), "", "the log is in the file");
    let files = std::fs::read_dir(here.path()).expect("read");
    let counts: Vec<usize> = files
        .map(|file| lines_of(&file.expect("a file").path()).len())
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), sent, "{counts:?}");
    assert!(
        counts.len() == 6 && counts.iter().all(|it| *it > 0),
        "{counts:?}"
    );
}

#[test]
fn the_hosts_log_is_opened_anew_at_sighup_too() {
    let here = directory();
    let path = here.path().join("host.log");
    let host = TestHost::serve(FAULTS, &flag("--log-file", &path));
    let tells = |path: &std::path::Path, reply: &Reply| {
        let id = reply.header("x-request-id").expect("an id");
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(id))
    };
    let first = host.get("/trap");
    eventually("its line", || tells(&path, &first).then_some(()));
    let renamed = here.path().join("host.log.1");
    std::fs::rename(&path, &renamed).expect("renamed");
    // It is written on until it is told.
    let second = host.get("/trap");
    eventually("its line", || tells(&renamed, &second).then_some(()));
    host.signal(Signal::HUP);
    eventually("a new file", || path.exists().then_some(()));
    let third = host.get("/trap");
    eventually("its line", || tells(&path, &third).then_some(()));
    assert!(!tells(&renamed, &third) && !tells(&path, &second));
    assert_eq!(host.stop().code, Some(0));
}

#[test]
fn a_pipe_that_nobody_reads_blocks_no_request_and_what_is_lost_is_counted() {
    let office = Office::new();
    let here = office.0.path();
    let pipe = here.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    // Held open, and never read.
    let open = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe);
    let _open = open.expect("opened");
    let flags = format!(
        "--access-log json {} {}",
        flag("--access-log-file", &pipe),
        office.flags()
    );
    let host = TestHost::serve(HELLO, &flags);
    let operator = Operator::of(&host);
    let lost = || {
        let metrics = operator.metrics();
        metrics.sum("host_log_lines_lost_total", &[("host_kind", "access")])
    };
    assert_eq!(lost(), 0.0);
    let long = "x".repeat(2_000);
    let mut connection = host.connect();
    let lost = eventually("lines that are lost", || {
        for _ in 0..100 {
            let request = format!(
                "GET /?{long} HTTP/1.1\r\nHost: a\r\nUser-Agent: {long}\r\nReferer: {long}\r\n\r\n"
            );
            connection.send(request);
            assert_eq!(connection.reply().status(), 200);
        }
        Some(lost()).filter(|lost| *lost > 0.0)
    });
    assert!(lost >= 1.0);
    let ended = host.stop();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr_text().contains("lines are missing"),
        "{ended:?}"
    );
}

#[test]
fn a_full_disk_stops_no_request_and_what_is_lost_is_counted() {
    let office = Office::new();
    let full = std::path::Path::new("/dev/full");
    let flags = format!("{} {}", flag("--access-log-file", full), office.flags());
    let host = TestHost::serve(HELLO, &flags);
    for _ in 0..10 {
        assert_eq!(host.get("/").status(), 200);
    }
    assert!(host.says("`/dev/full` cannot be written").contains("ERROR"));
    let operator = Operator::of(&host);
    eventually("ten lines that are lost", || {
        let metrics = operator.metrics();
        let lost = metrics.sum("host_log_lines_lost_total", &[("host_kind", "access")]);
        (lost == 10.0).then_some(())
    });
    let said = host.stderr();
    let told = said
        .iter()
        .filter(|line| line.contains("cannot be written"));
    assert_eq!(told.count(), 1, "once, while it lasts: {said:#?}");
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start_and_says_which() {
    for name in ["--log-file", "--access-log-file"] {
        let words = format!("serve {} {name} /nowhere/host.log", HELLO.path().display());
        let ended = host(&words);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = ended.stderr_text();
        assert!(
            said.contains("the log `/nowhere/host.log` cannot be opened"),
            "{said}"
        );
    }
}

#[test]
fn the_file_of_a_host_says_where_logs_go() {
    let here = directory();
    std::fs::copy(FAULTS.path(), here.path().join("faults.wasm")).expect("copied");
    let text = "admin = \"off\"\n[listen]\naccess_log = \"json\"\n\
                [log]\nformat = \"json\"\nfile = \"host.log\"\naccess_log_file = \"access.log\"\n\
                [handlers.faults]\nsource = \"faults.wasm\"\nroutes = [\"/*\"]\n";
    let file = here.path().join("host.toml");
    std::fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    host.get("/say");
    host.stop();
    assert_eq!(lines_of(&here.path().join("access.log")).len(), 1);
    let own = lines_of(&here.path().join("host.log"));
    assert!(
        own.iter().any(|line| line["body"] == "to stdout"),
        "{own:#?}"
    );
}

#[test]
fn a_line_of_the_combined_log_ends_with_the_handler_and_its_tenant() {
    let here = directory();
    std::fs::copy(FAULTS.path(), here.path().join("faults.wasm")).expect("copied");
    let text = "admin = \"off\"\n[listen]\naccess_log = \"combined\"\n[tenants.acme]\n\
                [handlers.shop]\nsource = \"faults.wasm\"\nroutes = [\"/*\"]\ntenant = \"acme\"\n";
    let file = here.path().join("host.toml");
    std::fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    host.get("/ok");
    let lines = host.stop().stdout;
    assert!(lines[0].ends_with(" \"shop\" \"acme\""), "{lines:?}");
}
