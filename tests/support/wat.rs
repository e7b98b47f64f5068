//! Components written by hand, for what no toolchain would build.

use std::path::PathBuf;

use tempfile::TempDir;

/// Writes `text`, a component in the text format, to a file.
pub(crate) fn component(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    file(directory, name, &wasm)
}

/// Writes a file that claims to be a component.
pub(crate) fn file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).expect("written");
    path
}
