//! Behind a proxy: whom the host takes for the client, with a real nginx in front and with fields that anyone can write.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::*;

/// nginx on a port of its own. Killed when it is dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// In front of `host`, with these directives for every request. None if there is no nginx, which is said.
    fn before(host: SocketAddr, directives: &str) -> Option<Self> {
        Self::serving(|address| {
            format!(
                "server {{
                    listen {address};
                    location / {{ proxy_pass http://{host}; proxy_http_version 1.1; {directives} }}
                }}"
            )
        })
    }

    /// With what its settings say of HTTP, once it is known where it listens.
    fn serving(http: impl Fn(SocketAddr) -> String) -> Option<Self> {
        let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(|program| {
            let version = Command::new(program)
                .arg("-v")
                .stderr(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        });
        let Some(program) = found else {
            skipped("the host behind an nginx: there is none: `apt-get install nginx-light`");
            return None;
        };
        let directory = directory();
        let path = directory.path().display().to_string();
        // Somebody else may take the port before nginx does.
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        drop(taken);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {path}/{name};\n"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr;
            events {{}}
            http {{
                access_log off;
                {temporary}
                {}
            }}",
            http(address)
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).expect("written");
        let mut child = Command::new(program)
            .args(["-p", &path, "-e", "stderr", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nginx starts");
        eventually("nginx", || {
            if child.try_wait().expect("its status").is_some() {
                let mut said = String::new();
                let stderr = child.stderr.as_mut().expect("piped");
                stderr.read_to_string(&mut said).expect("its last words");
                panic!("nginx has ended: {said}");
            }
            TcpStream::connect(address).ok()
        });
        Some(Self {
            child,
            address,
            _directory: directory,
        })
    }

    fn get(&self, fields: &str, target: &str) -> Reply {
        ask(self.address, fields, target)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `fields` each end with a newline.
fn ask(address: SocketAddr, fields: &str, target: &str) -> Reply {
    let mut connection = Connection::to(address);
    let fields = fields.replace('\n', "\r\n");
    connection.send(format!(
        "GET {target} HTTP/1.1\r\nHost: public.example\r\n{fields}\r\n"
    ));
    connection.reply()
}

/// What the guest sees of its headers.
fn seen(reply: &Reply) -> Vec<(String, String)> {
    let text = reply.text();
    let field = |line: &str| {
        let (name, hex) = line.split_once('\t')?;
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        Some((
            name.to_owned(),
            String::from_utf8_lossy(&bytes).into_owned(),
        ))
    };
    text.lines().filter_map(field).collect()
}

fn all_of<'a>(seen: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let values = seen.iter().filter(|(other, _)| other == name);
    values.map(|(_, value)| value.as_str()).collect()
}

const FORGED: &str = "X-Forwarded-For: 6.6.6.6\nX-Forwarded-Proto: https\nX-Forwarded-Host: admin.example\n\
    X-Real-IP: 6.6.6.6\nTrue-Client-IP: 6.6.6.6\nX_Forwarded_For: 6.6.6.6\nX-Forwarded-User: root\n\
    Forwarded: for=6.6.6.6;proto=https;host=admin.example\nX-Request-Id: forged\n\
    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=b\n";

#[test]
fn from_a_client_nothing_of_a_proxy_is_believed() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = ask(host.address, FORGED, "/headers");
        let seen = seen(&reply);
        for name in [
            "x-forwarded-host",
            "x-real-ip",
            "true-client-ip",
            "x_forwarded_for",
            "x-forwarded-user",
            "forwarded",
            "traceparent",
            "tracestate",
        ] {
            assert_eq!(all_of(&seen, name), [""; 0], "{guest}: {name}");
        }
        let id = reply.header("x-request-id").expect("an id");
        assert_eq!(id.len(), 36, "{guest}");
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-request-id", id),
        ] {
            assert_eq!(all_of(&seen, name), [value], "{guest}: {name}");
        }
        let request = ask(host.address, FORGED, "/request").text();
        assert!(
            request.contains("scheme: http\nauthority: public.example\n"),
            "{guest}: {request}"
        );
        let line = host.access(&reply);
        assert_eq!(line.text("client.address"), "127.0.0.1");
        assert_eq!(line.text("url.scheme"), "http", "{guest}");
    }
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--trusted-proxy ::1 --trusted-proxy 127.0.0.0/8");
        let said = "X-Forwarded-For: 6.6.6.6, 2001:db8::7, 127.0.0.2\nX-Forwarded-Proto: https\n\
                    X-Forwarded-Host: shop.example:444\nX-Request-Id: from-the-edge\n\
                    traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate: a=b\n";
        let reply = ask(host.address, said, "/headers");
        assert_eq!(
            reply.header("x-request-id"),
            Some("from-the-edge"),
            "{guest}"
        );
        let seen = seen(&reply);
        for (name, value) in [
            ("x-forwarded-for", "2001:db8::7"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "from-the-edge"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            ("tracestate", "a=b"),
        ] {
            assert_eq!(all_of(&seen, name), [value], "{guest}: {name}");
        }
        let request = ask(host.address, said, "/request").text();
        assert!(
            request.contains("scheme: https\nauthority: shop.example:444\n"),
            "{guest}: {request}"
        );
        let line = host.access_of("from-the-edge");
        assert_eq!(line.text("client.address"), "2001:db8::7");
        assert_eq!(line.text("url.scheme"), "https", "{guest}");

        let said =
            "Forwarded: for=6.6.6.6, for=\"[2001:db8::8]:1234\";proto=https;host=shop.example\n";
        let reply = ask(host.address, said, "/request");
        assert!(
            reply
                .text()
                .contains("scheme: https\nauthority: shop.example\n"),
            "{guest}"
        );
        assert_eq!(host.access(&reply).text("client.address"), "2001:db8::8");
    }
}

