//! One run of cargo that can be stopped, and whose words go to the terminal and into a page.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::terminal;
use super::workshop::Broken;
use crate::cli::cargo::{Crate, Purpose};
use crate::limits;

/// Builds a crate. Dropping the future stops the compiler.
pub(super) async fn build(guest: &Crate) -> Result<PathBuf, Broken> {
    let cannot = |error: anyhow::Error| Broken {
        what: format!("`{}` cannot be built", guest.name),
        why: format!("{error:#}"),
        is_told: false,
    };
    let (said, components, is_success) = run(guest).await.map_err(cannot)?;
    if !is_success {
        return Err(Broken {
            what: format!("`{}` does not compile", guest.name),
            why: from_first_complaint(&terminal::plain(&said)),
            is_told: true,
        });
    }
    guest.component(&components).map_err(cannot)
}

async fn run(guest: &Crate) -> anyhow::Result<(String, Vec<u8>, bool)> {
    let mut command = guest.command(Purpose::See);
    let colours = if terminal::has_colours() {
        "always"
    } else {
        "never"
    };
    command
        .env("CARGO_TERM_COLOR", colours)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Command::from(command)
        // Of its own group: cargo's compilers are stopped with it.
        .process_group(0)
        .spawn()
        .context("`cargo` cannot be run: install Rust from https://rustup.rs")?;
    let mut group = Group::of(&child);
    let stdout = child.stdout.take().context("the pipe of cargo")?;
    let stderr = child.stderr.take().context("the pipe of cargo")?;
    let mut components = Vec::new();
    let mut stdout = stdout;
    let (said, read) = tokio::join!(tee(stderr), stdout.read_to_end(&mut components));
    read.context("reading what cargo says")?;
    let status = child.wait().await.context("waiting for cargo")?;
    group.has_ended();
    Ok((said, components, status.success()))
}

/// Passes on what comes, and keeps its beginning, where the first mistake is.
async fn tee(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 8 * limits::KIB];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let chunk = &chunk[..read];
        // A terminal that is gone is no reason to stop.
        let _ = std::io::stderr().write_all(chunk);
        let room = limits::COMPILER_MESSAGE.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Without the list of what was compiled before.
fn from_first_complaint(said: &str) -> String {
    let is_complaint = |line: &&str| line.starts_with("error") || line.starts_with("warning");
    let start = said
        .lines()
        .find(is_complaint)
        .map_or(0, |line| line.as_ptr() as usize - said.as_ptr() as usize);
    said[start..].to_owned()
}

/// Processes that end when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Its number may soon be another's.
    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_begins_with_the_first_complaint() {
        let said =
            "   Compiling shop v0.1.0\nerror[E0425]: no `x`\n --> src/lib.rs\nerror: 1 more\n";
        let message = super::from_first_complaint(said);
        assert!(
            message.starts_with("error[E0425]: no `x`\n --> "),
            "{message}"
        );
        assert_eq!(super::from_first_complaint("Blocking\n"), "Blocking\n");
    }
}
