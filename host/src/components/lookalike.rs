//! What a file is that was taken for a component.
//!
//! "magic header not detected" helps nobody; "an HTML page" sends the reader to the download that failed.

use std::fmt;

/// A file that is no WebAssembly, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookalike {
    /// WebAssembly in its text form.
    WasmText,
    /// A component that was compiled ahead of time.
    Compiled,
    /// A program for an operating system.
    Program,
    /// A web page: most often an error page that was saved under the name of a download.
    Html,
    /// JSON: most often an API's answer or an OCI manifest.
    Json,
    /// A compressed file or an archive.
    Archive,
    /// What Git has in place of a large file.
    GitLfsPointer,
    /// Other text: a script, source code.
    Text,
    /// Nothing we know.
    Unknown,
}

/// Only the beginning is looked at: a file of text does not become something else further on.
const BEGINNING: usize = 4096;

impl Lookalike {
    /// Recognises a file by its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Lookalike {
        let head = &bytes[..bytes.len().min(BEGINNING)];
        match head {
            // The seventh byte is the ABI; 200 is wasmtime's.
            [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => return Lookalike::Compiled,
            [0x7f, b'E', b'L', b'F', ..]
            | [b'M', b'Z', 0x90, ..]
            | [0xcf, 0xfa, 0xed, 0xfe, ..] => return Lookalike::Program,
            [0x1f, 0x8b, ..]
            | [b'P', b'K', 3, 4, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0xfd, b'7', b'z', b'X', ..] => {
                return Lookalike::Archive;
            }
            _ => {}
        }
        // A character may be cut in two where the beginning ends; NUL is valid UTF-8 but not text.
        let text = match std::str::from_utf8(head) {
            Ok(text) => text,
            Err(cut) if cut.error_len().is_none() => {
                std::str::from_utf8(&head[..cut.valid_up_to()]).unwrap_or("")
            }
            Err(_) => return Lookalike::Unknown,
        };
        if text.is_empty() || text.contains('\0') {
            return Lookalike::Unknown;
        }
        let start = text.trim_start_matches('\u{feff}').trim_start();
        let lower = start
            .get(..start.len().min(15))
            .unwrap_or("")
            .to_ascii_lowercase();
        if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
            Lookalike::Html
        } else if start.starts_with("version https://git-lfs") {
            Lookalike::GitLfsPointer
        } else if is_wasm_text(start) {
            Lookalike::WasmText
        } else if start.starts_with('{') {
            Lookalike::Json
        } else {
            Lookalike::Text
        }
    }
}

/// Skips `;; comments` before the first parenthesis.
fn is_wasm_text(text: &str) -> bool {
    let first = text
        .lines()
        .map(str::trim_start)
        .find(|line| !line.is_empty() && !line.starts_with(";;"));
    first.is_some_and(|line| {
        let inner = line.strip_prefix('(').map(str::trim_start).unwrap_or("");
        ["component", "module", ";"]
            .iter()
            .any(|word| inner.starts_with(word))
    })
}

/// What it is, then what to do.
impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lookalike::WasmText => "WebAssembly as text: turn it into a binary with `wasm-tools parse`",
            Lookalike::Compiled => {
                "a component compiled ahead of time: pass the `.wasm` it was made from, or allow it with `--allow-precompiled`"
            }
            Lookalike::Program => "a program for an operating system: build it with `cargo build --target wasm32-wasip2`",
            Lookalike::Html => "an HTML page: check the address it was downloaded from",
            Lookalike::Json => "JSON: check the address it was downloaded from",
            Lookalike::Archive => "a compressed file: unpack it first",
            Lookalike::GitLfsPointer => "a Git LFS pointer: fetch the file itself with `git lfs pull`",
            Lookalike::Text => "text: pass the `.wasm` file that was built from it",
            Lookalike::Unknown => "something unknown: pass the `.wasm` file that the build wrote",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_mistakes_are_recognised() {
        let compiled = [0x7f, b'E', b'L', b'F', 2, 1, 1, 200, 0, 0];
        let program = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0];
        let cut: Vec<u8> = "x"
            .repeat(BEGINNING - 1)
            .bytes()
            .chain("é".bytes())
            .collect();
        for (bytes, expected) in [
            (&b"(component)"[..], Lookalike::WasmText),
            (b";; my handler\n\n ( module )", Lookalike::WasmText),
            (b"<!DOCTYPE html><html>", Lookalike::Html),
            (b"\n<HTML>", Lookalike::Html),
            (b"{\"error\":\"not found\"}", Lookalike::Json),
            (b"\x1f\x8b\x08\x00", Lookalike::Archive),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                Lookalike::GitLfsPointer,
            ),
            (b"#!/bin/sh\n", Lookalike::Text),
            (b"(define x 1)", Lookalike::Text),
            (b"[package]\nname = \"hello\"", Lookalike::Text),
            (&cut, Lookalike::Text),
            (&compiled, Lookalike::Compiled),
            (&program, Lookalike::Program),
            (b"\xff\xfe\xfd", Lookalike::Unknown),
            (b"\0\0\0\0", Lookalike::Unknown),
        ] {
            assert_eq!(
                Lookalike::of(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(20)])
            );
        }
    }
}
