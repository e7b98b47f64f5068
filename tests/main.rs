//! The claims of the project, each held against the real program.
#![allow(
    clippy::print_stderr,
    reason = "a tool that is missing, a target that is added: said to who runs the tests"
)]

mod bad_input;
mod cli;
mod compiling;
mod failures;
mod grants;
mod guest_view;
mod http1;
mod logs;
mod support;
