#![doc = include_str!("../ARCHITECTURE.md")]

// Top to bottom: a module uses those below it. `tests/` reads this list and holds the arrows.

// The program.
pub mod cli;
// Settings in, running host out.
pub mod app;
// What the operator wrote.
pub mod config;
// Doors.
pub mod admin;
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
pub mod account;
pub mod client;
pub mod files;
pub mod gate;
pub mod limits;
pub mod meter;
pub mod names;
pub mod networks;
pub mod observe;
pub mod open_files;
pub mod priority;
pub mod secret;
pub mod shutdown;
pub mod values;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_files_that_the_architecture_names_are_there() {
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let words = include_str!("../ARCHITECTURE.md").split('`');
        let files = words.filter(|word| word.ends_with(".rs") && !word.starts_with("tests/"));
        for file in files {
            assert!(sources.join(file).is_file(), "`{file}` is not in host/src");
        }
    }
}
