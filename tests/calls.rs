//! One handler calls another by name, without leaving the process.

use std::fs;
use std::io::Write as _;
use std::ops::Deref;

use tempfile::TempDir;

use crate::support::guests::{ECHO, ECHO_P3};
use crate::support::operator::{Office, Operator};
use crate::support::program;
use crate::support::*;

/// A host with a relay, and with handlers that it may call: `faults` and `echo` of both generations.
struct Calls {
    host: TestHost,
    _files: TempDir,
}

impl Deref for Calls {
    type Target = TestHost;

    fn deref(&self) -> &TestHost {
        &self.host
    }
}

const BOTH_CALLEES: [&str; 2] = ["faults", "faults-p3"];

const CALLS: &str = r#"calls = ["faults", "faults-p3", "echo", "echo-p3"]"#;

impl Calls {
    /// `more` is said of the relay, and then of whom it wants.
    fn from(relay: Guest, more: &str) -> Self {
        let files = directory();
        let mut text = "[listen]\naccess_log = \"json\"\n".to_owned();
        for (name, guest) in [
            ("faults", FAULTS),
            ("faults-p3", FAULTS_P3),
            ("echo", ECHO),
            ("echo-p3", ECHO_P3),
            ("relay", relay),
        ] {
            let wasm = format!("{name}.wasm");
            fs::copy(guest.path(), files.path().join(&wasm)).expect("copied");
            text += &format!(
                "[handlers.{name}]\nsource = \"{wasm}\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n"
            );
        }
        let file = files.path().join("host.toml");
        fs::write(&file, text + more).expect("written");
        Self {
            host: TestHost::serve_file(&file, ""),
            _files: files,
        }
    }

    /// The line of the call of `callee` that belongs to the request of `reply`.
    fn called(&self, callee: &str, reply: &Reply) -> Access {
        let id = reply.header("x-request-id").expect("an id");
        self.access_where(&format!("the line of the call of {callee}"), |line| {
            line.text("host.request.id") == id && line.text("host.handler") == callee
        })
    }
}

/// Each relay, with what it may call.
fn both_relays(each: impl Fn(&Calls, Guest)) {
    for relay in BOTH_RELAYS {
        each(&Calls::from(relay, CALLS), relay);
    }
}

#[test]
fn a_handler_calls_another_and_hands_its_answer_on() {
    both_relays(|host, relay| {
        for callee in BOTH_CALLEES {
            let reply = host.get(&format!("/relay/{callee}/status/418?a=1"));
            assert_eq!(reply.status(), 418, "{relay} {callee}");
            assert_eq!(reply.text(), "status 418\n", "{relay} {callee}");
            let posted = host
                .connect()
                .post(&format!("/relay/{callee}/read"), vec![b'x'; 1 << 20]);
            assert!(posted.text().starts_with("1048576 "), "{relay} {callee}");
            // No two of its instances are needed: in a row they may be the same.
            assert_eq!(host.get(&format!("/relay/{callee}/ok")).text(), "ok\n");
        }
    });
}

#[test]
fn who_is_called_sees_a_request_to_its_name_with_the_headers_that_were_sent() {
    both_relays(|host, relay| {
        for callee in BOTH_CALLEES {
            let seen = host
                .get(&format!("/relay/{callee}/request?a=%20b&c"))
                .text();
            let said = format!(
                "method: GET\nscheme: http\nauthority: {callee}.handler.internal\npath_with_query: /request?a=%20b&c\n"
            );
            assert_eq!(seen, said, "{relay}");
            let request = format!(
                "GET /relay/{callee}/headers HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nTE: trailers\r\n\r\n"
            );
            let headers = host.send(request).reply().text();
            assert!(headers.contains("x-mine\t31\n"), "{relay}: {headers}");
            for dropped in ["te\t", "connection\t"] {
                assert!(!headers.contains(dropped), "{relay}: {headers}");
            }
        }
    });
}

