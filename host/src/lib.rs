#![doc = include_str!("../ARCHITECTURE.md")]

// Top to bottom: a module uses those below it. `tests/` reads this list and holds the arrows.

// The program.
pub mod cli;
// Settings in, running host out.
pub mod app;
// Doors.
pub mod server;
// One request.
pub mod request;
// What is deployed.
pub mod catalog;
// Guest bytes to compiled component.
pub mod components;
// Wasmtime.
pub mod engine;
// What guests reach.
pub mod capabilities;
// Vocabulary: knows nothing above.
pub mod gate;
pub mod limits;
pub mod meter;
pub mod observe;
pub mod shutdown;
