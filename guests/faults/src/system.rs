//! What the standard library lets a guest see: environment, arguments, files.

use std::fmt::Write;

pub(crate) fn env() -> String {
    let mut text = String::new();
    for (name, value) in std::env::vars_os() {
        writeln!(
            text,
            "env {}={}",
            name.to_string_lossy(),
            value.to_string_lossy()
        )
        .ok();
    }
    for argument in std::env::args_os() {
        writeln!(text, "arg {}", argument.to_string_lossy()).ok();
    }
    text
}

pub(crate) fn file() -> String {
    match std::fs::read_to_string("/etc/passwd") {
        Ok(text) => format!("read {} bytes\n", text.len()),
        Err(error) => format!("refused: {error}\n"),
    }
}

pub(crate) fn write(path: &str) -> String {
    match std::fs::write(path, "written by a guest\n") {
        Ok(()) => "written\n".to_owned(),
        Err(error) => format!("refused: {error}\n"),
    }
}
