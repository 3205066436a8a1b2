//! What a module asks of whoever runs it: the interfaces that it imports.
//!
//! Guarantees:
//! - they are those of the outermost component or module, without their versions
//!   (`imports_are_those_of_the_outermost_one`).

use std::collections::BTreeSet;

use wasmparser::{BinaryReaderError, Parser, Payload};

/// Names of interfaces of a component (`wasi:io/streams`), of a core module those of the modules that it imports.
///
/// # Errors
/// When it is no module.
pub(crate) fn imports(module: &[u8]) -> Result<BTreeSet<String>, BinaryReaderError> {
    let (mut depth, mut names) = (0_usize, BTreeSet::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(imports) if depth == 1 => {
                for import in imports.into_imports() {
                    names.insert(import?.module.to_owned());
                }
            }
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    let name = import?.name.name;
                    names.insert(name.split('@').next().unwrap_or(name).to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_those_of_the_outermost_one() {
        let of = |wat: &str| -> Vec<String> {
            imports(&wat::parse_str(wat).unwrap()).unwrap().into_iter().collect()
        };
        let component = r#"(component
            (import "wasi:io/poll@0.2.0" (instance))
            (component (import "wasi:cli/exit@0.2.0" (instance)))
            (core module (import "env" "x" (func)))
            (import "wasi:sockets/tcp@0.2.3" (instance)))"#;
        assert_eq!(of(component), ["wasi:io/poll", "wasi:sockets/tcp"]);
        let core = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
        assert_eq!(of(core), ["wasi_snapshot_preview1"]);
        assert!(imports(b"#!/bin/sh").is_err());
    }
}
