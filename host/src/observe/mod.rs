//! What can be seen from outside: one line for each exchange, what guests print, what the host says.

pub mod access_log;
mod exchange;
mod guest_output;
mod line_queue;
pub mod log;
mod seldom;

pub use exchange::{CalledBy, Exchange, RequestId};
pub(crate) use guest_output::printable;
pub use guest_output::{GuestOutput, GuestStream};
pub use line_queue::{Flush, LineQueue};
pub use seldom::Seldom;
