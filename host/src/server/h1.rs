//! Drives an HTTP/1 connection (RFC 9112).

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::Interest;

use super::client_io::ClientIo;
use super::connection::{Door, Ending};
use super::progress::{InFlight, Progress};
use super::socket::Socket;
use super::watch::{Phase, Watch};
use super::{Config, Handler};
use crate::client::Client;

/// hyper's settings for a door.
pub(super) fn builder(config: &Config) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // hyper's timer would also run while a connection is idle, and costs an allocation per request.
        .header_read_timeout(None)
        // Of heads these are `intake`'s to keep; here they bound trailers.
        .max_header_size(config.max_head_bytes)
        .max_buf_size(config.max_head_bytes.max(HYPER_MIN_BUFFER));
    // Not `pipeline_flush`: with a second request in the buffer it takes a response's body without limit, and a
    // connection that closes then loses the response.
    if config.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(config.max_headers);
    }
    builder
}

/// Serves a connection until it ends.
pub(super) async fn drive<H: Handler>(
    door: &Arc<Door<H>>,
    io: ClientIo,
    socket: &Socket,
    progress: &Arc<Progress>,
    client: &Client,
) -> Ending {
    let service = service_fn(|request: Request<Incoming>| {
        let door = Arc::clone(door);
        let fault = progress.fault_of_next();
        let in_flight = progress.begin(&request);
        let client = client.clone();
        async move {
            let response = match fault {
                // Boxed: hyper keeps a place for this future with each connection, idle ones too, and it has some kilobytes.
                // Written there: `Box::pin` would copy them.
                None => {
                    let handling = Box::write(Box::new_uninit(), door.handle(request, client));
                    Box::into_pin(handling).await
                }
                Some(fault) => {
                    door.counters.refused(fault);
                    door.handler.refuse(fault, client)
                }
            };
            Ok::<_, Infallible>(response.map(|body| Answer {
                body,
                _in_flight: in_flight,
            }))
        }
    });
    let mut connection = door.h1.serve_connection(TokioIo::new(io), service);
    let mut watch = Watch::new(Phase::Head);
    let mut shutdown = pin!(door.shutdown.asked());
    let (mut is_asked_to_stop, mut is_draining) = (false, false);

    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ending(result, progress));
        }
        is_asked_to_stop = is_asked_to_stop || shutdown.as_mut().poll(cx).is_ready();
        let phase = progress.h1_phase().0;
        // hyper has not seen a head that has only begun, and would think that nothing is owed.
        if is_asked_to_stop && !is_draining && phase != Phase::Head {
            is_draining = true;
            let is_idle = phase == Phase::Idle;
            Pin::new(&mut connection).graceful_shutdown();
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(if is_idle {
                    Ending::Unused
                } else {
                    ending(result, progress)
                });
            }
        }
        let mut over = watch.poll(cx, &door.config, progress.h1_phase());
        if over == Poll::Ready(Phase::Head) {
            // hyper gets the stand-in of the head, and with it something to answer.
            progress.lose_patience();
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(ending(result, progress));
            }
            over = watch.poll(cx, &door.config, progress.h1_phase());
        }
        if let Poll::Ready(phase) = over {
            return Poll::Ready(match phase {
                Phase::Blocked => {
                    client.stall.cut();
                    Ending::Stalled
                }
                Phase::Idle => {
                    // TLS says that this is the end.
                    Pin::new(&mut connection).graceful_shutdown();
                    let _ = Pin::new(&mut connection).poll(cx);
                    Ending::Idle
                }
                Phase::Head | Phase::Busy | Phase::Goodbye => Ending::Unused,
            });
        }
        // Somebody waits for the place of a client that takes nothing.
        if progress.h1_phase().0 == Phase::Blocked
            && let Some(after) = client.stall.wanted().given(cx)
            && watch.has_lasted(cx, after)
        {
            client.stall.cut();
            return Poll::Ready(Ending::Stalled);
        }
        if progress.is_in_flight() && has_left(socket, cx, &mut watch) {
            return Poll::Ready(Ending::Left);
        }
        Poll::Pending
    })
    .await
}

fn ending(result: hyper::Result<()>, progress: &Progress) -> Ending {
    match result {
        Ok(()) => Ending::Finished,
        // A body without a length ends with the connection: only a reset tells a client that it was cut.
        Err(failure) if failure.is_user() && progress.is_http_10() => Ending::Cut,
        Err(failure) if failure.is_user() => Ending::Finished,
        Err(_) if progress.is_in_flight() => Ending::Left,
        Err(_) => Ending::Finished,
    }
}

/// Whether the client of a request in flight is gone. hyper sees it when it reads, but it does not read while the
/// request's body, or the next request, is waiting to be wanted.
fn has_left(socket: &Socket, cx: &mut Context<'_>, watch: &mut Watch) -> bool {
    match socket.poll_read_ready(cx) {
        // Nothing is unread, and the next thing to come, the end included, wakes us.
        Poll::Pending => false,
        Poll::Ready(Err(_)) => true,
        Poll::Ready(Ok(())) => {
            let readiness = pin!(socket.ready(Interest::READABLE));
            let is_closed = match readiness.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(ready)) => ready.is_read_closed(),
                Poll::Ready(Err(_)) => true,
                Poll::Pending => false,
            };
            if !is_closed {
                // What is unread hides what follows it: no wake will come.
                watch.wake_after(cx, LOOK_AGAIN);
            }
            is_closed
        }
    }
}

pin_project! {
    /// A response's body, with its request in flight until the last byte of it was taken.
    struct Answer<B> {
        #[pin]
        body: B,
        _in_flight: InFlight,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// hyper asserts it.
const HYPER_MIN_BUFFER: usize = 8192;

/// Up to hyper's own default its parser works on the stack.
const HYPER_MAX_HEADERS: usize = 100;

/// A client that leaves is to be noticed within 100 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
