//! What a guest did wrong.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi_http::{Error as HttpError, FieldMapError};

use super::state::State;
use crate::capabilities::outbound_http::code_name;
use crate::files;
use crate::observe::printable;

/// What a guest did wrong, and what the log should say of it. Never shown to a client.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Why, in a sentence for the log.
    pub detail: String,
    /// The guest's functions, innermost first, a line each. Empty unless it trapped.
    pub backtrace: Vec<String>,
}

/// The kinds of [`Fault`] that get different answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// A trap: an `unreachable`, a panic, an abort, an access out of bounds, an exit.
    Trap,
    /// Unbounded recursion.
    StackOverflow,
    /// A trap after memory, tables or resources were refused.
    MemoryLimit,
    /// The CPU budget is spent.
    CpuLimit,
    /// The instance could not be made: its start function trapped.
    StartFailed,
    /// The handler returned and answered nothing.
    NoResponse,
    /// A response that cannot be sent as HTTP.
    InvalidResponse,
    /// The handler answered with a `wasi:http/types.error-code`; its name.
    ErrorCode(&'static str),
    /// There was no room for another instance: in the pool, among open files, in memory.
    NoRoom,
}

impl FaultKind {
    /// Whether it ended the instance of its guest, whatever else that was serving.
    pub(super) fn ends_instance(self) -> bool {
        matches!(
            self,
            Self::Trap | Self::StackOverflow | Self::MemoryLimit | Self::CpuLimit
        )
    }
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            // A guest may have chosen the words.
            detail: printable(detail.into().as_bytes()),
            backtrace: Vec::new(),
        }
    }

    pub(super) fn error_code(error: &HttpError) -> Self {
        Self::new(FaultKind::ErrorCode(code_name(error)), error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}

/// The epoch's callback found the budget spent.
#[derive(Debug)]
pub(super) struct CpuBudgetSpent;

impl fmt::Display for CpuBudgetSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the CPU budget of the request is spent")
    }
}

impl std::error::Error for CpuBudgetSpent {}

/// When in an instance's life an error arose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Start,
    Call,
}

/// Names what an error of wasmtime means.
pub(super) fn classify(error: &wasmtime::Error, state: &State, stage: Stage) -> Fault {
    let trap = error.downcast_ref::<Trap>();
    let is_for_now = stage == Stage::Start && files::is_for_now(error.as_ref());
    let has_no_place = error.is::<wasmtime::PoolConcurrencyLimitError>() || is_for_now;
    let kind = if has_no_place || state.memory.crowded {
        FaultKind::NoRoom
    } else if error.is::<CpuBudgetSpent>() {
        FaultKind::CpuLimit
    } else if trap == Some(&Trap::StackOverflow) {
        FaultKind::StackOverflow
    } else if trap == Some(&Trap::NoAsyncResult) {
        FaultKind::NoResponse
    } else if state.memory.refused || is_table_full(error) || error.is::<FieldMapError>() {
        FaultKind::MemoryLimit
    } else if stage == Stage::Start {
        FaultKind::StartFailed
    } else {
        FaultKind::Trap
    };
    Fault {
        kind,
        detail: printable(error.root_cause().to_string().as_bytes()),
        backtrace: backtrace(error),
    }
}

fn is_table_full(error: &wasmtime::Error) -> bool {
    use wasmtime::component::ResourceTableError;
    matches!(error.downcast_ref(), Some(ResourceTableError::Full))
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let line = |frame: &wasmtime::FrameInfo| {
        let module = frame.module().name().unwrap_or("<module>");
        match frame.func_name() {
            Some(name) => format!("{module}!{:#}", rustc_demangle(name)),
            None => format!("{module}!<function {}>", frame.func_index()),
        }
    };
    backtrace
        .frames()
        .iter()
        .take(FRAMES)
        .map(line)
        .map(|line| printable(line.as_bytes()))
        .collect()
}

/// Frames kept of a backtrace: recursion has tens of thousands.
const FRAMES: usize = 20;

/// Names as the author wrote them; others than Rust's pass unchanged.
fn rustc_demangle(name: &str) -> impl fmt::Display {
    rustc_demangle::demangle(name)
}
