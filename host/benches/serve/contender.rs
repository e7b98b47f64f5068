//! Who takes part: what to start, and what to wait for until it listens.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::load::{self, HELLO, Load};
use crate::wrk;

/// A server that can be started again and again.
pub(crate) struct Contender {
    /// What it serves and how, the same for those who are to be compared.
    pub(crate) case: &'static str,
    pub(crate) program: &'static str,
    pub(crate) arguments: Vec<String>,
    /// Where it listens, if it cannot say so on stderr.
    pub(crate) address: Option<SocketAddr>,
    /// Its access log, where that goes to stdout.
    pub(crate) stdout: PathBuf,
    executable: PathBuf,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program, self.case)
    }
}

impl Contender {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .args(&self.arguments)
            .env_remove("RUST_BACKTRACE")
            .env_remove("RUST_LOG");
        command
    }
}

/// The programs on this machine, and a place for their files.
pub(crate) struct Installed {
    scratch: PathBuf,
    pub(crate) wasmtime: Option<String>,
    pub(crate) nginx: Option<String>,
    pub(crate) gunicorn: Option<String>,
    pub(crate) wrk: Option<String>,
}

impl Installed {
    pub(crate) fn look(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_owned(),
            wasmtime: version("wasmtime", "--version"),
            nginx: version("nginx", "-v"),
            gunicorn: version("gunicorn", "--version"),
            wrk: wrk::version(),
        }
    }

    /// `host serve` as it is by default: access log, limits and deadlines on.
    pub(crate) fn host(&self, case: &'static str, guest: &Path, flags: &[&str]) -> Contender {
        let cache = self.cache().display().to_string();
        let mut arguments = words(&["serve", "--addr", "127.0.0.1:0", "--cache", &cache]);
        arguments.extend(words(flags));
        arguments.push(guest.display().to_string());
        let host = Path::new(env!("CARGO_BIN_EXE_host"));
        self.contender(case, "host serve", host, arguments)
    }

    /// Where `host` keeps what it has compiled for these measurements.
    pub(crate) fn cache(&self) -> PathBuf {
        self.scratch.join("components")
    }

    /// The same with `wasmtime serve`. `-Scli` is no privilege: Rust's standard library imports it.
    pub(crate) fn wasmtime(
        &self,
        case: &'static str,
        guest: &Path,
        flags: &[&str],
    ) -> Option<Contender> {
        self.wasmtime.as_ref()?;
        let mut arguments = words(&["serve", "--addr", "127.0.0.1:0", "-Scli"]);
        arguments.extend(words(flags));
        arguments.push(guest.display().to_string());
        let wasmtime = Path::new("wasmtime");
        Some(self.contender(case, "wasmtime serve", wasmtime, arguments))
    }

    pub(crate) fn hyper(&self, case: &'static str) -> anyhow::Result<Contender> {
        let this = std::env::current_exe().context("finding this program")?;
        Ok(self.contender(case, "hyper alone", &this, words(&["--hyper-alone"])))
    }

    /// One worker a core, access log on as by default.
    pub(crate) fn nginx(&self, case: &'static str) -> anyhow::Result<Option<Contender>> {
        self.nginx_with(case, "", "")
    }

    /// The same with words of its own after the address, and settings beside it.
    pub(crate) fn nginx_with(
        &self,
        case: &'static str,
        listen: &str,
        settings: &str,
    ) -> anyhow::Result<Option<Contender>> {
        if self.nginx.is_none() {
            return Ok(None);
        }
        let address = free_address()?;
        let directory = self.scratch.display().to_string();
        let answer = HELLO.escape_default();
        let mut config = format!(
            "daemon off; worker_processes auto; error_log stderr; pid nginx.pid;
             events {{ worker_connections 12000; }}
             http {{
               access_log nginx.log; default_type text/plain; keepalive_requests 1000000000;
               server {{ listen {address} {listen}; {settings} location / {{ return 200 \"{answer}\"; }} }}\n"
        );
        // By default these lie where only root may write.
        for user in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            config += &format!("{user}_temp_path {user};\n");
        }
        let file = format!("nginx-{}.conf", address.port());
        fs::write(self.scratch.join(&file), config + "}\n")?;
        let arguments = words(&["-p", &directory, "-c", &file, "-e", "stderr"]);
        Ok(Some(Contender {
            address: Some(address),
            ..self.contender(case, "nginx `return 200`", Path::new("nginx"), arguments)
        }))
    }

    /// As the tutorial deploys it: four workers. It closes the connection after each answer.
    pub(crate) fn gunicorn(&self, case: &'static str) -> anyhow::Result<Option<Contender>> {
        if self.gunicorn.is_none() {
            return Ok(None);
        }
        let answer = HELLO.escape_default();
        let app = format!(
            "def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '{}')])
    return [b'{answer}']\n",
            HELLO.len()
        );
        fs::write(self.scratch.join("app.py"), app)?;
        let directory = self.scratch.display().to_string();
        let arguments = words(&["-w4", "-b127.0.0.1:0", "--chdir", &directory, "app:app"]);
        let gunicorn = Path::new("gunicorn");
        Ok(Some(self.contender(
            case,
            "gunicorn -w4",
            gunicorn,
            arguments,
        )))
    }

    fn contender(
        &self,
        case: &'static str,
        program: &'static str,
        executable: &Path,
        arguments: Vec<String>,
    ) -> Contender {
        Contender {
            case,
            program,
            arguments,
            address: None,
            stdout: self.scratch.join("stdout.log"),
            executable: executable.to_owned(),
        }
    }

    /// A line for each program that is not there.
    pub(crate) fn absent(&self) -> Vec<String> {
        [
            ("wasmtime", &self.wasmtime),
            ("nginx", &self.nginx),
            ("gunicorn", &self.gunicorn),
        ]
        .into_iter()
        .filter(|(_, version)| version.is_none())
        .map(|(name, _)| format!("`{name}` is not installed and was left out"))
        .collect()
    }

    /// Asks for these targets in turn, over [`load::CONNECTIONS`] at once for so long: with `wrk`, or if it is not there with a client
    /// of ours, which costs more.
    pub(crate) fn load(
        &self,
        address: SocketAddr,
        period: Duration,
        targets: &[String],
    ) -> anyhow::Result<Load> {
        if self.wrk.is_some() {
            return wrk::run(address, period, targets);
        }
        let requests: Vec<_> = targets.iter().map(|it| load::request(it)).collect();
        load::run_with(address, period, &requests)
    }

    /// Who asks in [`Self::load`].
    pub(crate) fn client(&self) -> &str {
        self.wrk
            .as_deref()
            .unwrap_or("a client of this program, since `wrk` is not installed")
    }
}

/// What a program says of itself, in a line; None if it is not there or does not run.
fn version(program: &str, flag: &str) -> Option<String> {
    let told = Command::new(program).arg(flag).output().ok()?;
    let text = [told.stdout, told.stderr].concat();
    let line = str::from_utf8(&text)
        .ok()?
        .lines()
        .next()?
        .trim()
        .to_owned();
    told.status.success().then_some(line)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?)
}
