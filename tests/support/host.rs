//! `host serve` and `host dev`, each on a port of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::program::{self, Ended, Program};
use super::{Connection, Guest, H2, Reply, eventually};

/// A host that serves one guest on a free port, with its access log in JSON.
pub(crate) struct TestHost {
    program: Program,
    pub(crate) address: SocketAddr,
}

impl TestHost {
    /// Serves `guest` with `flags`, words as on a command line.
    pub(crate) fn serve(guest: Guest, flags: &str) -> Self {
        Self::serve_file(&guest.path(), flags)
    }

    pub(crate) fn serve_file(wasm: &Path, flags: &str) -> Self {
        Self::start(program::command(), "serve", Some(wasm), flags)
    }

    /// Another host with the same places for socket and state.
    pub(crate) fn beside(&self, subject: &Path) -> Self {
        let own = self.socket().ancestors().nth(3).expect("its own place");
        let mut command = program::command();
        command.env("XDG_RUNTIME_DIR", own.join("run"));
        command.env("XDG_STATE_HOME", own.join("state"));
        Self::start(command, "serve", Some(subject), "")
    }

    /// With variables of its environment.
    pub(crate) fn serve_with(environment: &[(&str, &str)], wasm: &Path, flags: &str) -> Self {
        let mut command = program::command();
        command.envs(environment.iter().copied());
        Self::start(command, "serve", Some(wasm), flags)
    }

    /// With no handler of its own: `flags` open an admin door.
    pub(crate) fn serve_nothing(flags: &str) -> Self {
        Self::start(program::command(), "serve", None, flags)
    }

    /// Serves a crate, or a component's file, and each save of it. The `program` may know how to build.
    pub(crate) fn dev(program: std::process::Command, subject: &Path) -> Self {
        Self::dev_with(program, subject, "")
    }

    pub(crate) fn dev_with(program: std::process::Command, subject: &Path, flags: &str) -> Self {
        Self::start(program, "dev", Some(subject), flags)
    }

    /// With a program that was given more than others.
    pub(crate) fn serve_by(program: std::process::Command, wasm: &Path, flags: &str) -> Self {
        Self::start(program, "serve", Some(wasm), flags)
    }

    /// Where it says that it serves, in order, once these are so many.
    pub(crate) fn places(&self, many: usize) -> Vec<String> {
        eventually("the places where it serves", || {
            let said = self.stderr();
            let places = said
                .iter()
                .filter_map(|line| line.strip_prefix("Serving HTTP on "));
            let places: Vec<_> = places.map(str::to_owned).collect();
            (places.len() == many).then_some(places)
        })
    }

    /// With a program of another kind, such as one in another environment.
    pub(crate) fn serve_as(program: std::process::Command, guest: Guest, flags: &str) -> Self {
        Self::start(program, "serve", Some(&guest.path()), flags)
    }

    /// With a ceiling of open files.
    pub(crate) fn serve_with_open_files(most: u32, guest: Guest, flags: &str) -> Self {
        let command = program::command_with_open_files(most);
        Self::start(command, "serve", Some(&guest.path()), flags)
    }

    fn start(
        mut command: std::process::Command,
        subcommand: &str,
        subject: Option<&Path>,
        flags: &str,
    ) -> Self {
        let says_where = subject.is_some_and(|it| {
            std::fs::read_to_string(it).is_ok_and(|text| text.contains("[listeners"))
        });
        command.arg(subcommand);
        if !says_where && !flags.contains("--addr") {
            command.args(["--addr", "127.0.0.1:0"]);
        }
        command.args(subject);
        let is_file = subject.is_some_and(|it| it.extension().is_some_and(|it| it == "toml"));
        if !flags.contains("--access-log") && !is_file {
            command.args(["--access-log", "json"]);
        }
        if !flags.contains("-cache") {
            command.arg("--cache").arg(cache());
        }
        command.args(flags.split_whitespace());
        let mut program = Program::start(command);
        let address = eventually("the line that says it serves", || {
            let said = program.stderr();
            if let Some(status) = program.status() {
                panic!("the host ended with {status}: {said:#?}");
            }
            said.iter().find_map(|line| address_in(line))
        });
        Self { program, address }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// A connection on which `bytes` are sent at once.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Connection {
        let mut connection = self.connect();
        connection.send(bytes);
        connection
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.connect().get(target)
    }