#[test]
fn what_a_proxy_says_of_the_host_is_checked_as_a_host_is() {
    let host = TestHost::serve(HELLO, "--trusted-proxy 127.0.0.1");
    for bad in ["a@b", "a/b", "a b", "example.com:99999"] {
        let said = format!("X-Forwarded-For: 192.0.2.1\nX-Forwarded-Host: {bad}\n");
        let refused = ask(host.address, &said, "/");
        assert_eq!(refused.status(), 400, "{bad}");
        assert_eq!(host.access(&refused).text("client.address"), "192.0.2.1");
    }
}

#[test]
fn a_request_is_routed_on_the_host_that_a_trusted_proxy_names_and_on_no_other() {
    let directory = directory();
    fs::copy(HELLO.path(), directory.path().join("hello.wasm")).expect("copied");
    for (trusted, status) in [
        ("[\"127.0.0.1\"]", 200),
        ("[\"192.0.2.0/24\", \"unix\"]", 404),
    ] {
        let file = directory.path().join("host.toml");
        let text = format!(
            "[listen]\naccess_log = \"json\"\ntrusted_proxies = {trusted}\n\
             [handlers.shop]\nsource = \"hello.wasm\"\nroutes = [\"shop.example/*\"]\n"
        );
        fs::write(&file, text).expect("written");
        let host = TestHost::serve_file(&file, "");
        let reply = ask(host.address, "X-Forwarded-Host: shop.example\n", "/");
        assert_eq!(reply.status(), status, "{trusted}");
    }
}

