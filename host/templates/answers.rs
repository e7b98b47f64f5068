//! Builds the handler, serves it with `host` on a free port, and asks it over HTTP.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn the_front_page_says_hello() {
    let handler = Served::start();
    let answer = handler.get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "Hello from {{name}}!\n");
}

#[test]
fn a_page_that_is_not_there_is_404() {
    let handler = Served::start();
    assert_eq!(handler.get("/nowhere").status, 404);
}

/// The handler, served until this is dropped.
struct Served {
    host: Child,
    address: String,
}

struct Answer {
    status: u16,
    body: String,
}

impl Served {
    fn start() -> Self {
        let mut build = host();
        build.args(["build", "."]).stderr(Stdio::inherit());
        let built = build.output().unwrap_or_else(|error| no_host(&error));
        assert!(built.status.success(), "`host build .` fails, see above");
        let component = String::from_utf8(built.stdout).expect("a path");

        let mut serve = host();
        serve.args(["serve", "--addr", "127.0.0.1:0", component.trim_end()]);
        serve.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut host = serve.spawn().unwrap_or_else(|error| no_host(&error));
        let mut log = BufReader::new(host.stderr.take().expect("a pipe")).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            eprintln!("{line}");
            let (_, url) = line.split_once("Serving HTTP on http://")?;
            Some(url.trim_end_matches('/').to_owned())
        });
        // What the handler prints belongs to the test's output, and a full pipe would stop it.
        std::thread::spawn(|| {
            log.map_while(Result::ok)
                .for_each(|line| eprintln!("{line}"))
        });
        let address = address.expect("`host serve` serves, see above");
        Self { host, address }
    }

    fn get(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("`host serve` listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        // HTTP/1.0: the body ends where the connection does.
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.address
        )
        .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.expect("a status"),
            body: body.to_owned(),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

/// The program: `$HOST`, or `host` on PATH. (Some shells keep the machine's name in `HOST`.)
fn host() -> Command {
    let named = env::var_os("HOST").map(PathBuf::from);
    let mut command = match named.filter(|path| path.is_file()) {
        Some(path) => Command::new(path),
        None => Command::new("host"),
    };
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn no_host(error: &std::io::Error) -> ! {
    panic!("`host` cannot be run ({error}): say where it is, as in `HOST=/path/to/host cargo test`")
}
