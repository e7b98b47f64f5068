//! What a guest may reach: one interface, one grant, one file.
//!
//! Everything is linked, so that a guest whose runtime merely imports an interface can run; what
//! is not granted answers with the error that its interface has for that.

pub mod calls;
pub mod outbound_http;
