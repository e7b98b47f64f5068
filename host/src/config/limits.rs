//! The limits of a handler: what it says itself, then what `[defaults]` says, then what the host says.

use std::time::Duration;

use super::reader::Table;
use crate::engine::GuestSettings;
use crate::limits::{FIELDS_BYTES, HandlerLimits, Reuse, SHARE};
use crate::values;

/// What was said of limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    cpu: Option<Duration>,
    memory: Option<usize>,
    max_body: Option<u64>,
    max_response_head: Option<usize>,
    max_concurrent_requests: Option<usize>,
    max_waiting_requests: Option<usize>,
    queue_timeout: Option<Duration>,
    reuse: Option<usize>,
    concurrent_reuse: Option<usize>,
    idle_instance_timeout: Option<Duration>,
}

/// What holds.
pub(super) struct Settled {
    pub(super) limits: HandlerLimits,
    pub(super) fields: usize,
    pub(super) reuse: Reuse,
}

impl Limits {
    pub(super) fn read(table: &Table<'_>) -> Self {
        Self {
            timeout: table.parsed("timeout", values::duration),
            body_timeout: table.parsed("body_timeout", values::duration),
            cpu: table.parsed("cpu", values::duration),
            memory: table.parsed("memory", values::memory),
            max_body: table.parsed("max_body", values::size),
            max_response_head: table.parsed("max_response_head", values::head),
            max_concurrent_requests: table.parsed("max_concurrent_requests", values::count),
            max_waiting_requests: table.parsed("max_waiting_requests", values::count),
            queue_timeout: table.parsed("queue_timeout", values::duration),
            reuse: table.parsed("max_instance_reuse_count", values::count),
            concurrent_reuse: table.parsed("max_instance_concurrent_reuse_count", values::count),
            idle_instance_timeout: table.parsed("idle_instance_timeout", values::duration),
        }
    }

    /// What a handler has of the requests that the host serves at once, if nobody says it.
    pub(super) fn share_of(concurrent_requests: usize) -> Self {
        Self {
            max_concurrent_requests: Some(concurrent_requests.div_ceil(SHARE)),
            ..Self::default()
        }
    }

    /// What would have been said of a handler with these.
    pub(super) fn like(limits: &HandlerLimits, guest: &GuestSettings) -> Self {
        let HandlerLimits {
            deadline,
            body_deadline,
            cpu,
            memory,
            request_body,
            concurrent_requests,
            waiting_requests,
            permit_wait,
        } = *limits;
        Self {
            timeout: Some(deadline),
            // One that follows another limit goes on following it.
            body_timeout: (body_deadline != deadline).then_some(body_deadline),
            cpu: Some(cpu),
            memory: Some(memory),
            max_body: Some(request_body),
            max_response_head: Some(guest.fields),
            max_concurrent_requests: Some(concurrent_requests),
            max_waiting_requests: (waiting_requests != concurrent_requests)
                .then_some(waiting_requests),
            queue_timeout: Some(permit_wait),
            reuse: guest.reuse.requests.map(|count| count as usize),
            concurrent_reuse: Some(guest.reuse.concurrent as usize),
            idle_instance_timeout: Some(guest.reuse.idle),
        }
    }

    /// These, and those of `others` where nothing is said.
    pub(super) fn or(self, others: &Self) -> Self {
        Self {
            timeout: self.timeout.or(others.timeout),
            body_timeout: self.body_timeout.or(others.body_timeout),
            cpu: self.cpu.or(others.cpu),
            memory: self.memory.or(others.memory),
            max_body: self.max_body.or(others.max_body),
            max_response_head: self.max_response_head.or(others.max_response_head),
            max_concurrent_requests: self
                .max_concurrent_requests
                .or(others.max_concurrent_requests),
            max_waiting_requests: self.max_waiting_requests.or(others.max_waiting_requests),
            queue_timeout: self.queue_timeout.or(others.queue_timeout),
            reuse: self.reuse.or(others.reuse),
            concurrent_reuse: self.concurrent_reuse.or(others.concurrent_reuse),
            idle_instance_timeout: self.idle_instance_timeout.or(others.idle_instance_timeout),
        }
    }

    pub(super) fn settle(&self) -> Settled {
        let unsaid = HandlerLimits::default();
        let reuse = Reuse::default();
        let deadline = self.timeout.unwrap_or(unsaid.deadline);
        let concurrent_requests = self
            .max_concurrent_requests
            .unwrap_or(unsaid.concurrent_requests);
        Settled {
            limits: HandlerLimits {
                deadline,
                body_deadline: self.body_timeout.unwrap_or(deadline),
                cpu: self.cpu.unwrap_or(unsaid.cpu),
                memory: self.memory.unwrap_or(unsaid.memory),
                request_body: self.max_body.unwrap_or(unsaid.request_body),
                concurrent_requests,
                waiting_requests: self.max_waiting_requests.unwrap_or(concurrent_requests),
                permit_wait: self.queue_timeout.unwrap_or(unsaid.permit_wait),
            },
            fields: self.max_response_head.unwrap_or(FIELDS_BYTES),
            reuse: Reuse {
                requests: self.reuse.map(count),
                concurrent: self.concurrent_reuse.map_or(reuse.concurrent, count),
                idle: self.idle_instance_timeout.unwrap_or(reuse.idle),
            },
        }
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_what_limits_says() {
        let settled = Limits::default().settle();
        assert_eq!(settled.limits, HandlerLimits::default());
        assert_eq!(settled.fields, FIELDS_BYTES);
        assert_eq!(settled.reuse, Reuse::default());
    }

    #[test]
    fn limits_that_hold_can_be_said() {
        let (limits, guest) = (HandlerLimits::default(), GuestSettings::default());
        assert_eq!(Limits::like(&limits, &guest).settle().limits, limits);
    }

    #[test]
    fn a_handler_goes_before_the_defaults_and_what_follows_a_limit_follows_the_one_that_holds() {
        let defaults = Limits {
            timeout: Some(Duration::from_secs(60)),
            cpu: Some(Duration::from_secs(1)),
            ..Limits::default()
        };
        let handler = Limits {
            timeout: Some(Duration::from_secs(10)),
            max_concurrent_requests: Some(7),
            ..Limits::default()
        };
        let limits = handler.or(&defaults).settle().limits;
        assert_eq!(limits.deadline, Duration::from_secs(10));
        assert_eq!(limits.body_deadline, Duration::from_secs(10));
        assert_eq!(limits.cpu, Duration::from_secs(1));
        assert_eq!(limits.waiting_requests, 7);
    }
}
