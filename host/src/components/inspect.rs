//! What a component is, read from its bytes without compiling it.
//!
//! Separate from the compiler because it is cheap, runs in our own process, and answers in the author's words what a
//! compiler or a linker would say in its own.

use super::contents::{Contents, Memories, Tables};
use super::lookalike::Lookalike;
use super::provided::{self, Name, Reach};
use super::refusal::{Refusal, UnknownImport};
use crate::engine::{Generation, Target};
use serde::{Deserialize, Serialize};
use std::fmt;
use wasmparser::{Parser, Payload};

/// What was found in a component that can be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The wasi:http of its handler; 0.3 if it exports both.
    #[serde(with = "generation")]
    pub generation: Generation,
    /// Bytes of the component.
    pub size: u64,
    /// Names with versions, in the component's order.
    pub exports: Vec<String>,
    /// Names with versions, in the component's order.
    pub imports: Vec<String>,
    /// What the imports could reach. A guest starts without any of it: its calls are refused or come back empty.
    pub wants: Vec<Wanted>,
    /// Linear memories of all core modules.
    pub memories: Memories,
    /// Tables of all core modules.
    pub tables: Tables,
    /// Bytes of the active data segments of all core modules.
    pub data_bytes: u64,
    /// Core modules, nested ones included.
    pub core_modules: u32,
    /// Components that it is composed of and that have functions of their own, each counted as often as it is
    /// instantiated.
    pub parts: u64,
    /// Functions have names, so a backtrace says more than numbers.
    pub function_names: bool,
}

impl Inspection {
    /// What it is compiled for.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::of(self.generation, self.data_bytes)
    }
}

/// Something outside the sandbox, and the imports that lead there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// What would have to be granted.
    pub reach: Reach,
    /// Through which interfaces.
    pub imports: Vec<String>,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reach, self.imports.join(", "))
    }
}

/// Reads and validates a component, down to each function, and checks that the host can serve it.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, Refusal> {
    match wasm {
        [] => return Err(Refusal::Empty),
        [0, b'a', b's', b'm', rest @ ..] if rest.len() < 4 => {
            return Err(Refusal::Truncated { offset: wasm.len() });
        }
        [0, b'a', b's', b'm', ..] => {}
        [0] | [0, b'a'] | [0, b'a', b's'] => return Err(Refusal::Truncated { offset: wasm.len() }),
        _ => return Err(Refusal::NotWasm(Lookalike::of(wasm))),
    }
    if Parser::is_core_wasm(wasm) {
        return Err(Refusal::CoreModule {
            preview1: imports_preview1(wasm),
        });
    }
    let contents = Contents::read(wasm)?;
    let generation = handler_generation(&contents.exports)?;
    let wants = wanted(generation, &contents.needed)?;
    Ok(Inspection {
        generation,
        size: wasm.len() as u64,
        exports: contents.exports,
        imports: contents.imports,
        wants,
        memories: contents.memories,
        tables: contents.tables,
        data_bytes: contents.data_bytes,
        core_modules: contents.core_modules,
        parts: contents.parts,
        function_names: contents.function_names,
    })
}

/// What is in a component, also in one that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// Bytes of the component.
    pub size: u64,
    /// Names with versions, in the component's order.
    pub exports: Vec<String>,
    /// Names with versions, in the component's order.
    pub imports: Vec<String>,
    /// Linear memories of all core modules.
    pub memories: Memories,
    /// Tables of all core modules.
    pub tables: Tables,
    /// Bytes of the active data segments of all core modules.
    pub data_bytes: u64,
    /// Core modules, nested ones included.
    pub core_modules: u32,
    /// Functions have names, so a backtrace says more than numbers.
    pub function_names: bool,
}

/// Reads and validates a component, whatever it is for. None if it is none.
#[must_use]
pub fn look_inside(wasm: &[u8]) -> Option<Inside> {
    if !Parser::is_component(wasm) {
        return None;
    }
    let contents = Contents::read(wasm).ok()?;
    Some(Inside {
        size: wasm.len() as u64,
        exports: contents.exports,
        imports: contents.imports,
        memories: contents.memories,
        tables: contents.tables,
        data_bytes: contents.data_bytes,
        core_modules: contents.core_modules,
        function_names: contents.function_names,
    })
}

fn imports_preview1(module: &[u8]) -> bool {
    Parser::new(0)
        .parse_all(module)
        .map_while(Result::ok)
        .any(|payload| match payload {
            Payload::ImportSection(section) => section
                .into_imports()
                .map_while(Result::ok)
                .any(|import| import.module == "wasi_snapshot_preview1"),
            _ => false,
        })
}

