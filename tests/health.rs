//! Health: who is alive, who is ready and why not, and what the service manager is told.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::operator::{OPERATOR, Office, Operator};
use crate::support::program::{self, Program};
use crate::support::*;

/// What a probe is told, and with which status.
fn probe(operator: Operator, target: &str, token: Option<&str>) -> (u16, Value) {
    let reply = match token {
        Some(token) => operator.get(target, token),
        None => operator.ask(target, ""),
    };
    let said = serde_json::from_slice(&reply.body).expect("JSON");
    (reply.status(), said)
}

fn ready(operator: Operator) -> (u16, Value) {
    probe(operator, "/readyz", None)
}

/// A port that is free for now.
fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[test]
fn a_probe_needs_no_token_and_learns_no_names() {
    let office = Office::new();
    let host = TestHost::serve(HELLO, &office.flags());
    let operator = Operator::of(&host);
    for target in ["/livez", "/healthz"] {
        assert_eq!(
            probe(operator, target, None),
            (200, json!({ "status": "ok" }))
        );
    }
    assert_eq!(ready(operator), (200, json!({ "status": "ready" })));
    let verbose = json!({ "status": "ready", "phase": "serving" });
    assert_eq!(probe(operator, "/readyz?verbose", None), (200, verbose));
    assert_eq!(probe(operator, "/readyz?verbos", None).0, 400);
    assert_eq!(operator.ask("/readyz/hello", "").status(), 401);
    let stale = operator.get("/readyz?verbose", "none-of-this-host's");
    assert_eq!(stale.status(), 200, "{}", stale.text());
}

#[test]
fn a_host_that_starts_is_alive_and_not_ready() {
    let office = Office::new();
    let here = office.0.path();
    // It takes long to make, so that the start takes as long.
    fs::copy(FAULTS.path(), here.join("slow.wasm")).expect("copied");
    let address = free_port();
    let config = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[state]\ndirectory = \"state\"\n\
         [admin]\naddress = \"{address}\"\ntoken = {{ from_file = \"token\" }}\n\
         [handlers.slow]\nsource = \"slow.wasm\"\nroutes = [\"/*\"]\nrequired = true\n\
         warm_up = {{ path = \"/sleep?ms=4000\" }}\n"
    );
    fs::write(here.join("host.toml"), config).expect("written");
    let mut command = program::command();
    command.arg("serve").arg(here.join("host.toml"));
    command.arg("--cache").arg(cache());
    let program = Program::start(command);
    eventually("the operator's door", || {
        std::net::TcpStream::connect(address).ok()
    });
    let operator = Operator(address);
    assert_eq!(probe(operator, "/livez", None).0, 200);
    assert_eq!(ready(operator), (503, json!({ "status": "not ready" })));
    let why = json!({
        "status": "not ready", "phase": "starting",
        "handlers": [{ "name": "slow", "why": "not deployed" }],
    });
    eventually("what the start waits for", || {
        let told = probe(operator, "/readyz?verbose", Some(OPERATOR));
        (told == (503, why.clone())).then_some(())
    });
    assert_eq!(operator.metrics().sum("host_ready", &[]), 0.0);
    let serving = || {
        program
            .stderr()
            .iter()
            .any(|line| line.contains("Serving HTTP"))
    };
    assert!(!serving(), "the start was too quick to be seen");
    // Whoever asks for handlers waits for the start.
    assert_eq!(operator.get("/handlers/slow", OPERATOR).status(), 200);
    eventually("the line that it serves", || serving().then_some(()));
    assert_eq!(ready(operator).0, 200);
}

#[test]
fn a_required_handler_that_is_not_there_or_quarantined_makes_the_host_unready() {
    let office = Office::new();
    let here = office.0.path();
    fs::copy(FAULTS.path(), here.join("faults.wasm")).expect("copied");
    fs::write(here.join("broken.wasm"), "no component").expect("written");
    let config = |more: &str| {
        let text = format!(
            "[listen]\naccess_log = \"json\"\n[state]\ndirectory = \"state\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\ntoken = {{ from_file = \"token\" }}\n\
             [tenants.acme]\nadmin_tokens = [{{ from_file = \"acme\" }}]\n\
             [handlers.shop]\nsource = \"faults.wasm\"\nroutes = [{{ path = \"/shop/*\", strip_prefix = true }}]\ntenant = \"acme\"\nrequired = true\n{more}"
        );
        fs::write(here.join(".new"), text).expect("written");
        fs::rename(here.join(".new"), here.join("host.toml")).expect("renamed");
    };
    let acme = "acmeacmeacmeacmeacme";
    fs::write(here.join("acme"), acme).expect("written");
    config(
        "[handlers.other]\nsource = \"broken.wasm\"\nroutes = [\"/other/*\"]\nrequired = true\n",
    );
    let host = TestHost::serve_file(&here.join("host.toml"), "");
    let operator = Operator::of(&host);
    let unready = |who: &str| {
        let (status, said) = probe(operator, "/readyz?verbose", Some(who));
        assert_eq!(status, 503, "{said}");
        said["handlers"].clone()
    };
    assert_eq!(
        unready(OPERATOR),
        json!([{ "name": "other", "why": "not deployed" }])
    );
    assert_eq!(unready(acme), json!([]), "another's");

    config("");
    eventually("what is not required any more", || {
        (ready(operator).0 == 200).then_some(())
    });

    assert_eq!(probe(operator, "/readyz/shop", Some(acme)).0, 200);
    for _ in 0..10 {
        host.get("/shop/trap");
    }
    let quarantined = json!([{ "name": "shop", "why": "quarantined" }]);
    assert_eq!(unready(acme), quarantined);
    let (status, said) = probe(operator, "/readyz/shop", Some(acme));
    assert_eq!((status, &said["handlers"]), (503, &quarantined));
    assert_eq!(probe(operator, "/readyz/other", Some(OPERATOR)).0, 404);
    let metrics = operator.metrics();
    assert_eq!(
        metrics.sum("host_handler_ready", &[("host_handler", "shop")]),
        0.0
    );
    let sick = [("host_state", "quarantined")];
    assert_eq!(metrics.sum("host_handlers", &sick), 1.0);
    eventually("an answer ends the quarantine", || {
        host.get("/shop/ok");
        (ready(operator).0 == 200).then_some(())
    });
}

