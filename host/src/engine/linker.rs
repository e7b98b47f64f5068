//! Everything is linked and nothing is granted.
//!
//! The runtimes of most languages import far more than they use (a Rust guest the environment, a
//! Python guest files and sockets), so an import is no request. What a guest may do is decided by
//! the context of its store, which has no files, no environment, no network unless granted.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::state::State;
use super::{Generation, answers};
use crate::capabilities::logging::{self, Logging};
use crate::capabilities::{blobstore, clocks, config, files, keyvalue, sockets};

pub(super) fn link(
    engine: &wasmtime::Engine,
    generation: Generation,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    logging::link(&mut linker, |state: &mut State| Logging(state.output.now()))?;
    name_errors_of_bodies(&mut linker)?;
    answers::link(&mut linker)?;
    keyvalue::add_to_linker(&mut linker, State::keyvalue)?;
    blobstore::link(&mut linker, State::blobstore)?;
    if generation == Generation::P3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    config::link(&mut linker, |state| state.values())?;
    // Some interfaces are linked again, over those that are there.
    linker.allow_shadowing(true);
    let is_p3 = generation == Generation::P3;
    clocks::link(&mut linker, is_p3, State::clocks)?;
    files::link(&mut linker, is_p3, State::files)?;
    sockets::link(&mut linker, is_p3, State::names)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// `http-error-code` says why a body broke off. The library's own looks for another type than that of the errors that
/// bodies end with, and never finds one.
fn name_errors_of_bodies(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance("wasi:http/types@0.2.12")?.func_wrap(
        "http-error-code",
        |mut store: StoreContextMut<'_, State>, (error,): (Resource<wasmtime::Error>,)| {
            let error = store.data_mut().table().get(&error)?;
            let code = match error.downcast_ref() {
                Some(error) => code_of(error),
                None => error.downcast_ref::<ErrorCode>().cloned(),
            };
            Ok((code,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Of the errors that a body can end with.
fn code_of(error: &HttpError) -> Option<ErrorCode> {
    Some(match error {
        HttpError::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        HttpError::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        HttpError::HttpProtocolError => ErrorCode::HttpProtocolError,
        HttpError::HttpRequestBodySize(size) => ErrorCode::HttpRequestBodySize(*size),
        HttpError::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        HttpError::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        HttpError::HttpResponseTrailerSectionSize(size) => {
            ErrorCode::HttpResponseTrailerSectionSize(*size)
        }
        _ => return None,
    })
}
