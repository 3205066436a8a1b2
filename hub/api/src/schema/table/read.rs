//! Reading the table's text: lines to types, then what is derived from them.

use std::collections::HashMap;

use super::{Field, ListType, Merge, Shape, Table, Type, TypeId};

impl Table {
    pub(super) fn read(text: &'static str) -> Self {
        let mut table = Self::default();
        let names = text.lines().filter_map(|line| line.strip_prefix("T "));
        for (place, line) in names.enumerate() {
            let name = line.split(' ').next().unwrap_or_default();
            table.names.insert(name, TypeId(place));
        }
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("T", rest)) => table.types.push(Type::read(rest)),
                Some(("G", rest)) => table.kind(rest),
                Some(("F", rest)) => {
                    let field = Field::read(rest, &table.names);
                    if let (Some(field), Some(owner)) = (field, table.types.last_mut()) {
                        owner.layout.push(field);
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
        self.types[place].kinds.push((group, version, kind));
        self.kinds.insert((group, version, kind), TypeId(place));
    }

    /// Fills in what is derived from the layouts.
    fn index(&mut self) {
        for place in 0..self.types.len() {
            let mut fields = Vec::new();
            self.flatten(TypeId(place), &mut fields);
            fields.sort_by_key(|field| field.name);
            let one = &mut self.types[place];
            one.wire = one.layout.iter().copied().filter(|field| field.number != 0).collect();
            one.wire.sort_by_key(|field| field.number);
            if !one.crd {
                one.always = fields.iter().copied().filter(|field| field.is_always()).collect();
            }
            one.fields = fields;
        }
    }

    fn flatten(&self, id: TypeId, out: &mut Vec<&'static Field>) {
        for field in &self.at(id).layout {
            match (&field.shape, field.name) {
                (Shape::Object(inner), ".") => self.flatten(*inner, out),
                _ => out.push(field),
            }
        }
    }
}

impl Type {
    fn read(line: &'static str) -> Self {
        let mut parts = line.split(' ');
        let name = parts.next().unwrap_or_default();
        let mut one = Self {
            name,
            proto: false,
            atomic: false,
            crd: false,
            kinds: Vec::new(),
            layout: Vec::new(),
            fields: Vec::new(),
            wire: Vec::new(),
            always: Vec::new(),
        };
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
    fn read(line: &'static str, names: &HashMap<&'static str, TypeId>) -> Option<&'static Self> {
        let (line, default) = match line.split_once(" d=") {
            Some((line, default)) => (line, Some(default)),
            None => (line, None),
        };
        let mut parts = line.split(' ');
        let name = parts.next()?;
        let shape = parts.next()?;
        let mut field = Self {
            name,
            shape: Shape::read(shape, names)?,
            pointer: shape.starts_with('*'),
            omit_empty: false,
            omit_zero: false,
            required: false,
            number: 0,
            merge: Merge::default(),
            list: ListType::None,
            atomic: false,
            values: Vec::new(),
            item_values: Vec::new(),
            default,
        };
        for part in parts {
            field.fact(part);
        }
        // The table lives as long as the process, so its fields may.
        Some(Box::leak(Box::new(field)))
    }

    fn fact(&mut self, part: &'static str) {
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
            ("y", key) => self.merge.key = Some(key),
            ("l", "atomic") => self.list = ListType::Atomic,
            ("l", "set") => self.list = ListType::Set,
            ("k", keys) => self.list = ListType::Map(keys.split('|').collect()),
            ("m", _) => self.atomic = true,
            ("n", values) => self.values = values.split('|').collect(),
            ("i", values) => self.item_values = values.split('|').collect(),
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
            Shape::Object(_) | Shape::Quantity => true,
            // Of lists and maps Go writes null, which some clients refuse; ours are empty.
            Shape::String
            | Shape::Bool
            | Shape::Int32
            | Shape::Int64
            | Shape::Float
            | Shape::List(_)
            | Shape::Map(_)
            | Shape::Strings => !self.omit_empty,
            _ => false,
        }
    }
}

impl Shape {
    fn read(text: &str, names: &HashMap<&'static str, TypeId>) -> Option<Self> {
        let text = text.strip_prefix('*').unwrap_or(text);
        if let Some(inner) = text.strip_prefix("[]") {
            return Some(Self::List(Box::new(Self::read(inner, names)?)));
        }
        if let Some(inner) = text.strip_prefix("{}") {
            return Some(Self::Map(Box::new(Self::read(inner, names)?)));
        }
        if let Some(name) = text.strip_prefix('@') {
            return names.get(name).map(|id| Self::Object(*id));
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
            "intstr" => Self::IntOrString,
            "raw" => Self::Raw,
            "fields" => Self::Fields,
            "strings" => Self::Strings,
            _ => return None,
        })
    }
}