#[test]
fn a_host_that_drains_is_alive_and_not_ready() {
    let office = Office::new();
    let host = TestHost::serve(FAULTS, &office.flags());
    let operator = Operator::of(&host);
    let mut held = host.send("GET /drip?n=2&ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    held.head();
    host.signal(Signal::TERM);
    eventually("a host that drains", || {
        let (status, said) = probe(operator, "/readyz?verbose", None);
        (status == 503 && said["phase"] == "draining").then_some(())
    });
    assert_eq!(probe(operator, "/livez", None).0, 200);
    assert_eq!(host.ended().code, Some(0));
}

/// Where a service manager listens.
struct Manager {
    socket: UnixDatagram,
    here: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let here = directory();
        let socket = UnixDatagram::bind(here.path().join("notify")).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("a patience");
        Self { socket, here }
    }

    fn path(&self) -> String {
        self.here.path().join("notify").display().to_string()
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 512];
        let length = self.socket.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

#[test]
fn the_service_manager_is_told_of_ready_reloading_and_stopping() {
    let manager = Manager::new();
    let environment = [("NOTIFY_SOCKET", &*manager.path())];
    let host = TestHost::serve_with(&environment, &HELLO.path(), "");
    assert_eq!(manager.hears().trim(), "READY=1");
    host.signal(Signal::HUP);
    let reloading = manager.hears();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(manager.hears().trim(), "READY=1");
    host.signal(Signal::TERM);
    assert_eq!(manager.hears().trim(), "STOPPING=1");
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn the_watchdog_is_fed_by_the_threads_that_serve() {
    let manager = Manager::new();
    let environment = [
        ("NOTIFY_SOCKET", &*manager.path()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let host = TestHost::serve_with(&environment, &HELLO.path(), "");
    let mut heard = vec![manager.hears()];
    while heard.len() < 5 {
        heard.push(manager.hears());
    }
    let pings = heard.iter().filter(|it| it.trim() == "WATCHDOG=1");
    assert_eq!(pings.count(), 4, "{heard:?}");
    // Stopped, the process says nothing: who asked for it would be told so by the silence.
    host.signal(Signal::STOP);
    manager.socket.set_nonblocking(true).expect("set");
    let is_quiet = || {
        let mut bytes = [0; 512];
        while manager.socket.recv(&mut bytes).is_ok() {}
        is_stopped(host.pid())
    };
    eventually("a stopped process", || is_quiet().then_some(()));
    host.signal(Signal::CONT);
    eventually("a ping", || manager.socket.recv(&mut [0; 512]).ok());
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.expect("its state")
        .rsplit_once(") ")
        .is_some_and(|(_, it)| it.starts_with('T'))
}

#[test]
fn a_required_handler_that_cannot_be_loaded_makes_the_host_unready_until_it_can() {
    let office = Office::new();
    let here = office.0.path();
    let (component, cache) = (here.join("shop.wasm"), here.join("cache"));
    fs::copy(HELLO.path(), &component).expect("copied");
    let config = "[listen]\naccess_log = \"json\"\n[state]\ndirectory = \"state\"\n\
                  [admin]\naddress = \"127.0.0.1:0\"\ntoken = { from_file = \"token\" }\n\
                  [handlers.shop]\nsource = \"shop.wasm\"\nroutes = [\"/*\"]\nrequired = true\n";
    fs::write(here.join("host.toml"), config).expect("written");
    let serve = || TestHost::serve_file(&here.join("host.toml"), &flag("--cache", &cache));
    assert_eq!(serve().stop().code, Some(0));
    // It was good before, so it is taken for good, and loaded when it is asked for.
    let host = serve();
    let operator = Operator::of(&host);
    assert_eq!(ready(operator).0, 200);
    fs::remove_dir_all(&cache).expect("removed");
    fs::rename(&component, here.join("away")).expect("renamed");
    assert_eq!(host.get("/").status(), 500);
    let (status, said) = probe(operator, "/readyz?verbose", Some(OPERATOR));
    let unloadable = json!([{ "name": "shop", "why": "cannot be loaded" }]);
    assert_eq!((status, &said["handlers"]), (503, &unloadable));
    fs::rename(here.join("away"), &component).expect("renamed");
    eventually("a handler that is loaded", || {
        let served = host.get("/").status() == 200;
        (served && ready(operator).0 == 200).then_some(())
    });
}
