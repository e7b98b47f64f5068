//! Why a path did not become a handler's component.

use super::compile_error::CompileError;
use super::refusal::Refusal;
use crate::names::most_alike;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A component that could not be loaded, and why.
#[derive(Debug)]
pub struct LoadError {
    /// As it was asked for.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: Why,
}

/// Why bytes did not become an artifact.
#[derive(Debug)]
#[non_exhaustive]
pub enum Why {
    /// There is no such file.
    NotFound {
        /// What lies in the same directory under a similar name.
        nearest: Option<String>,
    },
    /// The path names a directory.
    Directory {
        /// A component that lies in it.
        example: Option<String>,
    },
    /// The operating system would not give the bytes.
    Unreadable(io::Error),
    /// The file cannot be a handler.
    Refused(Refusal),
    /// The compiler gave no artifact.
    NotCompiled(CompileError),
    /// A precompiled file that `host compile` did not write.
    ForeignArtifact,
    /// A precompiled file that was cut short or altered.
    DamagedArtifact,
    /// A precompiled file made by another version of the host or for another kind of machine.
    StaleArtifact,
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Why {
        Why::Refused(refusal)
    }
}

impl From<CompileError> for Why {
    fn from(error: CompileError) -> Why {
        Why::NotCompiled(error)
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Why {
        Why::Unreadable(error)
    }
}

impl Why {
    /// What the operating system said about `path`, with what the reader could have meant instead.
    pub(super) fn about(path: &Path, error: io::Error) -> Why {
        match error.kind() {
            io::ErrorKind::NotFound => Why::NotFound {
                nearest: neighbour(path),
            },
            io::ErrorKind::IsADirectory => Why::Directory {
                example: component_in(path),
            },
            _ => Why::Unreadable(error),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None // the message already says what lies beneath
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Why::NotFound {
                nearest: Some(nearest),
            } => write!(f, "no file `{path}`: did you mean `{nearest}`?"),
            Why::NotFound { nearest: None } => {
                write!(f, "no file `{path}`: build it first, or check the path")
            }
            Why::Directory {
                example: Some(example),
            } => write!(
                f,
                "`{path}` is a directory: name a file in it, such as `{example}`"
            ),
            Why::Directory { example: None } => {
                write!(f, "`{path}` is a directory: name a `.wasm` file")
            }
            Why::Unreadable(error) => write!(f, "`{path}` cannot be read: {error}"),
            Why::Refused(refusal) => write!(f, "`{path}`: {refusal}"),
            Why::NotCompiled(error) => write!(f, "`{path}`: {error}"),
            Why::ForeignArtifact => write!(
                f,
                "`{path}` was not written by `host compile` of this version: make it with `host compile` from the `.wasm`"
            ),
            Why::DamagedArtifact => {
                write!(f, "`{path}` is damaged: make it again with `host compile`")
            }
            Why::StaleArtifact => write!(
                f,
                "`{path}` was compiled by another version of host or for another processor: make it again with `host compile`, here"
            ),
        }
    }
}

/// Directories of build output hold thousands of files; a suggestion is not worth reading all.
const NAMES_READ: usize = 1000;

/// Under this likeness another file is not what was meant.
const ALIKE: f64 = 0.6;

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .take(NAMES_READ);
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn neighbour(path: &Path) -> Option<String> {
    let directory = match path.parent()? {
        parent if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    let nearest = most_alike(path.file_name()?.to_str()?, names_in(directory), ALIKE)?;
    Some(path.with_file_name(nearest).display().to_string())
}

fn component_in(directory: &Path) -> Option<String> {
    let name = names_in(directory)
        .filter(|name| name.ends_with(".wasm"))
        .min()?;
    Some(directory.join(name).display().to_string())
}
