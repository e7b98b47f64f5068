//! Metrics at the operator's door: what is counted, how many series there can be, who sees which.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use ::host::observe::metrics::names;

use crate::support::exposition::Exposition;
use crate::support::operator::{OPERATOR, Office, Operator};
use crate::support::*;

const DURATION: &str = "http_server_request_duration_seconds_count";

/// A host of one guest, and its numbers.
fn observed(guest: Guest, flags: &str) -> (TestHost, Operator, Office) {
    let office = Office::new();
    let host = TestHost::serve(guest, &format!("{flags} {}", office.flags()));
    let operator = Operator::of(&host);
    (host, operator, office)
}

/// Waits for so many requests, since one is counted when its response has been handed over.
fn counted(operator: Operator, requests: f64) -> Exposition {
    eventually("the requests to be counted", || {
        let metrics = operator.metrics();
        (metrics.sum(DURATION, &[]) >= requests).then_some(metrics)
    })
}

#[test]
fn each_request_is_counted_once_with_its_handler_route_method_status_and_failure() {
    for guest in BOTH_FAULTS {
        let (host, operator, _office) = observed(guest, "");
        for path in [
            "/ok",
            "/ok",
            "/trap",
            "/status/404",
            "/error/HTTP-request-denied",
        ] {
            host.get(path);
        }
        host.send("POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .reply();
        host.send("GET / HTTP/1.1\r\n\r\n").reply();
        let metrics = counted(operator, 7.0);
        assert_eq!(metrics.sum(DURATION, &[]), 7.0, "{guest}");
        let handler = guest.handler();
        for (count, method, status, error) in [
            (2.0, "GET", "200", ""),
            (1.0, "POST", "200", ""),
            (1.0, "GET", "404", ""),
            (1.0, "GET", "500", "trap"),
            (1.0, "GET", "403", "guest-error:HTTP-request-denied"),
        ] {
            let labels = [
                ("http_request_method", method),
                ("http_response_status_code", status),
                ("http_route", "/*"),
                ("host_handler", &*handler),
                ("error_type", error),
            ];
            assert_eq!(metrics.sum(DURATION, &labels), count, "{guest} {labels:?}");
        }
        let nobodys = [("host_handler", ""), ("error_type", "bad-request")];
        assert_eq!(metrics.sum(DURATION, &nobodys), 1.0, "{guest}");

        let of_handler = [("host_handler", &*handler)];
        for family in ["host_queue_wait_seconds", "host_guest_cpu_seconds"] {
            let name = format!("{family}_count");
            assert_eq!(metrics.sum(&name, &of_handler), 6.0, "{guest} {family}");
        }
        let new = metrics.sum("host_instantiation_seconds_count", &of_handler);
        assert_eq!(new < 6.0, guest.is_p3(), "{guest}: {new} were made");
        assert!(metrics.sum("host_guest_cpu_seconds_sum", &of_handler) > 0.0);
        let trap = [("host_handler", &*handler), ("error_type", "trap")];
        assert_eq!(metrics.sum("host_guest_faults_total", &trap), 1.0);
    }
}

#[test]
fn what_requests_cost_is_summed_for_their_handler() {
    for guest in BOTH_FAULTS {
        let (host, operator, _office) = observed(guest, "--cpu 100ms");
        let took = std::time::Instant::now();
        let read = host.connect().post("/read", "x".repeat(1_000));
        let bytes = host.get("/bytes?n=200000");
        let spun = host.get("/spin-after-response");
        let replies = [&read, &bytes, &spun];
        let sent: usize = replies.iter().map(|reply| reply.body.len()).sum();
        let handler = guest.handler();
        let sum =
            |metrics: &Exposition, name: &str| metrics.sum(name, &[("host_handler", &*handler)]);
        let metrics = eventually("what was used after the response", || {
            let metrics = operator.metrics();
            let after = sum(&metrics, "host_guest_cpu_after_seconds_total");
            (after > 0.05).then_some(metrics)
        });
        let took = took.elapsed().as_secs_f64();
        let sum = |name: &str| sum(&metrics, name);
        assert_eq!(sum("host_request_body_bytes_total"), 1_000.0, "{guest}");
        assert_eq!(
            sum("host_response_body_bytes_total"),
            sent as f64,
            "{guest}"
        );
        assert_eq!(sum("host_requests_tried_again_total"), 0.0, "{guest}");
        // Each had at least a page, and no more than it may, one after the other: the spinning one for its 100 ms.
        let memory = sum("host_guest_memory_byte_seconds_total");
        let (page, most) = (65_536.0, 128.0 * 1024.0 * 1024.0);
        assert!(
            memory > page * 0.05 && memory < most * took,
            "{guest}: {memory}"
        );
        // Nobody is charged for the same twice.
        let during = sum("host_guest_cpu_seconds_sum");
        let after = sum("host_guest_cpu_after_seconds_total");
        assert!(
            after < 0.2 && during + after < took,
            "{guest}: {during} {after}"
        );
    }
}

#[test]
fn who_is_called_again_is_counted_and_so_is_who_has_failed() {
    let flags = "--max-instance-concurrent-reuse-count 8 --idle-instance-timeout 1h";
    let (host, operator, _office) = observed(FAULTS_P3, flags);
    host.get("/ok");
    let trapped = host.get("/trap");
    assert_eq!(trapped.status(), 500);
    let metrics = counted(operator, 2.0);
    let handler = FAULTS_P3.handler();
    let of_handler = [("host_handler", &*handler)];
    let again = metrics.sum("host_requests_tried_again_total", &of_handler);
    assert_eq!(again, 1.0);
    let trap = [("host_handler", &*handler), ("error_type", "trap")];
    assert_eq!(metrics.sum("host_guest_faults_total", &trap), 1.0);
}

#[test]
fn everything_on_the_page_is_in_the_table_and_everything_in_the_table_is_on_the_page() {
    let (host, operator, _office) = observed(FAULTS, "");
    host.get("/trap");
    let metrics = counted(operator, 1.0);
    let of_page: BTreeSet<&str> = metrics.kinds.keys().map(String::as_str).collect();
    let of_table: BTreeSet<&str> = names::ALL.iter().map(|family| family.stem()).collect();
    assert_eq!(of_page, of_table);
    for family in names::ALL {
        assert_eq!(metrics.kinds[family.stem()], family.kind.as_str());
        let known: BTreeSet<&str> = family.labels.iter().copied().chain(["le"]).collect();
        let of_family = |name: &str| {
            name.strip_prefix(family.stem()).is_some_and(|it| {
                ["", "_total", "_info", "_sum", "_count", "_bucket"].contains(&it)
            })
        };
        for sample in metrics.samples.iter().filter(|it| of_family(&it.name)) {
            let labels = sample.labels.keys().map(String::as_str);
            assert!(
                labels.into_iter().all(|it| known.contains(it)),
                "{sample:?}"
            );
        }
    }
}

#[test]
fn gauges_say_what_is_now() {
    let (host, operator, _office) = observed(FAULTS, "--max-concurrent-requests 3");
    let mut held: Vec<_> = (0..3)
        .map(|_| host.send("GET /drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    held.iter_mut().for_each(|one| drop(one.head()));
    let waiting = host.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
    let metrics = eventually("one that waits", || {
        let metrics = operator.metrics();
        let waiting = metrics.sum("host_handler_permits", &[("host_state", "waiting")]);
        let active = metrics.sum("http_server_active_requests", &[]);
        ((waiting, active) == (1.0, 4.0)).then_some(metrics)
    });
    let held_of = |name: &str| metrics.sum(name, &[("host_state", "held")]);
    assert_eq!(held_of("host_permits"), 3.0);
    assert_eq!(
        held_of("host_permits"),
        metrics.sum("host_permits_max", &[])
    );
    assert!(metrics.sum("host_handler_permits_max", &[]) >= 3.0);
    let (series, most) = ("host_metric_series", "host_metric_series_max");
    assert!(metrics.sum(series, &[]) < metrics.sum(most, &[]));
    assert_eq!(
        metrics.sum("host_instances", &[("host_state", "running")]),
        3.0
    );
    assert!(metrics.sum("host_instance_memory_bytes", &[]) >= 3.0 * 65_536.0);
    assert_eq!(metrics.sum("host_connections", &[]), 4.0);
    assert_eq!(
        metrics.sum("host_handlers", &[("host_state", "ready")]),
        1.0
    );
    assert_eq!(metrics.sum("host_ready", &[]), 1.0);
    let deployed = [("host_source", "files"), ("host_outcome", "deployed")];
    assert_eq!(metrics.sum("host_deploys_total", &deployed), 1.0);
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(metrics.sum("process_open_fds", &[]) > 4.0);
    assert!(metrics.sum("process_start_time_seconds", &[]) > 1.7e9);

    drop((held, waiting));
    eventually("nothing is in flight", || {
        let metrics = operator.metrics();
        let active = metrics.sum("http_server_active_requests", &[]);
        let instances = metrics.sum("host_instances", &[]);
        let memory = metrics.sum("host_instance_memory_bytes", &[]);
        (active + instances + memory == 0.0).then_some(())
    });
}

#[test]
fn what_is_compiled_and_loaded_is_counted() {
    let here = directory();
    let cache = flag("--cache", &here.path().join("cache"));
    for compiled in [1.0, 0.0] {
        let (host, operator, _office) = observed(HELLO, &cache);
        host.get("/");
        let metrics = counted(operator, 1.0);
        let made = |outcome: &str| {
            let outcome = [("host_outcome", outcome)];
            metrics.sum("host_compilations_total", &outcome)
        };
        assert_eq!((made("compiled"), made("failed")), (compiled, 0.0));
        let took = metrics.sum("host_compile_seconds_total", &[]);
        assert_eq!(took > 0.0, compiled > 0.0, "{took}");
        assert_eq!(metrics.sum("host_handlers_loaded", &[]), 1.0);
        assert!(metrics.sum("process_cpu_seconds_total", &[]) > 0.0);
        assert!(metrics.sum("process_threads", &[]) > 2.0);
        assert!(metrics.sum("process_max_fds", &[]) > metrics.sum("process_open_fds", &[]));
        let build = metrics.with("host_build_info", &[]);
        let [build] = &*build else {
            panic!("{build:?}")
        };
        assert_eq!(build.label("version"), env!("CARGO_PKG_VERSION"));
        let accepted = metrics.sum("host_connections_accepted_total", &[]);
        assert_eq!(accepted, 1.0);
    }
}

#[test]
fn whatever_clients_and_guests_send_the_series_are_bounded() {
    let (host, operator, _office) = observed(FAULTS, "");
    let mut connection = host.connect();
    for status in 200..600 {
        connection.get(&format!("/status/{status}"));
    }
    for nth in 0..200 {
        connection.get(&format!("/ok/{nth}?{nth}"));
        connection.send(format!("BREW{nth} /ok HTTP/1.1\r\nHost: h{nth}\r\n\r\n"));
        connection.reply();
    }
    let metrics = counted(operator, 800.0);
    assert_eq!(metrics.sum(DURATION, &[]), 800.0);
    let series = metrics.with(DURATION, &[("host_handler", "faults")]);
    assert!(series.len() <= 100 + 12, "{}", series.len());
    let methods: BTreeSet<&str> = series
        .iter()
        .map(|it| it.label("http_request_method"))
        .collect();
    assert_eq!(methods, BTreeSet::from(["GET", "_OTHER"]));
    let together = [
        ("http_route", "_OTHER"),
        ("http_response_status_code", "5xx"),
    ];
    assert_eq!(metrics.sum(DURATION, &together), 100.0);
    assert!(metrics.sum("host_metric_series", &[]) <= 101.0);
}

#[test]
fn a_tenant_sees_its_own_and_a_handler_that_is_gone_is_forgotten() {
    let office = Office::new();
    let here = office.0.path();
    fs::write(here.join("acme"), "acmeacmeacmeacmeacme").expect("written");
    for (name, guest) in [("hello.wasm", HELLO), ("faults.wasm", FAULTS)] {
        fs::copy(guest.path(), here.join(name)).expect("copied");
    }
    let say = |more: &str| {
        let text = format!(
            "[listen]\naccess_log = \"json\"\n[state]\ndirectory = \"state\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\ntoken = {{ from_file = \"token\" }}\n\
             [tenants.acme]\nmax_memory = \"64MiB\"\nmax_concurrent_requests = 7\nadmin_tokens = [{{ from_file = \"acme\" }}]\n\
             [tenants.beta]\n\
             [handlers.shop]\nsource = \"hello.wasm\"\nroutes = [\"/shop/*\"]\ntenant = \"acme\"\n\
             [handlers.own]\nsource = \"hello.wasm\"\nroutes = [\"/own/*\"]\n{more}"
        );
        fs::write(here.join(".new"), text).expect("written");
        fs::rename(here.join(".new"), here.join("host.toml")).expect("renamed");
    };
    say("[handlers.other]\nsource = \"faults.wasm\"\nroutes = [\"/other/*\"]\ntenant = \"beta\"\n");
    let host = TestHost::serve_file(&here.join("host.toml"), "");
    let operator = Operator::of(&host);
    for path in ["/shop/", "/own/", "/other/status/404", "/nowhere"] {
        host.get(path);
    }
    let all = counted(operator, 4.0);
    let handlers = |metrics: &Exposition| -> BTreeSet<String> {
        let samples = metrics.samples.iter();
        samples
            .map(|it| it.label("host_handler").to_owned())
            .collect()
    };
    let named = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(handlers(&all), named(&["", "other", "own", "shop"]));

    let mine = operator.metrics_of("acmeacmeacmeacmeacme");
    assert_eq!(mine.sum(DURATION, &[]), 1.0);
    for sample in &mine.samples {
        assert_eq!(sample.label("host_tenant"), "acme", "{sample:?}");
    }
    assert_eq!(
        mine.sum("host_tenant_memory_max_bytes", &[]),
        64.0 * 1024.0 * 1024.0
    );
    assert_eq!(mine.with("host_tenant_memory_bytes", &[]).len(), 1);
    assert_eq!(mine.sum("host_tenant_permits_max", &[]), 7.0);
    for state in ["held", "waiting"] {
        let permits = mine.with("host_tenant_permits", &[("host_state", state)]);
        assert_eq!(permits.len(), 1, "{state}");
    }
    assert_eq!(operator.ask("/metrics", "").status(), 401);

    say("");
    eventually("the other's numbers are gone", || {
        let now = handlers(&operator.metrics());
        (now == named(&["", "own", "shop"])).then_some(())
    });
}

#[test]
fn a_call_is_counted_for_who_calls_and_for_who_is_called() {
    let office = Office::new();
    let here = office.0.path().join("handlers");
    fs::create_dir(&here).expect("created");
    for (name, guest) in [("relay", RELAY), ("hello", HELLO)] {
        fs::copy(guest.path(), here.join(name).with_extension("wasm")).expect("copied");
    }
    let flags = format!("--allow-call hello --allow-call missing {}", office.flags());
    let host = TestHost::serve_file(&here, &flags);
    let operator = Operator::of(&host);
    for callee in ["hello", "missing"] {
        host.get(&format!("/relay/{callee}/"));
    }
    // What was called and is not deployed is no handler, and has no numbers of its own.
    let metrics = counted(operator, 3.0);
    let calls = |error: &str| {
        let labels = [
            ("host_handler", "relay"),
            ("host_kind", "call"),
            ("error_type", error),
        ];
        metrics.sum("host_outbound_requests_total", &labels)
    };
    assert_eq!((calls(""), calls("no-route")), (1.0, 1.0));
    let called = [("host_handler", "hello"), ("http_route", "")];
    assert_eq!(metrics.sum(DURATION, &called), 1.0);
}

/// A client that does one thing wrong, and is kept.
type Wrong = fn(&TestHost) -> Connection;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bodies have theirs in `server`: they have twenty seconds before anybody looks.
#[test]
fn whatever_a_client_keeps_us_waiting_for_has_a_number_of_its_own() {
    const EVENTS: &str = "host_connection_events_total";
    let ends: [(&str, &str, Wrong); 9] = [
        ("silent", "--first-byte-timeout 300ms", TestHost::connect),
        ("slow-head", "--header-timeout 300ms", |host| {
            host.send("GET /ok HT")
        }),
        // SETTINGS, and a list of headers that goes on.
        ("slow-head", "--header-timeout 300ms", |host| {
            let settings = [0_u8, 0, 0, 4, 0, 0, 0, 0, 0];
            let headers = [0_u8, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
            host.send([PREFACE, &settings, &headers].concat())
        }),
        ("idle", "--idle-timeout 300ms", |host| {
            let mut served = host.connect();
            served.get("/ok");
            served
        }),
        ("stalled", "--write-timeout 300ms", |host| {
            host.send("GET /bytes?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        }),
        (
            "too-many-of-address",
            "--max-connections-per-address 1",
            |host| {
                let mut served = host.connect();
                served.get("/ok");
                assert!(host.connect().is_closed());
                served
            },
        ),
        (
            "bad-proxy-header",
            "--proxy-protocol --trusted-proxy 127.0.0.1",
            |host| host.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        ("bad-head", "", |host| {
            host.send("GET /ok HTTP/1.1\r\nHost : a\r\n\r\n")
        }),
        // PING before SETTINGS.
        ("http2-violation", "", |host| {
            host.send([PREFACE, &[0, 0, 8, 6, 0, 0, 0, 0, 0], &[0; 8]].concat())
        }),
    ];
    let table = include_str!("../host/METRICS.md");
    for (event, flags, wrong) in ends {
        let (host, operator, _office) = observed(FAULTS, flags);
        let _kept = wrong(&host);
        let metrics = eventually(event, || {
            let metrics = operator.metrics();
            let count = metrics.sum(EVENTS, &[("host_event", event)]);
            (count >= 1.0).then_some(metrics)
        });
        let all = metrics.with(EVENTS, &[]);
        assert_eq!(metrics.sum(EVENTS, &[]), 1.0, "{event}: {all:?}");
        for sample in all {
            let name = format!("`{}`", sample.label("host_event"));
            assert!(table.contains(&name), "METRICS.md does not explain {name}");
        }
    }
}

#[test]
fn when_a_certificate_ends_and_how_handshakes_went_is_told() {
    let office = Office::new();
    let authority = Authority::new("a test");
    let signed = authority.sign_until("localhost", 2040);
    let (cert, key) = signed.write(office.0.path(), "cert");
    let flags = format!(
        "--handshake-timeout 2s {} {} {}",
        flag("--tls-cert", &cert),
        flag("--tls-key", &key),
        office.flags()
    );
    let host = TestHost::serve(HELLO, &flags);
    let operator = Operator::of(&host);
    let _silent = host.connect();
    let client = TlsClient::trusting(&authority);
    drop(client.connect(&host, "localhost"));
    let handshakes = |outcome: &str| {
        let outcome = [("host_outcome", outcome)];
        operator
            .metrics()
            .sum("host_tls_handshakes_total", &outcome)
    };
    eventually("a handshake", || (handshakes("full") == 1.0).then_some(()));
    host.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("one without TLS", || {
        (handshakes("clear") == 1.0).then_some(())
    });
    eventually("one that does not begin", || {
        (handshakes("slow") == 1.0).then_some(())
    });
    let metrics = operator.metrics();
    let ends = metrics.with("host_tls_certificate_expiry_timestamp_seconds", &[]);
    let [end] = &*ends else { panic!("{ends:?}") };
    assert_eq!(end.label("host_certificate"), cert.display().to_string());
    assert_eq!(end.label("host_name"), "localhost");
    // From 2040 on, and not after 2041.
    assert!(
        (2_208_988_800.0..2_240_611_200.0).contains(&end.value),
        "{end:?}"
    );
}

#[test]
fn both_forms_are_what_their_content_types_say() {
    let (host, operator, _office) = observed(FAULTS, "");
    host.get("/trap");
    counted(operator, 1.0);
    let token = format!("Authorization: Bearer {OPERATOR}\r\n");
    let prometheus =
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    for (accept, kind) in [
        (
            "",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (
            prometheus,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (
            "Accept: text/plain\r\n",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
    ] {
        let reply = operator.ask("/metrics", &format!("{token}{accept}"));
        assert_eq!(reply.header("content-type"), Some(kind), "{accept}");
    }
    if Command::new("promtool").arg("--version").output().is_err() {
        skipped("metrics as `promtool` checks them: there is none: `apt-get install prometheus`");
        return;
    }
    let page = operator.ask("/metrics", &format!("{token}Accept: text/plain\r\n"));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = promtool.stdin.take().expect("piped");
    let body = page.body.clone();
    let writer = thread::spawn(move || stdin.write_all(&body));
    let checked = promtool.wait_with_output().expect("its end");
    writer.join().expect("joined").expect("written");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
}
