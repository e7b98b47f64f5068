//! Why a compiler's process gave no artifact.

use super::child::INVALID;
use super::config::Ceilings;
use super::refusal::Bytes;
use rustix::process::Signal;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Why there is no artifact.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompileError {
    /// It used more CPU time than it may.
    TooDear {
        /// CPU time.
        limit: Duration,
    },
    /// It took too long and was killed.
    TimedOut {
        /// What was allowed.
        limit: Duration,
    },
    /// It took too much memory.
    OutOfMemory {
        /// What was allowed, in bytes.
        limit: u64,
    },
    /// The artifact would be too large.
    TooLarge {
        /// What was allowed, in bytes.
        limit: u64,
    },
    /// The compiler said no.
    Invalid(String),
    /// The compiler fell over.
    Crashed {
        /// The signal that ended it, if one did.
        signal: Option<i32>,
        /// Its last words.
        message: String,
    },
    /// The child could not be started or spoken with.
    Spawn(io::Error),
}

impl CompileError {
    /// Reads from the way the child ended, and its last words, whether there is an artifact.
    pub(super) fn check(
        status: ExitStatus,
        message: String,
        ceilings: &Ceilings,
    ) -> Result<(), CompileError> {
        let signal = status.signal().and_then(Signal::from_named_raw);
        if status.success() {
            Ok(())
        } else if signal == Some(Signal::XCPU) {
            Err(CompileError::TooDear {
                limit: ceilings.cpu,
            })
        } else if signal == Some(Signal::XFSZ) {
            Err(CompileError::TooLarge {
                limit: ceilings.output,
            })
        } else if [
            "memory allocation of",
            "Cannot allocate memory",
            "out of memory",
            // A thread that gets no stack.
            "Resource temporarily unavailable",
        ]
        .iter()
        .any(|sign| message.contains(sign))
        {
            Err(CompileError::OutOfMemory {
                limit: ceilings.memory,
            })
        } else if status.code() == Some(INVALID.into()) {
            Err(CompileError::Invalid(message))
        } else {
            Err(CompileError::Crashed {
                signal: status.signal(),
                message,
            })
        }
    }
}

impl std::error::Error for CompileError {}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::TooDear { limit } => write!(
                f,
                "compiling takes more than {} s of CPU time and was stopped: build the component \
                 optimised, look for a function of extraordinary size, or raise `--compile-cpu`",
                limit.as_secs_f32()
            ),
            CompileError::TimedOut { limit } => write!(
                f,
                "compiling was not done within {} s and was stopped: the machine may be too busy, try again or \
                 raise `--compile-timeout`",
                limit.as_secs_f32()
            ),
            CompileError::OutOfMemory { limit } => write!(
                f,
                "compiling needs more than {} of memory and was stopped: build the component for size, or raise \
                 `--compile-memory`",
                Bytes(*limit)
            ),
            CompileError::TooLarge { limit } => {
                write!(
                    f,
                    "compiled it is larger than {}: build the component for size",
                    Bytes(*limit)
                )
            }
            CompileError::Invalid(message) => write!(f, "the compiler refuses it: {message}"),
            CompileError::Crashed {
                signal: Some(signal),
                message,
            } => {
                write!(
                    f,
                    "the compiler was ended by signal {signal}{}",
                    last_words(message)
                )
            }
            CompileError::Crashed {
                signal: None,
                message,
            } => write!(f, "the compiler failed{}", last_words(message)),
            CompileError::Spawn(error) => write!(f, "the compiler could not be started: {error}"),
        }
    }
}

fn last_words(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_it_ended_says_what_was_wrong() {
        let ceilings = Ceilings::default();
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let told =
            |status, message: &str| CompileError::check(status, message.to_owned(), &ceilings);
        assert!(told(exited(0), "").is_ok());
        assert!(
            matches!(told(exited(1), "unknown instruction"), Err(CompileError::Invalid(m)) if m == "unknown instruction")
        );
        assert!(matches!(
            told(exited(101), "panicked at"),
            Err(CompileError::Crashed { signal: None, .. })
        ));
        assert!(matches!(
            told(ExitStatus::from_raw(11), ""),
            Err(CompileError::Crashed {
                signal: Some(11),
                ..
            })
        ));
        assert!(matches!(
            told(ExitStatus::from_raw(24), ""),
            Err(CompileError::TooDear { .. })
        ));
        let aborted = told(
            ExitStatus::from_raw(6),
            "memory allocation of 4096 bytes failed",
        );
        assert!(matches!(aborted, Err(CompileError::OutOfMemory { .. })));
        let threadless = told(exited(2), "Resource temporarily unavailable (os error 11)");
        assert!(matches!(threadless, Err(CompileError::OutOfMemory { .. })));
    }
}
