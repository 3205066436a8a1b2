//! Messages to JSON values, by the table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::wire::{Malformed, Reader, WireType};
use crate::depth::DEPTH_MAX;
use crate::duration::GoDuration;
use crate::time;
use crate::types::TypeFacts;
use crate::types::table::{Field, Shape, Simple};

/// How many values one message may hold, all levels counted: an empty struct costs two bytes on the
/// wire and hundreds in memory. The largest pods have a few thousand.
const MAX_VALUES: usize = 400_000;

/// The message of a type.
pub(super) fn message(bytes: &[u8], one: TypeFacts<'_>) -> Result<Value, Malformed> {
    let mut left = Budget { values: MAX_VALUES, levels: DEPTH_MAX };
    let mut map = Map::new();
    left.object(bytes, one, &mut map)?;
    Ok(Value::Object(map))
}

/// What a message may still hold.
struct Budget {
    values: usize,
    /// A schema holds schemas.
    levels: usize,
}

impl Budget {
    fn spend(&mut self) -> Result<(), Malformed> {
        self.values = self.values.checked_sub(1).ok_or(Malformed::TooMany)?;
        Ok(())
    }

    fn object(
        &mut self,
        bytes: &[u8],
        one: TypeFacts<'_>,
        map: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        self.levels = self.levels.checked_sub(1).ok_or(Malformed::Deep)?;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire_type)) = reader.tag()? {
            match one.by_number(number) {
                Some(field) => self.field(&mut reader, wire_type, (field, one), map)?,
                None => reader.skip(wire_type)?,
            }
        }
        self.levels += 1;
        Ok(())
    }

    fn field(
        &mut self,
        reader: &mut Reader<'_>,
        wire_type: WireType,
        (field, one): (&Field, TypeFacts<'_>),
        map: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        self.spend()?;
        match &field.shape {
            // A message on the wire, flat in JSON.
            Shape::Object(id) if field.name == "." => {
                self.object(reader.bytes(wire_type)?, one.at(*id), map)
            }
            Shape::List(inner) => {
                let list = map.entry(&*field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = list else { return Err(Malformed::Value) };
                self.item(reader, wire_type, (inner, one), items)
            }
            Shape::Map(inner) => {
                let entry = reader.bytes(wire_type)?;
                let target = map.entry(&*field.name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(target) = target else { return Err(Malformed::Value) };
                self.entry(entry, (inner, one), target)
            }
            Shape::Object(id) => {
                // The same message twice is merged, as protobuf asks.
                let bytes = reader.bytes(wire_type)?;
                let target = map.entry(&*field.name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(target) = target else { return Err(Malformed::Value) };
                self.object(bytes, one.at(*id), target)
            }
            shape => {
                let value = self.value(reader, wire_type, (shape, one))?;
                map.insert(field.name.to_string(), value);
                Ok(())
            }
        }
    }

    fn item(
        &mut self,
        reader: &mut Reader<'_>,
        wire_type: WireType,
        (shape, one): (&Shape, TypeFacts<'_>),
        items: &mut Vec<Value>,
    ) -> Result<(), Malformed> {
        let is_number = matches!(shape, Shape::Int32 | Shape::Int64 | Shape::Bool);
        if is_number && wire_type == WireType::Bytes {
            // Packed: Kubernetes does not write it, protobuf lets readers take it.
            let mut packed = Reader::new(reader.bytes(wire_type)?);
            while !packed.is_empty() {
                self.spend()?;
                items.push(self.value(&mut packed, WireType::Varint, (shape, one))?);
            }
            return Ok(());
        }
        items.push(self.value(reader, wire_type, (shape, one))?);
        Ok(())
    }

    fn entry(
        &mut self,
        bytes: &[u8],
        (shape, one): (&Shape, TypeFacts<'_>),
        target: &mut Map<String, Value>,
    ) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        let (mut key, mut value) = (String::new(), None);
        while let Some((number, wire_type)) = reader.tag()? {
            match number {
                1 => key = reader.text(wire_type)?.to_owned(),
                2 => value = Some(self.value(&mut reader, wire_type, (shape, one))?),
                _ => reader.skip(wire_type)?,
            }
        }
        // A null becomes the zero value when the whole is canonicalised.
        target.insert(key, value.unwrap_or(Value::Null));
        Ok(())
    }

    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        wire_type: WireType,
        (shape, one): (&Shape, TypeFacts<'_>),
    ) -> Result<Value, Malformed> {
        Ok(match shape {
            Shape::String => Value::from(reader.text(wire_type)?),
            Shape::Bool => Value::Bool(reader.integer(wire_type)? != 0),
            Shape::Int32 => {
                let wide = reader.integer(wire_type)?;
                Value::from(i32::try_from(wide).map_err(|_| Malformed::Value)?)
            }
            Shape::Int64 => Value::from(reader.integer(wire_type)?),
            Shape::Float => {
                let number = Number::from_f64(reader.double(wire_type)?);
                Value::Number(number.ok_or(Malformed::Value)?)
            }
            Shape::Bytes => Value::String(STANDARD.encode(reader.bytes(wire_type)?)),
            Shape::Quantity => quantity(reader.bytes(wire_type)?)?,
            Shape::Time => moment(reader.bytes(wire_type)?, false)?,
            Shape::MicroTime => moment(reader.bytes(wire_type)?, true)?,
            Shape::Duration => duration(reader.bytes(wire_type)?)?,
            Shape::IntOrString => int_or_string(reader.bytes(wire_type)?)?,
            Shape::Raw | Shape::Fields => raw(reader.bytes(wire_type)?)?,
            Shape::Strings => self.strings(reader.bytes(wire_type)?)?,
            Shape::Object(id) => {
                let mut map = Map::new();
                self.object(reader.bytes(wire_type)?, one.at(*id), &mut map)?;
                Value::Object(map)
            }
            Shape::Either(id, simple) => {
                self.either(reader.bytes(wire_type)?, one.at(*id), *simple)?
            }
            // Protobuf has no lists of lists.
            Shape::List(_) | Shape::Map(_) => return Err(Malformed::Value),
        })
    }

    /// { 1: whether, 2: struct } or { 1: struct, 2: elements of the list }; as JSON what Go writes of both.
    fn either(
        &mut self,
        bytes: &[u8],
        one: TypeFacts<'_>,
        simple: Simple,
    ) -> Result<Value, Malformed> {
        let mut reader = Reader::new(bytes);
        let (mut whole, mut items, mut allows) = (None, Vec::new(), false);
        while let Some((number, wire_type)) = reader.tag()? {
            match (number, simple) {
                (1, Simple::Bool) => allows = reader.integer(wire_type)? != 0,
                (2, Simple::Bool) | (1, Simple::Strings | Simple::Structs) => {
                    let map = whole.get_or_insert_with(Map::new);
                    self.object(reader.bytes(wire_type)?, one, map)?;
                }
                (2, Simple::Strings) => {
                    self.spend()?;
                    items.push(Value::from(reader.text(wire_type)?));
                }
                (2, Simple::Structs) => {
                    self.spend()?;
                    let mut map = Map::new();
                    self.object(reader.bytes(wire_type)?, one, &mut map)?;
                    items.push(Value::Object(map));
                }
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(match (whole, simple) {
            _ if !items.is_empty() => Value::Array(items),
            (Some(map), _) => Value::Object(map),
            (None, Simple::Bool) => Value::Bool(allows),
            (None, Simple::Strings | Simple::Structs) => Value::Null,
        })
    }

    fn strings(&mut self, bytes: &[u8]) -> Result<Value, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut out = Vec::new();
        while let Some((number, wire_type)) = reader.tag()? {
            if number == 1 {
                self.spend()?;
                out.push(Value::from(reader.text(wire_type)?));
            } else {
                reader.skip(wire_type)?;
            }
        }
        Ok(Value::Array(out))
    }
}

fn quantity(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut text = "0";
    while let Some((number, wire_type)) = reader.tag()? {
        if number == 1 {
            text = reader.text(wire_type)?;
        } else {
            reader.skip(wire_type)?;
        }
    }
    Ok(Value::from(text))
}

/// Timestamp { 1: seconds, 2: nanos }; an empty message is no time at all.
fn moment(bytes: &[u8], micro: bool) -> Result<Value, Malformed> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let mut reader = Reader::new(bytes);
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, wire_type)) = reader.tag()? {
        match number {
            1 => seconds = reader.integer(wire_type)?,
            2 => nanos = reader.integer(wire_type)?,
            _ => reader.skip(wire_type)?,
        }
    }
    let nanos = i32::try_from(nanos).ok().filter(|n| (0..1_000_000_000).contains(n));
    let nanos = nanos.ok_or(Malformed::Value)?;
    let moment = time::of_unix_parts(seconds, nanos).ok_or(Malformed::Value)?;
    Ok(Value::String(time::write_rfc3339(moment, micro)))
}

/// Duration { 1: nanoseconds }
fn duration(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut nanos = 0;
    while let Some((number, wire_type)) = reader.tag()? {
        if number == 1 {
            nanos = reader.integer(wire_type)?;
        } else {
            reader.skip(wire_type)?;
        }
    }
    Ok(Value::String(GoDuration::of_nanos(nanos).to_string()))
}

/// IntOrString { 1: type (1 is text), 2: intVal, 3: strVal }
fn int_or_string(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let (mut is_text, mut int, mut text) = (false, 0, "");
    while let Some((number, wire_type)) = reader.tag()? {
        match number {
            1 => is_text = reader.integer(wire_type)? == 1,
            2 => int = reader.integer(wire_type)?,
            3 => text = reader.text(wire_type)?,
            _ => reader.skip(wire_type)?,
        }
    }
    if is_text {
        return Ok(Value::from(text));
    }
    Ok(Value::from(i32::try_from(int).map_err(|_| Malformed::Value)?))
}

/// RawExtension and FieldsV1 { 1: JSON }. Go may also put a protobuf body here.
fn raw(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut raw: &[u8] = &[];
    while let Some((number, wire_type)) = reader.tag()? {
        if number == 1 {
            raw = reader.bytes(wire_type)?;
        } else {
            reader.skip(wire_type)?;
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(raw).map_err(|_| Malformed::Value)
}
