//! One body copied into another, without waiting for either.

use wasip2::http::types::{IncomingBody, OutgoingBody};
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// The streams are children of the bodies and must go first: fields drop in this order.
pub(crate) struct Copy {
    input: InputStream,
    output: OutputStream,
    from: IncomingBody,
    to: OutgoingBody,
}

pub(crate) enum Step {
    /// For one of the two.
    Waits,
    Ended,
    Broken,
}

impl Copy {
    pub(crate) fn of(from: IncomingBody, to: OutgoingBody) -> Self {
        Self {
            input: from.stream().expect("one reader"),
            output: to.write().expect("one writer"),
            from,
            to,
        }
    }

    /// The bytes go from stream to stream inside the host and never enter this guest's memory.
    pub(crate) fn step(&mut self) -> Step {
        loop {
            let room = match self.output.check_write() {
                Ok(room) => room,
                Err(_) => return Step::Broken,
            };
            match self.output.splice(&self.input, room) {
                Ok(0) => return Step::Waits,
                Ok(_) => {}
                Err(StreamError::Closed) => return Step::Ended,
                Err(StreamError::LastOperationFailed(_)) => return Step::Broken,
            }
        }
    }

    /// Ready when it may go on.
    pub(crate) fn next(&self) -> Pollable {
        match self.output.check_write() {
            Ok(0) => self.output.subscribe(),
            _ => self.input.subscribe(),
        }
    }

    pub(crate) fn into_bodies(self) -> (IncomingBody, OutgoingBody) {
        let Self {
            input,
            output,
            from,
            to,
        } = self;
        drop((input, output));
        (from, to)
    }
}
