//! Is it a Wasm component or a core program, can it be started, and is it of a size that the compiler can bear?
//!
//! Guarantees:
//! - a file is validated as it is read, whatever pieces it comes in (`only_components_with_an_entry_pass`);
//! - what is held in memory is its largest section, or the largest function of its code, and a size that it claims
//!   takes nothing (`a_file_that_lies_about_its_sizes_allocates_nothing`);
//! - what passes has no more of anything than [`compile_cost`] bears
//!   (`a_bomb_of_tiny_functions_is_refused_by_its_count`, `other_bombs_of_few_bytes_are_refused_by_their_counts`,
//!   `a_bomb_of_large_types_is_refused_by_their_bytes`);
//! - of core modules, programs of WASI preview 1 pass, and no others
//!   (`core_programs_pass_and_other_core_modules_do_not`, `what_is_not_of_preview_1_s_types_is_told_at_push`);
//! - what no pod is given is named (`what_no_pod_is_given_is_named_at_push`), and what of WebAssembly devices do not
//!   run (`what_devices_do_not_run_is_named_at_push_and_the_compiler_refuses_it_too`).

mod compile_cost;
mod preview1;
mod proposals;

use std::io::{self, Read};

use wasmparser::{
    BinaryReaderError, Chunk, Encoding, Export, ExternalKind, FuncValidatorAllocations, Parser,
    Payload, ValidPayload, Validator,
};

use compile_cost::CompileCost;
use freewheel_spoke_engine::FEATURES;

/// Bytes that are read at a time.
const READ_CHUNK_BYTES: u64 = 64 << 10;

/// Why a file is not taken as a module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAModule {
    #[error("it is not a WebAssembly file: it does not start with \\0asm")]
    NotWasm,
    #[error(
        "it is a core module that imports {import}. Pods run core modules that import WASI preview 1 \
         (wasi_snapshot_preview1) and nothing else, and components: build it with `--target wasm32-wasip2`, or as a command \
         for wasip1. Only a core module that was built for a WIT world becomes a component by `wasm-tools component new`"
    )]
    Core { import: String },
    #[error(
        "it is a core module that imports {0} of wasi_snapshot_preview1, and WASI preview 1 has no such function. Pods are \
         given no extensions of it, as threads and sockets are: build it without, or as a component, with `--target \
         wasm32-wasip2`"
    )]
    NotOfPreview1(String),
    #[error(
        "it is a core module that imports {name} of wasi_snapshot_preview1 as {found}, and that is {given}: the toolchain \
         that made it is broken"
    )]
    Mistyped { name: &'static str, found: String, given: String },
    #[error(
        "it is a core module without {0}: nothing could start it. Build it as a command for wasip1 (a program with main), \
         or as a component, with `--target wasm32-wasip2`"
    )]
    NoProgram(&'static str),
    #[error(
        "it is made for WASI 0.3 (it exports {0}), and pods run WASI 0.2: build it for wasi:cli/run@0.2 (a program with \
         main) or wasi:http/incoming-handler@0.2 (an HTTP handler)"
    )]
    Preview3(String),
    #[error("it uses {what}, and devices do not run that: {build} ({error})")]
    Proposal { what: &'static str, build: &'static str, error: BinaryReaderError },
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(BinaryReaderError),
    #[error(
        "it exports neither wasi:cli/run@0.2 (a program with main) nor wasi:http/incoming-handler@0.2 (an HTTP handler): nothing could start it"
    )]
    NoEntry,
    #[error("it imports {import}, which pods are not given. They are given {}", given())]
    NotGiven { import: String },
    #[error(
        "it has more than {most} {what}, which is the most that the hub compiles: split it, or leave out what it does not need"
    )]
    TooMany { what: &'static str, most: u64 },
    #[error("it cannot be read from the registry's disk")]
    Disk(#[from] io::Error),
}

impl From<BinaryReaderError> for NotAModule {
    fn from(error: BinaryReaderError) -> Self {
        match proposals::named(error.message()) {
            Some((what, build)) => Self::Proposal { what, build, error },
            None => Self::Invalid(error),
        }
    }
}

/// All interfaces of a package in one word: `wasi:io/{error,poll,streams}@0.2`.
fn given() -> String {
    let mut packages: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for (name, version) in freewheel_spoke_engine::given() {
        let (package, interface) = name.split_once('/').unwrap_or((name, ""));
        if let Some((last, _, interfaces)) = packages.last_mut()
            && *last == package
        {
            interfaces.push(interface);
        } else {
            packages.push((package, version, vec![interface]));
        }
    }
    let named = packages.iter().map(|(package, version, interfaces)| {
        let all = interfaces.join(",");
        let all = if interfaces.len() == 1 { all } else { format!("{{{all}}}") };
        format!("{package}/{all}@{version}")
    });
    named.collect::<Vec<_>>().join(" ")
}

/// How a module is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `wasi:cli/run`, or `_start` of a core module.
    Program,
    /// `wasi:http/incoming-handler`, which goes first where a module has both.
    Handler,
}

