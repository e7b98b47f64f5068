//! The compiler's side of compiling: a process that limits itself, reads one component, writes one artifact, and ends.
//!
//! Standard input: the component's length as eight bytes, the component, then nothing until the parent lets go.
//! Standard output: the artifact. Standard error: one line if there is none.

use super::platform::ProcessCeilings;
use crate::engine::{self, Generation, Target};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// The hidden subcommand of the host's own binary.
pub const SUBCOMMAND: &str = "__compile";

/// The exit code that says: the component is at fault, and why is on standard error.
pub(super) const INVALID: u8 = 1;
/// The exit code of a child that was called wrongly or could not use its pipes.
const BROKEN: u8 = 2;
/// The exit code of a child whose parent went away; nobody is left to read it.
const ORPHANED: i32 = 3;

/// Runs as the child: what follows [`SUBCOMMAND`] are its arguments. To be called before any thread is started.
pub fn child_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match compile(args) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(invalid)) => complain(INVALID, &format!("{invalid:#}")),
        Err(error) => complain(BROKEN, &error.to_string()),
    }
}

fn complain(code: u8, message: &str) -> ExitCode {
    // Nothing is left to do about a line that cannot be written.
    let _ = writeln!(io::stderr(), "{}", message.replace('\n', ": "));
    ExitCode::from(code)
}

/// The outer error is ours, the inner one is the component's.
fn compile(args: impl Iterator<Item = OsString>) -> io::Result<anyhow::Result<()>> {
    let order =
        Order::parse(args).ok_or_else(|| io::Error::other("this subcommand is the host's own"))?;
    order.ceilings.impose()?;
    let wasm = read_component(io::stdin().lock())?;
    std::thread::Builder::new().spawn(end_with_the_parent)?;
    match engine::compile(order.target, &wasm) {
        Ok(artifact) => io::stdout().write_all(&artifact).map(Ok),
        Err(invalid) => Ok(Err(invalid)),
    }
}

fn read_component(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
    let mut wasm = vec![0; length];
    from.read_exact(&mut wasm)?;
    Ok(wasm)
}

/// The pipe closes when the parent drops the compilation or dies, however it dies. Not `PR_SET_PDEATHSIG`: that is bound
/// to the parent's *thread*, and a runtime retires threads.
fn end_with_the_parent() {
    let _ = io::stdin().lock().read(&mut [0]);
    std::process::exit(ORPHANED);
}

/// The arguments after [`SUBCOMMAND`].
pub(super) struct Order {
    pub(super) target: Target,
    pub(super) ceilings: ProcessCeilings,
}

impl Order {
    pub(super) fn to_args(&self) -> [String; 4] {
        let ProcessCeilings {
            memory,
            cpu_seconds,
            output,
        } = self.ceilings;
        [
            self.target.as_str().to_owned(),
            memory.to_string(),
            cpu_seconds.to_string(),
            output.to_string(),
        ]
    }

    fn parse(args: impl Iterator<Item = OsString>) -> Option<Order> {
        let args: Vec<_> = args
            .map(OsString::into_string)
            .collect::<Result<_, _>>()
            .ok()?;
        let [target, memory, cpu_seconds, output] = args.as_slice() else {
            return None;
        };
        Some(Order {
            target: Target::ALL.into_iter().find(|it| it.as_str() == target)?,
            ceilings: ProcessCeilings {
                memory: memory.parse().ok()?,
                cpu_seconds: cpu_seconds.parse().ok()?,
                output: output.parse().ok()?,
            },
        })
    }
}

/// The inverse of `Generation::as_str`.
pub(super) fn parse_generation(text: &str) -> Option<Generation> {
    [Generation::P2, Generation::P3]
        .into_iter()
        .find(|generation| generation.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_command_line() {
        let ceilings = ProcessCeilings {
            memory: 1 << 32,
            cpu_seconds: 60,
            output: 7,
        };
        for target in Target::ALL {
            let args = Order { target, ceilings }.to_args();
            let order = Order::parse(args.iter().map(OsString::from)).expect("parsed");
            assert_eq!((order.target, order.to_args()), (target, args));
        }
        let less = ["0.3", "1", "60"];
        assert!(Order::parse(less.into_iter().map(OsString::from)).is_none());
        assert!(Order::parse(std::iter::empty()).is_none());
    }

    #[test]
    fn a_component_cut_short_is_not_compiled() {
        let mut sent = 5_u64.to_le_bytes().to_vec();
        sent.extend(b"wasm!");
        assert_eq!(read_component(&sent[..]).expect("read"), b"wasm!");
        assert!(read_component(&sent[..12]).is_err());
    }
}
