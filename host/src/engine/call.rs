//! One call of a guest: a request in, a response out, the same for both generations.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error as HttpError;

use super::again::Again;
use super::clearing::InUse;
use super::fault::CpuBudgetSpent;
use super::guest::{Exports, Guest};
use super::running::{Blame, Ending, Outcome};
use super::shared::Job;
use super::{Fault, FaultKind, GuestBody, Running, p2, p3};
use crate::capabilities::calls::{Broken, Caller};
use crate::meter::Meter;
use crate::observe::GuestOutput;

/// What the guest hands out, before its body is joined with the guest itself.
pub(super) struct Head {
    pub(super) response: Response<UnsyncBoxBody<Bytes, HttpError>>,
    /// Dropped when the body is delivered.
    pub(super) delivered: Option<oneshot::Sender<()>>,
}

/// Where a guest puts its answer: a head, or the error code that it answers with.
pub(super) type Answer = oneshot::Sender<Result<Head, HttpError>>;

/// What goes with a request into a guest.
#[derive(Clone)]
pub struct Call {
    /// What it is charged to.
    pub meter: Arc<Meter>,
    /// What it prints to.
    pub output: Arc<GuestOutput>,
    /// By what it calls other handlers, if it may.
    pub caller: Option<Arc<dyn Caller>>,
}

