//! The claims of the project, each held against the real program.
#![allow(
    clippy::print_stderr,
    reason = "a tool that is missing, a target that is added: said to who runs the tests"
)]

mod cli;
mod failures;
mod grants;
mod guest_view;
mod logs;
mod support;
