//! JSON values to messages, byte for byte as Go's generated code writes them: fields by number, what
//! Go holds by value always, what it holds by pointer when it is there, maps sorted by key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::wire::{put_bytes, put_double, put_integer};
use crate::duration::GoDuration;
use crate::time;
use crate::types::TypeFacts;
use crate::types::table::{Field, Shape, Simple};

/// The value does not have the shape that the table says.
#[derive(Debug, thiserror::Error)]
#[error("field {field} does not hold a canonical {shape}")]
pub(super) struct NotCanonical {
    field: String,
    shape: String,
}

/// Writes the message of a type.
pub(super) fn message(
    out: &mut Vec<u8>,
    value: &Value,
    one: TypeFacts<'_>,
) -> Result<(), NotCanonical> {
    for field in &one.wire {
        if let (Shape::Object(id), ".") = (&field.shape, &*field.name) {
            // A message on the wire, flat in JSON.
            nested(out, field.number, |out| message(out, value, one.at(*id)))?;
        } else {
            let value = value.get(&*field.name).filter(|v| !v.is_null());
            self::field(out, (field, one), value)?;
        }
    }
    Ok(())
}

/// Writes one field of a message, which is of this type.
pub(super) fn field(
    out: &mut Vec<u8>,
    (field, one): (&Field, TypeFacts<'_>),
    value: Option<&Value>,
) -> Result<(), NotCanonical> {
    let number = field.number;
    let at = FieldRef { name: &field.name, owner: one };
    match (&field.shape, value) {
        (Shape::List(inner), Some(Value::Array(items))) => {
            items.iter().try_for_each(|item| single(out, at, number, inner, Some(item)))
        }
        (Shape::Map(inner), Some(Value::Object(map))) => map.iter().try_for_each(|(key, item)| {
            nested(out, number, |out| {
                put_bytes(out, 1, key.as_bytes());
                single(out, at, 2, inner, Some(item))
            })
        }),
        (Shape::List(_) | Shape::Map(_) | Shape::Bytes | Shape::Strings, None) => Ok(()),
        (_, None) if field.pointer => Ok(()),
        (shape, value) => single(out, at, number, shape, value),
    }
}

/// A field of a type.
#[derive(Clone, Copy)]
struct FieldRef<'a> {
    name: &'a str,
    owner: TypeFacts<'a>,
}

/// Seconds and nanoseconds; in a map, a time that is none is null.
fn put_time(out: &mut Vec<u8>, value: Option<&Value>) -> Option<()> {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        let (seconds, nanos) = moment(value)?;
        put_integer(out, 1, seconds);
        put_integer(out, 2, i64::from(nanos));
    }
    Some(())
}

/// Nanoseconds.
fn duration(out: &mut Vec<u8>, value: Option<&Value>) -> Option<()> {
    let text = value.map_or(Some("0s"), Value::as_str)?;
    put_integer(out, 1, text.parse::<GoDuration>().ok()?.nanos());
    Some(())
}

/// Text.
fn quantity(out: &mut Vec<u8>, value: Option<&Value>) -> Option<()> {
    put_bytes(out, 1, value.map_or(Some("0"), Value::as_str)?.as_bytes());
    Some(())
}

/// JSON; a null is nothing to Go.
fn raw(out: &mut Vec<u8>, value: Option<&Value>) -> Option<()> {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        put_bytes(out, 1, &serde_json::to_vec(value).ok()?);
    }
    Some(())
}

fn strings(out: &mut Vec<u8>, items: &[Value]) -> Option<()> {
    for item in items {
        put_bytes(out, 1, item.as_str()?.as_bytes());
    }
    Some(())
}

