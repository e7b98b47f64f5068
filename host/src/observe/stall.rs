//! Whether a connection, or a stream of one, is cut because its client takes no bytes. Only who cuts it knows; only the
//! exchange, which is dropped by that, writes a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Known to who serves a connection and to the exchanges on it.
#[derive(Debug, Clone, Default)]
pub struct Stall(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    is_stalled: AtomicBool,
    /// A stream goes with its connection.
    connection: Option<Stall>,
}

impl Stall {
    /// Of one of several streams on the connection.
    #[must_use]
    pub fn of_stream(&self) -> Self {
        Self(Arc::new(Cut {
            is_stalled: AtomicBool::new(false),
            connection: Some(self.clone()),
        }))
    }

    /// What ends from now on was cut for it.
    pub fn cut(&self) {
        self.0.is_stalled.store(true, Ordering::Relaxed);
    }

    /// Whether the client took no bytes for too long.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.is_stalled.load(Ordering::Relaxed)
            || self.0.connection.as_ref().is_some_and(Self::is_cut)
    }
}
