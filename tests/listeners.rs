//! Where clients come in, and for whom proxies speak.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::support::host::address_in;
use crate::support::program::{activated, inheritable};
use crate::support::*;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 from 192.0.2.7:1000 to 192.0.2.8:2000, with `more` behind the addresses.
fn v2(command: u8, more: &[u8]) -> Vec<u8> {
    let said = [&[192, 0, 2, 7, 192, 0, 2, 8, 3, 232, 7, 208][..], more].concat();
    let length = u16::try_from(said.len()).expect("short").to_be_bytes();
    [V2, &[command, 0x11], &length, &said].concat()
}

/// The clients of a listener are proxies.
const PROXIED: &str = "--proxy-protocol --trusted-proxy 127.0.0.1";

#[test]
fn a_host_listens_at_several_places() {
    let here = directory();
    let socket = here.path().join("http.sock");
    let host = TestHost::serve(
        FAULTS,
        &format!(
            "--addr 127.0.0.1:0 --addr [::1]:0 --addr unix:{}",
            socket.display()
        ),
    );
    let places = host.places(3);
    let [four, six, unix] = &*places else {
        panic!("{places:?}");
    };
    for place in [four, six] {
        let address = address_in(place).expect("an address");
        assert_eq!(Connection::to(address).get("/ok").text(), "ok\n", "{place}");
    }
    assert!(six.contains("[::1]"), "{six}");
    assert_eq!(*unix, format!("unix:{}", socket.display()));
    let mut connection = Connection::to_unix(&socket);
    for _ in 0..2 {
        let reply = connection.get("/request");
        assert!(
            reply.text().contains("scheme: http\nauthority: a\n"),
            "{}",
            reply.text()
        );
        assert_eq!(host.access(&reply).text("client.address"), "unix:");
    }
    assert_eq!(host.stop().code, Some(0));
    assert!(!socket.exists(), "its name goes with it");
}

#[test]
fn one_address_of_each_family_may_have_the_same_port() {
    let host = TestHost::serve(FAULTS, "--addr 127.0.0.1:0");
    let port = host.address.port();
    drop(host);
    let flags = format!("--addr 0.0.0.0:{port} --addr [::]:{port}");
    let host = TestHost::serve(FAULTS, &flags);
    host.places(2);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let mut connection = Connection::to(address.parse().expect("an address"));
        assert_eq!(connection.get("/ok").text(), "ok\n", "{address}");
    }
}

#[test]
fn to_a_listener_of_both_families_a_client_has_the_address_that_it_has() {
    let host = TestHost::serve(FAULTS, "--addr [::]:0");
    for (to, client) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let address = format!("{to}:{}", host.address.port());
        let mut connection = Connection::to(address.parse().expect("an address"));
        let reply = connection.get("/ok");
        assert_eq!(host.access(&reply).text("client.address"), client);
    }
}

#[test]
fn a_unix_socket_has_its_rights_and_replaces_what_a_dead_process_left() {
    let here = directory();
    let socket = here.path().join("http.sock");
    // As after `kill -9`: the name stays, and nobody listens.
    drop(UnixListener::bind(&socket).expect("bound"));
    let serve = |mode: &str| {
        let file = here.path().join("host.toml");
        let source = FAULTS.path();
        let text = format!(
            "[listeners.tcp]\naddress = \"127.0.0.1:0\"\n[listeners.unix]\nsocket = \"http.sock\"\n{mode}\n\
             [handlers.all]\nsource = {source:?}\nroutes = [\"/*\"]\n"
        );
        fs::write(&file, text).expect("written");
        TestHost::serve_file(&file, "")
    };
    let rights = || fs::metadata(&socket).expect("there").permissions().mode() & 0o777;
    for (mode, expected) in [("", 0o660), ("mode = \"0606\"", 0o606)] {
        let host = serve(mode);
        host.places(2);
        assert_eq!(rights(), expected);
        assert_eq!(Connection::to_unix(&socket).get("/ok").text(), "ok\n");
        let in_use = try_serve(&format!("--addr unix:{}", socket.display()));
        assert!(in_use.contains("another program does"), "{in_use}");
        host.signal(rustix::process::Signal::KILL);
        host.ended();
        assert!(socket.exists());
    }
}

#[test]
fn a_unix_socket_that_is_removed_is_bound_again_and_who_has_come_stays() {
    let here = directory();
    let socket = here.path().join("http.sock");
    let place = format!("unix:{}", socket.display());
    let host = TestHost::serve(FAULTS, &format!("--addr 127.0.0.1:0 --addr {place}"));
    host.places(2);
    let mut before = Connection::to_unix(&socket);
    assert_eq!(before.get("/ok").text(), "ok\n");
    fs::remove_file(&socket).expect("removed");
    eventually("the socket", || {
        assert_eq!(before.get("/ok").text(), "ok\n");
        UnixStream::connect(&socket).ok()
    });
    assert_eq!(Connection::to_unix(&socket).get("/ok").text(), "ok\n");
    let rights = fs::metadata(&socket).expect("there").permissions().mode();
    assert_eq!(rights & 0o777, 0o660);
    host.says(&format!("`{place}` was taken away: it is bound again"));
    assert_eq!(before.get("/ok").text(), "ok\n");
    drop(before);
    assert_eq!(host.stop().code, Some(0));
    assert!(!socket.exists(), "its name goes with it");
}