/// One value; `None` is Go's zero value.
fn single(
    out: &mut Vec<u8>,
    FieldRef { name, owner: one }: FieldRef<'_>,
    number: u32,
    shape: &Shape,
    value: Option<&Value>,
) -> Result<(), NotCanonical> {
    let wrong = || NotCanonical { field: name.to_owned(), shape: one.go_name(shape) };
    match (shape, value) {
        (Shape::String, None) => put_bytes(out, number, b""),
        (Shape::String, Some(Value::String(text))) => put_bytes(out, number, text.as_bytes()),
        (Shape::Bool | Shape::Int32 | Shape::Int64, None) => put_integer(out, number, 0),
        (Shape::Bool, Some(Value::Bool(set))) => put_integer(out, number, i64::from(*set)),
        (Shape::Int32 | Shape::Int64, Some(value)) => {
            put_integer(out, number, value.as_i64().ok_or_else(wrong)?);
        }
        (Shape::Float, value) => {
            put_double(out, number, value.map_or(Some(0.0), Value::as_f64).ok_or_else(wrong)?);
        }
        (Shape::Bytes, Some(Value::String(text))) => {
            put_bytes(out, number, &STANDARD.decode(text).map_err(|_| wrong())?);
        }
        (Shape::Quantity, value) => {
            nested(out, number, |out| quantity(out, value).ok_or_else(wrong))?;
        }
        (Shape::Time | Shape::MicroTime, value) => {
            nested(out, number, |out| put_time(out, value).ok_or_else(wrong))?;
        }
        (Shape::Duration, value) => {
            nested(out, number, |out| duration(out, value).ok_or_else(wrong))?;
        }
        (Shape::IntOrString, value) => {
            nested(out, number, |out| int_or_string(out, value).ok_or_else(wrong))?;
        }
        (Shape::Raw | Shape::Fields, value) => {
            nested(out, number, |out| raw(out, value).ok_or_else(wrong))?;
        }
        (Shape::Strings, Some(Value::Array(items))) => {
            nested(out, number, |out| strings(out, items).ok_or_else(wrong))?;
        }
        (Shape::Object(id), value) => {
            let value = value.unwrap_or(&Value::Null);
            if !value.is_object() && !value.is_null() {
                return Err(wrong());
            }
            nested(out, number, |out| message(out, value, one.at(*id)))?;
        }
        (Shape::Either(id, simple), value) => nested(out, number, |out| {
            let value = value.unwrap_or(&Value::Null);
            either(out, value, one.at(*id), *simple)?.ok_or_else(wrong)
        })?,
        _ => return Err(wrong()),
    }
    Ok(())
}

/// A struct, or what stands in its place; nothing where it is neither.
fn either(
    out: &mut Vec<u8>,
    value: &Value,
    one: TypeFacts<'_>,
    simple: Simple,
) -> Result<Option<()>, NotCanonical> {
    match (simple, value) {
        (Simple::Bool, Value::Bool(allows)) => put_integer(out, 1, i64::from(*allows)),
        (Simple::Bool, Value::Object(_)) => {
            put_integer(out, 1, 1);
            nested(out, 2, |out| message(out, value, one))?;
        }
        (_, Value::Object(_)) => nested(out, 1, |out| message(out, value, one))?,
        (Simple::Strings, Value::Array(items)) => {
            for item in items {
                let Some(text) = item.as_str() else { return Ok(None) };
                put_bytes(out, 2, text.as_bytes());
            }
        }
        (Simple::Structs, Value::Array(items)) => {
            items.iter().try_for_each(|item| nested(out, 2, |out| message(out, item, one)))?;
        }
        (Simple::Strings | Simple::Structs, Value::Null) => {}
        _ => return Ok(None),
    }
    Ok(Some(()))
}

fn int_or_string(out: &mut Vec<u8>, value: Option<&Value>) -> Option<()> {
    let (is_text, int, text) = match value {
        None => (0, 0, ""),
        Some(Value::String(text)) => (1, 0, text.as_str()),
        Some(value) => (0, value.as_i64()?, ""),
    };
    put_integer(out, 1, is_text);
    put_integer(out, 2, int);
    put_bytes(out, 3, text.as_bytes());
    Some(())
}

/// Seconds and nanoseconds, the latter never negative, as Go counts them.
fn moment(value: &Value) -> Option<(i64, i32)> {
    time::read_rfc3339(value.as_str()?).map(time::unix_parts)
}

/// A message inside: its length is known when it is written, so it goes to a buffer of its own.
fn nested(
    out: &mut Vec<u8>,
    number: u32,
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), NotCanonical>,
) -> Result<(), NotCanonical> {
    let mut inner = Vec::new();
    content(&mut inner)?;
    put_bytes(out, number, &inner);
    Ok(())
}