/// Checks a file from the outside in; how it is started. Blocking.
pub(crate) fn inspect(source: impl Read) -> Result<Entry, NotAModule> {
    let mut window = Window { source, bytes: Vec::new(), used: 0, ended: false };
    window.fill(4)?;
    if !window.rest().starts_with(b"\0asm") {
        return Err(NotAModule::NotWasm);
    }
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = FuncValidatorAllocations::default();
    let mut parser = Parser::new(0);
    let mut outer = Vec::new();
    let mut face = Face::default();
    let mut weight = CompileCost::default();
    loop {
        let (payload, consumed) = match parser.parse(window.rest(), window.ended)? {
            Chunk::Parsed { consumed, payload } => (payload, consumed),
            Chunk::NeedMoreData(more) => {
                window.fill(more)?;
                continue;
            }
        };
        weight.add(&payload)?;
        let valid = validator.payload(&payload)?;
        if outer.is_empty() {
            face.look(&payload, &validator)?;
        }
        match valid {
            ValidPayload::Ok => {}
            ValidPayload::Parser(inner) => outer.push(std::mem::replace(&mut parser, inner)),
            ValidPayload::Func(function, body) => {
                let mut function = function.into_validator(allocations);
                function.validate(&body)?;
                allocations = function.into_allocations();
            }
            ValidPayload::End(_) => match outer.pop() {
                Some(around) => parser = around,
                None => break,
            },
        }
        window.used += consumed;
    }
    face.verdict()
}

/// What the outermost component or core module shows of itself.
#[derive(Default)]
struct Face {
    core: bool,
    memory: bool,
    entry: Option<Entry>,
    /// An entry of WASI 0.3.
    newer: Option<String>,
    /// The first import that no pod is given.
    unknown: Option<String>,
}

