//! Requests to elsewhere: who may be reached, by which address, and what a guest hears when it goes wrong.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::guests::BOTH_FETCHES;
use crate::support::operator::{Office, Operator};
use crate::support::upstream::{Upstream, Wire};
use crate::support::*;

/// What the guest saw of a request to `url`; `more` is what it does besides.
fn fetched(host: &TestHost, url: &str, more: &str) -> String {
    host.get(&format!("/fetch?url={url}{more}")).text()
}

fn allow(patterns: &[&str]) -> String {
    let flags: Vec<_> = patterns
        .iter()
        .map(|pattern| format!("--allow-outbound {pattern}"))
        .collect();
    flags.join(" ")
}

/// Who listens, and should not be reached.
struct Stranger(TcpListener);

impl Stranger {
    /// None where this machine has no such address.
    fn at(address: &str, port: u16) -> Option<Self> {
        let listener = TcpListener::bind((address, port)).ok()?;
        listener.set_nonblocking(true).ok()?;
        Some(Self(listener))
    }

    fn visitors(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

/// A host of one handler, whose `outbound` is `said`. Files of `said` are in the directory.
fn host_saying(directory: &TempDir, guest: Guest, said: &str) -> TestHost {
    let wasm = directory.path().join("faults.wasm");
    fs::copy(guest.path(), &wasm).expect("copied");
    let text = format!(
        "[listen]\naccess_log = \"json\"\n[handlers.faults]\nsource = \"faults.wasm\"\nroutes = [\"/*\"]\n[handlers.faults.outbound]\n{said}"
    );
    let file = directory.path().join("host.toml");
    fs::write(&file, text).expect("written");
    TestHost::serve_file(&file, "")
}

#[test]
fn nobody_is_reached_without_a_grant_and_the_log_says_which_is_missing() {
    for guest in BOTH_FAULTS {
        let upstream = Upstream::hello();
        let host = TestHost::serve(guest, "");
        let seen = fetched(&host, &upstream.url(), "/");
        assert_eq!(seen, "error http-request-denied\n", "{guest}");
        let said = host.says("may not reach");
        let flag = format!("--allow-outbound {}", upstream.url());
        assert!(said.contains(&flag), "{guest}: {said}");
        assert_eq!(upstream.connections(), 0, "{guest}");
    }
}

#[test]
fn what_is_allowed_is_reached_by_scheme_host_and_port() {
    for guest in BOTH_FAULTS {
        let (upstream, other) = (Upstream::hello(), Upstream::hello());
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        let seen = fetched(&host, &upstream.url(), "/a");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        assert!(seen.ends_with("body 6\n"), "{guest}: {seen}");
        let head = upstream.heads().pop().expect("one");
        assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{guest}: {head}");
        let host_line = format!("host: {}\r\n", upstream.address);
        assert!(head.contains(&host_line), "{guest}: {head}");
        for denied in [
            other.url(),
            upstream.url().replace("http:", "https:"),
            upstream.named("http"),
        ] {
            let seen = fetched(&host, &denied, "/");
            assert_eq!(seen, "error http-request-denied\n", "{guest} {denied}");
        }
        assert_eq!(other.connections(), 0, "{guest}");
    }
}

#[test]
fn an_address_that_is_not_public_is_reached_only_if_its_network_is_granted() {
    for guest in BOTH_FAULTS {
        let upstream = Upstream::hello();
        let url = upstream.named("http");
        let host = TestHost::serve(guest, &allow(&[&url]));
        let seen = fetched(&host, &url, "/");
        assert_eq!(seen, "error destination-ip-prohibited\n", "{guest}");
        let said = host.says("this machine's own");
        assert!(said.contains("--allow-network "), "{guest}: {said}");
        assert_eq!(upstream.connections(), 0, "{guest}");

        let networks = "--allow-network 127.0.0.0/8 --allow-network ::1";
        let host = TestHost::serve(guest, &format!("{} {networks}", allow(&[&url])));
        let seen = fetched(&host, &url, "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
    }
}

#[test]
fn everywhere_is_the_public_internet_however_an_address_is_written() {
    for guest in BOTH_FAULTS {
        let upstream = Upstream::hello();
        let port = upstream.address.port();
        let host = TestHost::serve(guest, "--allow-outbound everywhere");
        for address in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.1.",
            "0.0.0.0",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[2002:7f00:1::]",
            "localhost",
            "10.0.0.1",
            "169.254.169.254",
            "[fd00:ec2::254]",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            let seen = fetched(&host, &format!("http://{address}:{port}"), "/");
            assert_eq!(
                seen, "error destination-ip-prohibited\n",
                "{guest} {address}"
            );
        }
        assert_eq!(upstream.connections(), 0, "{guest}");
    }
}

#[test]
fn a_name_that_leads_elsewhere_the_next_time_gains_nothing() {
    const NAME: &str = "rebound.test";
    // Where the last number of its address is. No more than this changes: no reader finds half an answer.
    const LAST: u64 = "127.0.0.".len() as u64;
    let place = directory();
    let path = place.path().join("hosts");
    fs::write(&path, format!("127.0.0.1 {NAME}\n")).expect("written");
    let names = fs::OpenOptions::new().write(true).open(&path);
    let names = names.expect("opened");
    let lead_to = |last: u8| names.write_all_at(&[last], LAST).expect("written");
    for guest in BOTH_FAULTS {
        let Some(program) = program::command_with_names(&path, NAME) else {
            return;
        };
        let upstream = Upstream::new(|_, wire| {
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
            Err(wire.close())
        });
        let port = upstream.address.port();
        let stranger = Stranger::at("127.0.0.2", port).expect("an address of this machine");
        let url = format!("http://{NAME}:{port}");
        let flags = format!("{} --allow-network 127.0.0.1", allow(&[&url]));
        let host = TestHost::serve_as(program, guest, &flags);
        let seen = fetched(&host, &url, "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        lead_to(b'2');
        let seen = fetched(&host, &url, "/");
        assert_eq!(seen, "error destination-ip-prohibited\n", "{guest}");

        // An answer that changes all the time changes between two lookups of one request, if there are two.
        let wanted = Arc::new(());
        let (is_wanted, names) = (Arc::downgrade(&wanted), names.try_clone().expect("cloned"));
        let changes = thread::spawn(move || {
            for last in [b"1", b"2"].into_iter().cycle() {
                if is_wanted.strong_count() == 0 {
                    return;
                }
                names.write_all_at(last, LAST).expect("written");
            }
        });
        for _ in 0..100 {
            let seen = fetched(&host, &url, "/");
            let is_denied = seen == "error destination-ip-prohibited\n";
            assert!(
                is_denied || seen.starts_with("status 200\n"),
                "{guest}: {seen}"
            );
        }
        drop(wanted);
        changes.join().expect("no panic");
        assert_eq!(stranger.visitors(), 0, "{guest}");
        lead_to(b'1');
    }
}

#[test]
fn of_a_names_addresses_those_that_are_denied_are_not_tried() {
    const NAME: &str = "both.test";
    let place = directory();
    let path = place.path().join("hosts");
    // The resolver gives that of IPv6 first.
    fs::write(&path, format!("::1 {NAME}\n127.0.0.1 {NAME}\n")).expect("written");
    for guest in BOTH_FAULTS {
        let Some(program) = program::command_with_names(&path, NAME) else {
            return;
        };
        let upstream = Upstream::hello();
        let port = upstream.address.port();
        let stranger = Stranger::at("::1", port);
        let url = format!("http://{NAME}:{port}");
        let flags = format!("{} --allow-network 127.0.0.1", allow(&[&url]));
        let host = TestHost::serve_as(program, guest, &flags);
        let seen = fetched(&host, &url, "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        let visitors = stranger.map_or(0, |stranger| stranger.visitors());
        assert_eq!(visitors, 0, "{guest}");
    }
}

#[test]
fn a_connection_is_kept_for_the_next_request_and_is_each_handlers_own() {
    let directory = directory();
    let upstream = Upstream::hello();
    let mut text = String::new();
    for (name, guest) in [("one", FAULTS), ("two", FAULTS_P3)] {
        fs::copy(
            guest.path(),
            directory.path().join(name).with_extension("wasm"),
        )
        .expect("copied");
        text += &format!(
            "[handlers.{name}]\nsource = \"{name}.wasm\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\noutbound = {{ allow = [\"{}\"] }}\n",
            upstream.url()
        );
    }
    let file = directory.path().join("host.toml");
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    for (name, connections) in [("one", 1), ("two", 2)] {
        for _ in 0..20 {
            let target = format!("/{name}/fetch?url={}/", upstream.url());
            let seen = host.get(&target).text();
            assert!(seen.starts_with("status 200\n"), "{name}: {seen}");
        }
        assert_eq!(upstream.connections(), connections, "{name}");
    }
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request() {
    for guest in BOTH_FAULTS {
        // It says nothing of it, and closes.
        let upstream = Upstream::new(|_, wire| {
            wire.hello()?;
            Err(wire.close())
        });
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        for _ in 0..10 {
            let seen = fetched(&host, &upstream.url(), "/");
            assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        }
        assert_eq!(upstream.connections(), 10, "{guest}");
    }
}

#[test]
fn a_request_that_a_kept_connection_swallows_is_sent_again_where_that_is_safe() {
    for guest in BOTH_FAULTS {
        let heads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&heads);
        // It answers the first request of a connection, and reads the second one before it closes.
        let upstream = Upstream::new(move |_, wire| {
            if counted.fetch_add(1, Ordering::AcqRel) % 2 == 1 {
                return Err(wire.close());
            }
            wire.hello()
        });
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        for _ in 0..2 {
            let seen = fetched(&host, &upstream.url(), "/");
            assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        }
        assert_eq!(heads.load(Ordering::Acquire), 3, "{guest}");
        // What may have been done is not done twice.
        let seen = fetched(&host, &upstream.url(), "/&method=POST&body=10");
        assert_eq!(seen, "error connection-terminated\n", "{guest}");
        assert_eq!(heads.load(Ordering::Acquire), 4, "{guest}");
    }
}

#[test]
fn an_instance_sends_more_requests_than_it_can_hold_things() {
    let upstream = Upstream::hello();
    let host = TestHost::serve(
        FAULTS,
        &format!("--cpu 20s --timeout 60s {}", allow(&[&upstream.url()])),
    );
    let url = upstream.url();
    let target = format!("/fetch-many?n=1500&first=50000&url={url}/");
    assert_eq!(host.get(&target).text(), "1500 of 1500\n");
}

#[test]
fn what_goes_wrong_is_an_error_code_that_the_guest_can_handle() {
    let refused = {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", gone.local_addr().expect("its address"))
    };
    let upstream = Upstream::new(|head, wire| match head {
        _ if head.starts_with("GET /closes ") => Err(wire.close()),
        _ if head.starts_with("GET /babbles ") => {
            wire.say("babble babble\r\n\r\n")?;
            wire.until_closed()
        }
        _ if head.starts_with("GET /huge ") => {
            wire.say("HTTP/1.1 200 OK\r\n")?;
            loop {
                wire.say(&format!("x-much: {}\r\n", "y".repeat(4_000)))?;
            }
        }
        _ if head.starts_with("GET /many-fields ") => {
            wire.say("HTTP/1.1 200 OK\r\n")?;
            wire.say(&"x-much: y\r\n".repeat(1_000))?;
            wire.say("\r\n")?;
            wire.until_closed()
        }
        _ if head.starts_with("GET /extends ") => {
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;")?;
            loop {
                wire.say(&"x".repeat(4_000))?;
            }
        }
        _ if head.starts_with("GET /trails ") => {
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")?;
            wire.say(&"x-much: y\r\n".repeat(1_000))?;
            wire.until_closed()
        }
        _ if head.starts_with("GET /upgrades ") => {
            wire.say(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            )?;
            wire.until_closed()
        }
        _ if head.starts_with("GET /for-ever ") => loop {
            wire.say("HTTP/1.1 100 Continue\r\n\r\n")?;
        },
        _ if head.starts_with("GET /breaks-off ") => {
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
            Err(wire.close())
        }
        _ if head.starts_with("GET /breaks-off-in-chunks ") => {
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
            Err(wire.close())
        }
        _ => wire.hello(),
    });
    for guest in BOTH_FAULTS {
        let flags = allow(&[&refused, &upstream.url(), "http://nothing.invalid"]);
        let host = TestHost::serve(guest, &flags);
        let at = |path: &str| format!("{}{path}", upstream.url());
        for (url, ends) in [
            (format!("{refused}/"), "error connection-refused\n"),
            ("http://nothing.invalid/".to_owned(), "error dns-error\n"),
            (at("/closes"), "error connection-terminated\n"),
            (at("/babbles"), "error http-protocol-error\n"),
            (at("/huge"), "error http-response-header-section-size\n"),
            (
                at("/many-fields"),
                "error http-response-header-section-size\n",
            ),
            (at("/extends"), "error http-protocol-error\n"),
            (at("/trails"), "error http-response-trailer-section-size\n"),
            (at("/upgrades"), "error http-upgrade-failed\n"),
            (at("/for-ever"), "error http-protocol-error\n"),
            (at("/breaks-off"), "error http-response-incomplete\n"),
            (
                at("/breaks-off-in-chunks"),
                "error http-response-incomplete\n",
            ),
        ] {
            let reply = host.get(&format!("/fetch?url={url}"));
            let seen = reply.text();
            assert!(seen.ends_with(ends), "{guest} {url}: {seen}");
            assert_eq!(reply.status(), 200, "{guest} {url}");
            assert_eq!(host.access(&reply).label(), "", "{guest} {url}");
        }
        let seen = fetched(&host, &upstream.url(), "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
    }
}

#[test]
fn a_guests_own_timeouts_hold_if_they_are_shorter() {
    let upstream = Upstream::new(|head, wire| match head {
        _ if head.starts_with("GET /silent ") => wire.until_closed(),
        _ => {
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
            wire.until_closed()
        }
    });
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        let seen = fetched(&host, &upstream.url(), "/silent&first=100");
        assert_eq!(seen, "error http-response-timeout\n", "{guest}");
        let seen = fetched(&host, &upstream.url(), "/stalls&between=100");
        assert!(
            seen.ends_with("error connection-read-timeout\n"),
            "{guest}: {seen}"
        );
        eventually("the connections to be closed", || {
            (upstream.open() == 0).then_some(())
        });
    }
}

#[test]
fn a_destinations_timeouts_hold() {
    let upstream = Upstream::new(|head, wire| match head {
        _ if head.starts_with("GET /silent ") => wire.until_closed(),
        _ if head.starts_with("GET /stalls ") => {
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
            wire.until_closed()
        }
        _ => {
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            // Never silent for long, and never done.
            loop {
                wire.say("1\r\nx\r\n")?;
                wire.pause(Duration::from_millis(20))?;
            }
        }
    });
    for guest in BOTH_FAULTS {
        for (said, path, error) in [
            (
                "first_byte_timeout = \"100ms\"",
                "/silent",
                "http-response-timeout",
            ),
            (
                "total_timeout = \"300ms\"",
                "/drips",
                "http-response-timeout",
            ),
            (
                "between_bytes_timeout = \"100ms\"",
                "/stalls",
                "connection-read-timeout",
            ),
            // They are shorter than those of the guest, and hold.
            (
                "between_bytes_timeout = \"100ms\"",
                "/stalls&between=20000",
                "connection-read-timeout",
            ),
        ] {
            let directory = directory();
            let said = format!("allow = [{{ to = \"{}\", {said} }}]\n", upstream.url());
            let host = host_saying(&directory, guest, &said);
            let seen = fetched(&host, &upstream.url(), path);
            let error = format!("error {error}\n");
            assert!(seen.ends_with(&error), "{guest} {path}: {seen}");
        }
        // TLS that nobody answers is no connection.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://{}", silent.local_addr().expect("its address"));
        let host = TestHost::serve(guest, &allow(&[&url]));
        let seen = fetched(&host, &url, "/&connect=100");
        assert_eq!(seen, "error connection-timeout\n", "{guest}");
        drop(host);
        let directory = directory();
        let said = format!("allow = [{{ to = \"{url}\", connect_timeout = \"100ms\" }}]\n");
        let host = host_saying(&directory, guest, &said);
        for more in ["/", "/&connect=20000"] {
            let seen = fetched(&host, &url, more);
            assert_eq!(seen, "error connection-timeout\n", "{guest} {more}");
        }
    }
}

#[test]
fn a_trace_is_passed_on_unless_the_guest_says_its_own() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OWN: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    for guest in BOTH_FAULTS {
        let upstream = Upstream::hello();
        let flags = format!("{} --trusted-proxy 127.0.0.1", allow(&[&upstream.url()]));
        let host = TestHost::serve(guest, &flags);
        let get = |more: &str| {
            let url = upstream.url();
            host.send(format!(
                "GET /fetch?url={url}/{more} HTTP/1.1\r\nHost: a\r\ntraceparent: {TRACE}\r\ntracestate: a=b\r\n\r\n"
            ))
            .reply()
            .text();
            upstream.heads().pop().expect("a request")
        };
        let head = get("");
        assert!(
            head.contains(&format!("traceparent: {TRACE}\r\n")),
            "{guest}: {head}"
        );
        assert!(head.contains("tracestate: a=b\r\n"), "{guest}: {head}");
        let head = get(&format!("&header=traceparent:{OWN}"));
        assert!(
            head.contains(&format!("traceparent: {OWN}\r\n")),
            "{guest}: {head}"
        );
        assert!(!head.contains(TRACE), "{guest}: {head}");
        assert!(!head.contains("tracestate"), "{guest}: {head}");
    }
}

#[test]
fn tls_trusts_who_is_named_shows_what_is_asked_for_and_checks_the_name() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let own = authority.sign(&["localhost"]);
    let wrong = authority.sign(&["elsewhere.example"]);
    let client = authority.sign_subject(&[(rcgen::DnType::CommonName, "shop")]);
    let networks = "networks = [\"127.0.0.0/8\", \"::1\"]\n";
    for guest in BOTH_FAULTS {
        let directory = directory();
        fs::write(directory.path().join("ca.pem"), authority.pem()).expect("written");
        fs::write(directory.path().join("other.pem"), stranger.pem()).expect("written");
        client.write(directory.path(), "client");
        let plain = Upstream::tls(&own, None, |_, wire| wire.hello());
        let mutual = Upstream::tls(&own, Some(&authority), |_, wire| wire.hello());
        let misnamed = Upstream::tls(&wrong, None, |_, wire| wire.hello());
        let cert = "ca = \"ca.pem\", cert = \"client.pem\", key = \"client.key\"";
        for (upstream, said, starts) in [
            (&plain, "ca = \"ca.pem\"", "status 200\n"),
            (
                &plain,
                "ca = \"other.pem\"",
                "error tls-certificate-error\n",
            ),
            (
                &misnamed,
                "ca = \"ca.pem\"",
                "error tls-certificate-error\n",
            ),
            (&mutual, cert, "status 200\n"),
            // With TLS 1.3 it says so after the handshake, and its closing may overtake what it says.
            (&mutual, "ca = \"ca.pem\"", "error "),
        ] {
            let url = upstream.named("https");
            let said = format!("allow = [{{ to = \"{url}\", {said} }}]\n{networks}");
            let host = host_saying(&directory, guest, &said);
            let seen = fetched(&host, &url, "/");
            assert!(seen.starts_with(starts), "{guest} {said}: {seen}");
        }
        // Each destination of a handler has its own.
        let theirs = stranger.sign(&["localhost"]);
        let other = Upstream::tls(&theirs, None, |_, wire| wire.hello());
        let (url, other) = (mutual.named("https"), other.named("https"));
        let said = format!(
            "allow = [{{ to = \"{url}\", {cert} }}, {{ to = \"{other}\", ca = \"other.pem\" }}]\n{networks}"
        );
        let host = host_saying(&directory, guest, &said);
        for url in [&url, &other] {
            let seen = fetched(&host, url, "/");
            assert!(seen.starts_with("status 200\n"), "{guest} {url}: {seen}");
        }
        drop(host);
        // Whom the system trusts is not whom one destination trusts.
        let url = plain.named("https");
        let flags = format!(
            "{} --allow-network 127.0.0.0/8 --allow-network ::1",
            allow(&[&url])
        );
        let host = TestHost::serve(guest, &flags);
        let seen = fetched(&host, &url, "/");
        assert_eq!(seen, "error tls-certificate-error\n", "{guest}");
        drop(host);
        let ca = directory.path().join("ca.pem");
        let system = [("SSL_CERT_FILE", ca.to_str().expect("a path"))];
        let host = TestHost::serve_with(&system, &guest.path(), &flags);
        let seen = fetched(&host, &url, "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        // HTTP in the clear is no TLS.
        let clear = Upstream::hello();
        let url = clear.url().replace("http:", "https:");
        let host = TestHost::serve(guest, &allow(&[&url]));
        let seen = fetched(&host, &url, "/&connect=1000");
        assert!(
            seen == "error tls-protocol-error\n" || seen == "error connection-timeout\n",
            "{guest}: {seen}"
        );
    }
}

#[test]
fn a_client_that_leaves_cancels_the_request() {
    for guest in BOTH_FAULTS {
        let upstream = Upstream::new(|_, wire| wire.until_closed());
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        let target = format!("/fetch?url={}/", upstream.url());
        let client = host.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        eventually("the request to arrive", || {
            (upstream.heads().len() == 1).then_some(())
        });
        drop(client);
        eventually("the connection to be closed", || {
            (upstream.open() == 0).then_some(())
        });
    }
}

#[test]
fn connections_and_requests_have_ceilings() {
    for guest in BOTH_FAULTS {
        let directory = directory();
        let upstream = Upstream::new(|_, wire| {
            wire.pause(Duration::from_millis(20))?;
            wire.hello()
        });
        let url = upstream.url();
        for said in [
            format!("allow = [\"{url}\"]\nmax_connections = 2\n"),
            format!("allow = [{{ to = \"{url}\", max_connections = 2 }}]\n"),
        ] {
            let host = host_saying(&directory, guest, &said);
            let target = format!("/fetch?url={url}/");
            let mut clients: Vec<_> = (0..10)
                .map(|_| host.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")))
                .collect();
            for client in &mut clients {
                let seen = client.reply().text();
                assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
            }
            drop(host);
            eventually("the connections to be closed", || {
                (upstream.open() == 0).then_some(())
            });
            let most = upstream.most_open();
            assert!(most <= 2, "{guest} {said}: {most}");
        }

        // One of a handler's two requests waits for the other, wherever they go, and one of a host and port for its like.
        let (silent, fine) = (
            Upstream::new(|_, wire| wire.until_closed()),
            Upstream::hello(),
        );
        let (url, other) = (silent.url(), fine.url());
        let waits = "connect_timeout = \"100ms\"";
        for (said, is_others_too) in [
            (
                format!(
                    "allow = [{{ to = \"{url}\", max_concurrent_requests = 1, {waits} }}, \"{other}\"]\n"
                ),
                false,
            ),
            (
                format!(
                    "allow = [{{ to = \"{url}\", {waits} }}, {{ to = \"{other}\", {waits} }}]\nmax_concurrent_requests = 1\n"
                ),
                true,
            ),
        ] {
            let host = host_saying(&directory, guest, &said);
            let before = silent.heads().len();
            let target = format!("/fetch?url={url}/");
            let first = host.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            eventually("the first to arrive", || {
                (silent.heads().len() > before).then_some(())
            });
            let limit = "error connection-limit-reached\n";
            assert_eq!(host.get(&target).text(), limit, "{guest} {said}");
            let seen = fetched(&host, &other, "/");
            assert_eq!(seen == limit, is_others_too, "{guest} {said}: {seen}");
            drop(first);
        }
    }
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let upstream = Upstream::new(|head, wire| {
        let head = head.to_ascii_lowercase();
        if head.contains("transfer-encoding: chunked") {
            wire.chunked()?;
        }
        wire.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")?;
        for _ in 0..100 {
            wire.write_all(format!("1000\r\n{}\r\n", "z".repeat(4096)).as_bytes())?;
        }
        wire.say("0\r\nx-sum: 42\r\n\r\n")
    });
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        let seen = fetched(&host, &upstream.url(), "/&method=POST&body=1000000");
        assert!(
            seen.ends_with("body 409600\ntrailer x-sum: 42\n"),
            "{guest}: {seen}"
        );
        assert!(!seen.contains("transfer-encoding"), "{guest}: {seen}");
    }
}

#[test]
fn http2_is_spoken_over_tls_and_in_the_clear_where_that_is_said() {
    let place = directory();
    let authority = Authority::new("ours");
    let (cert, key) = authority.sign(&["localhost"]).write(place.path(), "own");
    // Other hosts are the servers: they speak both.
    let clear = TestHost::serve(FAULTS, "");
    let tls = format!("{} {}", flag("--tls-cert", &cert), flag("--tls-key", &key));
    let tls = TestHost::serve(FAULTS, &tls);
    for guest in BOTH_FAULTS {
        for (server, url, how) in [
            (&clear, format!("http://{}", clear.address), "http2 = true"),
            (
                &tls,
                format!("https://localhost:{}", tls.address.port()),
                "ca = \"ca.pem\"",
            ),
        ] {
            let directory = directory();
            fs::write(directory.path().join("ca.pem"), authority.pem()).expect("written");
            let said = format!(
                "allow = [{{ to = \"{url}\", {how} }}]\nnetworks = [\"127.0.0.0/8\", \"::1\"]\n"
            );
            let host = host_saying(&directory, guest, &said);
            for _ in 0..3 {
                let seen = fetched(&host, &url, "/trailers");
                assert!(seen.starts_with("status 200\n"), "{guest} {how}: {seen}");
                assert!(
                    seen.contains("trailer x-checksum: "),
                    "{guest} {how}: {seen}"
                );
            }
            let first = server.access_to("/trailers");
            let version = first.text("network.protocol.version");
            assert_eq!(version, "2.0", "{guest} {how}");
            let seen = fetched(&host, &url, "/sleep&first=20");
            assert_eq!(seen, "error http-response-timeout\n", "{guest} {how}");
        }
    }
}

#[test]
fn a_connection_of_http2_that_has_answered_nothing_gets_no_further_request() {
    for guest in BOTH_FAULTS {
        let counts: Arc<[AtomicUsize; 2]> = Arc::default();
        let counted = Arc::clone(&counts);
        // The first request of a connection is never answered, and the others are.
        let upstream = Upstream::new(move |_, wire| {
            let [requests, resets] = &*counted;
            wire.begin_h2(&[])?;
            loop {
                let frame = wire.frame()?;
                if frame.kind == frames::HEADERS {
                    requests.fetch_add(1, Ordering::AcqRel);
                    if frame.stream > 1 {
                        wire.say_200(frame.stream)?;
                    }
                } else if frame.kind == frames::RST_STREAM {
                    resets.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        let [requests, resets] = &*counts;
        let url = upstream.url();
        let directory = directory();
        let said = format!("allow = [{{ to = \"{url}\", http2 = true }}]\n");
        let host = host_saying(&directory, guest, &said);
        let ask_in_vain = || {
            let before = requests.load(Ordering::Acquire);
            let client = host.send(format!("GET /fetch?url={url}/ HTTP/1.1\r\nHost: a\r\n\r\n"));
            eventually("the request to arrive", || {
                (requests.load(Ordering::Acquire) > before).then_some(())
            });
            client
        };
        drop(ask_in_vain());
        eventually("the connection to be closed", || {
            (upstream.open() == 0).then_some(())
        });

        let client = ask_in_vain();
        let before = resets.load(Ordering::Acquire);
        let seen = fetched(&host, &url, "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        drop(client);
        eventually("the stream to be reset", || {
            (resets.load(Ordering::Acquire) > before).then_some(())
        });
        // It answers others, so it stays.
        let seen = fetched(&host, &url, "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        assert_eq!(upstream.connections(), 2, "{guest}");
    }
}

#[test]
fn a_server_that_plays_with_http2_costs_its_own_connection_and_no_other_request() {
    type Play = fn(&mut Wire) -> io::Result<()>;
    let plays: [(&str, &str, &str, Play); 9] = [
        ("PING", "", "http-protocol-error", |wire| {
            wire.begin_h2(&[])?;
            wire.request()?;
            wire.flood(&frames::frame(frames::PING, 0, 0, b"12345678"))
        }),
        ("SETTINGS", "", "http-protocol-error", |wire| {
            wire.begin_h2(&[])?;
            wire.request()?;
            wire.flood(&frames::frame(frames::SETTINGS, 0, 0, b""))
        }),
        ("empty DATA", "", "http-protocol-error", |wire| {
            wire.begin_h2(&[])?;
            let stream = wire.request()?;
            let end = frames::END_HEADERS;
            wire.say_frame(frames::HEADERS, end, stream, frames::STATUS_200)?;
            wire.flood(&frames::frame(frames::DATA, 0, stream, b""))
        }),
        ("RST_STREAM", "", "connection-terminated", |wire| {
            wire.begin_h2(&[])?;
            let stream = wire.request()?;
            // INTERNAL_ERROR, and once more for ever.
            wire.flood(&frames::frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 2]))
        }),
        ("GOAWAY", "", "connection-terminated", |wire| {
            wire.begin_h2(&[])?;
            wire.say_frame(frames::GOAWAY, 0, 0, &[0; 8])?;
            wire.until_closed()
        }),
        (
            "no streams",
            "&first=200",
            "http-response-timeout",
            |wire| {
                wire.begin_h2(&[0, 3, 0, 0, 0, 0])?;
                wire.until_closed()
            },
        ),
        (
            "no window",
            "&method=POST&body=10&first=200",
            "http-response-timeout",
            |wire| {
                wire.begin_h2(&[0, 4, 0, 0, 0, 0])?;
                wire.until_closed()
            },
        ),
        ("a head that unfolds", "", "http-protocol-error", |wire| {
            wire.begin_h2(&[])?;
            let stream = wire.request()?;
            // A field of 4,000 bytes is written once and then named a hundred times (RFC 7541, 6.1 and 6.2.1).
            let mut head = frames::STATUS_200.to_vec();
            head.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
            head.extend([b'y'; 4_000]);
            head.extend([0xbe; 100]);
            let flags = frames::END_HEADERS | frames::END_STREAM;
            wire.say_frame(frames::HEADERS, flags, stream, &head)?;
            wire.until_closed()
        }),
        ("no frames", "", "http-protocol-error", |wire| {
            wire.begin_h2(&[])?;
            wire.request()?;
            wire.say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
            wire.until_closed()
        }),
    ];
    let fine = Upstream::hello();
    for (what, more, error, play) in plays {
        for guest in BOTH_FAULTS {
            let upstream = Upstream::new(move |_, wire| play(wire));
            let (url, directory) = (upstream.url(), directory());
            let said = format!(
                "allow = [\"{}\", {{ to = \"{url}\", http2 = true }}]\n",
                fine.url()
            );
            let host = host_saying(&directory, guest, &said);
            let seen = fetched(&host, &url, &format!("/{more}"));
            let error = format!("error {error}\n");
            assert!(seen.ends_with(&error), "{guest} {what}: {seen}");
            let seen = fetched(&host, &fine.url(), "/");
            assert!(seen.starts_with("status 200\n"), "{guest} {what}: {seen}");
            // One that was quiet afterwards may have been kept.
            if what != "a head that unfolds" {
                eventually(&format!("the connection to be closed: {what}"), || {
                    (upstream.open() == 0).then_some(())
                });
            }
        }
    }
}

#[test]
fn what_follows_a_response_is_no_answer_to_the_next_request() {
    let upstream = Upstream::new(|head, wire| match head {
        _ if head.starts_with("GET /long ") => {
            let length = |length| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            wire.say(&format!("{}hello{}not asked", length(5), length(9)))
        }
        _ => wire.hello(),
    });
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
        for _ in 0..10 {
            for (path, ends) in [("/long", "body 5\n"), ("/", "body 6\n")] {
                let seen = fetched(&host, &upstream.url(), path);
                assert!(seen.ends_with(ends), "{guest} {path}: {seen}");
            }
        }
    }
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection_that_it_comes_on() {
    const STRAY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot asked";
    // Whole, in part, and what is no answer.
    for stray in [STRAY, &STRAY[..20], "x"] {
        for guest in BOTH_FAULTS {
            let upstream = Upstream::new(move |_, wire| {
                wire.hello()?;
                // The connection waits for its next request by then.
                wire.pause(Duration::from_millis(20))?;
                wire.say(stray)?;
                wire.until_closed()
            });
            let host = TestHost::serve(guest, &allow(&[&upstream.url()]));
            for nth in 1..=3 {
                let seen = fetched(&host, &upstream.url(), "/");
                assert!(seen.ends_with("body 6\n"), "{guest} {stray:?}: {seen}");
                eventually("the connection to be closed", || {
                    (upstream.open() == 0).then_some(())
                });
                assert_eq!(upstream.connections(), nth, "{guest} {stray:?}");
            }
        }
    }
}

#[test]
fn of_hundreds_of_requests_at_once_an_instance_has_as_many_as_it_may() {
    let upstream = Upstream::hello();
    let bodiless = Upstream::new(|_, wire| wire.say("HTTP/1.1 204 No Content\r\n\r\n"));
    for guest in BOTH_FAULTS {
        let allowed = allow(&[&upstream.url(), &bodiless.url()]);
        let flags = format!("--cpu 20s --timeout 60s {allowed}");
        let host = TestHost::serve(guest, &flags);
        let target = format!("/fetch-at-once?n=900&url={}/", upstream.url());
        let seen = host.get(&target).text();
        let expected = "64 answered\n836 connection-limit-reached\n";
        assert_eq!(seen, expected, "{guest}");
        let seen = fetched(&host, &upstream.url(), "/");
        assert!(seen.starts_with("status 200\n"), "{guest}: {seen}");
        // One that has come is one until the guest is done with it: its head is still there.
        let bare = format!("/fetch-at-once?n=900&url={}/", bodiless.url());
        assert_eq!(host.get(&bare).text(), expected, "{guest}");
        drop(host);
        // What the host holds for them is the guest's.
        let host = TestHost::serve(guest, &format!("{flags} --memory 16MiB"));
        let reply = host.get(&target);
        assert_eq!(reply.status(), 500, "{guest}");
        assert_eq!(host.access(&reply).label(), "memory-limit", "{guest}");
    }
}

#[test]
fn requests_are_counted_by_what_came_of_them() {
    let upstream = Upstream::hello();
    for guest in BOTH_FAULTS {
        let office = Office::new();
        let flags = format!("{} {}", allow(&[&upstream.url()]), office.flags());
        let host = TestHost::serve(guest, &flags);
        let operator = Operator::of(&host);
        fetched(&host, &upstream.url(), "/");
        fetched(&host, &upstream.url(), "/");
        fetched(&host, "http://127.0.0.1:1", "/");
        let metrics = operator.metrics();
        for (error, count) in [("", 2.0), ("HTTP-request-denied", 1.0)] {
            let labels = [("host_kind", "http"), ("error_type", error)];
            let counted = metrics.sum("host_outbound_requests_total", &labels);
            assert_eq!(counted, count, "{guest} {error}");
        }
    }
}

#[test]
fn flags_and_manifests_say_the_same_and_a_pattern_for_all_needs_its_word() {
    for (flags, told) in [
        ("--allow-outbound *", "write `everywhere` if that is meant"),
        (
            "--allow-outbound api.example.com",
            "`https://api.example.com`",
        ),
        ("--allow-network 0.0.0.0/0", "write those that are meant"),
        (
            "--allow-outbound everywhere --allow-network 0.0.0.0/1 --allow-network 128.0.0.0/1",
            "none wider than `/8`, or `/7` of IPv6",
        ),
        ("--allow-network ::/1", "write those that are meant"),
        (
            "--allow-network 10.0.0.0/8 --allow-socket tcp://10.0.0.1:80",
            "add one, such as `--allow-outbound https://api.example.com`",
        ),
    ] {
        let ended = host(&format!("serve {} {flags}", HELLO.path().display()));
        assert_eq!(ended.code, Some(2), "{flags}");
        let said = ended.stderr_text();
        assert!(said.contains(told), "{flags}: {said}");
    }
    // Beside a component in a directory it is a table of its own, to which flags add.
    let upstream = Upstream::hello();
    let url = upstream.named("http");
    let directory = directory();
    let here = directory.path();
    fs::copy(FAULTS.path(), here.join("faults.wasm")).expect("copied");
    let manifest = format!("routes = [\"/*\"]\n[outbound]\nallow = [\"{url}\"]\n");
    fs::write(here.join("faults.toml"), manifest).expect("written");
    let flags = "--allow-network 127.0.0.0/8 --allow-network ::1";
    let host = TestHost::serve_file(here, flags);
    let seen = fetched(&host, &url, "/");
    assert!(seen.starts_with("status 200\n"), "{seen}");
}

#[test]
fn a_handler_that_was_sent_reaches_nothing_that_the_host_does_not_grant() {
    let upstream = Upstream::hello();
    let place = directory();
    let (socket, state) = (place.path().join("admin.sock"), place.path().join("state"));
    let flags = format!("{} {}", flag("--admin", &socket), flag("--state", &state));
    let host = TestHost::serve_nothing(&flags);
    let words = format!("deploy {}", FAULTS.path().display());
    let deployed = host_with_env(&words, &[("HOST_ADMIN", socket.to_str().expect("a path"))]);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let seen = host
        .get(&format!("/faults/fetch?url={}/", upstream.url()))
        .text();
    assert_eq!(seen, "error http-request-denied\n");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn fetch_hands_on_what_streams_and_keeps_what_it_may() {
    for guest in BOTH_FETCHES {
        let upstream = Upstream::new(|head, wire| {
            let may_keep = |who: &str, text: &str| {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncache-control: {who}, max-age=60\r\n\r\n{text}"
                )
            };
            match head {
                _ if head.starts_with("GET /kept ") => wire.say(&may_keep("public", "kept\n")),
                _ if head.starts_with("GET /private ") => wire.say(&may_keep("private", "mine\n")),
                // What came after the head, byte by byte.
                _ if head.starts_with("POST /trailers ") => {
                    let came = wire.chunked()?;
                    let length = came.len();
                    wire.say(&format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{came}"
                    ))
                }
                _ if head.starts_with("POST ") => {
                    // As it was declared to the host.
                    assert!(head.contains("content-length: 100000\r\n"), "{head}");
                    wire.read_exact(&mut [0; 100_000])?;
                    wire.say("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
                }
                _ => Err(wire.close()),
            }
        });
        let flags = format!(
            "--env UPSTREAM={} {} --max-instance-reuse-count 100 --idle-instance-timeout 1m --max-concurrent-requests 1",
            upstream.url(),
            allow(&[&upstream.url()])
        );
        let host = TestHost::serve(guest, &flags);
        for how in ["miss", "hit", "hit"] {
            let reply = host.get("/kept");
            let seen = (reply.status(), reply.text());
            assert_eq!(seen, (200, "kept\n".to_owned()), "{guest}");
            assert_eq!(reply.header("x-cache"), Some(how), "{guest}");
        }
        for _ in 0..2 {
            let reply = host.get("/private");
            assert_eq!(reply.text(), "mine\n", "{guest}");
            assert_eq!(reply.header("x-cache"), None, "{guest}");
        }
        assert_eq!(upstream.heads().len(), 3, "{guest}");
        let reply = host.connect().post("/new", vec![b'x'; 100_000]);
        assert_eq!(reply.status(), 201, "{guest}");
        let request = "POST /trailers HTTP/1.1\r\nHost: a\r\nTrailer: x-sum, x-more\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: two\r\n\r\n";
        assert_eq!(
            host.send(request).reply().text(),
            "5\r\nhello\r\n0\r\nx-sum: 1\r\nx-more: two\r\n\r\n",
            "{guest}"
        );
        // What goes wrong behind it is the host's to say.
        let reply = host.get("/gone");
        assert_eq!(reply.status(), 502, "{guest}");
        let label = "guest-error:connection-terminated";
        assert_eq!(host.access(&reply).label(), label, "{guest}");
    }
}

#[test]
fn what_a_client_does_not_read_is_not_fetched_and_what_it_sends_is_not_kept() {
    for guest in BOTH_FETCHES {
        let written = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let upstream = Upstream::new(move |head, wire| {
            if head.starts_with("PUT ") {
                let mut body = io::Read::by_ref(wire).take(80_000_000);
                assert_eq!(io::copy(&mut body, &mut io::sink())?, 80_000_000);
                return wire.say("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
            }
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            let chunk = format!("10000\r\n{}\r\n", "z".repeat(65_536));
            loop {
                wire.write_all(chunk.as_bytes())?;
                counted.fetch_add(chunk.len(), Ordering::AcqRel);
            }
        });
        let flags = format!(
            "--env UPSTREAM={} {} --max-body 1GiB --cpu 60s",
            upstream.url(),
            allow(&[&upstream.url()])
        );
        let host = TestHost::serve(guest, &flags);
        let before = host.memory();
        let mut client = host.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status, 200, "{guest}");
        assert!(client.chunk().is_some(), "{guest}");
        let mut last = usize::MAX;
        let held = eventually("that no more comes", || {
            let now = written.load(Ordering::Acquire);
            (std::mem::replace(&mut last, now) == now).then_some(now)
        });
        assert!(held < 64 << 20, "{guest}: {held}");
        drop(client);
        eventually("the connection to be closed", || {
            (upstream.open() == 0).then_some(())
        });
        let mut client =
            host.send("PUT /large HTTP/1.1\r\nHost: a\r\nContent-Length: 80000000\r\n\r\n");
        for _ in 0..80 {
            client.send(vec![b'x'; 1_000_000]);
        }
        assert_eq!(client.reply().status(), 201, "{guest}");
        let grown = host.memory().saturating_sub(before);
        assert!(grown < 50 << 20, "{guest}: {grown}");
    }
}
