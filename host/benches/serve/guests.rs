//! The guests that are served, built from this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

const TARGET: &str = "wasm32-wasip2";

/// Paths of components.
pub(crate) struct Guests {
    pub(crate) hello: PathBuf,
    pub(crate) hello_p3: PathBuf,
    pub(crate) echo: PathBuf,
    pub(crate) echo_p3: PathBuf,
    pub(crate) faults: PathBuf,
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
            .args([
                "-p", "hello", "-p", "hello-p3", "-p", "echo", "-p", "echo-p3", "-p", "faults",
            ])
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
        })
    }
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
