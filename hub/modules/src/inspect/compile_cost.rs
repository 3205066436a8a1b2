//! How much there is in a component that costs the compiler more than its bytes say.
//!
//! A function of four bytes costs the compiler some kilobytes and a tenth of a millisecond, a declared local a
//! byte or two of the file and a place in several tables. Bounds on bytes alone would let five megabytes take
//! minutes and gigabytes.

use wasmparser::Payload;

use super::NotAModule;

/// Most functions with a body, in all core modules together: five times those of a Python interpreter.
pub(super) const FUNCTIONS_MAX: u64 = 150_000;
/// Most local variables that all functions declare together.
pub(super) const LOCALS_MAX: u64 = 4_000_000;
/// Most of everything else that is listed: types, imports, globals, exports, segments, instances, aliases.
pub(super) const ITEMS_MAX: u64 = 400_000;

/// Most bytes of what lists all that: a field of a record takes a few bytes of the file and a hundred of the memory
/// of whoever reads it. Interpreters have some hundred kilobytes.
pub(super) const LIST_BYTES_MAX: u64 = 8 << 20;

#[derive(Default)]
pub(super) struct CompileCost {
    listed: u64,
    functions: u64,
    locals: u64,
    items: u64,
}

impl CompileCost {
    /// Takes in one part of the file; fails as soon as there is too much of something.
    pub(super) fn add(&mut self, payload: &Payload<'_>) -> Result<(), NotAModule> {
        let items = match payload {
            Payload::CodeSectionStart { count, .. } => {
                self.functions += u64::from(*count);
                0
            }
            Payload::CodeSectionEntry(body) => {
                for locals in body.get_locals_reader()? {
                    self.locals += u64::from(locals?.0);
                }
                0
            }
            Payload::TypeSection(all) => all.count(),
            Payload::ImportSection(all) => all.count(),
            Payload::TableSection(all) => all.count(),
            Payload::MemorySection(all) => all.count(),
            Payload::TagSection(all) => all.count(),
            Payload::GlobalSection(all) => all.count(),
            Payload::ExportSection(all) => all.count(),
            Payload::ElementSection(all) => all.count(),
            Payload::DataSection(all) => all.count(),
            Payload::InstanceSection(all) => all.count(),
            Payload::CoreTypeSection(all) => all.count(),
            Payload::ComponentInstanceSection(all) => all.count(),
            Payload::ComponentAliasSection(all) => all.count(),
            Payload::ComponentTypeSection(all) => all.count(),
            Payload::ComponentCanonicalSection(all) => all.count(),
            Payload::ComponentImportSection(all) => all.count(),
            Payload::ComponentExportSection(all) => all.count(),
            _ => 0,
        };
        self.items += u64::from(items);
        self.listed += listed(payload);
        let counted = [
            ("functions", self.functions, FUNCTIONS_MAX),
            ("local variables", self.locals, LOCALS_MAX),
            ("types, imports, exports, globals and segments", self.items, ITEMS_MAX),
            ("bytes of types, imports, exports and elements", self.listed, LIST_BYTES_MAX),
        ];
        for (what, found, most) in counted {
            if most < found {
                return Err(NotAModule::TooMany { what, most });
            }
        }
        Ok(())
    }
}

/// Bytes of a section that lists things; code, data and what is inside of another module count elsewhere.
fn listed(payload: &Payload<'_>) -> u64 {
    match payload {
        Payload::CodeSectionStart { .. }
        | Payload::DataSection(_)
        | Payload::CustomSection(_)
        | Payload::ModuleSection { .. }
        | Payload::ComponentSection { .. } => 0,
        other => other.as_section().map_or(0, |(_, range)| range.len() as u64),
    }
}
