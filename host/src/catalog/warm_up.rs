//! A request that a handler must answer before it is put in place.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::HandlerSpec;
use crate::account::Account;
use crate::capabilities::calls::SUFFIX;
use crate::engine::{Call, Fault, Guest, HttpError};
use crate::meter::Meter;
use crate::observe::{GuestOutput, RequestId, Speaker};

/// A request and the status of its answer. As a text, `GET /ready=200`, where method and status may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WarmUp {
    /// Its method.
    pub method: Method,
    /// Its path and query, as the guest sees them.
    pub path: PathAndQuery,
    /// The status that its answer must have.
    pub status: StatusCode,
}

impl WarmUp {
    /// A path, with or without a query.
    pub(crate) fn path_of(text: &str) -> Result<PathAndQuery, String> {
        let path = text.parse().ok().filter(|_| text.starts_with('/'));
        path.ok_or_else(|| {
            "not a path: write one that begins with `/`, such as `/ready`".to_owned()
        })
    }

    /// A method that a guest can be asked with.
    pub(crate) fn method_of(text: &str) -> Result<Method, String> {
        let method = text.parse().ok();
        method
            .filter(|method| *method != Method::CONNECT)
            .ok_or_else(|| "not a method: write `GET`, or another one".to_owned())
    }

    /// A status that an answer can have.
    pub(crate) fn status_of(text: &str) -> Result<StatusCode, String> {
        let code = text.parse().ok().filter(|code| (200..=599).contains(code));
        code.and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or_else(|| "not a status: write a number from 200 to 599".to_owned())
    }

    /// Asks a guest, under its limits, and reads the answer to its end. What the guest does after that it may not finish.
    ///
    /// # Errors
    /// Why it is not ready, and what to do.
    pub(super) async fn ask(
        &self,
        guest: &Arc<Guest>,
        spec: &HandlerSpec,
        account: &Arc<Account>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + spec.limits.deadline;
        let answer = self.answer(guest, spec, account, deadline);
        let status = match timeout_at(deadline, answer).await {
            Ok(Ok(status)) if status == self.status => return Ok(()),
            Ok(Ok(status)) => format!(
                "is answered {} and not {}",
                status.as_u16(),
                self.status.as_u16()
            ),
            Ok(Err(fault)) if fault.backtrace.is_empty() => format!("fails: {fault}"),
            Ok(Err(fault)) => format!("fails: {fault}, in {}", fault.backtrace.join(" < ")),
            Err(_) => format!("is not answered within {:?}", spec.limits.deadline),
        };
        Err(format!(
            "its warm-up request `{} {}` {status}: see what it prints, or change its `warm_up`",
            self.method, self.path
        ))
    }

    async fn answer(
        &self,
        guest: &Arc<Guest>,
        spec: &HandlerSpec,
        account: &Arc<Account>,
        deadline: Instant,
    ) -> Result<StatusCode, Fault> {
        let empty = Empty::<Bytes>::new().map_err(|never| -> HttpError { match never {} });
        let mut request = Request::new(empty);
        *request.method_mut() = self.method.clone();
        // A name has only characters that a host may have, so this is always one.
        let uri = format!("http://{}{SUFFIX}{}", spec.name, self.path);
        *request.uri_mut() = uri.parse().unwrap_or_default();
        let (name, tenant) = (spec.name.shared(), spec.tenant.clone());
        let call = Call {
            meter: Arc::new(Meter::new(spec.limits.cpu, Arc::clone(account))),
            output: Arc::new(GuestOutput::new(
                Speaker::new(name, tenant, "", Arc::clone(account)),
                RequestId::none(),
                false,
            )),
            // It is not deployed yet, and calls nobody.
            caller: None,
        };
        let (head, body) = guest.call(request, call, ()).await?.into_parts();
        if let Some(working) = body.into_unread().await? {
            timeout_at(deadline, working.finish())
                .await
                .unwrap_or(Ok(()))?;
        }
        Ok(head.status)
    }
}

impl fmt::Display for WarmUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}={}", self.method, self.path, self.status.as_u16())
    }
}

impl FromStr for WarmUp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, rest) = match text.split_once(' ') {
            Some((method, rest)) => (Self::method_of(method)?, rest),
            None => (Method::GET, text),
        };
        let (path, status) = match rest.rsplit_once('=') {
            Some((path, code)) if is_code(code) => (path, Self::status_of(code)?),
            _ => (rest, StatusCode::OK),
        };
        Ok(Self {
            method,
            path: Self::path_of(path)?,
            status,
        })
    }
}

/// Three digits after the last `=` are the status, whatever they are.
fn is_code(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl TryFrom<String> for WarmUp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WarmUp> for String {
    fn from(warm_up: WarmUp) -> Self {
        warm_up.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_leave_out_its_method_and_its_status() {
        for (text, whole) in [
            ("/ready", "GET /ready=200"),
            ("/ready=204", "GET /ready=204"),
            ("POST /ready=201", "POST /ready=201"),
            ("/ready?a=b", "GET /ready?a=b=200"),
            ("/ready?a=204=200", "GET /ready?a=204=200"),
        ] {
            let warm_up: WarmUp = text.parse().expect(text);
            assert_eq!(warm_up.to_string(), whole);
            assert_eq!(whole.parse(), Ok(warm_up));
        }
        for bad in [
            "",
            "ready",
            "/ready=700",
            "/ready=099",
            "CONNECT /",
            "G@T /",
            "/a b c",
        ] {
            assert!(bad.parse::<WarmUp>().is_err(), "{bad}");
        }
    }
}
