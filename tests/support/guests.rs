//! The guests of the workspace, built once per run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A guest crate, by the name of its package.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guest(&'static str);

pub(crate) const HELLO: Guest = Guest("hello");
pub(crate) const HELLO_P3: Guest = Guest("hello-p3");
pub(crate) const ECHO: Guest = Guest("echo");
pub(crate) const ECHO_P3: Guest = Guest("echo-p3");
pub(crate) const METHODS: Guest = Guest("methods");
pub(crate) const STATIC_FILES: Guest = Guest("static-files");
pub(crate) const FAULTS: Guest = Guest("faults");
pub(crate) const FAULTS_P3: Guest = Guest("faults-p3");
pub(crate) const GREEDY: Guest = Guest("greedy");
pub(crate) const CONFIG: Guest = Guest("config");
pub(crate) const CONFIG_P3: Guest = Guest("config-p3");
pub(crate) const PROBE: Guest = Guest("probe");
pub(crate) const PROBE_P3: Guest = Guest("probe-p3");
pub(crate) const FETCH: Guest = Guest("fetch");
pub(crate) const FETCH_P3: Guest = Guest("fetch-p3");
pub(crate) const COUNTER: Guest = Guest("counter");
pub(crate) const GUESTBOOK: Guest = Guest("guestbook");
pub(crate) const BUCKETS: Guest = Guest("buckets");
pub(crate) const UPLOAD: Guest = Guest("upload");
pub(crate) const RELAY: Guest = Guest("relay");
pub(crate) const RELAY_P3: Guest = Guest("relay-p3");

/// The same guest in wasi:http 0.2 and 0.3, for claims that hold for both.
pub(crate) const BOTH_HELLOS: [Guest; 2] = [HELLO, HELLO_P3];
pub(crate) const BOTH_ECHOES: [Guest; 2] = [ECHO, ECHO_P3];
pub(crate) const BOTH_FAULTS: [Guest; 2] = [FAULTS, FAULTS_P3];
pub(crate) const BOTH_RELAYS: [Guest; 2] = [RELAY, RELAY_P3];
pub(crate) const BOTH_CONFIGS: [Guest; 2] = [CONFIG, CONFIG_P3];
pub(crate) const BOTH_FETCHES: [Guest; 2] = [FETCH, FETCH_P3];

const ALL: [Guest; 21] = [
    HELLO,
    HELLO_P3,
    ECHO,
    ECHO_P3,
    METHODS,
    STATIC_FILES,
    FAULTS,
    FAULTS_P3,
    GREEDY,
    CONFIG,
    CONFIG_P3,
    PROBE,
    PROBE_P3,
    FETCH,
    FETCH_P3,
    RELAY,
    RELAY_P3,
    COUNTER,
    GUESTBOOK,
    BUCKETS,
    UPLOAD,
];

impl Guest {
    /// The component's file; the first who asks builds all of them.
    pub(crate) fn path(self) -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        BUILT
            .get_or_init(build)
            .join(self.0.replace('-', "_"))
            .with_extension("wasm")
    }

    pub(crate) fn is_p3(self) -> bool {
        self.0.ends_with("-p3")
    }

    /// The handler's name in logs: the file's.
    pub(crate) fn handler(self) -> String {
        self.0.replace('-', "_")
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Cargo holds the lock of the outer target directory, hence one of our own; and what the outer build
/// was told is not meant for guests.
fn build() -> PathBuf {
    add_target();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("a target directory")
        .join("guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--profile", "guest", "--target", TARGET])
        .args(ALL.iter().flat_map(|guest| ["-p", guest.0]))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the guests do not build");
    target.join(TARGET).join("guest")
}

const TARGET: &str = "wasm32-wasip2";

fn add_target() {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .expect("rustc starts");
    let libraries = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if !Path::new(&libraries).is_dir() {
        eprintln!("adding the target {TARGET}: rustup target add {TARGET}");
        let added = Command::new("rustup")
            .args(["target", "add", TARGET])
            .status()
            .is_ok_and(|status| status.success());
        assert!(added, "guests need this: rustup target add {TARGET}");
    }
}
