//! Components of wasi:http 0.3 that are composed of others: each of its parts can hold a stack while it waits.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::guests::{FAULTS, HELLO};
use crate::support::wat::{component, file};
use crate::support::*;

/// As `host::limits::PARTS`.
const PARTS: usize = 8;

/// A handler of that many parts. For each request every part of it begins to wait, inside a synchronous call, for
/// longer than anybody lives.
fn hoarder(directory: &tempfile::TempDir, parts: usize) -> PathBuf {
    let (mut instances, mut imports, mut functions, mut core_imports, mut calls, mut with) =
        <(String, String, String, String, String, String)>::default();
    for n in 1..parts {
        let _ = writeln!(
            instances,
            r#"(instance $w{n} (instantiate $waiter (with "wait" (func $wait))))"#
        );
        let _ = writeln!(
            imports,
            r#"(import "f{n}" (func $w{n} async (param "how-long" u64)))
            (core func $f{n} (canon lower (func $w{n}) async))"#
        );
        let _ = writeln!(functions, r#"(export "{n}" (func $f{n}))"#);
        let _ = writeln!(
            core_imports,
            r#"(import "f" "{n}" (func $f{n} (param i64) (result i32)))"#
        );
        let _ = writeln!(calls, "(drop (call $f{n} (i64.const {FOR_EVER})))");
        let _ = writeln!(with, r#"(with "f{n}" (func $w{n} "f"))"#);
    }
    let text = format!(
        r#"(component
          (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
            (export "wait-for" (func async (param "how-long" u64)))))
          (alias export $clock "wait-for" (func $wait))
          (import "wasi:http/types@0.3.0" (instance $types {TYPES}))
          (component $waiter
            (import "wait" (func $wait async (param "how-long" u64)))
            (core func $sync (canon lower (func $wait)))
            (func (export "f") async (param "how-long" u64) (canon lift (core func $sync))))
          {instances}
          (component $main
            (import "types" (instance $types {TYPES}))
            (alias export $types "request" (type $request))
            (alias export $types "response" (type $response))
            (alias export $types "error-code" (type $error))
            (import "wait" (func $wait async (param "how-long" u64)))
            {imports}
            (core func $sync (canon lower (func $wait)))
            (core instance $wait (export "wait" (func $sync)))
            (core instance $parts {functions})
            (core module $module
              (import "w" "wait" (func $wait (param i64)))
              {core_imports}
              (memory (export "memory") 1)
              (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
              (func (export "handle") (param i32) (result i32)
                {calls}
                (call $wait (i64.const {FOR_EVER}))
                unreachable))
            (core instance $instance (instantiate $module
              (with "f" (instance $parts)) (with "w" (instance $wait))))
            (func (export "handle") async
              (param "request" (own $request)) (result (result (own $response) (error $error)))
              (canon lift (core func $instance "handle")
                (memory (core memory $instance "memory")) (realloc (core func $instance "realloc")))))
          (instance $main (instantiate $main
            (with "types" (instance $types)) (with "wait" (func $wait)) {with}))
          (alias export $main "handle" (func $handle))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/handler@0.3.0" (instance $handler)))"#
    );
    component(directory, "hoarder", &text)
}

#[test]
fn guests_that_hold_a_stack_in_each_part_take_none_from_others() {
    const AT_ONCE: usize = 300;
    let directory = directory();
    let flags = format!("--max-concurrent-requests {AT_ONCE} --timeout 2s");
    let host = TestHost::serve_file(&hoarder(&directory, PARTS), &flags);
    let mut waiting: Vec<_> = (0..AT_ONCE)
        .map(|_| host.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    for connection in &mut waiting {
        assert_eq!(connection.reply().status(), 504, "each had its time");
    }
    for line in host.accesses() {
        assert_eq!(line.label(), "deadline");
    }
}

#[test]
fn a_component_of_more_parts_than_the_pool_has_stacks_for_is_good() {
    let directory = directory();
    for parts in [PARTS, PARTS + 1, 300] {
        let wasm = hoarder(&directory, parts);
        let cache = flag("--cache", &cache());
        let ended = host(&format!("check {cache} {}", wasm.display()));
        assert_eq!(ended.code, Some(0), "{parts}: {ended:?}");
    }
}

#[test]
fn a_component_of_many_parts_takes_its_share_of_stacks_and_no_more() {
    let directory = directory();
    hoarder(&directory, 48);
    let other = std::fs::read(HELLO.path()).expect("a component");
    file(&directory, "other", &other);
    let host = TestHost::serve_file(directory.path(), "--timeout 2s");
    let mut waiting: Vec<_> = (0..30)
        .map(|_| host.send("GET /hoarder/ HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    host.access_where("a refusal", |line| line.label() == "overload");
    assert_eq!(host.get("/other/").text(), "Hello from WebAssembly!\n");
    let statuses: Vec<u16> = waiting.iter_mut().map(|it| it.reply().status()).collect();
    let count = |status: u16| statuses.iter().filter(|it| **it == status).count();
    // 4096 memories and stacks, a quarter of them, 51 each.
    assert_eq!((count(504), count(503)), (20, 10), "{statuses:?}");
}

/// The guest, with a module beside its own that has a memory and is instantiated so often.
fn with_memories(guest: Guest, memories: u32) -> Vec<u8> {
    let mut wasm = std::fs::read(guest.path()).expect("a guest");
    let mut modules = 0;
    for payload in wasmparser::Parser::new(0).parse_all(&wasm) {
        let is_module = |encoding| encoding == wasmparser::Encoding::Module;
        if let Ok(wasmparser::Payload::Version { encoding, .. }) = payload {
            modules += u32::from(is_module(encoding));
        }
    }
    let module = ::wat::parse_str("(module (memory 1))").expect("a module");
    section(&mut wasm, 1, &module);
    // `instantiate MODULE` without arguments, so often.
    let mut instances = leb(memories);
    for _ in 0..memories {
        instances.push(0);
        instances.extend(leb(modules));
        instances.push(0);
    }
    section(&mut wasm, 2, &instances);
    wasm
}

fn section(wasm: &mut Vec<u8>, id: u8, content: &[u8]) {
    wasm.push(id);
    wasm.extend(leb(u32::try_from(content.len()).expect("small")));
    wasm.extend(content);
}

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

#[test]
fn a_component_that_is_too_large_for_the_pool_is_served() {
    let directory = directory();
    for guest in BOTH_HELLOS {
        for memories in [20, 500] {
            let wasm = file(&directory, "large", &with_memories(guest, memories));
            let host = TestHost::serve_file(&wasm, "");
            for _ in 0..3 {
                // Two of 500 memories are all there is room for, and one is there a moment longer than its answer takes.
                eventually(&format!("{guest} with {memories} memories"), || {
                    (host.get("/").text() == "Hello from WebAssembly!\n").then_some(())
                });
            }
        }
    }
}

#[test]
fn a_large_component_takes_its_share_of_memories_and_no_more() {
    let directory = directory();
    file(&directory, "greedy", &with_memories(FAULTS, 200));
    file(&directory, "other", &with_memories(HELLO, 200));
    let host = TestHost::serve_file(directory.path(), "--timeout 2s");
    let mut waiting: Vec<_> = (0..12)
        .map(|_| host.send("GET /greedy/never HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    // Those beyond its share are told at once.
    host.access_where("a refusal", |line| line.label() == "overload");
    assert_eq!(host.get("/other/").text(), "Hello from WebAssembly!\n");
    let mut statuses: Vec<u16> = waiting.iter_mut().map(|it| it.reply().status()).collect();
    statuses.sort_unstable();
    let served = statuses.iter().filter(|status| **status == 504).count();
    // 4096 memories and stacks, a quarter of them, 203 each.
    assert_eq!(served, 5, "{statuses:?}");
    assert!(statuses[..12 - served].iter().all(|status| *status == 503));
}

const FOR_EVER: u64 = 1_000_000_000_000_000_000;

/// What a handler's type needs of `wasi:http/types@0.3.0`.
pub(crate) const TYPES: &str = r#"
    (export "request" (type (sub resource)))
    (export "response" (type (sub resource)))
    (type $dns' (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns')))
    (type $tls' (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls')))
    (type $size' (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $size (eq $size')))
    (type $error' (variant
      (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found")
      (case "destination-unavailable") (case "destination-IP-prohibited")
      (case "destination-IP-unroutable") (case "connection-refused") (case "connection-terminated")
      (case "connection-timeout") (case "connection-read-timeout") (case "connection-write-timeout")
      (case "connection-limit-reached") (case "TLS-protocol-error") (case "TLS-certificate-error")
      (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
      (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid")
      (case "HTTP-request-URI-too-long") (case "HTTP-request-header-section-size" (option u32))
      (case "HTTP-request-header-size" (option $size))
      (case "HTTP-request-trailer-section-size" (option u32))
      (case "HTTP-request-trailer-size" $size) (case "HTTP-response-incomplete")
      (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $size) (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32))
      (case "HTTP-response-trailer-size" $size)
      (case "HTTP-response-transfer-coding" (option string))
      (case "HTTP-response-content-coding" (option string)) (case "HTTP-response-timeout")
      (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
      (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type (eq $error')))"#;
