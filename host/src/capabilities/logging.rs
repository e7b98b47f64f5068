//! `wasi:logging`: a guest's records, in the host's log beside what it prints. Granted to everybody, as stdout is.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker};

use crate::observe::{GuestLevel, GuestOutput};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/deps/wasi-logging-0.1.0-draft.wit",
        inline: "package host:logging; world imports { import wasi:logging/logging@0.1.0-draft; }",
    });
}

use bindings::wasi::logging::logging::{Host, Level, add_to_linker};

/// Where the records of an instance go: to the exchange that it serves now.
pub struct Logging(pub Arc<GuestOutput>);

impl HasData for Logging {
    type Data<'a> = Self;
}

/// Links the interface; `of` finds where an instance logs to.
///
/// # Errors
/// When it is linked already.
pub fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    of: fn(&mut T) -> Logging,
) -> wasmtime::Result<()> {
    add_to_linker::<T, Logging>(linker, of)
}

impl Host for Logging {
    fn log(&mut self, level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace => GuestLevel::Trace,
            Level::Debug => GuestLevel::Debug,
            Level::Info => GuestLevel::Info,
            Level::Warn => GuestLevel::Warn,
            Level::Error => GuestLevel::Error,
            Level::Critical => GuestLevel::Critical,
        };
        self.0.log(level, &context, &message);
    }
}