#[test]
fn names_are_found_in_any_case() {
    both_relays(|host, relay| {
        assert_eq!(host.get("/relay/FAULTS/ok").text(), "ok\n", "{relay}");
        assert_eq!(host.get("/relay/Faults-P3/ok").text(), "ok\n", "{relay}");
    });
}

#[test]
fn a_call_is_an_exchange_of_its_own_with_the_request_id_of_the_first() {
    both_relays(|host, relay| {
        for callee in BOTH_CALLEES {
            let reply = host.get(&format!("/relay/{callee}/burn?ms=200"));
            let call = host.called(callee, &reply);
            assert_eq!(call.text("host.caller"), "relay", "{relay}");
            assert_eq!(call.text("url.path"), "/burn");
            assert_eq!(call.text("client.address"), "127.0.0.1");
            assert_eq!(call.text("http.route"), "", "no route was looked up");
            assert_eq!((call.status(), call.label()), (200, ""));
            let first = host.called("relay", &reply);
            assert_eq!(first.text("host.caller"), "", "{relay}");
            // What who is called burns is on its own account.
            let (of_caller, of_callee) = (
                first.number("host.guest.cpu_time"),
                call.number("host.guest.cpu_time"),
            );
            assert!(
                of_callee > of_caller,
                "{relay} {callee}: {of_callee}, {of_caller}"
            );
        }
    });
}

#[test]
fn bodies_stream_both_ways_at_once() {
    both_relays(|host, relay| {
        for callee in ["echo", "echo-p3"] {
            let mut connection = host.send(format!(
                "POST /relay/{callee}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            for piece in ["one", "two", "three"] {
                connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
                if piece == "one" {
                    assert_eq!(connection.head().status, 200, "{relay} {callee}");
                }
                let back = connection.chunk().expect("a chunk");
                assert_eq!(back, piece.as_bytes(), "{relay} {callee}");
            }
            connection.send("0\r\n\r\n");
            assert!(connection.chunk().is_none(), "{relay} {callee}");
        }
    });
}

#[test]
fn trailers_pass_through_a_call_both_ways() {
    both_relays(|host, relay| {
        for callee in ["echo", "echo-p3"] {
            let reply = host
                .send(format!(
                    "POST /relay/{callee}/ HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\n\
                     Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
                ))
                .reply();
            assert_eq!(reply.text(), "hello", "{relay} {callee}");
            assert_eq!(
                reply.trailers,
                [("x-sum".to_owned(), "1".to_owned())],
                "{relay} {callee}"
            );
        }
    });
}

#[test]
fn a_large_body_passes_with_backpressure_and_in_little_memory() {
    both_relays(|host, relay| {
        for callee in BOTH_CALLEES {
            let before = host.memory();
            let target = format!("/relay/{callee}/bytes?n=1000000000");
            let mut connection = host.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(connection.head().status, 200, "{relay} {callee}");
            assert!(connection.chunk().is_some(), "{relay} {callee}");
            // We read no more, so nobody writes more.
            let line = |line: &Access| line.text("host.handler") == callee;
            assert!(!host.accesses().iter().any(line), "{relay} {callee}");
            let grown = host.memory().saturating_sub(before);
            assert!(grown < 50 << 20, "{relay} {callee}: {grown}");
            drop(connection);
            let call = host.access_where("the line of who was left", |line| {
                line.text("host.handler") == callee
            });
            assert_eq!(
                call.label(),
                "client-left,after-headers",
                "{relay} {callee}"
            );
            let whole = host.get(&format!("/relay/{callee}/bytes?n=10000000"));
            assert_eq!(whole.body.len(), 10_000_000, "{relay} {callee}");
            assert!(whole.is_complete, "{relay} {callee}");
        }
    });
}

#[test]
fn a_call_without_the_grant_is_refused_and_the_log_says_which_line_allows_it() {
    for relay in BOTH_RELAYS {
        let host = Calls::from(relay, "calls = [\"echo\"]");
        let reply = host.get("/relay/faults/ok");
        assert_eq!(reply.status(), 403, "{relay}");
        assert_eq!(
            host.called("relay", &reply).label(),
            "guest-error:HTTP-request-denied",
            "{relay}"
        );
        let said = host.says("may not call");
        for part in ["`relay`", "`faults`", "`calls`", "`--allow-call faults`"] {
            assert!(said.contains(part), "{relay}: {said}");
        }
        // Nobody was asked, and how often it was tried is told once.
        let again = host.get("/relay/faults/ok");
        host.called("relay", &again);
        let told = host.stderr();
        let told = told.iter().filter(|line| line.contains("may not call"));
        assert_eq!(told.count(), 1, "{relay}");
        assert_eq!(host.paths().len(), 2, "{relay}");
    }
}

#[test]
fn the_grant_is_for_handlers_and_for_nothing_else() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &format!("--allow-call {}", guest.handler()));
        let ask = |to: &str| host.get(&format!("/outbound?to={to}")).text();
        let itself = format!("{}.handler.internal", guest.handler());
        assert_eq!(ask(&itself), "status 404\n", "{guest}: it has no `/`");
        assert_eq!(ask(&format!("{itself}:80")), "status 404\n", "{guest}");
        for denied in [
            &*host.address.to_string(),
            "127.0.0.1:80",
            "handler.internal",
            "other.handler.internal",
            &format!("{itself}:8080"),
            &format!("{itself}.example.com"),
        ] {
            assert_eq!(ask(denied), "http-request-denied\n", "{guest} {denied}");
        }
    }
}