impl Guest {
    /// Calls the guest. The response comes as soon as its headers are known; the guest goes on
    /// while the body is read. Dropping the future, or the body, cancels the guest.
    ///
    /// Of those whose instance fails while it serves several, nobody can tell who did it. Each may be called once more, if
    /// it can be: alone, in an instance that has served nobody, so that the one who did it fails with nobody else.
    ///
    /// It may begin before the future is polled. The request's URI must have a scheme and an authority. What is `held` is dropped
    /// when the instance has been given back or cleared away, which is later if the call is cancelled.
    ///
    /// # Errors
    /// What the guest did wrong instead of answering.
    pub fn call<B>(
        self: &Arc<Self>,
        request: Request<B>,
        call: Call,
        held: impl Clone + Send + 'static,
    ) -> impl Future<Output = Result<Response<GuestBody>, Fault>> + Send
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        // No `async fn`: the request would be moved from one future to the next before it is where it stays.
        if self.shares_instances() {
            // Boxed, so that a call of the other kind, as nearly all are, has no room for it.
            Either::Left(Box::pin(self.among_others_first(request, call, held)))
        } else {
            Either::Right(self.alone(request, call, held, false))
        }
    }

    /// Calls an instance that may serve others too, and after that perhaps one that does not.
    async fn among_others_first<B>(
        self: &Arc<Self>,
        request: Request<B>,
        call: Call,
        held: impl Clone + Send + 'static,
    ) -> Result<Response<GuestBody>, Fault>
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        let (again, ending) = (Again::keep(request), Ending::default());
        let among_others = self.among_others(again.lend(), call.clone(), held.clone(), &ending);
        let answered = among_others.await;
        let blame = ending.get().map_or(Blame::Own, |outcome| outcome.blame);
        // Who has spent its budget would be cut off at once.
        let has_time = call.meter.used() < call.meter.budget();
        if answered.is_err() && has_time && again.may_be_given(blame) {
            call.meter.tried_again();
            return self.alone(again.give(), call, held, true).await;
        }
        answered
    }

    /// Calls an instance that serves nobody else meanwhile.
    fn alone<B>(
        self: &Arc<Self>,
        request: Request<B>,
        call: Call,
        held: impl Send + 'static,
        is_again: bool,
    ) -> impl Future<Output = Result<Response<GuestBody>, Fault>> + Send
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        let is_head = request.method() == http::Method::HEAD;
        let (answer, answered) = oneshot::channel();
        let ending = Ending::default();
        let background = Arc::clone(&self.engine.background);
        let meter = Arc::clone(&call.meter);
        let (guest, told) = (Arc::clone(self), Arc::clone(&ending));
        // Written where it stays: `Box::pin` would copy the room for all that it will ever hold.
        let running = Box::write(Box::new_uninit(), async move {
            guest.run(request, call, answer, told, is_again, held).await;
        });
        let running = Box::into_pin(running);
        let running = Running::new(running, ending, meter, background);
        self.answer(running, answered, is_head)
    }

    /// Calls an instance that may serve others too.
    async fn among_others(
        self: &Arc<Self>,
        request: Request<UnsyncBoxBody<Bytes, HttpError>>,
        call: Call,
        held: impl Send + 'static,
        ending: &Ending,
    ) -> Result<Response<GuestBody>, Fault> {
        let is_head = request.method() == http::Method::HEAD;
        let (answer, answered) = oneshot::channel();
        let background = Arc::clone(&self.engine.background);
        let meter = Arc::clone(&call.meter);
        let job = Job {
            request,
            answer,
            ending: Arc::clone(ending),
            call,
            held: Box::new(held),
        };
        let seat = self.seat(job).await?;
        let running = Running::shared(seat, Arc::clone(ending), meter, background);
        self.answer(running, answered, is_head).await
    }

    /// Waits for the answer of a call.
    async fn answer(
        &self,
        mut running: Running,
        answered: oneshot::Receiver<Result<Head, HttpError>>,
        is_head: bool,
    ) -> Result<Response<GuestBody>, Fault> {
        let mut answered = Some(answered);
        let head = std::future::poll_fn(|cx| {
            let ended = running.poll(cx).is_ready();
            poll_answer(&mut answered, ended, cx)
        })
        .await;
        let Some(head) = head else {
            return Err(running
                .outcome()
                .and_then(|outcome| outcome.result.clone().err())
                .unwrap_or_else(no_response));
        };
        let head = head.map_err(|code| Fault::error_code(&code))?;

        let (mut parts, written) = head.response.into_parts();
        let declared = check_head(parts.status, &parts.headers, self.settings.fields)?;
        // A response without a body may declare the length that it would have (RFC 9110 8.6).
        let has_body = !is_head
            && !matches!(
                parts.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let declared = declared.filter(|_| has_body);
        let mut body = GuestBody::new(written, declared, running, head.delivered);
        if has_body {
            std::future::poll_fn(|cx| Poll::Ready(body.read_ahead(cx))).await?;
            // HTTP/1.1 sends those trailers that its head has announced.
            if let Some(names) = body.trailers_ahead() {
                parts.headers.entry(header::TRAILER).or_insert(names);
            }
        }
        Ok(Response::from_parts(parts, body))
    }

    async fn run<B>(
        &self,
        request: Request<B>,
        call: Call,
        answer: Answer,
        ending: Ending,
        is_again: bool,
        held: impl Send + 'static,
    ) where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        let _ticking = self.engine.epoch.ticking();
        let clearing = &self.engine.background.clearing;
        let meter = Arc::clone(&call.meter);
        let mut in_use = match self.instance(call, is_again).await {
            Ok(instance) => InUse::new(instance, held, clearing),
            Err(fault) => {
                let outcome = Outcome {
                    result: Err(fault),
                    body_unfinished: true,
                    blame: Blame::Own,
                };
                return drop(ending.set(outcome));
            }
        };
        let Some(instance) = &mut in_use.instance else {
            return; // it is there until it is kept
        };
        // Declared after the instance, so that it is dropped before the store closes the body.
        let broken = instance.store.data().outbound_http.broken.clone();
        let unless_told = CutOff {
            ending: &ending,
            broken: &broken,
        };
        let store = &mut instance.store;
        let outcome = match &instance.exports {
            Exports::P2(proxy) => p2::call(store, proxy, request, answer, &meter).await,
            Exports::P3(service) => p3::call(store, service, request, answer, &meter).await,
        };
        let well = outcome.result.is_ok() && !outcome.body_unfinished;
        if !well {
            broken.set();
        }
        match &outcome.result {
            // That the same request fails again says nothing new.
            Err(fault) if fault.kind.ends_instance() && !is_again => self.caution.failed(fault),
            _ if well => self.caution.served(),
            _ => {}
        }
        let _ = ending.set(outcome);
        drop(unless_told);
        // An instance is never used again after a fault.
        if well && let Some(instance) = in_use.instance.take() {
            in_use.instance = self.keep(instance);
        }
    }
}

