//! Compiling, seen from the process that serves: a child is started, fed, watched, and killed if need be.
//!
//! A few hundred kilobytes can keep a compiler busy for minutes or take gigabytes, so it never runs here.

use super::child::{Order, SUBCOMMAND};
use super::compile_error::CompileError;
use super::config::Ceilings;
use super::platform::{self, ProcessCeilings};
use crate::capabilities::share::{Held, Shared, Sharer};
use crate::engine::Target;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, Command};

/// Starts compilers, a few at once.
#[derive(Debug)]
pub(super) struct Compiler {
    program: PathBuf,
    ceilings: Ceilings,
    places: Shared,
    compiled: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    nanos: AtomicU64,
}

/// What was compiled since the start.
#[derive(Debug, Clone, Copy)]
pub struct Compiled {
    /// Components that there is an artifact of.
    pub done: u64,
    /// Those that there is none of, nor will be.
    pub failed: u64,
    /// How long it took, on the clock, all together.
    pub took: Duration,
}

/// The right to start one compiler.
pub(super) struct Place {
    _held: Held,
}

/// Enough for "failed to compile: function …"; a hostile component can make it say more.
const MESSAGE_BYTES: u64 = 4096;

impl Compiler {
    pub(super) fn new(program: Option<PathBuf>, ceilings: Ceilings, at_once: usize) -> Compiler {
        let program = program.unwrap_or_else(platform::own_program);
        Compiler {
            program,
            ceilings,
            places: Shared::new(at_once.max(1)),
            compiled: Counts::default(),
        }
    }

    /// Waits for a place. Those who wait are as many as there are handlers being deployed. Of each who shares one is in the queue at
    /// most, so whoever comes waits behind one of each other, until it is done or has used up its time.
    pub(super) async fn place(&self, sharer: &Sharer) -> Place {
        Place {
            _held: self.places.share(sharer).take(1).await,
        }
    }

    /// What was compiled so far.
    pub(super) fn compiled(&self) -> Compiled {
        Compiled {
            done: self.compiled.done.load(Ordering::Relaxed),
            failed: self.compiled.failed.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.compiled.nanos.load(Ordering::Relaxed)),
        }
    }

    /// Compiles a component into a file without a name. Dropping the future kills the compiler.
    pub(super) async fn compile(
        &self,
        place: Place,
        target: Target,
        wasm: &[u8],
    ) -> Result<File, CompileError> {
        let began = Instant::now();
        let compiled = self.try_compile(place, target, wasm).await;
        let counts = &self.compiled;
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counts.nanos.fetch_add(nanos, Ordering::Relaxed);
        let count = if compiled.is_ok() {
            &counts.done
        } else {
            &counts.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
        compiled
    }

    async fn try_compile(
        &self,
        _place: Place,
        target: Target,
        wasm: &[u8],
    ) -> Result<File, CompileError> {
        let artifact = platform::nameless_file().map_err(CompileError::Spawn)?;
        let mut child = self
            .command(target, &artifact)?
            .spawn()
            .map_err(CompileError::Spawn)?;
        let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(CompileError::Spawn(io::Error::other("no pipes")));
        };
        let done = async { tokio::join!(child.wait(), feed(stdin, wasm), message(stderr)) };
        let finished = tokio::time::timeout(self.ceilings.wall, done).await;
        let Ok((status, _open, message)) = finished else {
            // Reaped here rather than some time later: its memory is given back before the next one starts.
            let _ = child.kill().await;
            return Err(CompileError::TimedOut {
                limit: self.ceilings.wall,
            });
        };
        CompileError::check(
            status.map_err(CompileError::Spawn)?,
            message,
            &self.ceilings,
        )?;
        Ok(artifact)
    }

    fn command(&self, target: Target, artifact: &File) -> Result<Command, CompileError> {
        let threads = self.ceilings.threads.max(1);
        let ceilings = ProcessCeilings {
            memory: self.ceilings.memory,
            // The kernel counts whole seconds.
            cpu_seconds: u64::try_from(self.ceilings.cpu.as_millis().div_ceil(1000))
                .unwrap_or(u64::MAX),
            output: self.ceilings.output,
        };
        let mut command = Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .args(Order { target, ceilings }.to_args())
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            // The allocator asks for a GiB at a time, and all of it would count.
            .env("MIMALLOC_ARENA_RESERVE", "64MiB")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(artifact.try_clone().map_err(CompileError::Spawn)?)
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }
}

/// Sends the component and gives the pipe back still open: the child ends when it closes. A child that has died does
/// not read to the end; its status says why.
async fn feed(mut stdin: ChildStdin, wasm: &[u8]) -> ChildStdin {
    if stdin
        .write_all(&(wasm.len() as u64).to_le_bytes())
        .await
        .is_ok()
    {
        let _ = stdin.write_all(wasm).await;
    }
    stdin
}

/// Keeps the beginning and lets the rest pass, so that the child never waits for a reader.
async fn message(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    let _ = (&mut stderr)
        .take(MESSAGE_BYTES)
        .read_to_end(&mut kept)
        .await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&kept);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn who_comes_with_many_has_one_compiled_and_then_others_are_next() {
        let compiler = Compiler::new(None, Ceilings::default(), 1);
        let [loud, gone, quiet] = ["loud", "gone", "quiet"].map(|it| Sharer::Tenant(it.into()));
        let held = compiler.place(&loud).await;
        let mut second = Box::pin(compiler.place(&loud));
        let mut gone = Box::pin(compiler.place(&gone));
        let mut other = Box::pin(compiler.place(&quiet));
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut gone).is_pending());
        assert!(poll!(&mut other).is_pending());
        drop(held);
        // It was its turn.
        drop(gone);
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut other).is_ready());
        assert!(poll!(&mut second).is_ready());
    }
}