#[test]
fn handlers_of_one_tenant_call_each_other_and_no_others() {
    for relay in BOTH_RELAYS {
        let of = |tenant: &str, name: &str| {
            format!(
                "[handlers.{name}]\nsource = \"faults.wasm\"\nroutes = [\"/{name}/*\"]\n{tenant}\n"
            )
        };
        let mine = "tenant = \"acme\"";
        let more = format!(
            "{mine}\ncalls = [\"mine\", \"other\", \"nobodys\"]\n{}{}{}[tenants.acme]\n[tenants.else]\n",
            of(mine, "mine"),
            of("tenant = \"else\"", "other"),
            of("", "nobodys"),
        );
        let host = Calls::from(relay, &more);
        assert_eq!(host.get("/relay/mine/ok").text(), "ok\n", "{relay}");
        for foreign in ["other", "nobodys"] {
            assert_eq!(host.get(&format!("/relay/{foreign}/ok")).status(), 403);
        }
        let said = host.says("not of its tenant");
        assert!(said.contains("the same `tenant`"), "{relay}: {said}");
    }
}

#[test]
fn a_handler_that_is_not_deployed_is_not_found() {
    for relay in BOTH_RELAYS {
        let host = Calls::from(relay, "calls = [\"till\"]");
        let reply = host.get("/relay/till/ok");
        assert_eq!(reply.status(), 404, "{relay}");
        assert!(
            reply.text().contains("urn:host:failure:no-route"),
            "{relay}"
        );
        let call = host.called("till", &reply);
        assert_eq!((call.status(), call.label()), (404, "no-route"), "{relay}");
        host.says("`till` is called and is not deployed");
    }
}

#[test]
fn handlers_that_call_in_a_circle_end_with_508() {
    for relay in BOTH_RELAYS {
        let host = Calls::from(relay, "calls = [\"relay\", \"faults\"]");
        let round = |times: usize| format!("/relay{}/faults/ok", "/relay".repeat(times));
        // Eight calls, the last of `faults`.
        assert_eq!(host.get(&round(7)).text(), "ok\n", "{relay}");
        let reply = host.get(&round(8));
        assert_eq!(reply.status(), 508, "{relay}");
        assert!(reply.text().contains("urn:host:failure:loop"), "{relay}");
        let call = host.called("faults", &reply);
        assert_eq!((call.status(), call.label()), (508, "loop"), "{relay}");
        assert_eq!(host.get("/relay/faults/ok").text(), "ok\n", "{relay}");
    }
}

