//! What can be seen from outside: one line for each exchange, what guests print, what the host says.

pub mod access_log;
mod exchange;
mod guest_output;
mod ledger;
mod lifecycle;
mod line_queue;
pub mod log;
pub mod metrics;
mod seldom;

pub use exchange::{CalledBy, Exchange, RequestId};
pub(crate) use guest_output::printable;
pub use guest_output::{GuestLevel, GuestOutput, GuestStream, Speaker};
pub use ledger::Ledger;
pub use lifecycle::{Lifecycle, Phase};
pub use line_queue::{Flush, LineQueue, Output};
pub use seldom::Seldom;
