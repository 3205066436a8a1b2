//! What a function of the library is, and how it reads what it is asked about.

use std::sync::Arc;

use cel::Value;

use crate::allowance::Allowance;

/// A function: what it is called on, if anything, comes first.
pub(super) type Function = fn(&[Value], &Allowance) -> Result<Value, String>;

/// Functions by name.
pub(super) type Table = &'static [(&'static str, Function)];

/// A text.
pub(super) fn text_value(text: impl Into<String>) -> Value {
    Value::String(Arc::new(text.into()))
}

/// It is asked about what it knows nothing of.
pub(super) fn no_overload<T>() -> Result<T, String> {
    Err("no such overload".to_owned())
}

/// The one text that a function is asked about.
pub(super) fn one_text(values: &[Value]) -> Result<&str, String> {
    let [Value::String(text)] = values else { return no_overload() };
    Ok(text)
}

/// The one value.
pub(super) fn one(values: &[Value]) -> Result<&Value, String> {
    let [value] = values else { return no_overload() };
    Ok(value)
}

/// A value of one of the types that Kubernetes adds.
pub(super) fn added<T: 'static>(value: &Value) -> Result<&T, String> {
    let Value::Opaque(opaque) = value else { return no_overload() };
    opaque.downcast_ref::<T>().map_or_else(no_overload, Ok)
}