#[test]
fn a_fault_of_who_is_called_is_its_own_and_a_500_for_the_caller() {
    both_relays(|host, relay| {
        for callee in BOTH_CALLEES {
            for (path, status, label) in [
                ("/trap", 500, "trap"),
                ("/grow", 500, "memory-limit"),
                (
                    "/error/connection-timeout",
                    504,
                    "guest-error:connection-timeout",
                ),
            ] {
                let reply = host.get(&format!("/relay/{callee}{path}"));
                assert_eq!(reply.status(), status, "{relay} {callee}{path}");
                assert!(reply.text().contains("urn:host:failure:"), "{relay}");
                let call = host.called(callee, &reply);
                assert_eq!((call.status(), call.label()), (status.into(), label));
                let first = host.called("relay", &reply);
                assert_eq!((first.status(), first.label()), (status.into(), ""));
            }
        }
    });
}

#[test]
fn an_answer_that_breaks_off_breaks_that_of_the_caller() {
    // A body that is never ended breaks off when its time is up.
    let more = format!("{CALLS}\n[defaults]\nbody_timeout = \"1s\"\n");
    for relay in BOTH_RELAYS {
        let host = Calls::from(relay, &more);
        for callee in BOTH_CALLEES {
            for path in ["/trap-mid-body", "/drop-body", "/leak-body"] {
                let reply = host.get(&format!("/relay/{callee}{path}"));
                assert!(!reply.is_complete, "{relay} {callee}{path}: {reply:?}");
                let call = host.called(callee, &reply);
                assert!(call.label().ends_with(",after-headers"), "{call:?}");
                let first = host.called("relay", &reply);
                assert!(first.label().ends_with(",after-headers"), "{first:?}");
            }
        }
    }
}

#[test]
fn a_client_that_leaves_cancels_who_was_called_for_it() {
    both_relays(|host, relay| {
        for callee in BOTH_CALLEES {
            let target = format!("/relay/{callee}/drip?n=1000&ms=20");
            let mut connection = host.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            connection.head();
            assert!(connection.chunk().is_some(), "{relay} {callee}");
            drop(connection);
            let left = host.access_where("the line of who was called", |line| {
                line.text("host.handler") == callee
            });
            assert_eq!(
                left.label(),
                "client-left,after-headers",
                "{relay} {callee}"
            );
        }
    });
}

#[test]
fn a_caller_whose_time_is_up_cancels_who_it_called() {
    for relay in BOTH_RELAYS {
        let more = format!("{CALLS}\nlimits = {{ timeout = \"300ms\" }}");
        let host = Calls::from(relay, &more);
        for callee in BOTH_CALLEES {
            let reply = host.get(&format!("/relay/{callee}/never"));
            assert_eq!(reply.status(), 504, "{relay} {callee}");
            let call = host.called(callee, &reply);
            assert_eq!((call.status(), call.label()), (499, "client-left"));
        }
    }
}

#[test]
fn a_request_that_breaks_off_does_so_for_who_is_called() {
    both_relays(|host, relay| {
        for callee in ["echo", "echo-p3"] {
            // Its client leaves, or is no longer understood.
            for end in ["", "no length of a chunk\r\n"] {
                let mut connection = host.send(format!(
                    "POST /relay/{callee}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
                ));
                let head = connection.head();
                // Who is called has begun.
                assert_eq!(connection.chunk().as_deref(), Some(&b"one"[..]));
                if end.is_empty() {
                    connection.finish_sending();
                } else {
                    connection.send(end);
                }
                let reply = connection.reply_after(head);
                assert!(!reply.is_complete, "{relay} {callee}: {reply:?}");
                let call = host.called(callee, &reply);
                assert_eq!(
                    call.label(),
                    "client-left,after-headers",
                    "{relay} {callee}"
                );
            }
        }
    });
}

