//! What of WebAssembly devices do not run, by the names that people and toolchains have for it.
//!
//! The validator knows what is on; its words for what is off are an author's, not a user's.

/// What people do about it.
const WITHOUT: &str = "build it without";
const WASM32: &str = "build it for wasm32";
const WASI_02: &str = "build it for WASI 0.2";

/// What the validator says of a proposal that is off, what that is, and what to do.
const OFF: &[(&str, &str, &str)] = &[
    ("memory64", "64-bit memories or tables (memory64)", WASM32),
    ("cm64", "64-bit memories or tables (memory64)", WASM32),
    ("shared-everything-threads", "threads (shared-everything-threads)", WITHOUT),
    ("component model threading", "threads (component-model-threading)", WITHOUT),
    ("threads", "threads (shared memories and atomics)", WITHOUT),
    ("exception", "exceptions (exception-handling)", WITHOUT),
    ("stack switching", "continuations (stack-switching)", WITHOUT),
    ("continuation", "continuations (stack-switching)", WITHOUT),
    ("custom page sizes", "pages of another size (custom-page-sizes)", WITHOUT),
    ("wide arithmetic", "128-bit arithmetic (wide-arithmetic)", WITHOUT),
    ("component model async", "the concurrency of WASI 0.3 (component-model-async)", WASI_02),
    ("error-context", "the concurrency of WASI 0.3 (component-model-async)", WASI_02),
    ("function references", "typed references to functions (function-references)", WITHOUT),
    ("function-references", "typed references to functions (function-references)", WITHOUT),
    ("`gc`", "garbage-collected types (gc)", WITHOUT),
    ("gc feature", "garbage-collected types (gc)", WITHOUT),
    ("gc proposal", "garbage-collected types (gc)", WITHOUT),
    ("gc types", "garbage-collected types (gc)", WITHOUT),
    ("requires gc", "garbage-collected types (gc)", WITHOUT),
];

/// The proposal that a refusal of the validator's is about, and what to do about it.
pub(super) fn named(message: &str) -> Option<(&'static str, &'static str)> {
    let (_, what, build) = OFF.iter().find(|(said, ..)| message.contains(said))?;
    Some((what, build))
}

#[cfg(test)]
mod tests {
    use freewheel_link::digest::Digest;
    use freewheel_link::profile::Profile;

    use super::super::inspect;
    use crate::compile::{Order, compile_here};

    /// What the two say of a program with this in its module.
    fn both(body: &str) -> (Result<(), String>, Result<(), String>) {
        let text = format!(
            r#"(component
                (core module $m {body} (func (export "run") (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (instance $r (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $r)))"#
        );
        let bytes = wat::parse_str(text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("c.wasm");
        std::fs::write(&component, &bytes).unwrap();
        let (profile, artifact) = (Profile::candidates()[0], dir.path().join("out"));
        let digest = Digest::of(&bytes);
        let order = Order { profile, component: &component, digest, artifact: &artifact };
        let inspected = inspect(bytes.as_slice()).map(drop).map_err(|e| e.to_string());
        (inspected, compile_here(order).map(drop).map_err(|e| e.to_string()))
    }

    #[test]
    fn what_devices_do_not_run_is_named_at_push_and_the_compiler_refuses_it_too() {
        for (body, name) in [
            (
                "(memory i64 1)",
                "64-bit memories or tables (memory64), and devices do not run that: build it for wasm32",
            ),
            ("(table i64 1 funcref)", "(memory64)"),
            ("(memory 1 1 shared)", "(shared memories and atomics)"),
            (
                "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
                "(shared memories and atomics)",
            ),
            ("(global (shared i32) (i32.const 0))", "(shared-everything-threads)"),
            ("(tag) (func (throw 0))", "(exception-handling)"),
            ("(table 1 exnref)", "(exception-handling)"),
            ("(type $f (func)) (type (cont $f))", "(stack-switching)"),
            ("(memory 1 (pagesize 1))", "(custom-page-sizes)"),
            (
                "(func (param i64 i64) (drop (drop (i64.mul_wide_s (local.get 0) (local.get 1)))))",
                "(wide-arithmetic)",
            ),
            ("(func (param $f (ref func)))", "(function-references)"),
            ("(type $f (func)) (func (param (ref null $f)))", "(function-references)"),
            ("(type (struct))", "(gc)"),
            ("(table 1 externref)", "(gc)"),
            ("(func (drop (ref.null any)))", "(gc)"),
        ] {
            let (inspected, compiled) = both(body);
            assert!(
                inspected.as_ref().is_err_and(|text| text.contains(name)),
                "{body}: {inspected:?}"
            );
            assert!(compiled.is_err(), "{body}: {compiled:?}");
        }
        for body in [
            "(func $f (return_call $f))",
            "(memory 1) (memory 1)",
            "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
            "(func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
            "(table 1 funcref) (func (drop (table.size 0)))",
        ] {
            assert_eq!(both(body), (Ok(()), Ok(())), "{body}");
        }
    }

    #[test]
    fn the_concurrency_of_wasi_0_3_is_named_at_push() {
        let text = r#"(component
            (core module $m (memory (export "m") 1) (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run async (result (result)) (canon lift (core func $i "run") async (memory (core memory $i "m"))))
            (instance $r (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $r)))"#;
        let text = inspect(wat::parse_str(text).unwrap().as_slice()).unwrap_err().to_string();
        assert!(text.contains("the concurrency of WASI 0.3"), "{text}");
        assert!(text.contains("build it for WASI 0.2"), "{text}");
    }
}
