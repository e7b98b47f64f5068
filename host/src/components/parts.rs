//! How many of its parts a component can keep waiting: each component in it that has functions of its own can hold a stack
//! while it waits, and a component can be instantiated within another as often as one likes.

use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, Payload,
};

/// The components and modules around the place where the pass is.
#[derive(Default)]
pub(super) struct Parts {
    scopes: Vec<Scope>,
    /// Of the outermost component, once the pass is through.
    pub(super) count: u64,
}

#[derive(Default)]
struct Scope {
    is_component: bool,
    has_functions: bool,
    /// The parts of each component that can be instantiated here, by its index.
    known: Vec<u64>,
    instantiated: u64,
}

/// Of a component that is handed over at instantiation, which no toolchain does.
const UNKNOWN: u64 = u64::MAX;

impl Parts {
    /// Takes the next payload, which was found to be valid.
    pub(super) fn see(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::Version { encoding, .. } => self.scopes.push(Scope {
                is_component: *encoding == Encoding::Component,
                ..Scope::default()
            }),
            Payload::End(_) => self.leave(),
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    let is_lifted = matches!(function?, CanonicalFunction::Lift { .. });
                    self.here(|scope| scope.has_functions |= is_lifted);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    if let ComponentInstance::Instantiate {
                        component_index, ..
                    } = instance?
                    {
                        let parts = self.parts_of(0, component_index);
                        self.here(|scope| {
                            scope.instantiated = scope.instantiated.saturating_add(parts);
                        });
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    match alias? {
                        ComponentAlias::Outer {
                            kind: ComponentOuterAliasKind::Component,
                            count,
                            index,
                        } => self.know(self.parts_of(count, index)),
                        ComponentAlias::InstanceExport {
                            kind: ComponentExternalKind::Component,
                            ..
                        } => self.know(UNKNOWN),
                        _ => {}
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    if let ComponentTypeRef::Component(_) = import?.ty {
                        self.know(UNKNOWN);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        self.know(self.parts_of(0, export.index));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn leave(&mut self) {
        let Some(scope) = self.scopes.pop().filter(|scope| scope.is_component) else {
            return;
        };
        let parts = scope
            .instantiated
            .saturating_add(u64::from(scope.has_functions));
        match self.scopes.last_mut() {
            Some(around) => around.known.push(parts),
            None => self.count = parts,
        }
    }

    /// The parts of a component, by its index in the scope that is `out` further out.
    fn parts_of(&self, out: u32, index: u32) -> u64 {
        let mut scopes = self.scopes.iter().rev();
        let scope = scopes.nth(out as usize);
        let parts = scope.and_then(|scope| scope.known.get(index as usize));
        parts.copied().unwrap_or(UNKNOWN)
    }

    fn know(&mut self, parts: u64) {
        self.here(|scope| scope.known.push(parts));
    }

    fn here(&mut self, change: impl FnOnce(&mut Scope)) {
        if let Some(scope) = self.scopes.last_mut() {
            change(scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::Contents;

    fn parts(body: &str) -> u64 {
        let wasm = wat::parse_str(format!("(component $root {body})")).expect("test component");
        Contents::read(&wasm)
            .unwrap_or_else(|_| panic!("{body}"))
            .parts
    }

    #[test]
    fn each_instance_with_functions_of_its_own_is_a_part() {
        let part = r#"(core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "f") (canon lift (core func $i "f")))"#;
        let named = format!("(component $part {part})");
        for (body, expected) in [
            ("", 0),
            ("(component $names (component))", 0),
            (part, 1),
            (&named, 0),
            (
                &format!("{named} (instance (instantiate $part)) (instance (instantiate $part))"),
                2,
            ),
            (
                &format!(
                    "{named} (component $two (alias outer $root $part (component $p))
                       (instance (instantiate $p)) (instance (instantiate $p)))
                     (instance (instantiate $two)) (instance (instantiate $two)) {part}"
                ),
                5,
            ),
            (
                r#"(component $open (import "c" (component $c)) (instance (instantiate $c)))
                   (component $inner) (instance (instantiate $open (with "c" (component $inner))))"#,
                u64::MAX,
            ),
        ] {
            assert_eq!(parts(body), expected, "{body}");
        }
    }
}