fn handler_generation(exports: &[String]) -> Result<Generation, Refusal> {
    let exported = |interface, track| {
        exports
            .iter()
            .any(|name| Name::parse(name).is(interface, track))
    };
    if exported("wasi:http/handler", "0.3") {
        return Ok(Generation::P3);
    }
    if exported("wasi:http/incoming-handler", "0.2") {
        return Ok(Generation::P2);
    }
    let of = |interfaces: &[&str]| {
        exports
            .iter()
            .find(|name| interfaces.contains(&Name::parse(name).interface))
            .cloned()
    };
    if let Some(export) = of(&["wasi:http/handler", "wasi:http/incoming-handler"]) {
        return Err(Refusal::OtherVersion { export });
    }
    if let Some(export) = of(&["wasi:cli/run"]) {
        return Err(Refusal::Command { export });
    }
    Err(Refusal::NoHandler {
        exports: exports.to_vec(),
    })
}

/// Sorts the imports by what they reach; all that nobody provides are reported at once.
fn wanted(generation: Generation, imports: &[String]) -> Result<Vec<Wanted>, Refusal> {
    let mut wants: Vec<Wanted> = Vec::new();
    let mut unknown = Vec::new();
    for import in imports {
        match provided::provided(generation, import) {
            None => unknown.push(import),
            Some(None) => {}
            Some(Some(reach)) => match wants.iter_mut().find(|wanted| wanted.reach == reach) {
                Some(wanted) => wanted.imports.push(import.clone()),
                None => wants.push(Wanted {
                    reach,
                    imports: vec![import.clone()],
                }),
            },
        }
    }
    if !unknown.is_empty() {
        let describe = |name: &String| UnknownImport {
            nearest: provided::nearest(generation, name),
            name: name.clone(),
        };
        return Err(Refusal::Imports(
            unknown.into_iter().map(describe).collect(),
        ));
    }
    wants.sort_by_key(|wanted| wanted.reach);
    Ok(wants)
}

