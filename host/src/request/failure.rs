//! Why a client got no answer from a guest, and what it gets instead. Decided here and nowhere else.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::catalog::Absent;
use crate::engine::{Fault, FaultKind};
use crate::gate::Full;
use crate::limits::CALL_DEPTH;
use crate::observe::Exchange;

/// Why the client got no answer from the guest.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The guest did something wrong.
    Fault(Fault),
    /// No headers before the wall deadline.
    Deadline(Duration),
    /// No byte of the response's body before its deadline.
    Stuck(Duration),
    /// No place at the gate.
    Overload,
    /// The tenant of the handler has had too many requests, and has room for the next after so long.
    TooOften(Duration),
    /// The handler fails again and again, and is not asked for so long.
    Quarantined(Duration),
    /// The request was waiting for a place when the host was asked to stop.
    Draining,
    /// No handler is deployed for this.
    NoRoute,
    /// The same, or the handler is awaited, while handlers are still being made that were there before the host was started.
    Starting,
    /// The handler was there before the host was started, and could not be made since; its name.
    NotMade(Arc<str>),
    /// A call of a handler that is not deployed; its name.
    NotDeployed(Arc<str>),
    /// A call inside of too many others.
    Loop,
    /// The path is there for other methods only: these.
    Method(HeaderValue),
    /// The access list of the route does not let this client in.
    Denied,
    /// The client shows no password that is right; how it is asked for one.
    Unauthorized(HeaderValue),
    /// CONNECT, which no handler can answer.
    NoTunnel,
    /// The request is not one that HTTP allows; what is wrong with it.
    BadRequest(&'static str),
    /// The request's body is longer than allowed.
    BodyTooLarge,
    /// The request's head has more bytes or fields than allowed.
    HeadTooLarge,
    /// The request's first line is longer than its head may be, or than a target can be.
    TargetTooLong,
    /// The client was too slow with its request.
    SlowClient,
    /// The client broke off its body.
    ClientLeft,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Full> for Failure {
    fn from(Full: Full) -> Self {
        Self::Overload
    }
}

impl Failure {
    /// What is asked of a handler that is awaited.
    pub(super) fn of_absent(absent: &Absent) -> Self {
        if absent.is_starting {
            Self::Starting
        } else {
            Self::NotMade(Arc::clone(&absent.name))
        }
    }

    /// The status that the client gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Fault(fault) => fault_status(fault.kind),
            Self::Deadline(_) | Self::Stuck(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Overload
            | Self::Quarantined(_)
            | Self::Draining
            | Self::Starting
            | Self::NotMade(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRoute | Self::NotDeployed(_) => StatusCode::NOT_FOUND,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoTunnel => StatusCode::NOT_IMPLEMENTED,
            Self::BadRequest(_) | Self::ClientLeft => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::SlowClient => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The word for it in logs, metrics and the `type` of the response.
    #[must_use]
    pub fn label(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Fault(fault) => match fault.kind {
                FaultKind::Trap => "trap",
                FaultKind::StackOverflow => "stack-overflow",
                FaultKind::MemoryLimit => "memory-limit",
                FaultKind::CpuLimit => "cpu-limit",
                FaultKind::StartFailed => "start-failed",
                FaultKind::NoResponse => "no-response",
                FaultKind::InvalidResponse => "invalid-response",
                FaultKind::NoRoom => "overload",
                FaultKind::ErrorCode(code) => return Cow::Owned(format!("guest-error:{code}")),
            },
            Self::Deadline(_) | Self::Stuck(_) => "deadline",
            Self::Overload => "overload",
            Self::Quarantined(_) => "quarantined",
            Self::Draining => "draining",
            Self::TooOften(_) => "rate-limited",
            Self::NoRoute | Self::NotDeployed(_) => "no-route",
            Self::Starting => "starting",
            Self::NotMade(_) => "not-made",
            Self::Loop => "loop",
            Self::Denied => "denied",
            Self::Unauthorized(_) => "unauthorized",
            Self::Method(_) | Self::NoTunnel => "method",
            Self::BadRequest(_) => "bad-request",
            Self::BodyTooLarge | Self::HeadTooLarge | Self::TargetTooLong => "too-large",
            Self::SlowClient => "slow-client",
            Self::ClientLeft => "client-left",
        })
    }

    /// What the client may know: nothing of the guest's and nothing of the host's.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::Fault(fault) if fault.kind == FaultKind::NoRoom => {
                "there is no room for this request now, try again later"
            }
            Self::Fault(_) | Self::NotMade(_) => "the handler failed",
            Self::Deadline(_) | Self::Stuck(_) => "the handler did not answer in time",
            Self::Overload => "there is no room for this request now, try again later",
            Self::Quarantined(_) => "the handler fails, try again later",
            Self::Draining => "the server is stopping, try again later",
            Self::TooOften(_) => "too many requests, try again later",
            Self::NoRoute | Self::NotDeployed(_) => "there is no handler for this",
            Self::Starting => "the server is still starting, try again later",
            Self::Loop => "handlers call one another too deep",
            Self::Denied => "this is not for you",
            Self::Unauthorized(_) => "this needs a name and a password",
            Self::Method(_) => "this is there for other methods only",
            Self::NoTunnel => "CONNECT is not supported",
            Self::BadRequest(what) => what,
            Self::BodyTooLarge => "the request's body is too large",
            Self::HeadTooLarge => "the request's head is too large",
            Self::TargetTooLong => "the request's target is too long",
            Self::SlowClient => "the request did not arrive in time",
            Self::ClientLeft => "the request's body broke off",
        }
    }

    /// Why, for the log.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Fault(fault) if fault.backtrace.is_empty() => Some(fault.detail.clone()),
            Self::Fault(fault) => Some(format!(
                "{}; in {}",
                fault.detail,
                fault.backtrace.join(" < ")
            )),
            Self::Deadline(limit) => Some(format!(
                "no answer within {limit:?}: raise `--timeout` if the handler needs longer"
            )),
            Self::Stuck(limit) => Some(format!(
                "no byte of the response's body for {limit:?}: raise `--body-timeout` if the handler needs longer"
            )),
            Self::NotDeployed(name) => Some(format!(
                "`{name}` is called and is not deployed: deploy it, or take it out of `calls`"
            )),
            Self::NotMade(name) => Some(format!(
                "`{name}` served before the host was started, and could not be made then: see the log of the start, and deploy it again"
            )),
            Self::Loop => Some(format!(
                "inside of {CALL_DEPTH} calls there is no other: see whether handlers call one another in a circle"
            )),
            _ => None,
        }
    }

    /// Whether it is the guest's doing, and no answer that it chose.
    pub(super) fn is_of_guest(&self) -> bool {
        match self {
            Self::Fault(fault) => {
                !matches!(fault.kind, FaultKind::ErrorCode(_) | FaultKind::NoRoom)
            }
            Self::Deadline(_) => true,
            _ => false,
        }
    }

    /// Whether a guest did something wrong, or answered with an error.
    pub(super) fn is_fault(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.kind != FaultKind::NoRoom)
    }

    /// Tells the log, by way of the exchange that failed.
    pub(super) fn tell(&self, exchange: &mut Exchange) {
        exchange.label = Some(self.label());
        exchange.is_fault = self.is_fault();
        exchange.detail = self.detail();
    }

    /// Seconds after which trying again may help. Nobody knows when somebody deploys what could not be made.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Quarantined(pause) | Self::TooOften(pause) => {
                Some(u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).max(1))
            }
            Self::NotMade(_) => None,
            _ => (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }
}