/// What a host says that does not start.
fn try_serve(flags: &str) -> String {
    let guest = FAULTS.path();
    let ended = host(&format!(
        "serve {} --cache {} {flags}",
        guest.display(),
        cache().display()
    ));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.stderr_text()
}

#[test]
fn a_unix_socket_that_cannot_be_had_is_told_with_what_to_do() {
    let here = directory();
    let file = here.path().join("file");
    fs::write(&file, "").expect("written");
    for (path, told) in [
        (file.clone(), "is no socket"),
        (here.path().join("no/such/place"), "make it first"),
    ] {
        let said = try_serve(&format!("--addr unix:{}", path.display()));
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(file.exists());
}

#[test]
fn sockets_of_systemd_are_taken_by_name() {
    let here = directory();
    let path = here.path().join("activated.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (address, of_other) = (
        tcp.local_addr().expect("one"),
        other.local_addr().expect("one"),
    );
    let unix = UnixListener::bind(&path).expect("bound");
    // A client that comes before the host is there waits for it.
    let mut early = Connection::to(address);
    early.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
    let sockets = [inheritable(other), inheritable(tcp), inheritable(unix)];
    let program = activated(&sockets, "unused:web:web");
    let host = TestHost::serve_by(program, &FAULTS.path(), "--addr systemd:web");
    assert_eq!(host.address, address);
    assert_eq!(early.reply().text(), "ok\n");
    assert_eq!(host.get("/ok").text(), "ok\n");
    assert_eq!(Connection::to_unix(&path).get("/ok").text(), "ok\n");
    assert_eq!(host.stop().code, Some(0));
    assert!(path.exists(), "it is systemd's");
    // Nobody takes what nobody has named.
    let _waits = TcpStream::connect(of_other).expect("the kernel takes it");
}

#[test]
fn a_socket_that_systemd_has_not_passed_is_told_with_those_it_has() {
    let said = try_serve("--addr systemd:web");
    assert!(
        said.contains("no socket `web`") && said.contains(".socket"),
        "{said}"
    );
    let tcp = inheritable(TcpListener::bind("127.0.0.1:0").expect("bound"));
    let mut program = activated(&[tcp], "http");
    program.args(["serve", "--addr", "systemd:web", "--cache"]);
    program.arg(cache()).arg(FAULTS.path());
    let ended = Program::start(program).ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr_text();
    assert!(
        said.contains("there are `http`") && said.contains("FileDescriptorName=web"),
        "{said}"
    );
}

#[test]
fn behind_the_proxy_protocol_the_client_is_who_the_proxy_says() {
    let host = TestHost::serve(FAULTS, PROXIED);
    let own = host.address.ip().to_string();
    for (header, client) in [
        (
            b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 2000\r\n".to_vec(),
            "192.0.2.7",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::8 1000 2000\r\n".to_vec(),
            "2001:db8::7",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), &own),
        (v2(0x21, b""), "192.0.2.7"),
        (v2(0x21, &[0x04, 0, 3, 0, 0, 0]), "192.0.2.7"),
        (v2(0x21, &vec![0; 4000]), "192.0.2.7"),
        (v2(0x20, b""), &own),
    ] {
        let request = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
        for is_at_once in [true, false] {
            let mut connection = host.connect();
            if is_at_once {
                connection.send([&header[..], request].concat());
            } else {
                // In pieces, the request for itself.
                for byte in &header {
                    connection.send([*byte]);
                }
                connection.send(request);
            }
            let reply = connection.reply();
            assert_eq!(reply.text(), "ok\n");
            assert_eq!(host.access(&reply).text("client.address"), client);
            // It is said once for the whole connection.
            let reply = connection.get("/ok");
            assert_eq!(host.access(&reply).text("client.address"), client);
        }
    }
    let mut connection = host.send(v2(0x21, b""));
    connection.send("GET /request HTTP/1.0\r\n\r\n");
    let seen = connection.reply().text();
    assert!(seen.contains("authority: 192.0.2.8:2000"), "{seen}");
}

#[test]
fn who_does_not_speak_the_proxy_protocol_is_refused() {
    let host = TestHost::serve(FAULTS, PROXIED);
    let long = [V2, &[0x21, 0x11, 0xff, 0xff], &[0; 2000][..]].concat();
    for bad in [
        b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PROXY TCP4 nonsense\r\nGET /ok HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        [b"PROXY ".to_vec(), vec![b'x'; 200]].concat(),
        v2(0x31, b""),
        long,
    ] {
        let mut connection = host.send(&bad);
        let answer = connection.end();
        assert!(
            answer.is_err() || answer.is_ok_and(|it| it.is_empty()),
            "{bad:?}"
        );
    }
    assert_eq!(host.paths(), [""; 0]);
    // And nobody else sees it.
    let mut connection = host.send(v2(0x21, b""));
    assert_eq!(connection.get("/ok").text(), "ok\n");
}