#[test]
fn behind_nginx_the_guest_and_the_log_see_the_client() {
    let host = TestHost::serve(FAULTS, "--trusted-proxy 127.0.0.1");
    let usual =
        "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Request-Id $request_id;";
    let Some(nginx) = Nginx::before(host.address, usual) else {
        return;
    };
    // A client of nginx that is no proxy itself is believed nothing: to the left of nginx's word there is only its own.
    let reply = nginx.get(
        &FORGED.replace(
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-For: 6.6.6.6, 192.0.2.44",
        ),
        "/headers",
    );
    let seen = seen(&reply);
    let id = reply.header("x-request-id").expect("nginx's id");
    assert_eq!(id.len(), 32, "{id}");
    assert_eq!(all_of(&seen, "x-request-id"), [id]);
    assert_eq!(all_of(&seen, "x-forwarded-proto"), ["https"]);
    for name in [
        "forwarded",
        "x-forwarded-host",
        "x-real-ip",
        "x_forwarded_for",
    ] {
        assert_eq!(all_of(&seen, name), [""; 0], "{name}");
    }
    // The client of this nginx has an address that is trusted too, so what it says counts.
    assert_eq!(all_of(&seen, "x-forwarded-for"), ["192.0.2.44"]);
    assert_eq!(host.access_of(id).text("client.address"), "192.0.2.44");
    let request = nginx.get("", "/request").text();
    assert!(
        request.contains("scheme: https\nauthority: public.example\n"),
        "{request}"
    );
    assert_eq!(
        host.access_to("/request").text("client.address"),
        "127.0.0.1"
    );
}

#[test]
fn an_nginx_that_is_not_trusted_is_the_client() {
    let host = TestHost::serve(FAULTS, "--trusted-proxy 192.0.2.0/24");
    let usual =
        "proxy_set_header X-Forwarded-For 192.0.2.44; proxy_set_header X-Forwarded-Proto https;";
    let Some(nginx) = Nginx::before(host.address, usual) else {
        return;
    };
    let reply = nginx.get("", "/headers");
    let seen = seen(&reply);
    assert_eq!(all_of(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all_of(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(host.access(&reply).text("client.address"), "127.0.0.1");
}

#[test]
fn bodies_of_both_directions_go_through_nginx_as_they_come() {
    let host = TestHost::serve(FAULTS, "--trusted-proxy 127.0.0.1");
    let Some(nginx) = Nginx::before(host.address, "proxy_buffering off;") else {
        return;
    };
    let mut connection = Connection::to(nginx.address);
    connection.send("GET /drip?n=3&ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    let pieces = std::iter::from_fn(|| connection.chunk()).count();
    assert!(pieces >= 3, "{pieces} pieces");
    // What breaks off behind nginx breaks off before it.
    let cut = nginx.get("", "/trap-mid-body");
    assert!(!cut.is_complete);
    let read = Connection::to(nginx.address).post("/read", "hello");
    assert_eq!(read.text(), "5 a430d84680aabd0b\n");
}

#[test]
fn with_the_example_for_nginx_the_host_knows_its_clients_and_bodies_stream() {
    let host = TestHost::serve(FAULTS, "--trusted-proxy 127.0.0.1");
    let example = include_str!("../host/deploy/nginx/host.conf");
    let (listen, upstream) = ("listen 80;", "server 127.0.0.1:8080;");
    assert!(example.contains(listen) && example.contains(upstream));
    let nginx = Nginx::serving(|address| {
        example
            .replace(listen, &format!("listen {address};"))
            .replace(upstream, &format!("server {};", host.address))
    });
    let Some(nginx) = nginx else { return };
    let lies =
        "X-Forwarded-Proto: https\nX-Forwarded-Host: evil.example\nForwarded: for=192.0.2.1\n";
    let reply = nginx.get(lies, "/request");
    let seen = reply.text();
    assert!(seen.contains("scheme: http\n"), "{seen}");
    assert!(seen.contains("authority: public.example\n"), "{seen}");
    assert_eq!(host.access(&reply).text("client.address"), "127.0.0.1");
    // A piece comes through before the next is written.
    let mut connection = Connection::to(nginx.address);
    connection.send("GET /drip?n=1000&ms=20 HTTP/1.1\r\nHost: public.example\r\n\r\n");
    assert_eq!(connection.head().status, 200);
    assert!(connection.chunk().is_some());
}