#[test]
fn who_has_no_place_answers_503_and_a_circle_with_one_place_ends() {
    for relay in BOTH_RELAYS {
        let one = "max_concurrent_requests = 1, queue_timeout = \"200ms\"";
        let host = Calls::from(
            relay,
            &format!(
                "calls = [\"relay\", \"busy\"]\nlimits = {{ {one} }}\n\
                [handlers.busy]\nsource = \"faults.wasm\"\nroutes = [{{ path = \"/busy/*\", strip_prefix = true }}]\n\
                limits = {{ {one}, max_waiting_requests = 1 }}\n"
            ),
        );
        // It holds the only place and waits for it.
        let reply = host.get("/relay/relay/busy/ok");
        assert_eq!(reply.status(), 503, "{relay}");
        assert!(
            reply.text().contains("urn:host:failure:overload"),
            "{relay}"
        );
        assert_eq!(reply.header("retry-after"), Some("1"), "{relay}");

        let mut held = host.send("GET /busy/drip?n=1000&ms=20 HTTP/1.1\r\nHost: a\r\n\r\n");
        held.head();
        let reply = host.get("/relay/busy/ok");
        assert_eq!(reply.status(), 503, "{relay}");
        let call = host.called("busy", &reply);
        assert_eq!((call.status(), call.label()), (503, "overload"), "{relay}");
        drop(held);
        eventually("its place", || {
            (host.get("/relay/busy/ok").status() == 200).then_some(())
        });
    }
}

