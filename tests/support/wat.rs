//! Components written by hand, for what no toolchain would build.

use std::path::PathBuf;

use tempfile::TempDir;

/// Writes `text`, a component in the text format, to a file.
pub(crate) fn component(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    file(directory, name, &wasm)
}

/// Writes a file that claims to be a component.
pub(crate) fn file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).expect("written");
    path
}

/// A handler with this memory, whose start function has this body, and that answers nothing.
pub(crate) fn started_by(memory: &str, body: &str) -> String {
    format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          (core module $module
            {memory}
            (func $start {body})
            (start $start)
            (func (export "handle") (param i32 i32)))
          (core instance $instance (instantiate $module))
          (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $instance "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    )
}