/// `Generation` belongs to the engine, which knows no text form.
mod generation {
    use super::Generation;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        generation: &Generation,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(generation.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Generation, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::super::child::parse_generation(&text)
            .ok_or_else(|| D::Error::custom("unknown generation"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str =
        r#"(instance $h) (export "wasi:http/incoming-handler@0.2.3" (instance $h))"#;
    const HANDLER_P3: &str = r#"(instance $p) (export "wasi:http/handler@0.3.0" (instance $p))"#;

    fn component(body: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {body})")).expect("test component")
    }

    fn import(name: &str) -> String {
        format!(r#"(import "{name}" (instance (export "f" (func))))"#)
    }

    #[test]
    fn a_handler_of_either_generation_is_taken() {
        assert_eq!(
            inspect(&component(HANDLER)).map(|i| i.generation),
            Ok(Generation::P2)
        );
        assert_eq!(
            inspect(&component(HANDLER_P3)).map(|i| i.generation),
            Ok(Generation::P3)
        );
        let both = component(&format!("{HANDLER} {HANDLER_P3}"));
        assert_eq!(inspect(&both).map(|i| i.generation), Ok(Generation::P3));
    }

    #[test]
    fn what_a_handler_would_reach_is_listed() {
        let imports = [
            "wasi:cli/stderr@0.2.0",
            "wasi:http/outgoing-handler@0.2.0",
            "wasi:cli/stdout@0.2.9",
            "wasi:io/poll@0.2.0",
        ];
        let body = imports.map(import).join(" ");
        let inspection = inspect(&component(&format!("{body} {HANDLER}"))).expect("accepted");
        let wants: Vec<_> = inspection.wants.iter().map(Wanted::to_string).collect();
        assert_eq!(
            wants,
            [
                "outbound HTTP (wasi:http/outgoing-handler@0.2.0)",
                "stdout and stderr (wasi:cli/stderr@0.2.0, wasi:cli/stdout@0.2.9)"
            ]
        );
        assert_eq!(inspection.imports, imports);
    }

    #[test]
    fn memories_tables_and_data_are_summed_over_nested_modules() {
        let body = format!(
            "(core module (memory 2 4) (memory 1 3) (table 5 funcref) (func $named)
               (data (i32.const 0) \"abc\") (data \"only when it is asked for\"))
             (component (core module (memory 10) (table 7 9 funcref) (data (i32.const 9) \"defg\")))
             {HANDLER}"
        );
        let inspection = inspect(&component(&body)).expect("accepted");
        assert_eq!(
            inspection.memories,
            Memories {
                count: 3,
                min_pages: 13,
                max_pages: None
            }
        );
        assert_eq!(
            inspection.tables,
            Tables {
                count: 2,
                min_elements: 12
            }
        );
        assert_eq!(inspection.data_bytes, 7);
        assert_eq!(inspection.core_modules, 2);
        assert!(inspection.function_names);
    }

    #[test]
    fn an_inspection_survives_being_written_down() {
        let inspection = inspect(&component(HANDLER_P3)).expect("accepted");
        let text = serde_json::to_string(&inspection).expect("written");
        assert_eq!(
            serde_json::from_str::<Inspection>(&text).expect("read"),
            inspection
        );
    }

    #[test]
    fn what_is_no_component_is_named() {
        let module = |body: &str| wat::parse_str(format!("(module {body})")).expect("test module");
        for (bytes, expected) in [
            (vec![], Refusal::Empty),
            (b"\0as".to_vec(), Refusal::Truncated { offset: 3 }),
            (b"\0asm\x0d\0".to_vec(), Refusal::Truncated { offset: 6 }),
            (b"hello".to_vec(), Refusal::NotWasm(Lookalike::Text)),
            (module(""), Refusal::CoreModule { preview1: false }),
            (
                module(r#"(import "wasi_snapshot_preview1" "fd_write" (func))"#),
                Refusal::CoreModule { preview1: true },
            ),
        ] {
            assert_eq!(inspect(&bytes), Err(expected));
        }
    }

    #[test]
    fn damage_is_located() {
        let whole = component(&format!("(core module (func)) {HANDLER}"));
        let cut = inspect(&whole[..whole.len() - 3]);
        assert!(
            matches!(cut, Err(Refusal::Truncated { offset }) if offset > 8),
            "{cut:?}"
        );
        let mut unknown_section = component(HANDLER);
        unknown_section[8] = 0x7f;
        let broken = inspect(&unknown_section);
        assert!(
            matches!(&broken, Err(Refusal::Invalid { offset: 8.., .. })),
            "{broken:?}"
        );
        let ill_typed = component(&format!("(core module (func i32.add drop)) {HANDLER}"));
        assert!(matches!(inspect(&ill_typed), Err(Refusal::Invalid { .. })));
    }

    #[test]
    fn a_component_without_a_handler_is_told_what_it_is() {
        let exporting = |name: &str| {
            inspect(&component(&format!(
                r#"(instance $i) (export "{name}" (instance $i))"#
            )))
        };
        let owned = |name: &str| name.to_owned();
        let run = "wasi:cli/run@0.2.6";
        assert_eq!(exporting(run), Err(Refusal::Command { export: owned(run) }));
        for other in [
            "wasi:http/handler@0.3.0-rc-2026-03-15",
            "wasi:http/incoming-handler@0.4.0",
        ] {
            assert_eq!(
                exporting(other),
                Err(Refusal::OtherVersion {
                    export: owned(other)
                })
            );
        }
        assert_eq!(
            exporting("acme:shop/cart"),
            Err(Refusal::NoHandler {
                exports: vec![owned("acme:shop/cart")]
            })
        );
        assert_eq!(
            inspect(&component("")),
            Err(Refusal::NoHandler { exports: vec![] })
        );
    }

    #[test]
    fn unknown_imports_are_named_all_at_once() {
        let body = [
            import("wasi:http/typos@0.2.0"),
            import("acme:billing/ledger@1.0.0"),
            import("wasi:io/poll@0.2.99"),
        ]
        .join(" ");
        let refusal = inspect(&component(&format!("{body} {HANDLER}"))).expect_err("refused");
        assert_eq!(
            refusal.to_string(),
            "it imports what nobody provides: `wasi:http/typos@0.2.0` (nearest: `wasi:http/types@0.2`), \
             `acme:billing/ledger@1.0.0`: remove the import, or build against an interface that exists"
        );
    }

    #[test]
    fn an_interface_of_types_alone_needs_no_provider() {
        let types = r#"(import "acme:shop/types" (instance (type $t (enum "a" "b")) (export "kind" (type (eq $t)))))"#;
        assert!(inspect(&component(&format!("{types} {HANDLER}"))).is_ok());
        let resource =
            r#"(import "acme:shop/types" (instance (export "cart" (type (sub resource)))))"#;
        assert!(inspect(&component(&format!("{resource} {HANDLER}"))).is_err());
    }
}
