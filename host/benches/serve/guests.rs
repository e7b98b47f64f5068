//! The guests that are served, built from this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::load::HELLO;

const TARGET: &str = "wasm32-wasip2";
const PACKAGES: [&str; 6] = [
    "hello",
    "hello-p3",
    "echo",
    "echo-p3",
    "faults",
    "faults-p3",
];

/// Paths of components.
pub(crate) struct Guests {
    pub(crate) hello: PathBuf,
    pub(crate) hello_p3: PathBuf,
    pub(crate) echo: PathBuf,
    pub(crate) echo_p3: PathBuf,
    pub(crate) faults: PathBuf,
    pub(crate) faults_p3: PathBuf,
}

impl Guests {
    pub(crate) fn build() -> anyhow::Result<Self> {
        add_target()?;
        // A target directory of their own: cargo, which runs us, holds the lock of its own.
        let host = Path::new(env!("CARGO_BIN_EXE_host"));
        let target = host.ancestors().nth(2).context("no target directory")?;
        let target = target.join("guests");
        let built = clean("CARGO", "cargo")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .args(["build", "--profile", "guest", "--target", TARGET])
            .args(PACKAGES.iter().flat_map(|package| ["-p", *package]))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .context("starting cargo")?;
        ensure!(built.success(), "the guests were not built");
        let guest = |name: &str| target.join(TARGET).join("guest").join(name);
        Ok(Self {
            hello: guest("hello.wasm"),
            hello_p3: guest("hello_p3.wasm"),
            echo: guest("echo.wasm"),
            echo_p3: guest("echo_p3.wasm"),
            faults: guest("faults.wasm"),
            faults_p3: guest("faults_p3.wasm"),
        })
    }

    /// A copy of `hello` that says something else, and as much: up to twelve characters of it are told apart.
    pub(crate) fn version(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let mut wasm =
            fs::read(&self.hello).with_context(|| format!("reading `{}`", self.hello.display()))?;
        let greeting = HELLO.trim_end().as_bytes();
        let at = wasm
            .windows(greeting.len())
            .position(|window| window == greeting)
            .context("`hello` does not say what it should")?;
        let said = format!("Hello from {name:<12}");
        wasm[at..at + greeting.len()].copy_from_slice(said.as_bytes());
        Ok(wasm)
    }
}

/// A section that makes any component a large one, if it is put behind it: a module that nothing uses and a compiler must
/// go through, 1.1 MB of arithmetic.
pub(crate) fn ballast() -> anyhow::Result<Vec<u8>> {
    let step = "(local.set 0 (i64.add (i64.mul (local.get 0) (i64.const 99)) (local.get 1)))";
    let function = format!(
        "(func (param i64 i64) (result i64) {} (local.get 0))",
        step.repeat(100)
    );
    let module = wat::parse_str(format!("(module {})", function.repeat(1_000)))?;
    let mut section = vec![1]; // a core module, and its length in LEB128
    let mut length = module.len();
    while length >= 0x80 {
        section.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    section.push(length as u8);
    section.extend(module);
    Ok(section)
}

fn add_target() -> anyhow::Result<()> {
    let asked = clean("RUSTC", "rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("starting rustc")?;
    if Path::new(String::from_utf8_lossy(&asked.stdout).trim()).is_dir() {
        return Ok(());
    }
    eprintln!("guests need the target {TARGET}: rustup target add {TARGET}");
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .status();
    ensure!(
        added.is_ok_and(|status| status.success()),
        "the target was not added: run `rustup target add {TARGET}`"
    );
    Ok(())
}

/// A tool without the settings that were made for this program's own build.
fn clean(variable: &str, tool: &str) -> Command {
    let tool = std::env::var_os(variable).unwrap_or_else(|| tool.into());
    let mut command = Command::new(tool);
    for made_for_us in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
    ] {
        command.env_remove(made_for_us);
    }
    command
}
