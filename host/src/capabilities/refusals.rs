//! What a guest was refused, for the log: a guest can ask for it as often as it likes.

use std::fmt;
use std::sync::Arc;

use crate::limits;
use crate::observe::Seldom;

/// What the guest of one handler was refused, of one kind.
#[derive(Debug)]
pub(crate) struct Refusals {
    handler: Arc<str>,
    seldom: Seldom,
}

impl Refusals {
    pub(crate) fn of(handler: Arc<str>) -> Self {
        Self {
            handler,
            seldom: Seldom::new(limits::REFUSED_PAUSE),
        }
    }

    /// One more. Once in a while a line says `what`, with the handler's name before it and how many there were.
    pub(crate) fn tell(&self, what: fmt::Arguments<'_>) {
        if let Some(refused) = self.seldom.count() {
            let handler = &*self.handler;
            tracing::warn!(handler, refused, "`{handler}` {what}");
        }
    }
}
