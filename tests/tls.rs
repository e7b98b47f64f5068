//! HTTPS: which certificate, which protocol, who is let in, and what changes while it is served.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::Version;
use rcgen::DnType;
use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use crate::support::guests::ECHO;
use crate::support::host::address_in;
use crate::support::operator::{Office, Operator};
use crate::support::program;
use crate::support::*;

/// A host for `localhost`, and what signed its certificate.
struct Secure {
    host: TestHost,
    authority: Authority,
    here: TempDir,
}

impl Secure {
    fn serve(guest: Guest, flags: &str) -> Self {
        let here = directory();
        let authority = Authority::new("a test");
        let (cert, key) = authority.sign(&["localhost"]).write(here.path(), "cert");
        let flags = format!(
            "{} {} {flags}",
            flag("--tls-cert", &cert),
            flag("--tls-key", &key)
        );
        Self {
            host: TestHost::serve(guest, &flags),
            authority,
            here,
        }
    }

    fn client(&self) -> TlsClient {
        TlsClient::trusting(&self.authority)
    }
}

fn der(signed: &Signed) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(signed.cert.as_bytes()).expect("PEM")
}

#[test]
fn https_is_http_1_1_or_2_as_the_client_wishes() {
    for guest in BOTH_FAULTS {
        let secure = Secure::serve(guest, "");
        let address = secure.host.address;
        assert_eq!(secure.host.places(1), [format!("https://{address}/")]);

        let mut one = secure.client().connect(&secure.host, "localhost");
        assert_eq!(one.protocol.as_deref(), Some(&b"http/1.1"[..]));
        for _ in 0..2 {
            let reply = one.connection.get("/request");
            let seen = reply.text();
            assert!(seen.contains("scheme: https\n"), "{guest}: {seen}");
            assert_eq!(secure.host.access(&reply).text("url.scheme"), "https");
        }

        let client = secure.client().speaking(&["h2", "http/1.1"]);
        let mut two = H2::to_tls(address, &client, "localhost");
        let reply = two.get("/request");
        assert_eq!(reply.head.version, Version::HTTP_2, "{guest}");
        let seen = reply.text();
        assert!(seen.contains("scheme: https\n"), "{guest}: {seen}");

        // Without ALPN it is HTTP/1.1.
        let client = secure.client().speaking(&[]);
        let mut neither = client.connect(&secure.host, "localhost");
        assert_eq!(neither.protocol, None);
        assert_eq!(neither.connection.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn a_client_that_knows_neither_protocol_is_refused() {
    let secure = Secure::serve(FAULTS, "");
    let client = secure.client().speaking(&["spdy/3"]);
    let refused = client.try_connect(secure.host.address, "localhost");
    assert!(refused.is_err());
}

#[test]
fn both_versions_of_tls_are_spoken_and_sessions_are_taken_up() {
    let secure = Secure::serve(FAULTS, "");
    for (version, spoken) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let client = TlsClient::of_versions(&secure.authority, &[version]);
        for nth in 0..3 {
            let mut shaken = client.connect(&secure.host, "localhost");
            assert_eq!(shaken.version, spoken);
            assert_eq!(shaken.is_resumed, nth > 0, "{spoken:?} {nth}");
            assert_eq!(shaken.connection.get("/ok").text(), "ok\n");
        }
    }
}

#[test]
fn large_bodies_go_both_ways() {
    let secure = Secure::serve(ECHO, "");
    let mut shaken = secure.client().connect(&secure.host, "localhost");
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    // The guest echoes as it reads: what is sent fits into what the ways hold, or is read meanwhile.
    for piece in sent.chunks(100_000) {
        let reply = shaken.connection.post("/", piece);
        assert!(reply.is_complete && reply.body == piece);
    }
    let client = secure.client().speaking(&["h2"]);
    let mut two = H2::to_tls(secure.host.address, &client, "localhost");
    let request = http::Request::post("https://localhost/").body(());
    let body: &'static [u8] = Vec::leak(body);
    let reply = two.exchange(request.expect("a request"), &body[..60_000], None);
    assert_eq!(reply.body, &body[..60_000]);
    let secure = Secure::serve(FAULTS, "");
    let mut shaken = secure.client().connect(&secure.host, "localhost");
    let reply = shaken.connection.get("/bytes?n=20000000");
    assert!(reply.is_complete);
    assert_eq!(reply.body.len(), 20_000_000);
}

#[test]
fn a_clean_end_is_said_and_one_that_breaks_off_is_not() {
    for guest in BOTH_FAULTS {
        let secure = Secure::serve(guest, "");
        for (request, is_clean) in [
            (
                "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                true,
            ),
            // The end of the connection is the end of the body.
            ("GET /drip?n=3&ms=1 HTTP/1.0\r\n\r\n", true),
            ("nonsense\r\n\r\n", true),
            ("GET /trap-mid-body HTTP/1.1\r\nHost: a\r\n\r\n", false),
            (
                "GET /length-short HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                false,
            ),
            ("GET /trap-mid-body HTTP/1.0\r\n\r\n", false),
        ] {
            let mut shaken = secure.client().connect(&secure.host, "localhost");
            shaken.connection.send(request);
            let end = shaken.connection.end();
            if request.contains("length-short")
                && end.as_ref().is_ok_and(|it| it.starts_with(b"HTTP/1.1 500"))
            {
                continue;
            }
            assert_eq!(end.is_ok(), is_clean, "{guest} {request:?}: {end:?}");
        }
    }
}

#[test]
fn an_idle_connection_is_closed_with_an_end_that_is_said() {
    let secure = Secure::serve(FAULTS, "--idle-timeout 500ms --first-byte-timeout 500ms");
    for sends in [true, false] {
        let mut shaken = secure.client().connect(&secure.host, "localhost");
        if sends {
            assert_eq!(shaken.connection.get("/ok").text(), "ok\n");
        }
        assert_eq!(shaken.connection.end().expect("a clean end"), b"");
    }
    let client = secure.client().speaking(&["h2"]);
    let mut two = H2::to_tls(secure.host.address, &client, "localhost");
    assert_eq!(two.get("/ok").text(), "ok\n");
    // Without one it were an error.
    two.ended().expect("a clean end");
}

#[test]
fn what_leaves_over_tls_cancels_its_guest() {
    for guest in BOTH_FAULTS {
        let office = Office::new();
        let secure = Secure::serve(guest, &office.flags());
        let operator = Operator::of(&secure.host);
        let mut shaken = secure.client().connect(&secure.host, "localhost");
        shaken
            .connection
            .send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the handler to be asked", || {
            let active = operator.metrics().sum("http_server_active_requests", &[]);
            (active == 1.0).then_some(())
        });
        drop(shaken);
        let line = secure.host.access_to("/never");
        assert_eq!(
            (line.status(), line.label()),
            (499, "client-left"),
            "{guest}"
        );
    }
}

