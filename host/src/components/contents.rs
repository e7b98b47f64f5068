//! One pass over a component's bytes: validates each of them, and notes what an inspection speaks of.

use super::parts::Parts;
use super::refusal::Refusal;
use serde::{Deserialize, Serialize};
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::Types;
use wasmparser::{
    BinaryReaderError, DataKind, KnownCustom, MemoryType, Name as Subsection, Parser, Payload,
    ValidPayload, Validator, WasmFeatures,
};

/// What one pass over the bytes collects.
pub(super) struct Contents {
    pub(super) exports: Vec<String>,
    pub(super) imports: Vec<String>,
    /// The imports without those that only name types, which need no one to provide them.
    pub(super) needed: Vec<String>,
    pub(super) memories: Memories,
    pub(super) tables: Tables,
    pub(super) data_bytes: u64,
    pub(super) core_modules: u32,
    pub(super) parts: u64,
    pub(super) function_names: bool,
}

impl Contents {
    pub(super) fn read(wasm: &[u8]) -> Result<Contents, Refusal> {
        let mut contents = Contents {
            exports: Vec::new(),
            imports: Vec::new(),
            needed: Vec::new(),
            memories: Memories {
                max_pages: Some(0),
                ..Memories::default()
            },
            tables: Tables::default(),
            data_bytes: 0,
            core_modules: 0,
            parts: 0,
            function_names: false,
        };
        match contents.walk(wasm) {
            Ok(()) => Ok(contents),
            Err(error) if error.message().starts_with("unexpected end") => {
                Err(Refusal::Truncated {
                    offset: error.offset(),
                })
            }
            Err(error) => Err(Refusal::Invalid {
                message: error.message().replace('\n', " "),
                offset: error.offset(),
            }),
        }
    }

    fn walk(&mut self, wasm: &[u8]) -> Result<(), BinaryReaderError> {
        // What the engine runs: all that is standard, and the rest of asynchronous components. A
        // guest has no threads.
        let async_builtins = WasmFeatures::CM_ASYNC_STACKFUL
            | WasmFeatures::CM_MORE_ASYNC_BUILTINS
            | WasmFeatures::CM_ERROR_CONTEXT;
        let mut validator = Validator::new_with_features(
            WasmFeatures::default().difference(WasmFeatures::THREADS) | async_builtins,
        );
        let mut allocations = Default::default();
        let mut depth = 0;
        let mut parts = Parts::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match validator.payload(&payload)? {
                ValidPayload::Func(function, body) => {
                    let mut function = function.into_validator(allocations);
                    function.validate(&body)?;
                    allocations = function.into_allocations();
                }
                ValidPayload::End(types) if depth == 0 => {
                    self.needed = needed(&self.imports, &types)
                }
                ValidPayload::End(_) => depth -= 1,
                ValidPayload::Ok | ValidPayload::Parser(_) => {}
            }
            parts.see(&payload)?;
            match payload {
                Payload::ModuleSection { .. } => {
                    depth += 1;
                    self.core_modules += 1;
                }
                Payload::ComponentSection { .. } => depth += 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        self.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        self.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        self.memories.add(memory?);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        self.tables.count += 1;
                        self.tables.min_elements =
                            self.tables.min_elements.saturating_add(table?.ty.initial);
                    }
                }
                Payload::DataSection(section) => {
                    for segment in section {
                        let segment = segment?;
                        if let DataKind::Active { .. } = segment.kind {
                            self.data_bytes += segment.data.len() as u64;
                        }
                    }
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        self.function_names |= names
                            .into_iter()
                            .any(|name| matches!(name, Ok(Subsection::Function(_))));
                    }
                }
                _ => {}
            }
        }
        self.parts = parts.count;
        Ok(())
    }
}

impl Memories {
    fn add(&mut self, memory: MemoryType) {
        let shift = memory.page_size_log2.unwrap_or(PAGE.ilog2());
        let pages = |own: u64| {
            (u128::from(own) << shift)
                .div_ceil(u128::from(PAGE))
                .try_into()
                .unwrap_or(u64::MAX)
        };
        self.count += 1;
        self.min_pages = self.min_pages.saturating_add(pages(memory.initial));
        self.max_pages = match (self.max_pages, memory.maximum) {
            (Some(sum), Some(maximum)) => Some(sum.saturating_add(pages(maximum))),
            _ => None,
        };
    }
}

fn needed(imports: &[String], types: &Types) -> Vec<String> {
    let is_only_a_type = |ty: &ComponentEntityType| matches!(ty, ComponentEntityType::Type { created, .. } if !matches!(created, ComponentAnyTypeId::Resource(_)));
    let needs_someone =
        |name: &&String| match types.component_item_for_import(name).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => !types[id]
                .exports
                .values()
                .all(|item| is_only_a_type(&item.ty)),
            Some(ty) => !is_only_a_type(&ty),
            None => true,
        };
    imports.iter().filter(needs_someone).cloned().collect()
}

/// Linear memories, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memories {
    /// How many are defined.
    pub count: u64,
    /// Pages of 64 KiB that exist from the start.
    pub min_pages: u64,
    /// Pages they may grow to; None if one of them names no maximum.
    pub max_pages: Option<u64>,
}

/// Tables, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// How many are defined.
    pub count: u64,
    /// Elements that exist from the start.
    pub min_elements: u64,
}

/// The size of a page unless a memory says otherwise.
pub(super) const PAGE: u64 = 1 << 16;