#[test]
fn a_call_takes_a_place_of_the_hosts_at_once_or_not_at_all() {
    for guest in BOTH_RELAYS {
        let files = directory();
        for (name, guest) in [("relay", guest), ("faults", FAULTS)] {
            fs::copy(guest.path(), files.path().join(name).with_extension("wasm")).expect("copied");
        }
        let file = files.path().join("host.toml");
        let text = "[listen]\naccess_log = \"json\"\nmax_concurrent_requests = 1\n\
            [handlers.relay]\nsource = \"relay.wasm\"\nroutes = [{ path = \"/relay/*\", strip_prefix = true }]\n\
            calls = [\"faults\"]\n\
            [handlers.faults]\nsource = \"faults.wasm\"\nroutes = [\"/*\"]\n";
        fs::write(&file, text).expect("written");
        let host = TestHost::serve_file(&file, "");
        let reply = host.get("/relay/faults/ok");
        assert_eq!(reply.status(), 503, "{guest}");
        let took = host.access(&reply).number("http.server.request.duration");
        assert!(took < 4.0, "{guest}: it waited {took} s");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn of_three_that_may_be_full_the_log_says_which_refused_a_call() {
    for (is_full, listen, tenant, limits, told) in [
        (
            "the handler",
            "",
            "",
            "limits = { max_concurrent_requests = 1, max_waiting_requests = 1, queue_timeout = \"100ms\" }",
            ["`faults`: it serves", "of its `limits`"],
        ),
        (
            "the tenant",
            "",
            "max_concurrent_requests = 2",
            "",
            ["`faults`: its tenant `acme` serves", "of `[tenants.acme]`"],
        ),
        (
            "the host",
            "max_concurrent_requests = 2",
            "",
            "limits = { max_concurrent_requests = 2 }",
            ["`faults`: the host serves", "of `[listen]`"],
        ),
    ] {
        let files = directory();
        let mut text =
            format!("[listen]\naccess_log = \"json\"\n{listen}\n[tenants.acme]\n{tenant}\n");
        for (name, guest, more) in [
            ("faults", FAULTS, limits),
            ("relay", RELAY, "calls = [\"faults\"]"),
        ] {
            fs::copy(guest.path(), files.path().join(name).with_extension("wasm")).expect("copied");
            text += &format!(
                "[handlers.{name}]\nsource = \"{name}.wasm\"\ntenant = \"acme\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n{more}\n"
            );
        }
        let file = files.path().join("host.toml");
        fs::write(&file, text).expect("written");
        let host = TestHost::serve_file(&file, "");
        let mut held = host.send("GET /faults/drip?n=1000&ms=20 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(held.head().status, 200, "{is_full}");
        let reply = host.get("/relay/faults/ok");
        assert_eq!(reply.status(), 503, "{is_full}");
        let said = host.says("no place for requests of");
        for part in told {
            assert!(said.contains(part), "{is_full}: {said}");
        }
    }
}

#[test]
fn a_call_and_a_request_do_not_wait_for_one_another() {
    // Two places of the tenant, or of the host, and one is the sleeper's. A request that kept the only place of `faults` while
    // it waits for the other would wait for a call by whoever has got that, and the call for it.
    for (listen, tenants, handlers, queue) in [
        (
            "",
            "[tenants.one]\nmax_concurrent_requests = 2\n",
            "tenant = \"one\"\n",
            "host_tenant_permits",
        ),
        ("max_concurrent_requests = 2\n", "", "", "host_permits"),
    ] {
        let office = Office::new();
        let here = office.0.path();
        let mut text = format!(
            "[listen]\naccess_log = \"json\"\n{listen}[state]\ndirectory = \"state\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\ntoken = {{ from_file = \"token\" }}\n{tenants}"
        );
        for (name, guest, more) in [
            ("sleeper", FAULTS, ""),
            ("faults", FAULTS, "limits = { max_concurrent_requests = 1 }"),
            ("relay", RELAY, "calls = [\"faults\"]"),
        ] {
            fs::copy(guest.path(), here.join(name).with_extension("wasm")).expect("copied");
            text += &format!(
                "[handlers.{name}]\nsource = \"{name}.wasm\"\n{handlers}\
                 routes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n{more}\n"
            );
        }
        let file = here.join("host.toml");
        fs::write(&file, text).expect("written");
        let host = TestHost::serve_file(&file, "");
        let operator = Operator::of(&host);
        let there_are = |count: f64, name: &str, labels: &[(&str, &str)]| {
            eventually(&format!("{count} of {name} {labels:?}"), || {
                (operator.metrics().sum(name, labels) >= count).then_some(())
            });
        };
        let get = |target: &str| host.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));

        let _sleeping = get("/sleeper/sleep?ms=20000");
        let first = get("/faults/sleep?ms=20000");
        there_are(2.0, queue, &[("host_state", "held")]);
        let mut relay = get("/relay/faults/ok");
        there_are(1.0, queue, &[("host_state", "waiting")]);
        let mut request = get("/faults/ok");
        let of_faults = [("host_handler", "faults"), ("host_state", "waiting")];
        there_are(1.0, "host_handler_permits", &of_faults);

        drop(first);
        // The relay goes first, since it waited for that place. Its call finds no second one, and says so.
        assert_eq!(relay.reply().status(), 503, "{queue}");
        assert_eq!(request.reply().text(), "ok\n", "{queue}");
    }
}

#[test]
fn of_many_calls_at_once_an_instance_has_as_many_as_it_may() {
    for guest in BOTH_FAULTS {
        let files = directory();
        let mut text = String::new();
        for (name, guest, more) in [
            ("caller", guest, "calls = [\"slow\"]"),
            ("slow", FAULTS, ""),
        ] {
            fs::copy(guest.path(), files.path().join(name).with_extension("wasm")).expect("copied");
            text += &format!(
                "[handlers.{name}]\nsource = \"{name}.wasm\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n{more}\n"
            );
        }
        let file = files.path().join("host.toml");
        fs::write(&file, text).expect("written");
        let host = TestHost::serve_file(&file, "");
        // Each takes half a second, so that all are there at once.
        let many = "/caller/fetch-at-once?n=40&url=http://slow.handler.internal/sleep?ms=500";
        let seen = host.get(many).text();
        let expected = "16 answered\n24 connection-limit-reached\n";
        assert_eq!(seen, expected, "{guest}");
    }
}

#[test]
fn a_call_whose_path_could_lead_elsewhere_is_no_request() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &format!("--allow-call {}", guest.handler()));
        for (path, status) in [
            ("/ok", 200),
            ("/a/../ok", 400),
            ("/a/%2E./ok", 400),
            ("/a..b/ok", 404),
        ] {
            let url = format!("http://{}.handler.internal{path}", guest.handler());
            let seen = host.get(&format!("/fetch?url={url}")).text();
            let expected = format!("status {status}\n");
            assert!(seen.contains(&expected), "{guest} {path}: {seen}");
        }
    }
}

