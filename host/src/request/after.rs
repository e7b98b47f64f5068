//! What a guest does after its response: it may finish, within a deadline, and its slot is its own
//! until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::{Failure, Permits};
use crate::engine::{Fault, GuestBody, Running};
use crate::meter::Meter;
use crate::observe::metrics::Requests;
use crate::observe::{Exchange, RequestId};

/// The end of an exchange for the guest.
pub(super) struct After {
    handler: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
    requests: Arc<Requests>,
    id: RequestId,
    meter: Option<Arc<Meter>>,
    began: Instant,
    patience: Duration,
    _permit: Option<Arc<Permits>>,
}

impl After {
    pub(super) fn new(
        exchange: &Exchange,
        permit: Option<Arc<Permits>>,
        patience: Duration,
    ) -> Self {
        Self {
            handler: exchange.handler.clone(),
            tenant: exchange.tenant.clone(),
            requests: Arc::clone(exchange.requests()),
            id: exchange.id.clone(),
            meter: exchange.meter.clone(),
            began: Instant::now(),
            patience,
            _permit: permit,
        }
    }

    /// Lets the guest work on.
    pub(super) fn work(self, guest: Running) {
        tokio::spawn(async move { self.tell(timeout(self.patience, guest.finish()).await) });
    }

    /// Reads the body of a response that must have none, so that the guest can finish.
    pub(super) fn read(self, body: GuestBody) {
        tokio::spawn(async move {
            match timeout(self.patience, body.into_unread()).await {
                Ok(Ok(Some(guest))) => self.work(guest),
                ended => self.tell(ended.map(|read| read.map(drop))),
            }
        });
    }

    fn tell(&self, ended: Result<Result<(), Fault>, Elapsed>) {
        let what = match ended {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => {
                let said = format!("the guest failed: {fault}");
                let failure = Failure::Fault(fault);
                if let Some(handler) = self.handler.as_ref().filter(|_| failure.is_fault()) {
                    let counts = self.requests.of_handler(handler, self.tenant.as_ref());
                    counts.fault(&failure.label());
                }
                said
            }
            Err(_) => format!(
                "the guest worked past its deadline of {:?} and was stopped",
                self.patience
            ),
        };
        let handler = self.handler.as_deref().unwrap_or("-");
        tracing::warn!(handler, request_id = %self.id, "after its response {what}");
    }
}

impl Drop for After {
    /// What the guest used after its exchange is noted however it ends.
    fn drop(&mut self) {
        if let (Some(handler), Some(meter)) = (&self.handler, &self.meter) {
            let counts = self.requests.of_handler(handler, self.tenant.as_ref());
            counts.after(meter, self.began.elapsed());
        }
    }
}
