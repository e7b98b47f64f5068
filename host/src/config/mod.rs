//! What the operator wrote, as typed values.

mod directory;

pub use directory::{Listing, Unnamed};
