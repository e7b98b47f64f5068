//! What a component may ask for before it has served anything.
//!
//! Checked apart from the inspection: what a component *is* stays the same and is kept with its artifact, what it *may*
//! have is the operator's and changes.

use super::contents::PAGE;
use super::inspect::Inspection;
use super::refusal::{OverLimit, Refusal};
use crate::engine::Generation;
use crate::limits::{self, HandlerLimits};

/// Ceilings on a component as it starts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the `.wasm` file.
    pub size: u64,
    /// Bytes of linear memory, all memories together.
    pub memory: u64,
    /// Linear memories.
    pub memories: u64,
    /// Tables.
    pub tables: u64,
    /// Elements, all tables together.
    pub table_elements: u64,
    /// Parts of a component of wasi:http 0.3.
    pub parts: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            size: limits::COMPONENT_BYTES,
            memory: HandlerLimits::default().memory as u64,
            memories: u64::from(limits::LARGE_MEMORIES),
            tables: u64::from(limits::LARGE_TABLES),
            table_elements: limits::LARGE_TABLE_ELEMENTS as u64,
            parts: u64::from(limits::LARGE_PARTS),
        }
    }
}

impl Limits {
    /// Whether a component stays within them.
    ///
    /// # Errors
    /// What is too much, the first of it.
    pub fn admit(&self, inspection: &Inspection) -> Result<(), Refusal> {
        let memory = inspection.memories.min_pages.saturating_mul(PAGE);
        let over = if inspection.size > self.size {
            return Err(Refusal::TooLarge { limit: self.size });
        } else if memory > self.memory {
            OverLimit::Memory {
                needs: memory,
                allowed: self.memory,
            }
        } else if inspection.memories.count > self.memories {
            OverLimit::Memories {
                needs: inspection.memories.count,
                allowed: self.memories,
            }
        } else if inspection.tables.count > self.tables {
            OverLimit::Tables {
                needs: inspection.tables.count,
                allowed: self.tables,
            }
        } else if inspection.tables.min_elements > self.table_elements {
            OverLimit::TableElements {
                needs: inspection.tables.min_elements,
                allowed: self.table_elements,
            }
        } else if inspection.generation == Generation::P3 && inspection.parts > self.parts {
            OverLimit::Parts {
                allowed: self.parts,
            }
        } else {
            return Ok(());
        };
        Err(Refusal::OverLimit(over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::components::inspect;

    fn refusal(module: &str) -> String {
        let handler = r#"(instance $h) (export "wasi:http/incoming-handler@0.2.0" (instance $h))"#;
        let wasm = wat::parse_str(format!("(component (core module {module}) {handler})"))
            .expect("test component");
        let inspection = inspect(&wasm).expect("accepted");
        Limits {
            memories: 1,
            tables: 1,
            ..Limits::default()
        }
        .admit(&inspection)
        .map_or_else(|r| r.to_string(), |()| String::new())
    }

    #[test]
    fn each_limit_says_how_much_is_allowed() {
        assert_eq!(refusal("(memory 2048) (table 200000 funcref)"), "");
        assert_eq!(
            refusal("(memory 4096)"),
            "it starts with 256 MiB of memory, 128 MiB are allowed: raise `--memory`"
        );
        assert_eq!(
            refusal("(memory 1) (memory 1)"),
            "it has 2 memories, 1 are allowed: compose it of fewer modules"
        );
        assert_eq!(
            refusal("(table 1 funcref) (table 1 funcref)"),
            "it has 2 tables, 1 are allowed: compose it of fewer modules"
        );
        assert!(
            refusal("(table 10000000 funcref) (table 1 funcref)").starts_with("it has 2 tables")
        );
        assert!(
            refusal("(table 10000001 funcref)")
                .starts_with("its tables start with 10000001 elements, 10000000 are allowed")
        );
        assert!(
            refusal("(memory i64 0x1000000000000)")
                .starts_with("it starts with 17592186044416 MiB")
        );
    }

    #[test]
    fn one_of_0_3_may_be_composed_of_so_many() {
        let part = r#"(core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func (export "f") (canon lift (core func $i "f")))"#;
        let wasm = wat::parse_str(format!(
            r#"(component (component $part {part})
              (instance (instantiate $part)) (instance (instantiate $part))
              (instance $h) (export "wasi:http/handler@0.3.0" (instance $h)))"#
        ));
        let inspection = inspect(&wasm.expect("test component")).expect("accepted");
        let admit = |parts| {
            let limits = Limits {
                parts,
                ..Limits::default()
            };
            limits.admit(&inspection)
        };
        assert!(admit(2).is_ok());
        let refusal = admit(1).expect_err("it has two").to_string();
        assert!(
            refusal.contains("composed of more than 1 components"),
            "{refusal}"
        );
    }
}
