//! Why a file cannot be a handler.
//!
//! Everything that is known before a compiler is started, each with what its author can do about it.

use super::lookalike::Lookalike;
use crate::names::short;
use std::fmt;

/// Why a component was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is nothing in the file.
    Empty,
    /// The file is no WebAssembly.
    NotWasm(Lookalike),
    /// The file ends too early.
    Truncated {
        /// Where the parser stood.
        offset: usize,
    },
    /// The validator found a mistake.
    Invalid {
        /// The validator's words.
        message: String,
        /// Where in the file.
        offset: usize,
    },
    /// A module without the component around it.
    CoreModule {
        /// It was built for the predecessor of components.
        preview1: bool,
    },
    /// A program with a `main`, which a command-line runtime runs.
    Command {
        /// The export that tells.
        export: String,
    },
    /// A handler of a wasi:http that this host does not speak.
    OtherVersion {
        /// The export that tells.
        export: String,
    },
    /// A component that handles no HTTP.
    NoHandler {
        /// What it exports in place of a handler.
        exports: Vec<String>,
    },
    /// It needs interfaces that the host does not have.
    Imports(Vec<UnknownImport>),
    /// The file is larger than components may be.
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// It would start with more than it may have.
    OverLimit(OverLimit),
}

/// An import that nobody provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownImport {
    /// As the component spells it.
    pub name: String,
    /// What exists and is spelled much like it.
    pub nearest: Option<String>,
}

/// What a component asks for at its start, against what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// Bytes in all linear memories together.
    Memory {
        /// Asked for.
        needs: u64,
        /// Allowed.
        allowed: u64,
    },
    /// The number of linear memories.
    Memories {
        /// Asked for.
        needs: u64,
        /// Allowed.
        allowed: u64,
    },
    /// The number of tables.
    Tables {
        /// Asked for.
        needs: u64,
        /// Allowed.
        allowed: u64,
    },
    /// Components that it is composed of.
    Parts {
        /// Allowed.
        allowed: u64,
    },
    /// Elements in all tables together.
    TableElements {
        /// Asked for.
        needs: u64,
        /// Allowed.
        allowed: u64,
    },
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Empty => f.write_str("the file is empty: build the component again"),
            Refusal::NotWasm(lookalike) => write!(f, "not WebAssembly but {lookalike}"),
            Refusal::Truncated { offset } => {
                write!(f, "cut short: it ends at byte {offset}, in the middle of a section: copy or build it again")
            }
            Refusal::Invalid { message, offset } => {
                write!(f, "not a valid component: {message} (at byte {offset}): build it again with current tools")
            }
            Refusal::CoreModule { preview1: false } => f.write_str(
                "a core module, not a component: build it with `cargo build --target wasm32-wasip2`, \
                 or wrap it with `wasm-tools component new`",
            ),
            Refusal::CoreModule { preview1: true } => f.write_str(
                "a core module that imports `wasi_snapshot_preview1`, not a component: \
                 build it with `cargo build --target wasm32-wasip2`, or wrap it with \
                 `wasm-tools component new --adapt wasi_snapshot_preview1.reactor.wasm`",
            ),
            Refusal::Command { export } => write!(
                f,
                "a command, not an HTTP handler: it exports `{}`: run it with `wasmtime run`, \
                 or export `wasi:http/incoming-handler@0.2.x`",
                short(export)
            ),
            Refusal::OtherVersion { export } => write!(
                f,
                "the handler `{}` is of a version that this host does not serve: \
                 build it against wasi:http 0.2 or 0.3 as released",
                short(export)
            ),
            Refusal::NoHandler { exports } => write!(
                f,
                "no HTTP handler: it exports {}: \
                 export `wasi:http/incoming-handler@0.2.x` or `wasi:http/handler@0.3.x`",
                list(exports.iter().map(|name| format!("`{}`", short(name))))
            ),
            Refusal::Imports(imports) => write!(
                f,
                "it imports what nobody provides: {}: remove the import, or build against an interface that exists",
                list(imports.iter().map(UnknownImport::to_string))
            ),
            Refusal::TooLarge { limit } => write!(
                f,
                "larger than {}, the limit for a component: strip it with `wasm-tools strip`, build it for size, or \
                 raise `--max-component-size`",
                Bytes(*limit)
            ),
            Refusal::OverLimit(over) => over.fmt(f),
        }
    }
}

impl fmt::Display for UnknownImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", short(&self.name))?;
        match &self.nearest {
            Some(nearest) => write!(f, " (nearest: `{nearest}`)"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OverLimit::Memory { needs, allowed } => {
                write!(
                    f,
                    "it starts with {} of memory, {} are allowed: raise `--memory`",
                    Bytes(*needs),
                    Bytes(*allowed)
                )
            }
            OverLimit::Memories { needs, allowed } => {
                write!(
                    f,
                    "it has {needs} memories, {allowed} are allowed: compose it of fewer modules"
                )
            }
            OverLimit::Tables { needs, allowed } => {
                write!(
                    f,
                    "it has {needs} tables, {allowed} are allowed: compose it of fewer modules"
                )
            }
            OverLimit::Parts { allowed } => {
                write!(
                    f,
                    "it is composed of more than {allowed} components: compose it of fewer"
                )
            }
            OverLimit::TableElements { needs, allowed } => {
                write!(
                    f,
                    "its tables start with {needs} elements, {allowed} are allowed: build it for size"
                )
            }
        }
    }
}

/// A size as people say it, never rounded to look smaller than it is.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        match self.0 {
            bytes if bytes < KIB => write!(f, "{bytes} bytes"),
            bytes if bytes < MIB => write!(f, "{} KiB", bytes.div_ceil(KIB)),
            bytes => write!(f, "{} MiB", bytes.div_ceil(MIB)),
        }
    }
}

/// A component may have thousands of names: a message has room for a few.
const NAMES_SHOWN: usize = 8;

fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    let shown: Vec<_> = names.take(NAMES_SHOWN).collect();
    match count.saturating_sub(NAMES_SHOWN) {
        _ if count == 0 => "nothing".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_and_long_lists_do_not_fill_the_log() {
        let exports: Vec<_> = (0..5_000)
            .map(|i| format!("{}{i}", "x".repeat(10_000)))
            .collect();
        let message = Refusal::NoHandler { exports }.to_string();
        assert!(message.len() < 2_000, "{} bytes", message.len());
        assert!(message.contains("and 4992 more"), "{message}");
    }

    #[test]
    fn messages_end_with_what_to_do() {
        for refusal in [
            Refusal::Empty,
            Refusal::NotWasm(Lookalike::Html),
            Refusal::Truncated { offset: 7 },
            Refusal::Invalid {
                message: "unknown type 3".into(),
                offset: 9,
            },
            Refusal::CoreModule { preview1: true },
            Refusal::Command {
                export: "wasi:cli/run@0.2.0".into(),
            },
            Refusal::NoHandler { exports: vec![] },
            Refusal::TooLarge { limit: 1 << 26 },
            Refusal::OverLimit(OverLimit::Memory {
                needs: 1 << 28,
                allowed: 1 << 27,
            }),
        ] {
            let message = refusal.to_string();
            assert!(
                message.contains(": ") && !message.ends_with('.'),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
