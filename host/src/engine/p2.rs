//! Calling `wasi:http/incoming-handler@0.2`.

use std::pin::pin;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView as _};

use super::call::{Answer, Head, within_budget};
use super::fault::{Stage, classify};
use super::running::{Blame, Outcome};
use super::state::State;
use crate::meter::Meter;

pub(super) async fn call<B>(
    store: &mut Store<State>,
    proxy: &Proxy,
    request: Request<B>,
    answer: Answer,
    meter: &Meter,
) -> Outcome
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let result = {
        let handling = pin!(handle(store, proxy, request, answer));
        within_budget(meter, handling).await
    };
    // A body is in the table until the guest finishes or drops it, and a dropped one fails itself.
    let body_unfinished = store
        .data_mut()
        .table()
        .iter_mut()
        .any(|resource| resource.is::<HostOutgoingBody>());
    let result = result.map_err(|error| classify(&error, store.data(), Stage::Call));
    Outcome {
        result,
        body_unfinished,
        blame: Blame::Own,
    }
}

async fn handle<B>(
    store: &mut Store<State>,
    proxy: &Proxy,
    request: Request<B>,
    answer: Answer,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let scheme = match request.uri().scheme() {
        Some(scheme) if *scheme == http::uri::Scheme::HTTPS => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, request)?;
    let outparam = http.new_response_outparam_from_callback(move |response| {
        // Nobody listens any more when the client has left.
        let _ = answer.send(
            response
                .map(|response| Head {
                    response,
                    delivered: None,
                })
                .map_err(HttpError::from),
        );
    })?;
    proxy
        .wasi_http_incoming_handler()
        .call_handle(store, request, outparam)
        .await
}