impl Face {
    /// Takes in one part of the outermost module, which is validated already.
    fn look(&mut self, payload: &Payload<'_>, validator: &Validator) -> Result<(), NotAModule> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => self.core = true,
            Payload::ImportSection(imports) if self.core => {
                for import in imports.clone().into_imports() {
                    preview1::check(&import?, validator)?;
                }
            }
            Payload::ExportSection(exports) if self.core => {
                for export in exports.clone() {
                    match export? {
                        Export { name: "_start", kind: ExternalKind::Func, index }
                            if preview1::starts(index, validator) =>
                        {
                            self.entry = Some(Entry::Program);
                        }
                        Export { name: "memory", kind: ExternalKind::Memory, .. } => {
                            self.memory = true;
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    let name = import?.name.name;
                    if self.unknown.is_none() && !freewheel_spoke_engine::is_given(name) {
                        self.unknown = Some(bounded(name));
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let name = export?.name.name;
                    if name.starts_with("wasi:http/incoming-handler@0.2.") {
                        self.entry = Some(Entry::Handler);
                    } else if name.starts_with("wasi:cli/run@0.2.") {
                        self.entry = self.entry.or(Some(Entry::Program));
                    }
                    let newer = name.starts_with("wasi:cli/run@0.3")
                        || name.starts_with("wasi:http/handler@0.3");
                    if newer {
                        self.newer = Some(bounded(name));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn verdict(self) -> Result<Entry, NotAModule> {
        match self {
            Self { core: true, entry: None, .. } => {
                Err(NotAModule::NoProgram("a function `_start` without parameters and results"))
            }
            Self { core: true, memory: false, .. } => {
                Err(NotAModule::NoProgram("an exported memory named `memory`"))
            }
            Self { entry: None, newer: Some(name), .. } => Err(NotAModule::Preview3(name)),
            Self { entry: None, .. } => Err(NotAModule::NoEntry),
            Self { unknown: Some(import), .. } => Err(NotAModule::NotGiven { import }),
            Self { entry: Some(entry), .. } => Ok(entry),
        }
    }
}

/// A name as far as it is worth repeating: its author may have made it long.
fn bounded(name: &str) -> String {
    name.chars().take(200).collect()
}

/// The part of the file that the parser looks at.
struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    /// Of `bytes`, what the parser is done with.
    used: usize,
    ended: bool,
}

impl<R: Read> Window<R> {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Reads at least `more` bytes, unless the file ends. A file's word for its sizes allocates nothing:
    /// the buffer grows with what was read.
    fn fill(&mut self, more: u64) -> io::Result<()> {
        self.bytes.drain(..self.used);
        self.used = 0;
        let wanted = more.max(READ_CHUNK_BYTES);
        let read = self.source.by_ref().take(wanted).read_to_end(&mut self.bytes)?;
        self.ended = (read as u64) < wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes one at a time: every boundary is met.
    struct Drop<'a>(&'a [u8]);

    impl Read for Drop<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let take = self.0.len().min(into.len()).min(1);
            into[..take].copy_from_slice(&self.0[..take]);
            self.0 = &self.0[take..];
            Ok(take)
        }
    }

    #[track_caller]
    fn check(wat: &str, expected: Result<(), &str>) {
        let bytes = wat::parse_str(wat).unwrap();
        for found in [inspect(bytes.as_slice()), inspect(Drop(&bytes))] {
            match (found.map_err(|e| e.to_string()), expected) {
                (Ok(_), Ok(())) => {}
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                (found, _) => panic!("{wat}: {found:?}"),
            }
        }
    }

    #[test]
    fn only_components_with_an_entry_pass() {
        assert!(matches!(inspect(&b"#!/bin/sh\n"[..]), Err(NotAModule::NotWasm)));
        assert!(matches!(inspect(&b""[..]), Err(NotAModule::NotWasm)));
        let broken = inspect(&b"\0asm\x0d\0\x01\0\xff\xff"[..]);
        assert!(matches!(broken, Err(NotAModule::Invalid(_))));
        check("(component)", Err("nothing could start it"));
        let program = |body: &str| {
            format!(
                r#"(component
                 (core module $m {body})
                 (core instance $i (instantiate $m))
                 (func $run (result (result)) (canon lift (core func $i "run")))
                 (instance $run-i (export "run" (func $run)))
                 (export "wasi:cli/run@0.2.0" (instance $run-i)))"#
            )
        };
        let run = r#"(func (export "run") (result i32) i32.const 0)"#;
        check(&program(run), Ok(()));
        // Functions, data that the code counts on, and a section of more than one piece.
        let data = "x".repeat(200_000);
        let rich = format!(
            r#"{run} (memory 4) (data $d "{data}") (func $f (memory.init $d (i32.const 0) (i32.const 0) (i32.const 9)))
               (elem declare func $f) (func (result funcref) (ref.func $f))"#
        );
        check(&program(&rich), Ok(()));
        let ill = format!("{run} (func (result i32) i64.const 1)");
        check(&program(&ill), Err("not valid WebAssembly"));
    }

    #[test]
    fn core_programs_pass_and_other_core_modules_do_not() {
        let core = |imports: &str, rest: &str| format!("(module (type (func)) {imports} {rest})");
        let main = r#"(memory (export "memory") 1) (func (export "_start"))"#;
        let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
        check(&core(exit, main), Ok(()));
        check(&core("", main), Ok(()));
        check("(module)", Err("a core module without a function `_start`"));
        let start = r#"(func (export "_start"))"#;
        check(&core(exit, start), Err("without an exported memory"));
        let reactor = r#"(memory (export "memory") 1) (func (export "_initialize"))"#;
        check(&core(exit, reactor), Err("a core module without a function `_start`"));
        let ill = format!("{main} (func (result i32) i64.const 1)");
        check(&core(exit, &ill), Err("not valid WebAssembly"));
        let not = |import: &str, name: &str| {
            check(&core(&format!("{exit} {import}"), main), Err(&format!("that imports {name}")));
        };
        not(r#"(import "env" "x" (func))"#, "env x");
        not(
            r#"(import "wasi_unstable" "proc_exit" (func (param i32)))"#,
            "wasi_unstable proc_exit",
        );
        not(r#"(import "wasi:io/poll@0.2.0" "poll" (func))"#, "wasi:io/poll@0.2.0 poll");
    }

    /// A program with these lines before what can be started.
    fn with(before: &str, entry: &str) -> String {
        format!(
            r#"(component {before}
                 (core module $m (func (export "run") (result i32) i32.const 0))
                 (core instance $i (instantiate $m))
                 (func $run (result (result)) (canon lift (core func $i "run")))
                 (instance $run-i (export "run" (func $run)))
                 (export "{entry}" (instance $run-i)))"#
        )
    }

    #[test]
    fn a_handler_is_told_from_a_program() {
        let entry =
            |name: &str| inspect(wat::parse_str(with("", name)).unwrap().as_slice()).unwrap();
        assert_eq!(entry("wasi:cli/run@0.2.3"), Entry::Program);
        assert_eq!(entry("wasi:http/incoming-handler@0.2.3"), Entry::Handler);
    }

    #[test]
    fn what_no_pod_is_given_is_named_at_push() {
        let run = "wasi:cli/run@0.2.3";
        check(&with(r#"(import "wasi:io/poll@0.2.6" (instance))"#, run), Ok(()));
        for not in ["wasi:keyvalue/store@0.2.0", "wasi:io/poll@0.3.0", "acme:robot/arm@1.0.0"] {
            let text = with(
                &format!(r#"(import "wasi:io/poll@0.2.6" (instance)) (import "{not}" (instance))"#),
                run,
            );
            check(&text, Err(&format!("it imports {not}, which pods are not given")));
            check(&text, Err("wasi:io/{error,poll,streams}@0.2 "));
        }
    }

    #[test]
    fn wasi_0_3_is_called_by_its_name() {
        for entry in ["wasi:cli/run@0.3.0", "wasi:http/handler@0.3.0-rc-2026-01-06"] {
            let import = r#"(import "wasi:http/types@0.3.0" (instance))"#;
            check(&with(import, entry), Err(&format!("made for WASI 0.3 (it exports {entry})")));
        }
    }

    #[test]
    fn a_bomb_of_tiny_functions_is_refused_by_its_count() {
        let module = |functions: usize| {
            let tiny = "(func)".repeat(functions);
            let text = with(&format!("(core module {tiny})"), "wasi:cli/run@0.2.0");
            inspect(wat::parse_str(text).unwrap().as_slice())
        };
        assert!(module(1_000).is_ok());
        let refused = module(usize::try_from(compile_cost::FUNCTIONS_MAX).unwrap()).unwrap_err();
        assert!(matches!(refused, NotAModule::TooMany { what: "functions", .. }), "{refused}");
    }

    #[test]
    fn other_bombs_of_few_bytes_are_refused_by_their_counts() {
        let module = |body: String| {
            let text = with(&format!("(core module {body})"), "wasi:cli/run@0.2.0");
            inspect(wat::parse_str(text).unwrap().as_slice())
        };
        let locals = format!("(func (local {}))", "i64 ".repeat(40_000));
        let refused = module(locals.repeat(101)).unwrap_err();
        assert!(
            matches!(refused, NotAModule::TooMany { what: "local variables", .. }),
            "{refused}"
        );
        let globals = "(global i32 i32.const 0)"
            .repeat(usize::try_from(compile_cost::ITEMS_MAX).unwrap() + 1);
        let refused = module(globals).unwrap_err();
        assert!(matches!(refused, NotAModule::TooMany { .. }), "{refused}");
    }

    #[test]
    fn a_bomb_of_large_types_is_refused_by_their_bytes() {
        let fields: String = (0..1000).map(|n| format!(r#"(field "a{n}" u8)"#)).collect();
        let types = |count: usize| {
            let all = format!("(type (record {fields}))").repeat(count);
            let text = with(&all, "wasi:cli/run@0.2.0");
            inspect(wat::parse_str(text).unwrap().as_slice())
        };
        assert!(types(100).is_ok());
        let refused = types(1500).unwrap_err();
        assert!(refused.to_string().contains("bytes of types"), "{refused}");
    }

    #[test]
    fn a_file_that_lies_about_its_sizes_allocates_nothing() {
        // A component with a custom section that claims to have 2 GiB.
        let mut bytes = b"\0asm\x0d\0\x01\0\0".to_vec();
        bytes.extend([0x80, 0x80, 0x80, 0x80, 0x08]);
        let mut window = Window { source: &bytes[..], bytes: Vec::new(), used: 0, ended: false };
        window.fill(2 << 30).unwrap();
        assert!(window.ended && window.bytes.capacity() < 1 << 20);
        assert!(matches!(inspect(bytes.as_slice()), Err(NotAModule::Invalid(_))));
    }
}
