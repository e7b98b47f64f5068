//! What an operator is told when something is not done: RFC 9457, with every mistake.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::catalog::{NotDone, StoreError};

/// Why a request was not done. Statuses of this door are chosen here and nowhere else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// Names the kind of problem, and stays the same.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong and what to do, all of it.
    pub detail: String,
    /// The same one by one, if there are several mistakes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:host:admin:{kind}"),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            mistakes: Vec::new(),
        }
    }

    pub(super) fn mistakes(mistakes: Vec<String>) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "bad-request", mistakes.join("; "));
        problem.mistakes = mistakes;
        problem
    }

    /// What is wrong with the host itself, its paths and its disks, is for its operator.
    pub(super) fn for_tenant(self) -> Self {
        if self.status != StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
            return self;
        }
        let detail = "the host could not do it: its operator finds the reason in its log";
        Self {
            detail: detail.to_owned(),
            ..self
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<NotDone> for Problem {
    fn from(why: NotDone) -> Self {
        let (status, kind) = match why {
            NotDone::Mistakes(mistakes) => return Self::mistakes(mistakes),
            NotDone::Forbidden(mistakes) => {
                let forbidden = Self::new(StatusCode::FORBIDDEN, "forbidden", mistakes.join("; "));
                return Self {
                    mistakes,
                    ..forbidden
                };
            }
            NotDone::Absent(_) => (StatusCode::NOT_FOUND, "no-handler"),
            NotDone::NoVersion(_) => (StatusCode::NOT_FOUND, "no-version"),
            NotDone::Busy(_) => (StatusCode::CONFLICT, "busy"),
            NotDone::Taken(_) | NotDone::Occupied(_) => (StatusCode::CONFLICT, "taken"),
            NotDone::Outdated(..) => (StatusCode::PRECONDITION_FAILED, "outdated"),
            NotDone::Unfit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unfit"),
            NotDone::TooMany(_) => (StatusCode::SERVICE_UNAVAILABLE, "too-many"),
            // RFC 4918, section 11.5: what is needed to store the component is not there, until somebody makes room. Not
            // 413 or 429: neither is this component too large by itself, nor does it help to wait.
            NotDone::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "no-room"),
            NotDone::Store(StoreError::TooLarge(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            NotDone::Store(StoreError::NoSpace) => (StatusCode::INSUFFICIENT_STORAGE, "no-space"),
            NotDone::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
        };
        Self::new(status, kind, why.to_string())
    }
}
