//! The body of a guest's response, with the guest that still writes it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::Error as HttpError;

use super::running::Ending;
use super::{Fault, FaultKind, Running};
use crate::limits;

/// Polling this body polls the guest: it writes when the client reads, and is cancelled when the
/// body is dropped. It ends without an error only when the guest has finished it.
pub struct GuestBody {
    /// Frames that were ready before the headers were sent.
    ready: VecDeque<Frame<Bytes>>,
    written: UnsyncBoxBody<Bytes, HttpError>,
    guest: Option<Running>,
    ending: Ending,
    /// Bytes that the guest has yet to write, if it declared a `content-length`.
    unwritten: Option<u64>,
    ended: bool,
    /// Taken when the body has ended, so that a 0.3 guest learns that its response was sent.
    _delivered: Option<tokio::sync::oneshot::Sender<()>>,
}

/// Why a body breaks off.
pub type BodyError = Fault;

impl GuestBody {
    pub(super) fn new(
        written: UnsyncBoxBody<Bytes, HttpError>,
        declared: Option<u64>,
        guest: Running,
        delivered: Option<tokio::sync::oneshot::Sender<()>>,
    ) -> Self {
        Self {
            ready: VecDeque::new(),
            written,
            ending: guest.ending(),
            guest: Some(guest),
            unwritten: declared,
            ended: false,
            _delivered: delivered,
        }
    }

    /// The guest, if it works on although its response is complete. Taking it leaves it to the
    /// caller to [`finish`](Running::finish) it.
    pub fn take_guest(&mut self) -> Option<Running> {
        if self.is_delivered() {
            self.guest.take()
        } else {
            None
        }
    }

    /// Whether every byte of the body has been read. The end of the body itself may not: who knows
    /// the length need not look for it.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.ready.is_empty() && (self.ended || self.unwritten == Some(0))
    }

    /// What the guest did wrong after its response was complete.
    #[must_use]
    pub fn late_fault(&self) -> Option<&Fault> {
        self.ending
            .get()
            .and_then(|outcome| outcome.result.as_ref().err())
    }

    /// The guest of a response whose body nobody will read (HEAD, 204, 304).
    pub fn into_unread(self) -> UnreadBody {
        UnreadBody(self)
    }

    /// Reads what is ready without waiting, up to [`limits::BUFFERED_RESPONSE`]. A body that ends
    /// within it has a known length, and a fault within it can still become a status.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let mut bytes = 0_u64;
        while bytes < limits::BUFFERED_RESPONSE as u64 {
            match self.poll_written(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(fault))) => return Err(fault),
                Poll::Ready(Some(Ok(frame))) => {
                    // A frame of nothing would hide that the body has ended.
                    if frame.data_ref().is_some_and(Bytes::is_empty) {
                        continue;
                    }
                    bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    self.ready.push_back(frame);
                }
                Poll::Ready(None) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The names of trailers that were read ahead.
    pub(super) fn trailers_ahead(&self) -> Option<HeaderValue> {
        let trailers = self.ready.back()?.trailers_ref()?;
        let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        HeaderValue::try_from(names.join(", ")).ok()
    }

    /// The next frame that the guest writes.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What is there already costs no poll of the guest.
        let mut written = Pin::new(&mut self.written).poll_frame(cx);
        if written.is_pending() {
            self.poll_guest(cx);
            written = Pin::new(&mut self.written).poll_frame(cx);
        }
        let frame = std::task::ready!(written);
        match frame {
            Some(Ok(frame)) => {
                if let (Some(unwritten), Some(data)) = (&mut self.unwritten, frame.data_ref()) {
                    let Some(left) = unwritten.checked_sub(data.len() as u64) else {
                        return self.fail(Fault::new(
                            FaultKind::InvalidResponse,
                            "the body is longer than its `content-length`",
                        ));
                    };
                    *unwritten = left;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // What the guest did says more than that its body broke off.
            Some(Err(error)) => {
                let fault = self.fault().unwrap_or_else(|| body_fault(&error));
                self.fail(fault)
            }
            None => self.poll_end(cx),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.unwritten.is_some_and(|bytes| bytes > 0) {
            let fault = self.fault().unwrap_or_else(|| {
                Fault::new(
                    FaultKind::InvalidResponse,
                    "the body is shorter than its `content-length`",
                )
            });
            return self.fail(fault);
        }
        let unfinished = self
            .ending
            .get()
            .is_some_and(|outcome| outcome.body_unfinished);
        if unfinished {
            let fault = self.fault().unwrap_or_else(|| {
                Fault::new(
                    FaultKind::InvalidResponse,
                    "the guest returned without finishing the body",
                )
            });
            return self.fail(fault);
        }
        self.ended = true;
        self._delivered = None;
        // Most guests have nothing left to do now: seeing that here saves a task.
        self.poll_guest(cx);
        Poll::Ready(None)
    }

    fn poll_guest(&mut self, cx: &mut Context<'_>) {
        if self
            .guest
            .as_mut()
            .is_some_and(|guest| guest.poll(cx).is_ready())
        {
            self.guest = None;
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.late_fault().cloned()
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.guest = None;
        Poll::Ready(Some(Err(fault)))
    }
}

fn body_fault(error: &HttpError) -> Fault {
    let detail = match error {
        HttpError::HttpResponseBodySize(_) => "the body and its `content-length` differ".to_owned(),
        HttpError::HttpProtocolError => {
            "the guest dropped its body without finishing it".to_owned()
        }
        error => error.to_string(),
    };
    Fault::new(FaultKind::InvalidResponse, detail)
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.ready.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_written(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // A body with trailers goes out in chunks: HTTP/1.1 has no other place for them.
        if self.ready.iter().any(Frame::is_trailers) {
            return SizeHint::default();
        }
        let unwritten = if self.ended { Some(0) } else { self.unwritten };
        let ready: u64 = self
            .ready
            .iter()
            .filter_map(Frame::data_ref)
            .map(|data| data.len() as u64)
            .sum();
        unwritten.map_or_else(SizeHint::default, |unwritten| {
            SizeHint::with_exact(unwritten + ready)
        })
    }
}

/// Reads a body to its end for nobody, so that the guest which writes it can finish.
pub struct UnreadBody(GuestBody);

impl Future for UnreadBody {
    type Output = Result<Option<Running>, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                Some(Ok(_)) => {}
                Some(Err(fault)) => return Poll::Ready(Err(fault)),
                None => return Poll::Ready(Ok(self.0.guest.take())),
            }
        }
    }
}
