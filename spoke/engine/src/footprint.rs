//! What a module and an instance of it take of the host beside code, linear memories and tables, written behind its
//! artifact.
//!
//! ```text
//! artifact = what wasmtime made │ bytes of an instance (u64) │ bytes of the description (u64) │ MARK
//! ```
//!
//! wasmtime asks before it makes memories and tables, and for nothing else. Yet every core instance has a place for
//! each of its globals, each function that a table may hold and each element of a passive segment, and one component
//! may make hundreds of core instances of the same few megabytes. And a component may have resources of its own and
//! hand them to the components inside of it, whose tables of handles grow by that and do not shrink. Who loads an
//! artifact also holds its description (types, exports, where functions are) for as long as it is loaded: of types that
//! is fifty times what they are in the file. Who loads it cannot ask how much that is; who compiles it knows.
//!
//! Guarantees:
//! - globals, functions that escape and passive elements count as often as they are instantiated, whoever the code is
//!   for (`what_an_instance_holds_counts_as_often_as_it_is_made`);
//! - each table of handles that resources of its own, or components inside of it, may fill counts as full
//!   (`tables_of_handles_that_a_component_may_fill_by_itself_count`);
//! - what a description takes is known by what it is made of (`a_description_counts_what_it_is_made_of`);
//! - an artifact without the word is refused, not taken for one of nothing (`an_artifact_without_its_word_is_refused`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Ends every artifact.
const MARK: &[u8; 8] = b"footing2";

/// Bytes behind what wasmtime made.
const TRAILER_BYTES: usize = 16 + MARK.len();

/// What is written behind an artifact, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// What each instance takes beside its memories and tables.
    pub instance: u64,
    /// What the module takes beside its code while it is loaded.
    pub description: u64,
}

/// Core instances of one component: the largest that we know, an interpreter with its libraries, has some twenty.
pub const CORE_INSTANCES_MAX: usize = 100;

/// Handles that all components of one store may have at a time: twice as many as the host has resources for. What a
/// store has of the host's own is counted by itself.
pub const COMPONENT_HANDLES_MAX: usize = 32_768;

/// Reads the word behind an artifact.
///
/// # Errors
/// When the file cannot be read, or has none.
pub fn read(artifact: &Path) -> io::Result<Footprint> {
    let mut file = File::open(artifact)?;
    let mut word = [0; TRAILER_BYTES];
    let text = "it does not say what its instances take";
    let none = |_| io::Error::new(io::ErrorKind::InvalidData, text);
    let behind = i64::try_from(TRAILER_BYTES).map_err(io::Error::other)?;
    file.seek(SeekFrom::End(-behind)).map_err(none)?;
    file.read_exact(&mut word)?;
    match word.as_chunks::<8>().0 {
        [instance, description, mark] if mark == MARK => Ok(Footprint {
            instance: u64::from_le_bytes(*instance),
            description: u64::from_le_bytes(*description),
        }),
        _ => Err(none(io::Error::other(text))),
    }
}

#[cfg(feature = "compiler")]
pub use count::{CannotCount, write};

#[cfg(feature = "compiler")]
mod count {
    use std::collections::BTreeSet;

    use wasmtime::{Engine, Precompiled};
    use wasmtime_environ::component::{
        AbstractResourceIndex, Component, ComponentArtifacts, CoreDef, GlobalInitializer,
        InstantiateModule, RuntimeComponentInstanceIndex, TypeResourceTable,
        TypeResourceTableIndex, VMComponentOffsets,
    };
    use wasmtime_environ::object::read::elf::ElfFile64;
    use wasmtime_environ::object::{Endianness, Object as _, ObjectSection as _};
    use wasmtime_environ::{
        CompiledFunctionsTable, CompiledModuleInfo, Module, ModuleTypes, VMOffsets, obj,
    };

    use super::{COMPONENT_HANDLES_MAX, CORE_INSTANCES_MAX, Footprint, MARK};

    /// Most that one instance may take: fifty times a Python interpreter's.
    const INSTANCE_BYTES_MAX: u64 = 16 << 20;

    /// Bytes of a pointer: no machine has longer ones.
    const POINTER_BYTES: u8 = 8;

    /// Most that a description may take: ten times a Python interpreter's.
    const DESCRIPTION_BYTES_MAX: u64 = 64 << 20;

