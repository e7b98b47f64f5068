//! Calling `wasi:http/handler@0.3`.

use std::pin::pin;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::Request as GuestRequest;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView as _};

use super::call::{Answer, Head, within_budget};
use super::fault::{Stage, classify};
use super::running::{Blame, Outcome};
use super::state::State;
use crate::meter::Meter;

pub(super) async fn call<B>(
    store: &mut Store<State>,
    service: &Service,
    request: Request<B>,
    answer: Answer,
    meter: &Meter,
) -> Outcome
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let result = {
        let call = pin!(store.run_concurrent(async |accessor| {
            handle(accessor, service, request, answer).await?;
            // Work that goes on after the response is the guest's until it ends.
            std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::Result::Ok(())
        }));
        within_budget(meter, call).await
    };
    let result = result
        .flatten()
        .map_err(|error| classify(&error, store.data(), Stage::Call));
    let body_unfinished = result.is_err();
    Outcome {
        result,
        body_unfinished,
        blame: Blame::Own,
    }
}

/// Calls the handler once, and returns when its response is delivered.
pub(super) async fn handle<B>(
    accessor: &Accessor<State>,
    service: &Service,
    request: Request<B>,
    answer: Answer,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
{
    let request = accessor.with(|mut store| {
        let (request, _received) = GuestRequest::from_http(store.data_mut().http().hooks, request);
        request
    });
    match service.handle(accessor, request).await? {
        Ok(response) => {
            let (delivered, body_delivered) = oneshot::channel::<()>();
            let (seen, sent) = oneshot::channel::<()>();
            let sent = async move {
                // Dropping the other end is the signal.
                let _ = sent.await;
                Ok(())
            };
            let response = accessor.with(|mut store| response.into_http(&mut store, sent))?;
            if answer
                .send(Ok(Head {
                    response,
                    delivered: Some(delivered),
                }))
                .is_err()
            {
                // The client has left.
                return Ok(());
            }
            // What the guest has written reaches the client only while its tasks are driven.
            let _ = body_delivered.await;
            drop(seen);
        }
        Err(code) => drop(answer.send(Err(HttpError::from(code)))),
    }
    Ok(())
}
