//! Is it a Wasm component, and what does it offer?
//!
//! Guarantees: a file is validated as it is read; what is held in memory is its largest section, or the
//! largest function of its code.

use std::io::{self, Read};

use wasmparser::{
    BinaryReaderError, Chunk, Encoding, FuncValidatorAllocations, Parser, Payload, ValidPayload,
    Validator,
};

/// Bytes that are read at a time.
const PIECE: u64 = 64 << 10;

/// Why a file is not taken as a module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAModule {
    #[error("it is not a WebAssembly file: it does not start with \\0asm")]
    NotWasm,
    #[error(
        "it is a core module, not a component: build it with `--target wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    )]
    Core,
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(#[from] BinaryReaderError),
    #[error(
        "it exports neither wasi:cli/run@0.2 (a program with main) nor wasi:http/incoming-handler@0.2 (an HTTP handler): nothing could start it"
    )]
    NoEntry,
    #[error("it cannot be read from the registry's disk")]
    Disk(#[from] io::Error),
}

/// Checks a file from the outside in. Blocking.
pub(crate) fn inspect(source: impl Read) -> Result<(), NotAModule> {
    let mut window = Window { source, bytes: Vec::new(), used: 0, ended: false };
    window.fill(4)?;
    if !window.rest().starts_with(b"\0asm") {
        return Err(NotAModule::NotWasm);
    }
    let mut validator = Validator::new();
    let mut allocations = FuncValidatorAllocations::default();
    let mut parser = Parser::new(0);
    let mut outer = Vec::new();
    let mut entry = false;
    loop {
        let (payload, consumed) = match parser.parse(window.rest(), window.ended)? {
            Chunk::Parsed { consumed, payload } => (payload, consumed),
            Chunk::NeedMoreData(more) => {
                window.fill(more)?;
                continue;
            }
        };
        if outer.is_empty() {
            entry |= is_entry(&payload)?;
        }
        match validator.payload(&payload)? {
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
    if entry { Ok(()) } else { Err(NotAModule::NoEntry) }
}

/// Whether this part of the outermost component exports something that can be started.
fn is_entry(payload: &Payload<'_>) -> Result<bool, NotAModule> {
    match payload {
        Payload::Version { encoding: Encoding::Module, .. } => Err(NotAModule::Core),
        Payload::ComponentExportSection(exports) => {
            let mut entry = false;
            for export in exports.clone() {
                let name = export?.name.name;
                entry |= name.starts_with("wasi:cli/run@0.2.")
                    || name.starts_with("wasi:http/incoming-handler@0.2.");
            }
            Ok(entry)
        }
        _ => Ok(false),
    }
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
        let wanted = more.max(PIECE);
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
                (Ok(()), Ok(())) => {}
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
        check("(module)", Err("core module"));
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
