//! The access log in its three forms, the log of the host, quiet and colours.

use std::process::Command;

use rustix::process::Signal;

use crate::support::host::address_in;
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
        assert_eq!(line.label(), "");
        assert!(line.text("timestamp").ends_with('Z'));

        host.get("/trap");
        let ended = host.stop();
        assert_eq!(ended.stdout.len(), 2, "{guest}: {ended:?}");
    }
}

#[test]
fn the_combined_log_is_apaches_and_then_duration_cpu_label_and_request_id() {
    let host = TestHost::serve(FAULTS, "--access-log combined");
    let fine = host
        .send("GET /ok?a=%221%22 HTTP/1.1\r\nHost: a\r\nUser-Agent: a \"quote\"\r\n\r\n")
        .reply();
    let trapped = host.get("/trap");
    let lines = host.stop().stdout;
    assert_eq!(lines.len(), 2, "{lines:?}");

    let rest = lines[0].strip_prefix("127.0.0.1 - - [").expect("a client");
    let (date, rest) = rest.split_once("] ").expect("a date");
    assert!(date.ends_with(" +0000"), "{date}");
    let expected = "\"GET /ok?a=%221%22 HTTP/1.1\" 200 3 \"-\" \"a \\x22quote\\x22\" ";
    let rest = rest
        .strip_prefix(expected)
        .unwrap_or_else(|| panic!("{rest}"));
    let words: Vec<&str> = rest.split(' ').collect();
    let [duration, cpu, label, id] = words[..] else {
        panic!("{rest}")
    };
    let seconds = |text: &str| text.parse::<f64>().expect("seconds");
    assert!(seconds(duration) > 0.0 && seconds(cpu) > 0.0, "{rest}");
    assert_eq!(label, "-");
    assert_eq!(Some(id), fine.header("x-request-id"));

    let id = trapped.header("x-request-id").expect("an id");
    assert!(lines[1].contains("\" 500 "), "{}", lines[1]);
    assert!(lines[1].ends_with(&format!(" trap {id}")), "{}", lines[1]);
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
        eprintln!("SKIPPED: colours need a terminal, install `script` (bsdutils)");
        return;
    }
    assert!(in_a_terminal(&[]).contains('\x1b'));
    assert!(!in_a_terminal(&[("NO_COLOR", "1")]).contains('\x1b'));

    let host = TestHost::serve(FAULTS, "");
    host.get("/say");
    assert!(!host.says("to stdout").contains('\x1b'));
}
