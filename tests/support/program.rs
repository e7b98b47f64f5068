//! The program as a process: started, listened to, ended.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, skipped, turns};

/// Where a host has its socket, in a directory that is its own.
const RUNTIME: &str = "XDG_RUNTIME_DIR";

/// The program, running. Killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    /// The socket that it has if nobody says another place.
    pub(crate) socket: Option<PathBuf>,
    stdout: Lines,
    stderr: Lines,
}

/// How it ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

/// Runs the program to its end, with `words` as its command line.
pub(crate) fn host(words: &str) -> Ended {
    host_with_env(words, &[])
}

pub(crate) fn host_with_env(words: &str, environment: &[(&str, &str)]) -> Ended {
    let mut command = command();
    command
        .args(words.split_whitespace())
        .envs(environment.iter().copied());
    Program::start(command).ended()
}

/// The program with nothing in its environment that would change what it does.
pub(crate) fn command() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_host")))
}

/// The program with a ceiling of open files, soft and hard.
pub(crate) fn command_with_open_files(most: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &format!(
            "ulimit -n {most}; exec {} \"$@\"",
            env!("CARGO_BIN_EXE_host")
        ),
        "host",
    ]);
    without_settings(shell)
}

/// The program with `names` in the place of `/etc/hosts`, and `name` is one of them. Nothing where that may not be, which is said.
pub(crate) fn command_with_names(names: &Path, name: &str) -> Option<Command> {
    const MOUNT: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let own_mounts = |user: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(user);
        command.args(["sh", "-c", MOUNT]).arg(names);
        command
    };
    let users: [&[&str]; 2] = [&[], &["--map-root-user"]];
    for user in users {
        // Asked as the program will ask: some systems look elsewhere first.
        let found = own_mounts(user).args(["getent", "hosts", name]).output();
        if found.is_ok_and(|found| found.status.success()) {
            let mut command = own_mounts(user);
            command.arg(env!("CARGO_BIN_EXE_host"));
            return Some(without_settings(command));
        }
    }
    skipped(
        "a name whose addresses change: `unshare` may not give the host an `/etc/hosts` of its own: run as root",
    );
    None
}

/// The program with these sockets from descriptor 3 on, as systemd starts it.
pub(crate) fn activated(sockets: &[OwnedFd], names: &str) -> Command {
    let program = command();
    let mut script = String::new();
    for (nth, socket) in sockets.iter().enumerate() {
        // Copies lose the mark that closes them at the start of a program.
        script.push_str(&format!("exec {}<&{}; ", nth + 3, socket.as_raw_fd()));
    }
    let count = sockets.len();
    script.push_str(&format!(
        "export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; exec {} \"$@\"",
        program.get_program().display()
    ));
    let mut shell = Command::new("bash");
    shell.args(["-c", &script, "host"]);
    without_settings(shell)
}

/// At a place where none of the first descriptors is in its way, and inherited by who is started.
pub(crate) fn inheritable(socket: impl Into<OwnedFd>) -> OwnedFd {
    let moved = rustix::io::fcntl_dupfd_cloexec(socket.into(), 50).expect("a descriptor");
    rustix::io::fcntl_setfd(&moved, rustix::io::FdFlags::empty()).expect("set");
    moved
}

/// Hosts that are started at once do not meet at one socket or in one state directory.
pub(crate) fn without_settings(mut command: Command) -> Command {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    turns::beside_others();
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = format!("own-{}-{nth}", std::process::id());
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join(own);
    command
        .env(RUNTIME, own.join("run"))
        .env("XDG_STATE_HOME", own.join("state"));
    for name in [
        "HOST_ADDR",
        "HOST_ADMIN",
        "HOST_ADMIN_TOKEN_FILE",
        "STATE_DIRECTORY",
        "PORT",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "NO_COLOR",
        "RUST_LOG",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
    command
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        turns::beside_others();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        let runtime = command.get_envs().find(|(name, _)| *name == RUNTIME);
        let runtime = runtime.and_then(|(_, path)| path.map(PathBuf::from));
        Self {
            child,
            socket: runtime.map(|runtime| runtime.join("host/admin.sock")),
            stdout,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signalled");
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        let status = eventually("the program's end", || self.status());
        Ended {
            code: status.code(),
            stdout: self.stdout.all(),
            stderr: self.stderr.all(),
        }
    }

    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its status")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let own = self.socket.as_ref().and_then(|it| it.ancestors().nth(3));
        if let Some(own) = own {
            let _ = std::fs::remove_dir_all(own);
        }
        if std::thread::panicking() {
            let said = self.stderr.so_far();
            let last = said.len().saturating_sub(20);
            eprintln!("the host's last words: {:#?}", &said[last..]);
        }
    }
}

impl Ended {
    pub(crate) fn stderr_text(&self) -> String {
        self.stderr.join("\n")
    }

    pub(crate) fn stdout_text(&self) -> String {
        self.stdout.join("\n")
    }
}

/// Lines of a stream, collected by a thread so that the program never waits for us.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                collected.lock().expect("not poisoned").push(line);
            }
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    /// After the program's end.
    fn all(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader");
        }
        self.so_far()
    }
}
