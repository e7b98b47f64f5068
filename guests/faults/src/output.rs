//! What a guest can do to whoever reads its output. Each gives the text to answer with.

use std::io::Write;

pub(crate) fn say() -> &'static str {
    println!("to stdout");
    eprintln!("to stderr");
    "said\n"
}

pub(crate) fn flood() -> &'static str {
    for line in 1..=100_000 {
        println!("line {line}");
    }
    "flooded\n"
}

pub(crate) fn long_line() -> &'static str {
    eprintln!("{}", "x".repeat(1 << 20));
    "long\n"
}

/// Colours, a cleared screen, a window title, a bell, a line rewritten from its start, a C1 control, bytes
/// that are no UTF-8, and a line that pretends to be the host's.
pub(crate) fn control_characters() -> &'static str {
    let mut out = std::io::stdout();
    out.write_all(b"\x1b[31mred\x1b[0m \x1b[2J \x1b]0;title\x07 \x08\x7f\x00 honest\rforged \xc2\x9b31m \xff\xfe\n").ok();
    out.write_all(b"forged\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n")
        .ok();
    out.flush().ok();
    "printed\n"
}
