//! Everything is linked and nothing is granted.
//!
//! The runtimes of most languages import far more than they use (a Rust guest the environment, a
//! Python guest files and sockets), so an import is no request. What a guest may do is decided by
//! the context of its store, which has no files, no environment, no network unless granted.

use wasmtime::component::Linker;

use super::Generation;
use super::state::State;
use crate::capabilities::blobstore;
use crate::capabilities::logging::{self, Logging};
use crate::capabilities::{clocks, config};

pub(super) fn link(
    engine: &wasmtime::Engine,
    generation: Generation,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    logging::link(&mut linker, |state: &mut State| Logging(state.output.now()))?;
    blobstore::link(&mut linker, State::blobstore)?;
    if generation == Generation::P3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    config::link(&mut linker, State::values)?;
    // Some interfaces are linked again, over those that are there.
    linker.allow_shadowing(true);
    clocks::link(&mut linker, generation == Generation::P3, State::clocks)?;
    linker.allow_shadowing(false);
    Ok(linker)
}
