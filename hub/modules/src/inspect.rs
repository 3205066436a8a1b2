//! Is it a Wasm component, and what does it offer?

use wasmparser::{Encoding, Parser, Payload, Validator};

/// Why a file is not taken as a module.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAModule {
    #[error("it is not a WebAssembly file: it does not start with \\0asm")]
    NotWasm,
    #[error(
        "it is a core module, not a component: build it with `--target wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    )]
    Core,
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(String),
    #[error(
        "it exports neither wasi:cli/run@0.2 (a program with main) nor wasi:http/incoming-handler@0.2 (an HTTP handler): nothing could start it"
    )]
    NoEntry,
}

/// Checks the bytes from the outside in.
pub(crate) fn inspect(bytes: &[u8]) -> Result<(), NotAModule> {
    if !bytes.starts_with(b"\0asm") {
        return Err(NotAModule::NotWasm);
    }
    Validator::new().validate_all(bytes).map_err(|e| NotAModule::Invalid(e.to_string()))?;
    let mut depth = 0usize;
    let mut entry = false;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| NotAModule::Invalid(e.to_string()))? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(NotAModule::Core);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let name = export.map_err(|e| NotAModule::Invalid(e.to_string()))?.name.name;
                    entry |= name.starts_with("wasi:cli/run@0.2.")
                        || name.starts_with("wasi:http/incoming-handler@0.2.");
                }
            }
            _ => {}
        }
    }
    if entry { Ok(()) } else { Err(NotAModule::NoEntry) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wat: &str, expected: Result<(), &str>) {
        let bytes = wat::parse_str(wat).unwrap();
        let found = inspect(&bytes).map_err(|e| e.to_string());
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, _) => panic!("{wat}: {found:?}"),
        }
    }

    #[test]
    fn only_components_with_an_entry_pass() {
        assert_eq!(inspect(b"#!/bin/sh\n"), Err(NotAModule::NotWasm));
        assert!(matches!(inspect(b"\0asm\x0d\0\x01\0\xff\xff"), Err(NotAModule::Invalid(_))));
        check("(module)", Err("core module"));
        check("(component)", Err("nothing could start it"));
        check(
            r#"(component
                 (core module $m (func (export "run") (result i32) i32.const 0))
                 (core instance $i (instantiate $m))
                 (func $run (result (result)) (canon lift (core func $i "run")))
                 (instance $run-i (export "run" (func $run)))
                 (export "wasi:cli/run@0.2.0" (instance $run-i)))"#,
            Ok(()),
        );
    }
}
