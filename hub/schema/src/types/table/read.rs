//! Reading the table's text: lines to types, then what is derived from them.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Field, ListType, Shape, Simple, Table, Type, TypeId};
use crate::gvk::{Gvk, Text};

impl Table {
    pub(super) fn read(text: &'static str) -> Self {
        let mut table = Self::default();
        let names = text.lines().filter_map(|line| line.strip_prefix("T "));
        for (place, line) in names.enumerate() {
            let name = line.split(' ').next().unwrap_or_default();
            table.names.insert(name.into(), TypeId(place));
        }
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("T", rest)) => table.types.push(Type::read(rest)),
                Some(("G", rest)) => table.kind(rest),
                Some(("F", rest)) => {
                    let field = Field::read(rest, &table.names);
                    if let (Some(field), Some(owner)) = (field, table.types.last_mut()) {
                        owner.layout.push(Arc::new(field));
                    }
                }
                _ => {}
            }
        }
        table.index();
        table
    }

    fn kind(&mut self, rest: &'static str) {
        let mut parts = rest.split(' ');
        let (Some(group), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let group = if group == "-" { "" } else { group };
        let Some(place) = self.types.len().checked_sub(1) else { return };
        self.types[place].kinds.push(Gvk::new(group, version, kind));
        let named = self.kinds.entry(kind.into()).or_default();
        named.push((group.into(), version.into(), TypeId(place)));
    }

    /// Fills in what is derived from the layouts.
    fn index(&mut self) {
        for place in 0..self.types.len() {
            let mut fields = Vec::new();
            self.flatten(TypeId(place), &mut fields);
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            let one = &mut self.types[place];
            one.wire = one.layout.iter().filter(|field| field.number != 0).cloned().collect();
            one.wire.sort_by_key(|field| field.number);
            if !one.crd {
                one.always = fields.iter().filter(|field| field.is_always()).cloned().collect();
                one.nulls = fields.iter().filter(|field| field.is_null()).cloned().collect();
            }
            one.fields = fields;
        }
    }

    fn flatten(&self, id: TypeId, out: &mut Vec<Arc<Field>>) {
        for field in &self.at(id).layout {
            if let (Shape::Object(inner), ".") = (&field.shape, &*field.name) {
                self.flatten(*inner, out);
            } else {
                out.push(field.clone());
            }
        }
    }
}

impl Type {
    fn read(line: &'static str) -> Self {
        let mut parts = line.split(' ');
        let name = parts.next().unwrap_or_default();
        let mut one = Self::new(name);
        for flag in parts {
            match flag {
                "P" => one.proto = true,
                "A" => one.atomic = true,
                "C" => one.crd = true,
                _ => {}
            }
        }
        one
    }
}

impl Field {
    fn read(line: &'static str, names: &HashMap<Text, TypeId>) -> Option<Self> {
        let (line, default) = match line.split_once(" d=") {
            Some((line, default)) => (line, Some(default)),
            None => (line, None),
        };
        let mut parts = line.split(' ');
        let name = parts.next()?;
        let shape = parts.next()?;
        let mut field = Self::new(name, Shape::read(shape, names)?);
        field.pointer = shape.starts_with('*');
        field.default = default.and_then(|text| serde_json::from_str(text).ok());
        for part in parts {
            field.fact(part);
        }
        Some(field)
    }

    fn fact(&mut self, part: &'static str) {
        let list = |text: &'static str| text.split('|').map(Text::from).collect();
        match part.split_once('=').unwrap_or((part, "")) {
            ("e", _) => self.omit_empty = true,
            ("z", _) => self.omit_zero = true,
            ("r", _) => self.required = true,
            ("p", number) => self.number = number.parse().unwrap_or_default(),
            ("s", strategies) => {
                for strategy in strategies.split('+') {
                    match strategy {
                        "merge" => self.merge.merge = true,
                        "replace" => self.merge.replace = true,
                        "retainKeys" => self.merge.retain_keys = true,
                        _ => {}
                    }
                }
            }
            ("y", key) => self.merge.key = Some(key.into()),
            ("l", "atomic") => self.list = ListType::Atomic,
            ("l", "set") => self.list = ListType::Set,
            ("k", keys) => self.list = ListType::Map(list(keys)),
            ("m", _) => self.atomic = true,
            ("n", values) => self.values = list(values),
            ("i", values) => self.item_values = list(values),
            _ => {}
        }
    }

    /// Go writes it even when it was never set.
    fn is_always(&self) -> bool {
        if self.pointer || self.omit_zero || self.name == "." {
            return false;
        }
        match self.shape {
            // omitempty does not reach structs.
            Shape::Object(_) | Shape::Quantity | Shape::Duration => true,
            // Of lists and maps Go writes null, which some clients refuse; ours are empty.
            Shape::String
            | Shape::Bool
            | Shape::Int32
            | Shape::Int64
            | Shape::Float
            | Shape::List(_)
            | Shape::Map(_)
            | Shape::Strings => !self.omit_empty,
            Shape::Bytes
            | Shape::Time
            | Shape::MicroTime
            | Shape::IntOrString
            | Shape::Raw
            | Shape::Fields
            | Shape::Either(..) => false,
        }
    }
}

impl Field {
    /// Go writes null, or a 0 that is left out here, when it was never set.
    fn is_null(&self) -> bool {
        if self.omit_zero || self.name == "." {
            return false;
        }
        // omitempty does not reach what writes its own JSON.
        let own =
            matches!(self.shape, Shape::Time | Shape::MicroTime | Shape::Raw | Shape::IntOrString);
        if self.pointer { !self.omit_empty } else { own }
    }
}

impl Shape {
    fn read(text: &str, names: &HashMap<Text, TypeId>) -> Option<Self> {
        let text = text.strip_prefix('*').unwrap_or(text);
        if let Some(inner) = text.strip_prefix("[]") {
            return Some(Self::List(Box::new(Self::read(inner, names)?)));
        }
        if let Some(inner) = text.strip_prefix("{}") {
            return Some(Self::Map(Box::new(Self::read(inner, names)?)));
        }
        if let Some(name) = text.strip_prefix('@') {
            let (name, simple) = match name.split_once('|') {
                Some((name, simple)) => (name, Some(Simple::read(simple)?)),
                None => (name, None),
            };
            let id = *names.get(name)?;
            return Some(simple.map_or(Self::Object(id), |simple| Self::Either(id, simple)));
        }
        Some(match text {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float,
            "bytes" => Self::Bytes,
            "quantity" => Self::Quantity,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "duration" => Self::Duration,
            "intstr" => Self::IntOrString,
            "raw" => Self::Raw,
            "fields" => Self::Fields,
            "strings" => Self::Strings,
            _ => return None,
        })
    }
}

impl Simple {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "bool" => Self::Bool,
            "strings" => Self::Strings,
            "list" => Self::Structs,
            _ => return None,
        })
    }
}