    /// How many bytes of memory a byte of a core module's description takes while it is read, and one of a component's.
    const READ_FACTOR: u64 = 3;
    const COMPONENT_READ_FACTOR: u64 = 16;

    /// What of a description is far larger in memory than in the file, which are measured: a core module, what it
    /// imports or exports, a global, a segment of elements, a type of a function, a parameter or a result of one.
    const MODULE_BYTES: u64 = 2048;
    const NAME_BYTES: u64 = 200;
    const GLOBAL_BYTES: u64 = 100;
    const SEGMENT_BYTES: u64 = 160;
    const TYPE_BYTES: u64 = 512;
    const VALUE_BYTES: u64 = 64;

    /// What the host keeps of a core instance, a memory or a table whatever is in it.
    const PART_OVERHEAD_BYTES: u64 = 512;

    /// An element of a passive segment.
    const ELEMENT_BYTES: u64 = 16;

    /// A place in a table of handles.
    const HANDLE_SLOT_BYTES: u64 = 24;

    /// Why an artifact gets no word.
    #[derive(Debug, thiserror::Error)]
    pub enum CannotCount {
        /// The module is one that no spoke should run.
        #[error(
            "each of its instances takes {found} bytes beside its memories and tables, and {INSTANCE_BYTES_MAX} is the most: it has too \
             many globals, functions in tables, elements or components inside"
        )]
        TooLarge {
            /// What an instance takes.
            found: u64,
        },
        /// As before.
        #[error("it is made of {found} core instances, and {CORE_INSTANCES_MAX} is the most")]
        TooMany {
            /// How many there are.
            found: usize,
        },
        /// As before.
        #[error(
            "what describes it takes {found} bytes while it is loaded, and {DESCRIPTION_BYTES_MAX} is the most: it has too many \
             types, imports or exports"
        )]
        TooWordy {
            /// What it takes.
            found: u64,
        },
        /// wasmtime writes its artifacts in another way than this knows.
        #[error("the artifact cannot be read: {0}")]
        Unreadable(String),
    }

    /// Puts the word behind what wasmtime made.
    ///
    /// # Errors
    /// When it, or an instance, would take too much.
    pub fn write(artifact: &mut Vec<u8>) -> Result<(), CannotCount> {
        let (instances, Footprint { instance, description }) = count(artifact)?;
        if CORE_INSTANCES_MAX < instances {
            return Err(CannotCount::TooMany { found: instances });
        }
        if INSTANCE_BYTES_MAX < instance {
            return Err(CannotCount::TooLarge { found: instance });
        }
        if DESCRIPTION_BYTES_MAX < description {
            return Err(CannotCount::TooWordy { found: description });
        }
        artifact.extend(instance.to_le_bytes());
        artifact.extend(description.to_le_bytes());
        artifact.extend(MARK);
        Ok(())
    }

    fn count(artifact: &[u8]) -> Result<(usize, Footprint), CannotCount> {
        let unreadable = |error: &dyn std::fmt::Display| CannotCount::Unreadable(error.to_string());
        let file = ElfFile64::<Endianness>::parse(artifact).map_err(|e| unreadable(&e))?;
        let info = file
            .section_by_name(obj::ELF_WASMTIME_INFO)
            .ok_or_else(|| unreadable(&"no description"))?;
        let info = info.data().map_err(|e| unreadable(&e))?;
        if let Some(Precompiled::Module) = Engine::detect_precompiled(artifact) {
            let (made, _, types): (CompiledModuleInfo, CompiledFunctionsTable, ModuleTypes) =
                postcard::from_bytes(info).map_err(|e| unreadable(&e))?;
            let description =
                READ_FACTOR * info.len() as u64 + parts(&made.module) + types_of(&types);
            return Ok((1, Footprint { instance: instance(&made.module), description }));
        }
        let mut made: ComponentArtifacts =
            postcard::from_bytes(info).map_err(|e| unreadable(&e))?;
        let tables = tables(&mut made);
        let component = &made.info.component;
        let frame = u64::from(VMComponentOffsets::new(POINTER_BYTES, component).size_of_vmctx());
        let (mut instances, mut bytes) = (0, frame.saturating_add(tables));
        for initializer in &component.initializers {
            // No pod is given modules to import.
            if let GlobalInitializer::InstantiateModule(InstantiateModule::Static(of, _), _) =
                initializer
            {
                instances += 1;
                bytes = bytes.saturating_add(instance(&made.static_modules[*of].module));
            }
        }
        let own = postcard::to_stdvec(&made.info).map_err(|e| unreadable(&e))?.len();
        let types = postcard::to_stdvec(&made.types).map_err(|e| unreadable(&e))?.len();
        let wordy = COMPONENT_READ_FACTOR * (own + types) as u64;
        let modules = made.static_modules.values().map(|made| parts(&made.module)).sum::<u64>();
        let described = READ_FACTOR * info.len() as u64 + wordy + modules;
        let description = described + types_of(made.types.module_types());
        Ok((instances, Footprint { instance: bytes, description }))
    }

    /// What of a core module's description is far larger in memory.
    fn parts(module: &Module) -> u64 {
        let names = (module.initializers.len() + module.exports.len()) as u64;
        let globals = module.globals.len() as u64;
        let segments = (module.passive_elements.len() + module.table_initialization.len()) as u64;
        MODULE_BYTES + names * NAME_BYTES + globals * GLOBAL_BYTES + segments * SEGMENT_BYTES
    }

    fn types_of(types: &ModuleTypes) -> u64 {
        let values = types.wasm_types().filter_map(|(_, one)| one.as_func());
        let values = values.map(|func| (func.params().len() + func.results().len()) as u64);
        types.len_types() as u64 * TYPE_BYTES + values.sum::<u64>() * VALUE_BYTES
    }

    /// Bytes of the tables of handles that may be full: one is, of what the host has counted, however many share it.
    ///
    /// Every toolchain puts a component around its exports that never has a handle in its hands; it counts nothing.
    fn tables(made: &mut ComponentArtifacts) -> u64 {
        // The list tells its length only to who adds to it.
        let nothing = TypeResourceTable::Abstract(AbstractResourceIndex::from_u32(0));
        let end = made.types.push_resource_table(nothing).as_u32();
        let of = |at| match &made.types[TypeResourceTableIndex::from_u32(at)] {
            TypeResourceTable::Concrete { instance, .. } => Some(*instance),
            TypeResourceTable::Abstract(_) => None,
        };
        let have: BTreeSet<_> = (0..end).filter_map(of).collect();
        let component = &made.info.component;
        let own = &component.defined_resource_instances;
        let with_host = component.options.values().map(|options| options.instance);
        let fill: BTreeSet<_> =
            own.values().copied().chain(with_host).chain(among(component)).collect();
        let tables = have.intersection(&fill).count() as u64 + u64::from(!own.is_empty());
        tables.saturating_sub(1).saturating_mul(COMPONENT_HANDLES_MAX as u64 * HANDLE_SLOT_BYTES)
    }

    /// The components inside that call each other: what stands between two of them asks whether they may be left.
    fn among(component: &Component) -> impl Iterator<Item = RuntimeComponentInstanceIndex> {
        let args = component.initializers.iter().filter_map(|initializer| match initializer {
            GlobalInitializer::InstantiateModule(InstantiateModule::Static(_, args), _) => {
                Some(args.iter())
            }
            _ => None,
        });
        args.flatten().filter_map(|arg| match arg {
            CoreDef::InstanceFlags(instance) => Some(*instance),
            _ => None,
        })
    }

    fn instance(module: &Module) -> u64 {
        let frame = u64::from(VMOffsets::new(POINTER_BYTES, module).size_of_vmctx());
        let elements = module.passive_elements.iter().map(|(_, (_, len))| len * ELEMENT_BYTES);
        let parts = 1 + module.num_defined_memories() + module.num_defined_tables();
        frame + elements.sum::<u64>() + parts as u64 * PART_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_without_its_word_is_refused() {
        let file = std::env::temp_dir().join(format!("footing-{}", std::process::id()));
        for (bytes, expected) in [
            (b"".as_slice(), None),
            (b"footing2", None),
            (b"\x07\0\0\0\0\0\0\0footing2", None),
            (b"\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0footing1", None),
            (
                b"made\x07\x01\0\0\0\0\0\0\x08\0\0\0\0\0\0\0footing2",
                Some(Footprint { instance: 0x107, description: 8 }),
            ),
        ] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(read(&file).ok(), expected, "{bytes:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(read(&file).is_err());
    }
}