#[test]
fn only_trusted_proxies_say_for_whom_they_come() {
    let host = TestHost::serve(FAULTS, "--proxy-protocol --trusted-proxy 192.0.2.0/24");
    let request = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = host.connect();
    // It may be closed before all is sent.
    let _ = connection
        .sender()
        .write_all(&[&v2(0x21, b"")[..], request].concat());
    let answer = connection.end();
    assert!(answer.is_err() || answer.is_ok_and(|it| it.is_empty()));
    assert_eq!(host.paths(), [""; 0]);

    let ended = crate::support::host("serve x.wasm --proxy-protocol");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr_text().contains("--trusted-proxy"), "{ended:?}");
    let here = directory();
    let file = here.path().join("host.toml");
    let nobody = "[listeners.a]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n";
    fs::write(&file, nobody).expect("written");
    let ended = crate::support::host(&format!("check {}", file.display()));
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.stderr_text().contains("`[listen] trusted_proxies`"),
        "{ended:?}"
    );
}

#[test]
fn a_proxy_that_does_not_finish_is_cut_in_time() {
    let host = TestHost::serve(FAULTS, &format!("{PROXIED} --first-byte-timeout 300ms"));
    let header = v2(0x21, b"");
    for sent in [0, 1, 15, header.len() - 1, header.len()] {
        let started = Instant::now();
        let mut connection = host.send(&header[..sent]);
        assert!(connection.is_closed(), "{sent}");
        let took = started.elapsed();
        assert!(
            took > Duration::from_millis(250) && took < Duration::from_secs(5),
            "{took:?}"
        );
    }
}

#[test]
fn where_nobody_speaks_for_others_a_proxys_header_is_no_request() {
    let host = TestHost::serve(FAULTS, "");
    for header in [
        b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 2000\r\n".to_vec(),
        v2(0x21, b""),
    ] {
        let mut connection =
            host.send([&header[..], b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert_eq!(connection.reply().status(), 400);
    }
}

#[test]
fn of_two_listeners_one_is_for_proxies_and_the_other_is_not() {
    let here = directory();
    let file = here.path().join("host.toml");
    let source = FAULTS.path();
    let text = format!(
        "[listen]\naccess_log = \"json\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [listeners.clients]\nsocket = \"http.sock\"\n\
         [listeners.proxies]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
         [handlers.all]\nsource = {source:?}\nroutes = [\"/*\"]\n"
    );
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    let request = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
    let of_proxy = [&v2(0x21, b"")[..], request].concat();
    let to_clients = || Connection::to_unix(&here.path().join("http.sock"));

    let reply = host.send(&of_proxy).reply();
    assert_eq!(reply.text(), "ok\n");
    assert_eq!(host.access(&reply).text("client.address"), "192.0.2.7");
    let mut direct = host.send(request);
    assert!(direct.is_closed(), "no proxy");

    let reply = to_clients().get("/ok");
    assert_eq!(reply.text(), "ok\n");
    assert_eq!(host.access(&reply).text("client.address"), "unix:");
    let mut proxy = to_clients();
    proxy.send(&of_proxy);
    assert_eq!(proxy.reply().status(), 400);
}

#[test]
fn a_proxy_speaks_before_tls() {
    let here = directory();
    let authority = Authority::new("a test");
    let (cert, key) = authority.sign(&["localhost"]).write(here.path(), "cert");
    let flags = format!(
        "{PROXIED} {} {}",
        flag("--tls-cert", &cert),
        flag("--tls-key", &key)
    );
    let host = TestHost::serve(FAULTS, &flags);
    for header in [
        b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 2000\r\n".to_vec(),
        v2(0x21, b""),
    ] {
        let mut stream = TcpStream::connect(host.address).expect("connected");
        std::io::Write::write_all(&mut stream, &header).expect("sent");
        let client = TlsClient::trusting(&authority);
        let mut shaken = client.try_over(stream, "localhost").expect("a handshake");
        let reply = shaken.connection.get("/request");
        assert!(reply.text().contains("scheme: https\n"));
        assert_eq!(host.access(&reply).text("client.address"), "192.0.2.7");
    }
}

#[test]
fn a_file_with_listeners_has_the_only_say_in_where() {
    let here = directory();
    let file = here.path().join("host.toml");
    let both = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n[listeners.a]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n";
    fs::write(&file, both).expect("written");
    let ended = host(&format!("serve {} --addr 127.0.0.1:0", file.display()));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr_text().contains("[listeners]"), "{ended:?}");
}