#[test]
fn requests_that_share_an_instance_call_too() {
    let more = format!("{CALLS}\nlimits = {{ max_instance_concurrent_reuse_count = 8 }}");
    let host = Calls::from(RELAY_P3, &more);
    let mut slow: Vec<_> = (0..4)
        .map(|_| host.send("GET /relay/faults/sleep?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    assert_eq!(host.get("/relay/faults-p3/ok").text(), "ok\n");
    for one in &mut slow {
        assert_eq!(one.reply().text(), "slept\n");
    }
    let circle = format!("{CALLS}\nlimits = {{ max_instance_concurrent_reuse_count = 20 }}")
        .replace("[\"", "[\"relay\", \"");
    let host = Calls::from(RELAY_P3, &circle);
    let reply = host.get(&format!("/relay{}/faults/ok", "/relay".repeat(8)));
    assert_eq!(reply.status(), 508);
}

#[test]
fn a_change_of_what_a_handler_may_call_is_taken_up() {
    let host = Calls::from(RELAY, "calls = []");
    assert_eq!(host.get("/relay/faults/ok").status(), 403);
    let file = host._files.path().join("host.toml");
    let text = fs::read_to_string(&file).expect("read");
    let mut written = fs::File::create(&file).expect("open");
    written
        .write_all(text.replace("calls = []", CALLS).as_bytes())
        .expect("written");
    drop(written);
    eventually("the grant", || {
        (host.get("/relay/faults/ok").status() == 200).then_some(())
    });
}

#[test]
fn a_manifest_may_say_whom_a_handler_calls() {
    let files = directory();
    for (name, guest) in [("relay", RELAY), ("faults", FAULTS)] {
        fs::copy(guest.path(), files.path().join(name).with_extension("wasm")).expect("copied");
    }
    fs::write(files.path().join("relay.toml"), "calls = [\"faults\"]").expect("written");
    let host = TestHost::serve_file(files.path(), "");
    assert_eq!(host.get("/relay/faults/ok").text(), "ok\n");
}

#[test]
fn an_operator_grants_a_call_and_takes_it_away() {
    let files = directory();
    let socket = files.path().join("admin");
    let flags = format!(
        "{} {}",
        flag("--admin", &socket),
        flag("--state", &files.path().join("state"))
    );
    let host = TestHost::serve_nothing(&flags);
    let deploy = |guest: Guest, more: &str| {
        let file = guest.path();
        let to = flag("--admin", &socket);
        let ended = program::host(&format!("deploy {} {to} {more}", file.display()));
        assert_eq!(ended.code, Some(0), "{more}: {ended:?}");
    };
    deploy(FAULTS, "");
    deploy(RELAY, "--allow-call faults --allow-call other");
    assert_eq!(host.get("/relay/faults/ok").text(), "ok\n");
    let shown = program::host(&format!("show relay {}", flag("--admin", &socket)));
    assert!(shown.stdout_text().contains("faults, other"), "{shown:?}");
    deploy(RELAY, "--timeout 5s");
    assert_eq!(host.get("/relay/faults/ok").text(), "ok\n", "it stays");
    deploy(RELAY, "--allow-call=");
    assert_eq!(host.get("/relay/faults/ok").status(), 403);
}
