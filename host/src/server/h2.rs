//! Drives an HTTP/2 connection (RFC 9113). Its streams are tasks of their own, so that one client's requests run side
//! by side; they end with the connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tracing::debug;

use super::client_io::ClientIo;
use super::connection::{Door, Ending};
use super::counters::add;
use super::pace::{Pace, Paced};
use super::progress::Progress;
use super::stream::Streams;
use super::watch::{Phase, Watch};
use super::{Handler, HeadFault};
use crate::client::Client;

/// Serves a connection until it ends.
pub(super) async fn drive<H: Handler>(
    door: &Arc<Door<H>>,
    io: ClientIo,
    progress: &Arc<Progress>,
    client: &Client,
) -> Ending {
    let config = &door.config;
    let streams = Streams::new(
        Arc::clone(&door.counters),
        config.write_stall_timeout,
        client.stall.clone(),
    );
    let service = service_fn(|request: Request<Incoming>| {
        let door = Arc::clone(door);
        progress.count_request();
        let mut client = client.clone();
        async move {
            client.stall = Pace::of_this_stream().stall.clone();
            let response = door.handle(request, client).await;
            Ok::<_, Infallible>(response.map(Paced::new))
        }
    });
    let connection = http2::Builder::new(streams.spawner())
        .timer(TokioTimer::new())
        .max_header_list_size(max_list_bytes(config.max_head_bytes))
        .header_table_size(HEADER_TABLE_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(config.max_h2_streams)
        .initial_stream_window_size(config.h2_window_bytes)
        .initial_connection_window_size(config.h2_connection_window_bytes)
        .max_send_buf_size(config.max_h2_send_bytes)
        .max_pending_accept_reset_streams(config.max_h2_pending_resets)
        .max_local_error_reset_streams(config.max_h2_provoked_resets)
        .keep_alive_interval(config.h2_ping_interval)
        .keep_alive_timeout(config.h2_ping_timeout)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut watch = Watch::new(Phase::Idle);
    let mut shutdown = pin!(door.shutdown.asked());
    let mut is_closing = false;

    poll_fn(|cx| {
        loop {
            let over = connection.as_mut().poll(cx);
            for _ in 0..progress.take_unheard() {
                tell_of_refusal(door, client, cx);
            }
            if let Poll::Ready(ended) = over {
                return Poll::Ready(match progress.violation() {
                    Some(violation) => {
                        debug!(remote = %client.remote, ?violation, "ending a connection");
                        Ending::Violated
                    }
                    // hyper has no other timeout here than that of its PING.
                    None if ended.as_ref().is_err_and(|error| error.is_timeout()) => {
                        Ending::Unanswered
                    }
                    None => Ending::Finished,
                });
            }
            let open = streams.poll_open(cx);
            if !is_closing && shutdown.as_mut().poll(cx).is_ready() {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            let phase = match progress.h2_phase(open) {
                (Phase::Idle, _) if is_closing => (Phase::Goodbye, 0),
                phase => phase,
            };
            match watch.poll(cx, config, phase) {
                Poll::Pending => return Poll::Pending,
                // GOAWAY; a request that crosses it on the way is still served.
                Poll::Ready(Phase::Idle) => {
                    is_closing = true;
                    add(&door.counters.idle);
                    connection.as_mut().graceful_shutdown();
                }
                Poll::Ready(Phase::Blocked) => {
                    client.stall.cut();
                    return Poll::Ready(Ending::Stalled);
                }
                Poll::Ready(Phase::Head) => return Poll::Ready(Ending::SlowHead),
                Poll::Ready(Phase::Goodbye | Phase::Busy) => {
                    return Poll::Ready(Ending::Unused);
                }
            }
        }
    })
    .await
}

/// h2 has refused a request for its headers, with a status and nothing else. The client knows, and now so do the counters and
/// the log.
fn tell_of_refusal<H: Handler>(door: &Door<H>, client: &Client, cx: &mut Context<'_>) {
    let fault = HeadFault::TooLarge;
    door.counters.refused(fault);
    let mut unsent = pin!(door.handler.refuse(fault, client.clone()).into_body());
    while let Poll::Ready(Some(Ok(_))) = unsent.as_mut().poll_frame(cx) {}
}

/// Bytes of a list of headers. What is somewhat too large is answered by who reads the request; h2 answers the rest, without
/// an explanation.
pub(super) fn max_list_bytes(max_head_bytes: usize) -> u32 {
    u32::try_from(max_head_bytes.saturating_mul(2)).unwrap_or(u32::MAX)
}

/// The smallest that RFC 9113 allows for: a larger one would only be copied, since a frame is passed on whole.
pub(super) const FRAME_BYTES: u32 = 16 * 1024;

/// The size that every client begins with. A byte of a client's can stand for as much of ours (CVE-2026-49975), so more would
/// be a gift to who means harm.
pub(super) const HEADER_TABLE_BYTES: u32 = 4 * 1024;