/// Ends a call that has spent its budget, which is compared here before each poll, and at each tick while wasm runs: a guest that
/// only waits meets no tick, and what the host does for it meanwhile is charged too.
pub(super) fn within_budget<T>(
    meter: &Meter,
    mut call: Pin<&mut impl Future<Output = wasmtime::Result<T>>>,
) -> impl Future<Output = wasmtime::Result<T>> {
    std::future::poll_fn(move |cx| {
        if meter.is_overdrawn() {
            return Poll::Ready(Err(CpuBudgetSpent.into()));
        }
        call.as_mut().poll(cx)
    })
}

/// A call that is dropped, or panics, has not finished its bodies.
struct CutOff<'a> {
    ending: &'a Ending,
    broken: &'a Broken,
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        self.ending.get_or_init(|| {
            self.broken.set();
            Outcome {
                result: Err(Fault::new(FaultKind::Trap, "the call was cut off")),
                body_unfinished: true,
                blame: Blame::Own,
            }
        });
    }
}

/// What the guest has answered; nothing once it has `ended` without. Who gives up answering may still do something wrong,
/// which says more, and is waited for.
fn poll_answer<T>(
    answered: &mut Option<oneshot::Receiver<T>>,
    ended: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    let Some(waits) = answered else {
        return if ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        };
    };
    if ended {
        // A poll may be told to wait for what is there: tokio does that to a task that has done much in one turn.
        return Poll::Ready(waits.try_recv().ok());
    }
    match Pin::new(waits).poll(cx) {
        Poll::Ready(Ok(answer)) => Poll::Ready(Some(answer)),
        Poll::Ready(Err(_)) => {
            *answered = None;
            Poll::Pending
        }
        Poll::Pending => Poll::Pending,
    }
}

fn no_response() -> Fault {
    Fault::new(
        FaultKind::NoResponse,
        "the handler returned without a response",
    )
}

/// Checks what HTTP demands of a final response and gives its declared length.
fn check_head(
    status: StatusCode,
    headers: &HeaderMap,
    allowed: usize,
) -> Result<Option<u64>, Fault> {
    let invalid = |detail: String| Err(Fault::new(FaultKind::InvalidResponse, detail));
    if status.is_informational() {
        return invalid(format!("status {status} is not a final one"));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > allowed {
        return invalid(format!(
            "the headers take {bytes} bytes, {allowed} are allowed"
        ));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    let digits = length
        .to_str()
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) if lengths.next().is_none() => Ok(Some(length)),
        _ => invalid("the `content-length` is not one number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::coop;

    use super::*;
    use crate::account::Account;

    #[tokio::test]
    async fn an_answer_that_is_there_is_found_by_a_task_that_has_done_much() {
        let (answer, answered) = oneshot::channel();
        let mut answered = Some(answered);
        answer.send("an answer").expect("it is waited for");
        let found = std::future::poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            let waits = poll_answer(&mut answered, false, cx);
            assert_eq!(waits, Poll::Pending, "a turn has no end");
            poll_answer(&mut answered, true, cx)
        });
        assert_eq!(found.await, Some("an answer"));
    }

    #[tokio::test]
    async fn a_call_that_only_waits_for_what_the_host_does_has_a_budget_too() {
        let ms = std::time::Duration::from_millis;
        let meter = Meter::new(ms(10), Account::new());
        let mut polls = 0;
        let call = std::future::poll_fn(|cx| {
            polls += 1;
            meter.charge(ms(4));
            cx.waker().wake_by_ref();
            Poll::<wasmtime::Result<()>>::Pending
        });
        let ended = within_budget(&meter, pin!(call)).await;
        assert!(ended.is_err_and(|error| error.is::<CpuBudgetSpent>()));
        assert_eq!(polls, 3);
    }

    #[tokio::test]
    async fn who_gives_up_answering_has_answered_when_it_has_ended() {
        let (answer, answered) = oneshot::channel::<()>();
        let mut answered = Some(answered);
        drop(answer);
        let polled = std::future::poll_fn(|cx| {
            let before = poll_answer(&mut answered, false, cx);
            Poll::Ready((before, poll_answer(&mut answered, true, cx)))
        });
        assert_eq!(polled.await, (Poll::Pending, Poll::Ready(None)));
    }
}
