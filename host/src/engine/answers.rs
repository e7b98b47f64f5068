//! Answers to the requests that a guest of 0.2 sends: on their way, here, taken.
//!
//! The library's own begin a second task for each answer, to drive what has driven itself here; it wakes a thread for nothing.

use std::mem;

use http::Response;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::p2::{Pollable, subscribe};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, Host as _, HostFutureIncomingResponse as _,
};
use wasmtime_wasi_http::p2::body::HostIncomingBody;
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest,
};
use wasmtime_wasi_http::{
    Error, FieldMap, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpView as _,
};

use super::state::State;

/// An answer in the table of a guest, which has it by the number of a [`HostFutureIncomingResponse`].
pub(super) enum Answer {
    Coming {
        coming: oneshot::Receiver<Result<Response<WasiBody>, Error>>,
        /// The task that asks, which ends with this.
        _asking: HostFutureIncomingResponse,
    },
    Here(Result<Response<WasiBody>, Error>),
    Taken,
}

type Asked = (
    Resource<HostOutgoingRequest>,
    Option<Resource<RequestOptions>>,
);

/// As a guest gets it: nothing yet, no second time, an answer, or why there is none.
type Got = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;

#[wasmtime_wasi::async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        if let Self::Coming { coming, .. } = self {
            let come = coming.await;
            *self = Self::Here(come.unwrap_or(Err(Error::InternalError(None))));
        }
    }
}

/// What the guest calls by the other's name.
fn own(answer: &Resource<HostFutureIncomingResponse>) -> Resource<Answer> {
    Resource::new_borrow(answer.rep())
}

/// Puts these in place of the library's.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance("wasi:http/outgoing-handler@0.2.12")?
        .func_wrap(
            "handle",
            |mut store: StoreContextMut<'_, State>, (request, options): Asked| {
                Ok((handle(store.data_mut(), request, options)?,))
            },
        )?;
    let mut types = linker.instance("wasi:http/types@0.2.12")?;
    types.resource(
        "future-incoming-response",
        ResourceType::host::<HostFutureIncomingResponse>(),
        |mut store, answer| {
            let answer = Resource::<Answer>::new_own(answer);
            store.data_mut().table().delete(answer)?;
            Ok(())
        },
    )?;
    types.func_wrap(
        "[method]future-incoming-response.subscribe",
        |mut store: StoreContextMut<'_, State>,
         (answer,): (Resource<HostFutureIncomingResponse>,)| {
            Ok((subscribe(store.data_mut().table(), own(&answer))?,))
        },
    )?;
    types.func_wrap(
        "[method]future-incoming-response.get",
        |mut store: StoreContextMut<'_, State>,
         (answer,): (Resource<HostFutureIncomingResponse>,)| {
            Ok((get(&mut store.data_mut().http(), &own(&answer))?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn handle(
    state: &mut State,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
    let (answering, coming) = oneshot::channel();
    state.outbound_http.answering = Some(answering);
    let mut http = state.http();
    let read = options
        .as_ref()
        .map(|options| Resource::new_borrow(options.rep()));
    let sent = outgoing_handler::Host::handle(&mut http, request, read);
    // The guest has given them away. The library reads them and leaves them in the table, where they would stay for as long as
    // the instance: after a thousand requests it could hold nothing more.
    if let Some(options) = options {
        http.table.delete(options)?;
    }
    let sent = match sent {
        Ok(asking) => Ok(put(http.table, asking, coming)?),
        Err(error) => Err(http.convert_error_code(error)?),
    };
    // It may not have come so far.
    state.outbound_http.answering = None;
    Ok(sent)
}

fn put(
    table: &mut ResourceTable,
    asking: Resource<HostFutureIncomingResponse>,
    coming: oneshot::Receiver<Result<Response<WasiBody>, Error>>,
) -> wasmtime::Result<Resource<HostFutureIncomingResponse>> {
    let answer = Answer::Coming {
        coming,
        _asking: table.delete(asking)?,
    };
    let answer = table.push(answer)?;
    Ok(Resource::new_own(answer.rep()))
}

fn get(http: &mut WasiHttpCtxView<'_>, answer: &Resource<Answer>) -> wasmtime::Result<Got> {
    let answer = http.table.get_mut(answer)?;
    let response = match mem::replace(answer, Answer::Taken) {
        Answer::Here(Ok(response)) => response,
        Answer::Here(Err(error)) => return failed(http, error),
        Answer::Taken => return Ok(Some(Err(()))),
        coming @ Answer::Coming { .. } => {
            *answer = coming;
            return Ok(None);
        }
    };
    let (head, body) = response.into_parts();
    let response = HostIncomingResponse {
        status: head.status.as_u16(),
        headers: FieldMap::new_immutable(http.hooks, head.headers),
        body: Some(HostIncomingBody::new(body)),
    };
    Ok(Some(Ok(Ok(http.table.push(response)?))))
}

/// By the code that the library has for it, which it tells nobody otherwise.
fn failed(http: &mut WasiHttpCtxView<'_>, error: Error) -> wasmtime::Result<Got> {
    let ready = HostFutureIncomingResponse::Ready(Err(error));
    let ready = http.table.push(ready)?;
    let got = http.get(Resource::new_borrow(ready.rep()))?;
    http.table.delete(ready)?;
    Ok(got)
}