    /// As many requests as there are places, each of which holds its own until all have begun: one that
    /// was lost would be missed. For the guests that drip.
    pub(crate) fn assert_all_places_are_free(&self, places: usize, after: &str) {
        let mut held: Vec<_> = (0..places)
            .map(|_| self.send("GET /drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        for one in &mut held {
            assert_eq!(one.head().status, 200, "a place is lost after {after}");
        }
    }

    pub(crate) fn h2(&self) -> H2 {
        H2::to(self.address)
    }

    /// The line of the exchange that `reply` belongs to.
    pub(crate) fn access(&self, reply: &Reply) -> Access {
        self.access_of(reply.header("x-request-id").expect("a request id"))
    }

    pub(crate) fn access_of(&self, id: &str) -> Access {
        self.access_where(&format!("the access-log line of request {id}"), |line| {
            line.text("host.request.id") == id
        })
    }

    /// The first line of an exchange on `path`.
    pub(crate) fn access_to(&self, path: &str) -> Access {
        self.access_where(&format!("an access-log line of {path}"), |line| {
            line.text("url.path") == path
        })
    }

    pub(crate) fn access_where(&self, what: &str, is_it: impl Fn(&Access) -> bool) -> Access {
        eventually(what, || self.accesses().into_iter().find(&is_it))
    }

    /// All lines of the access log so far.
    pub(crate) fn accesses(&self) -> Vec<Access> {
        let lines = self.program.stdout();
        lines.iter().map(|line| Access::parse(line)).collect()
    }

    /// The paths of all exchanges so far, in the order of their ends.
    pub(crate) fn paths(&self) -> Vec<String> {
        let lines = self.accesses();
        lines
            .iter()
            .map(|line| line.text("url.path").to_owned())
            .collect()
    }

    /// Of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The first line on stderr that contains `part`.
    pub(crate) fn says(&self, part: &str) -> String {
        eventually(&format!("`{part}` on stderr"), || {
            self.stderr().into_iter().find(|line| line.contains(part))
        })
    }

    /// The socket of its admin door, if nobody said another place.
    pub(crate) fn socket(&self) -> &Path {
        self.program.socket.as_deref().expect("a place of its own")
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.program.stdout()
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.program.stderr()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Waits for its end.
    pub(crate) fn ended(self) -> Ended {
        self.program.ended()
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Calls to write something, anywhere, since it began.
    pub(crate) fn writes(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.program.pid()))
            .expect("/proc of the host");
        let calls = io.lines().find_map(|line| line.strip_prefix("syscw:"));
        calls
            .and_then(|number| number.trim().parse().ok())
            .expect("syscw")
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes_of("VmRSS:")
    }

    /// The most that it ever was: what is held only while a request runs is seen here after it.
    pub(crate) fn peak_memory(&self) -> usize {
        self.bytes_of("VmHWM:")
    }

    fn bytes_of(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.pid()))
            .expect("/proc of the host");
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .expect(name);
        kib.trim().parse::<usize>().expect("a number") * 1024
    }
}

/// `Serving HTTP on http://ADDRESS/`, or `https`.
pub(crate) fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line
        .split_once("http://")
        .or_else(|| line.split_once("https://"))?
        .1;
    rest.split_once('/')?.0.parse().ok()
}

/// Compiled components, kept over all hosts and runs.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("components")
}

/// A line of the access log.
#[derive(Debug, Clone)]
pub(crate) struct Access(pub(crate) serde_json::Value);

impl Access {
    pub(crate) fn parse(line: &str) -> Self {
        Self(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`")))
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or("")
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.0[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no number `{name}` in {self:?}"))
    }

    pub(crate) fn status(&self) -> u64 {
        self.0["http.response.status_code"]
            .as_u64()
            .expect("a status")
    }

    /// The word for what went wrong; empty if nothing did.
    pub(crate) fn label(&self) -> &str {
        self.text("error.type")
    }
}