impl TestHost {
    /// A second request is answered, so the first was read.
    fn assert_is_asked(&self, client: &TlsClient) {
        let mut shaken = client.connect(self, "localhost");
        assert_eq!(shaken.connection.get("/ok").text(), "ok\n");
    }
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    let secure = Secure::serve(FAULTS, "--write-timeout 300ms");
    let mut shaken = secure.client().connect(&secure.host, "localhost");
    let request = "GET /bytes?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n";
    shaken.connection.send(request);
    let line = secure.host.access_to("/bytes");
    assert_eq!(line.label(), "slow-client,after-headers", "{line:?}");
}

#[test]
fn a_handshake_that_does_not_go_on_is_cut_in_time_and_keeps_nobody() {
    let secure = Secure::serve(FAULTS, "--handshake-timeout 2s");
    let hello = client_hello(&secure);
    let mut silent: Vec<_> = (0..50)
        .map(|nth| {
            let mut stream = TcpStream::connect(secure.host.address).expect("connected");
            // Nothing, a byte, half a greeting.
            let sent = [0, 1, hello.len() / 2][nth % 3];
            stream.write_all(&hello[..sent]).expect("sent");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream
        })
        .collect();
    let started = Instant::now();
    secure.host.assert_is_asked(&secure.client());
    assert!(started.elapsed() < Duration::from_millis(1500), "it waited");
    for stream in &mut silent {
        let mut rest = Vec::new();
        // A reset, if it was closed before it had read.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn no_greeting_however_wrong_harms_the_others() {
    let secure = Secure::serve(FAULTS, "--handshake-timeout 5s");
    let mut kept = secure.client().connect(&secure.host, "localhost");
    let hello = client_hello(&secure);
    let cut = (1..hello.len()).step_by(11).map(|at| hello[..at].to_vec());
    let wrong = (0..hello.len()).step_by(7).map(|at| {
        let mut wrong = hello.clone();
        wrong[at] ^= 0xff;
        wrong
    });
    let more = [hello.repeat(3), [&hello[..], &[0x17; 5000]].concat()];
    for greeting in cut.chain(wrong).chain(more) {
        let mut connection = secure.host.send(&greeting);
        connection.finish_sending();
        // Whatever it says, it ends.
        let _ = connection.end();
    }
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");
    secure.host.assert_is_asked(&secure.client());
    let panicked = |line: &String| line.contains("panicked");
    assert!(!secure.host.stderr().iter().any(panicked));
}

/// The first bytes of a client.
fn client_hello(secure: &Secure) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut client =
        rustls::ClientConnection::new(secure.client().config(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written");
    hello
}

#[test]
fn http_in_the_clear_is_told_where_it_has_come() {
    let secure = Secure::serve(FAULTS, "");
    let reply = secure.host.get("/ok");
    assert_eq!(reply.status(), 400);
    assert!(reply.text().contains("HTTPS"), "{}", reply.text());
    let mut garbage = secure.host.send([0; 100]);
    let _ = garbage.end();
    secure.host.assert_is_asked(&secure.client());
}

#[test]
fn the_drain_waits_for_a_request_over_tls_and_for_no_handshake() {
    let secure = Secure::serve(FAULTS, "");
    let _silent = secure.host.connect();
    let mut idle = secure.client().connect(&secure.host, "localhost");
    assert_eq!(idle.connection.get("/ok").text(), "ok\n");
    let mut busy = secure.client().connect(&secure.host, "localhost");
    busy.connection
        .send("GET /sleep?ms=500 HTTP/1.1\r\nHost: a\r\n\r\n");
    secure.host.assert_is_asked(&secure.client());
    let stopped = Instant::now();
    secure.host.signal(rustix::process::Signal::TERM);
    assert_eq!(idle.connection.end().expect("a clean end"), b"");
    assert_eq!(busy.connection.reply().text(), "slept\n");
    assert_eq!(secure.host.ended().code, Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5));
}

/// Writes a file for a host with one handler and these listeners, and serves it.
fn serve_file(here: &Path, guest: Guest, listeners: &str) -> TestHost {
    TestHost::serve_file(&write_file(here, guest, listeners), "")
}

fn write_file(here: &Path, guest: Guest, listeners: &str) -> PathBuf {
    let file = here.join("host.toml");
    let source = guest.path();
    let text = format!(
        "{listeners}\n[listen]\naccess_log = \"json\"\n[handlers.all]\nsource = {source:?}\nroutes = [\"/*\"]\n"
    );
    std::fs::write(&file, text).expect("written");
    file
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_is_for_all_others() {
    let here = directory();
    let authority = Authority::new("a test");
    let all = [
        ("first", authority.sign(&["first.example"])),
        ("shop", authority.sign(&["shop.example", "*.shop.example"])),
        ("one", authority.sign(&["one.shop.example"])),
    ];
    for (name, signed) in &all {
        signed.write(here.path(), name);
    }
    let host = serve_file(
        here.path(),
        FAULTS,
        "[listeners.web]
        address = \"127.0.0.1:0\"
        tls.certificates = [
            { cert = \"first.pem\", key = \"first.key\" },
            { cert = \"shop.pem\", key = \"shop.key\" },
            { cert = \"one.pem\", key = \"one.key\" },
        ]",
    );
    let client = TlsClient::trusting(&authority);
    for (asked, shown) in [
        ("first.example", 0),
        ("shop.example", 1),
        ("SHOP.example", 1),
        ("two.shop.example", 1),
        ("one.shop.example", 2),
    ] {
        let mut shaken = client.connect(&host, asked);
        assert_eq!(shaken.certificate, der(&all[shown].1), "{asked}");
        assert_eq!(shaken.connection.get("/ok").text(), "ok\n");
    }
    // Whose name nobody has is shown the first, and refuses it; so is who asks for none, by its address.
    for asked in ["other.example", "deep.two.shop.example", "127.0.0.1"] {
        let refused = client
            .try_connect(host.address, asked)
            .err()
            .expect("refused");
        assert!(
            refused.to_string().contains("first.example"),
            "{asked}: {refused}"
        );
    }
}

#[test]
fn a_new_certificate_is_taken_up_and_no_connection_is_dropped() {
    let secure = Secure::serve(FAULTS, "");
    let client = || secure.client();
    let mut kept = client().connect(&secure.host, "localhost");
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");

    let renewed = secure.authority.sign(&["localhost"]);
    renewed.write(secure.here.path(), "cert");
    eventually("the new certificate", || {
        let shaken = client().connect(&secure.host, "localhost");
        (shaken.certificate == der(&renewed)).then_some(())
    });
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");

    // A bad one is told, and changes nothing.
    std::fs::write(secure.here.path().join("cert.pem"), "nonsense").expect("written");
    let told = secure.host.says("are not taken up");
    assert!(
        told.contains("cert.pem") && told.contains("no certificate"),
        "{told}"
    );
    let other = secure.authority.sign(&["localhost"]);
    std::fs::write(secure.here.path().join("cert.pem"), &other.cert).expect("written");
    secure.host.says("is not the key of the certificate");
    let shaken = client().connect(&secure.host, "localhost");
    assert_eq!(shaken.certificate, der(&renewed));
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");

    // And a good one after it.
    other.write(secure.here.path(), "cert");
    eventually("the good certificate", || {
        let shaken = client().connect(&secure.host, "localhost");
        (shaken.certificate == der(&other)).then_some(())
    });
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");
}

#[test]
fn certificates_that_a_file_names_anew_are_taken_up() {
    let here = directory();
    let authority = Authority::new("a test");
    let (one, two) = (
        authority.sign(&["one.example"]),
        authority.sign(&["two.example"]),
    );
    one.write(here.path(), "one");
    let listener = |certificates: &str, clients: &str| {
        format!(
            "[listeners.web]\naddress = \"127.0.0.1:0\"\n[listeners.web.tls]\ncertificates = [{certificates}]\n{clients}\n"
        )
    };
    let first = "{ cert = \"one.pem\", key = \"one.key\" }";
    let both = &format!("{first}, {{ cert = \"two.pem\", key = \"two.key\" }}");
    let host = serve_file(here.path(), FAULTS, &listener(first, ""));
    let client = TlsClient::trusting(&authority);
    let mut kept = client.connect(&host, "one.example");
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");

    // It is named before it is there: that is told, and what there was is shown on.
    write_file(here.path(), FAULTS, &listener(both, ""));
    host.says("two.pem` cannot be read");
    assert!(client.try_connect(host.address, "two.example").is_err());
    two.write(here.path(), "two");
    eventually("the new certificate", || {
        client.try_connect(host.address, "two.example").ok()
    });
    assert!(client.connect(&host, "one.example").is_resumed);

    // A session of who has shown nothing is worth nothing where something must be shown.
    std::fs::write(
        here.path().join("clients.pem"),
        Authority::new("of clients").pem(),
    )
    .expect("written");
    write_file(
        here.path(),
        FAULTS,
        &listener(both, "client_certificates = { ca = \"clients.pem\" }"),
    );
    let request = "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    eventually("a refusal", || {
        (!is_answered(&client, host.address, "one.example", request)).then_some(())
    });
    assert_eq!(kept.connection.get("/ok").text(), "ok\n");
}

#[test]
fn who_must_show_a_certificate_is_known_by_it() {
    let here = directory();
    let clients = Authority::new("of clients");
    let ca = here.path().join("clients.pem");
    std::fs::write(&ca, clients.pem()).expect("written");
    for guest in BOTH_FAULTS {
        let secure = Secure::serve(guest, &flag("--tls-client-ca", &ca));
        let ada = clients.sign_subject(&[
            (DnType::CountryName, "GB"),
            (DnType::OrganizationName, "Engines, Ltd"),
            (DnType::CommonName, "Ada Löve"),
        ]);
        let own = TlsClient::with_certificate(&secure.authority, &ada);
        for _ in 0..2 {
            // The second time with the ticket of the first.
            let mut shaken = own.connect(&secure.host, "localhost");
            shaken.connection.send(
                "GET /headers HTTP/1.1\r\nHost: a\r\nClient-Cert: :AAAA:\r\nX-Client-Cert-Subject: CN=root\r\n\
                 x_client_cert_subject: CN=root\r\nClient-Cert-Chain: :AAAA:\r\n\r\n",
            );
            let seen = shaken.connection.reply().text();
            let subject = "CN=Ada L\\C3\\B6ve,O=Engines\\, Ltd,C=GB";
            assert_eq!(header(&seen, "x-client-cert-subject"), [subject], "{guest}");
            let [told] = &*header(&seen, "client-cert") else {
                panic!("{guest}: {seen}");
            };
            let base64 = ada.cert.lines().filter(|line| !line.starts_with('-'));
            assert_eq!(
                *told,
                format!(":{}:", base64.collect::<String>()),
                "{guest}"
            );
            assert!(
                header(&seen, "client-cert-chain").is_empty(),
                "{guest}: {seen}"
            );
            assert!(
                header(&seen, "x_client_cert_subject").is_empty(),
                "{guest}: {seen}"
            );
        }

        let stranger = Authority::new("of strangers").sign_subject(&[(DnType::CommonName, "eve")]);
        let stranger = TlsClient::with_certificate(&secure.authority, &stranger);
        for refused in [secure.client(), stranger] {
            let address = secure.host.address;
            assert!(
                !is_answered(
                    &refused,
                    address,
                    "localhost",
                    "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
                ),
                "{guest}"
            );
        }
        assert!(secure.host.paths().iter().all(|path| path != "/ok"));
    }
}

/// With TLS 1.3 a client that is refused hears it when it reads.
fn is_answered(client: &TlsClient, address: SocketAddr, name: &str, request: &str) -> bool {
    let Ok(mut shaken) = client.try_connect(address, name) else {
        return false;
    };
    shaken.connection.try_send(request).is_ok()
        && shaken
            .connection
            .end()
            .is_ok_and(|answer| !answer.is_empty())
}

/// The values of a header that a guest has seen.
fn header(seen: &str, name: &str) -> Vec<String> {
    let lines = seen.lines().filter_map(|line| line.split_once('\t'));
    let values = lines.filter(|(it, _)| *it == name);
    values
        .map(|(_, hex)| {
            let bytes = hex.as_bytes().chunks(2);
            let bytes = bytes.map(|two| {
                let two = std::str::from_utf8(two).expect("hex");
                u8::from_str_radix(two, 16).expect("hex")
            });
            String::from_utf8(bytes.collect()).expect("text")
        })
        .collect()
}

#[test]
fn where_certificates_are_optional_only_wrong_ones_are_refused_and_nothing_is_believed_elsewhere() {
    let here = directory();
    let authority = Authority::new("a test");
    let clients = Authority::new("of clients");
    authority.sign(&["localhost"]).write(here.path(), "cert");
    std::fs::write(here.path().join("clients.pem"), clients.pem()).expect("written");
    let host = serve_file(
        here.path(),
        FAULTS,
        "[listeners.web]
        address = \"127.0.0.1:0\"
        [listeners.web.tls]
        certificates = [{ cert = \"cert.pem\", key = \"cert.key\" }]
        client_certificates = { ca = \"clients.pem\", required = false }
        [listeners.clear]
        address = \"[::1]:0\"",
    );
    let forged = "GET /headers HTTP/1.1\r\nHost: a\r\nClient-Cert: :AAAA:\r\nX-Client-Cert-Subject: CN=root\r\n\r\n";
    let known = clients.sign_subject(&[(DnType::CommonName, "ada")]);
    for (client, subjects) in [
        (
            TlsClient::with_certificate(&authority, &known),
            vec!["CN=ada"],
        ),
        (TlsClient::trusting(&authority), vec![]),
    ] {
        let mut shaken = client.connect(&host, "localhost");
        shaken.connection.send(forged);
        let seen = shaken.connection.reply().text();
        assert_eq!(header(&seen, "x-client-cert-subject"), subjects);
        assert_eq!(header(&seen, "client-cert").len(), subjects.len());
    }
    let stranger = Authority::new("of strangers").sign_subject(&[(DnType::CommonName, "eve")]);
    let stranger = TlsClient::with_certificate(&authority, &stranger);
    assert!(!is_answered(&stranger, host.address, "localhost", forged));

    let places = host.places(2);
    let clear = places
        .iter()
        .find(|it| it.starts_with("http://"))
        .expect("in the clear");
    let address = address_in(clear).expect("an address");
    let mut connection = Connection::to(address);
    connection.send(forged);
    let seen = connection.reply().text();
    assert!(header(&seen, "x-client-cert-subject").is_empty(), "{seen}");
    assert!(header(&seen, "client-cert").is_empty(), "{seen}");
}

#[test]
fn a_certificate_that_ends_soon_or_has_ended_is_told_of_at_the_start() {
    let here = directory();
    let authority = Authority::new("a test");
    let (cert, key) = authority
        .sign_until("localhost", 2001)
        .write(here.path(), "cert");
    let flags = format!("{} {}", flag("--tls-cert", &cert), flag("--tls-key", &key));
    let host = TestHost::serve(FAULTS, &flags);
    let told = host.says("has ended");
    assert!(
        told.contains("cert.pem") && told.contains("renew"),
        "{told}"
    );
    // It is served all the same: who has pinned it does not look at the date.
    let refused = TlsClient::trusting(&authority).try_connect(host.address, "localhost");
    assert!(
        refused
            .err()
            .expect("refused")
            .to_string()
            .contains("expired")
    );
}

#[test]
fn what_cannot_be_shown_to_clients_stops_the_start_with_what_to_do() {
    let here = directory();
    let authority = Authority::new("a test");
    let signed = authority.sign(&["localhost"]);
    let (cert, key) = signed.write(here.path(), "cert");
    let (_, other) = authority.sign(&["localhost"]).write(here.path(), "other");
    let nothing = here.path().join("nothing");
    let empty = here.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    for (cert, key, told) in [
        (&nothing, &key, "`{cert}` cannot be read"),
        (&cert, &nothing, "`{key}` cannot be read"),
        (&empty, &key, "`{cert}` holds no certificate"),
        (&cert, &empty, "`{key}` holds no private key"),
        (
            &cert,
            &other,
            "`{key}` is not the key of the certificate in `{cert}`",
        ),
    ] {
        let ended = host(&format!(
            "serve {} --addr 127.0.0.1:0 --cache {} {} {}",
            FAULTS.path().display(),
            cache().display(),
            flag("--tls-cert", cert),
            flag("--tls-key", key),
        ));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let told = told
            .replace("{cert}", &cert.display().to_string())
            .replace("{key}", &key.display().to_string());
        let said = ended.stderr_text();
        assert!(said.contains(&told), "{told}: {said}");
    }
    for (flags, told) in [
        ("--tls-cert a.pem", "--tls-key"),
        ("--tls-key a.key", "--tls-cert"),
        ("--tls-client-ca a.pem", "--tls-cert"),
    ] {
        let ended = host(&format!("serve guest.wasm {flags}"));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr_text().contains(told), "{ended:?}");
    }
}

#[test]
fn check_looks_at_the_certificates_that_a_file_names() {
    let here = directory();
    let file = here.path().join("host.toml");
    let text = "[listeners.web]\naddress = \":443\"\ntls = { certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }\n";
    std::fs::write(&file, text).expect("written");
    let ended = host(&format!("check {}", file.display()));
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.stderr_text().contains("a.pem` cannot be read"),
        "{ended:?}"
    );
    Authority::new("a test")
        .sign(&["a"])
        .write(here.path(), "a");
    let ended = host(&format!("check {}", file.display()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn dev_makes_a_certificate_and_keeps_it() {
    let here = directory();
    let start = || {
        let mut command = program::command();
        command.env("XDG_STATE_HOME", here.path());
        TestHost::dev_with(command, &FAULTS.path(), "--tls")
    };
    let host = start();
    let file = here.path().join("host/dev/localhost.pem");
    let told = host.says("Its certificate is");
    assert!(told.contains(&file.display().to_string()), "{told}");
    let made = std::fs::read_to_string(&file).expect("there");
    let client = TlsClient::trusting_only(&made);
    for name in ["localhost", "127.0.0.1"] {
        let mut shaken = client.connect(&host, name);
        assert_eq!(shaken.connection.get("/ok").text(), "ok\n");
    }
    let key = here.path().join("host/dev/localhost.key");
    let rights =
        std::os::unix::fs::PermissionsExt::mode(&key.metadata().expect("there").permissions());
    assert_eq!(rights & 0o077, 0, "it is nobody else's");
    drop(host);
    let _again = start();
    assert_eq!(std::fs::read_to_string(&file).expect("there"), made);
}

/// A host with an operator's door over TLS, and nothing else; the certificate is for `localhost`.
struct WithDoor {
    host: TestHost,
    here: TempDir,
    clients: Authority,
    /// `https://localhost:PORT`, and whom to trust there.
    knock: String,
}

impl WithDoor {
    fn open(flags: impl Fn(&Path) -> String) -> Self {
        let here = directory();
        let authority = Authority::new("a test");
        let clients = Authority::new("of operators");
        let (cert, key) = authority.sign(&["localhost"]).write(here.path(), "door");
        for (name, authority) in [("ca.pem", &authority), ("operators.pem", &clients)] {
            std::fs::write(here.path().join(name), authority.pem()).expect("written");
        }
        std::fs::write(
            here.path().join("token"),
            "0123456789abcdef0123456789abcdef",
        )
        .expect("written");
        let host = TestHost::serve_nothing(&format!(
            "--admin 127.0.0.1:0 {} {} {} {}",
            flag("--state", &here.path().join("state")),
            flag("--admin-tls-cert", &cert),
            flag("--admin-tls-key", &key),
            flags(here.path()),
        ));
        let told = host.says("Admin on https://127.0.0.1:");
        let port = told
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .expect("a port")
            .to_owned();
        let ca = flag("--admin-ca", &here.path().join("ca.pem"));
        Self {
            host,
            knock: format!("--admin https://localhost:{port} {ca}"),
            here,
            clients,
        }
    }

    fn list(&self, more: &str) -> Ended {
        host(&format!("list {} {more}", self.knock))
    }

    /// Flags for a certificate of its own.
    fn own(&self, authority: &Authority, name: &str) -> String {
        let signed = authority.sign_subject(&[(DnType::CommonName, name)]);
        let (cert, key) = signed.write(self.here.path(), name);
        format!(
            "{} {}",
            flag("--admin-cert", &cert),
            flag("--admin-key", &key)
        )
    }
}

#[test]
fn who_shows_a_known_certificate_at_the_operators_door_is_the_operator() {
    let door = WithDoor::open(|here| flag("--admin-client-ca", &here.join("operators.pem")));
    let ada = door.own(&door.clients, "ada");
    let listed = door.list(&ada);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let guest = FAULTS.path();
    let deployed = host(&format!(
        "deploy {} {ada} --name shop {}",
        door.knock,
        guest.display()
    ));
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let shown = host(&format!("show {} {ada} --json shop", door.knock));
    assert!(
        shown.stdout_text().contains("certificate CN=ada"),
        "{shown:?}"
    );

    let eve = door.own(&Authority::new("of strangers"), "eve");
    let token = flag("--admin-token-file", &door.here.path().join("token"));
    for refused in ["", &eve, &token] {
        let ended = door.list(refused);
        assert_eq!(ended.code, Some(1), "{refused}: {ended:?}");
    }
    // Nor does anybody hear anything in the clear.
    let port = door.knock.split([':', ' ']).nth(3).expect("a port");
    let ended = host(&format!("list --admin 127.0.0.1:{port}"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(door.list(&ada).code, Some(0));
    drop(door.host);
}

#[test]
fn beside_certificates_a_token_opens_the_operators_door() {
    let door = WithDoor::open(|here| {
        format!(
            "{} {}",
            flag("--admin-client-ca", &here.join("operators.pem")),
            flag("--admin-token-file", &here.join("token"))
        )
    });
    let token = flag("--admin-token-file", &door.here.path().join("token"));
    let ada = door.own(&door.clients, "ada");
    for (shown, code) in [(&*ada, 0), (&token, 0), ("", 1)] {
        let ended = door.list(shown);
        assert_eq!(ended.code, Some(code), "{shown}: {ended:?}");
    }
    // Who is somebody else is not told the token.
    std::fs::write(
        door.here.path().join("other.pem"),
        Authority::new("other").pem(),
    )
    .expect("written");
    let place = door.knock.split(" --admin-ca").next().expect("a place");
    let other = flag("--admin-ca", &door.here.path().join("other.pem"));
    let ended = host(&format!("list {place} {other} {token}"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr_text().contains("is not who it should be"),
        "{ended:?}"
    );
    let ended = host(&format!("list {place} {token}"));
    assert!(ended.stderr_text().contains("--admin-ca"), "{ended:?}");
}

#[test]
fn over_tls_the_operators_door_is_nobodys_without_a_token_or_known_certificates() {
    let here = directory();
    let (cert, key) = Authority::new("a test")
        .sign(&["localhost"])
        .write(here.path(), "door");
    let ended = host(&format!(
        "serve --admin 127.0.0.1:0 {} {} {}",
        flag("--state", &here.path().join("state")),
        flag("--admin-tls-cert", &cert),
        flag("--admin-tls-key", &key)
    ));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr_text().contains("--admin-client-ca"),
        "{ended:?}"
    );
}
