//! What core modules import: functions of WASI preview 1, of their types.

use freewheel_spoke_engine::{PREVIEW_1, preview_1};
use wasmparser::types::CoreTypeId;
use wasmparser::{CompositeInnerType, Import, TypeRef, ValType, Validator};

use super::{NotAModule, bounded};

/// Checks that a core module's import is a function of WASI preview 1, of its type. The validator has seen it.
pub(super) fn check(import: &Import<'_>, validator: &Validator) -> Result<(), NotAModule> {
    if import.module != PREVIEW_1 {
        let import = bounded(&format!("{} {}", import.module, import.name));
        return Err(NotAModule::Core { import });
    }
    let Some((name, given)) = preview_1().find(|(name, _)| *name == import.name) else {
        return Err(NotAModule::NotOfPreview1(bounded(import.name)));
    };
    let found = if let TypeRef::Func(at) = import.ty {
        let ty = validator.types(0).map(|types| types.core_type_at_in_module(at));
        ty.and_then(|ty| function(validator, ty))
    } else {
        None
    };
    if found.as_deref() == Some(given) {
        return Ok(());
    }
    let found = found.map_or_else(|| "no function".to_owned(), |found| words(&found));
    Err(NotAModule::Mistyped { name, found: bounded(&found), given: words(given) })
}

/// Whether an exported function of this index can be `_start`.
pub(super) fn starts(index: u32, validator: &Validator) -> bool {
    let ty = validator.types(0).map(|types| types.core_function_at(index));
    ty.and_then(|ty| function(validator, ty)).is_some_and(|ty| ty == ":")
}

/// A function's type as [`preview_1`] writes it; a `?` stands for what preview 1 has none of.
fn function(validator: &Validator, ty: CoreTypeId) -> Option<String> {
    let types = validator.types(0)?;
    let CompositeInnerType::Func(ty) = &types.get(ty)?.composite_type.inner else { return None };
    let letters = |all: &[ValType]| -> String {
        let letter = |ty: &ValType| match ty {
            ValType::I32 => 'i',
            ValType::I64 => 'I',
            _ => '?',
        };
        all.iter().map(letter).collect()
    };
    Some(format!("{}:{}", letters(ty.params()), letters(ty.results())))
}

/// Such a type for people: `(i32, i64) -> (i32)`.
fn words(ty: &str) -> String {
    let (takes, gives) = ty.split_once(':').unwrap_or((ty, ""));
    let list = |all: &str| -> String {
        let word = |one| match one {
            'i' => "i32",
            'I' => "i64",
            _ => "another type",
        };
        all.chars().map(word).collect::<Vec<_>>().join(", ")
    };
    format!("({}) -> ({})", list(takes), list(gives))
}

#[cfg(test)]
mod tests {
    use super::super::inspect;
    use super::*;

    #[track_caller]
    fn refused(wat: &str, part: &str) {
        let text = inspect(wat::parse_str(wat).unwrap().as_slice()).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn what_is_not_of_preview_1_s_types_is_told_at_push() {
        let memory = r#"(memory (export "memory") 1)"#;
        let core = |import: &str| {
            format!(
                r#"(module (import "wasi_snapshot_preview1" {import}) {memory} (func (export "_start")))"#
            )
        };
        for (import, said) in [
            (
                r#""thread_spawn" (func)"#,
                "imports thread_spawn of wasi_snapshot_preview1, and WASI",
            ),
            (r#""sock_open" (func)"#, "imports sock_open of wasi_snapshot_preview1, and WASI"),
            (
                r#""fd_read" (global i32)"#,
                "imports fd_read of wasi_snapshot_preview1 as no function, and that is (i32, i32, i32, i32) -> (i32)",
            ),
            (
                r#""fd_close" (func (param i64) (result i32))"#,
                "as (i64) -> (i32), and that is (i32)",
            ),
            (
                r#""proc_exit" (func (param i32) (result f32))"#,
                "-> (another type), and that is (i32) -> ()",
            ),
        ] {
            refused(&core(import), said);
        }
        // All that there is, as it is.
        for (name, ty) in preview_1() {
            let (takes, gives) = ty.split_once(':').unwrap();
            let types = |all: &str| all.replace('i', " i32").replace('I', " i64");
            let (takes, gives) = (types(takes), types(gives));
            let func = format!(r#""{name}" (func (param{takes}) (result{gives}))"#);
            let text = core(&func);
            assert!(inspect(wat::parse_str(&text).unwrap().as_slice()).is_ok(), "{text}");
        }
        for main in ["(param i32)", "(result i32) i32.const 0"] {
            let text = format!(r#"(module {memory} (func (export "_start") {main}))"#);
            refused(&text, "without a function `_start` without parameters");
        }
        let text = format!(r#"(module {memory} (global (export "_start") i32 (i32.const 0)))"#);
        refused(&text, "without a function `_start` without parameters");
    }
}