fn fault_status(kind: FaultKind) -> StatusCode {
    match kind {
        FaultKind::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        FaultKind::ErrorCode(code) => code_status(code),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a `wasi:http/types.error-code` means to a client, when the handler answers with one.
fn code_status(code: &str) -> StatusCode {
    match code {
        "DNS-timeout"
        | "connection-timeout"
        | "connection-read-timeout"
        | "connection-write-timeout"
        | "HTTP-response-timeout" => StatusCode::GATEWAY_TIMEOUT,
        "DNS-error"
        | "destination-not-found"
        | "destination-unavailable"
        | "destination-IP-prohibited"
        | "destination-IP-unroutable"
        | "connection-refused"
        | "connection-terminated"
        | "TLS-protocol-error"
        | "TLS-certificate-error"
        | "TLS-alert-received"
        | "HTTP-response-incomplete"
        | "HTTP-response-header-section-size"
        | "HTTP-response-header-size"
        | "HTTP-response-body-size"
        | "HTTP-response-trailer-section-size"
        | "HTTP-response-trailer-size"
        | "HTTP-response-transfer-coding"
        | "HTTP-response-content-coding"
        | "HTTP-upgrade-failed"
        | "HTTP-protocol-error" => StatusCode::BAD_GATEWAY,
        "connection-limit-reached" => StatusCode::SERVICE_UNAVAILABLE,
        "HTTP-request-denied" => StatusCode::FORBIDDEN,
        "HTTP-request-length-required" => StatusCode::LENGTH_REQUIRED,
        "HTTP-request-body-size" => StatusCode::PAYLOAD_TOO_LARGE,
        "HTTP-request-method-invalid" => StatusCode::METHOD_NOT_ALLOWED,
        "HTTP-request-URI-invalid" => StatusCode::BAD_REQUEST,
        "HTTP-request-URI-too-long" => StatusCode::URI_TOO_LONG,
        "HTTP-request-header-section-size"
        | "HTTP-request-header-size"
        | "HTTP-request-trailer-section-size"
        | "HTTP-request-trailer-size" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "loop-detected" => StatusCode::LOOP_DETECTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_trouble_is_told_from_the_handlers_own() {
        for (code, status) in [
            ("connection-refused", 502),
            ("HTTP-response-timeout", 504),
            ("HTTP-request-body-size", 413),
            ("loop-detected", 508),
            ("internal-error", 500),
            ("configuration-error", 500),
        ] {
            assert_eq!(code_status(code), status, "{code}");
        }
    }
}
