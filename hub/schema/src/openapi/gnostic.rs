//! The v2 document as protobuf: gnostic's `openapi.v2.Document`, which older clients ask for.
//!
//! ```text
//! Message   a JSON object as a message: which member goes to which field, in which form
//! Form      how a member is laid out
//! ```
//!
//! It is written from the JSON document alone, so both say the same; members that begin with `x-` travel as extensions,
//! in YAML.
//!
//! Guarantees:
//! - only what our document uses has a place here, and all of that (`the_protobuf_form_of_v2_leaves_nothing_out`).

use std::fmt::{self, Formatter};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::protobuf::wire::{put_bytes, put_integer};

/// An object of the document.
struct Message {
    /// Members: name, number, form.
    fields: &'static [(&'static str, u32, Form)],
    /// Number of the repeated NamedAny.
    extensions: u32,
}

/// How a member is laid out.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Bool,
    /// A list of texts.
    Texts,
    /// A list of values in YAML.
    Anys,
    One(&'static Message),
    /// The message within messages that hold nothing else; their numbers, outermost first.
    Within(&'static [u32], &'static Message),
    /// A message around a list of texts, or one text.
    TextsWithin,
    /// A schema, or a boolean.
    SchemaOrBool,
    /// A list of parameters.
    Parameters,
    /// An object with free names: a message with a repeated `{1: name, 2: value}` in the field with
    /// this number, the value within messages with these numbers.
    Named(u32, &'static [u32], &'static Message),
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::Named(2, &[], &PATH_ITEM)),
        ("definitions", 9, Form::Named(1, &[], &SCHEMA)),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { fields: &[("title", 1, Form::Text), ("version", 2, Form::Text)], extensions: 7 };

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Texts),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Named(1, &[1], &RESPONSE)),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    fields: &[("description", 1, Form::Text), ("schema", 2, Form::Within(&[1], &SCHEMA))],
    extensions: 5,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Bool),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("in", 2, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("uniqueItems", 20, Form::Bool),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("uniqueItems", 19, Form::Bool),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("description", 4, Form::Text),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrBool),
        ("type", 22, Form::TextsWithin),
        ("items", 23, Form::Within(&[1], &SCHEMA)),
        ("properties", 25, Form::Named(1, &[], &SCHEMA)),
    ],
    extensions: 31,
};

/// Writes the document of this JSON: what is named in it one after the other, for a tree is many times its text.
pub(super) fn write(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Our own text, so it parses.
    let _ = serde_json::Deserializer::from_slice(text).deserialize_map(Whole(&mut out));
    out
}

/// Reads the document into its protobuf form.
struct Whole<'a>(&'a mut Vec<u8>);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match DOCUMENT.fields.iter().find(|(known, ..)| *known == name) {
                Some((_, number, Form::Named(each, numbers, shape))) => {
                    let mut out = Vec::new();
                    let members = Members { out: &mut out, each: *each, numbers, shape };
                    map.next_value_seed(members)?;
                    put_bytes(self.0, *number, &out);
                }
                Some((_, number, form)) => field(self.0, *number, *form, &map.next_value()?),
                None => {
                    let _: IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads an object with free names: of its members, one is there as a tree at a time.
struct Members<'a> {
    out: &'a mut Vec<u8>,
    each: u32,
    numbers: &'static [u32],
    shape: &'static Message,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, of: D) -> Result<(), D::Error> {
        of.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            let value = within(self.numbers, message(&value, self.shape));
            put_bytes(self.out, self.each, &named(&name, &value));
        }
        Ok(())
    }
}

fn message(value: &Value, shape: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    let Value::Object(map) = value else { return out };
    for (name, number, form) in shape.fields {
        if let Some(member) = map.get(*name) {
            field(&mut out, *number, *form, member);
        }
    }
    for (name, extension) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        put_bytes(&mut out, shape.extensions, &named(name, &any(extension)));
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, form: Form, value: &Value) {
    match form {
        Form::Text => put_bytes(out, number, text(value)),
        Form::Bool => put_integer(out, number, i64::from(value == &Value::Bool(true))),
        Form::Texts => items(value).for_each(|item| put_bytes(out, number, text(item))),
        Form::Anys => items(value).for_each(|item| put_bytes(out, number, &any(item))),
        Form::One(shape) => put_bytes(out, number, &message(value, shape)),
        Form::Within(numbers, shape) => {
            put_bytes(out, number, &within(numbers, message(value, shape)));
        }
        Form::TextsWithin => {
            let mut inner = Vec::new();
            match value {
                Value::String(one) => put_bytes(&mut inner, 1, one.as_bytes()),
                many => field(&mut inner, 1, Form::Texts, many),
            }
            put_bytes(out, number, &inner);
        }
        Form::SchemaOrBool => {
            let mut inner = Vec::new();
            let (number_of, form) =
                if value.is_boolean() { (2, Form::Bool) } else { (1, Form::One(&SCHEMA)) };
            field(&mut inner, number_of, form, value);
            put_bytes(out, number, &inner);
        }
        Form::Parameters => items(value).for_each(|item| put_bytes(out, number, &parameter(item))),
        Form::Named(each, numbers, shape) => {
            let mut inner = Vec::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                put_bytes(&mut inner, each, &named(name, &within(numbers, message(value, shape))));
            }
            put_bytes(out, number, &inner);
        }
    }
}

/// A ParametersItem: Parameter, then BodyParameter or NonBodyParameter.
fn parameter(value: &Value) -> Vec<u8> {
    let (numbers, shape) = parameter_form(value);
    within(numbers, message(value, shape))
}

/// Within which numbers a parameter lies, and as what, by where requests have it.
fn parameter_form(value: &Value) -> (&'static [u32], &'static Message) {
    match value.get("in").and_then(Value::as_str) {
        Some("body") => (&[1, 1], &BODY_PARAMETER),
        Some("path") => (&[1, 2, 4], &PATH_PARAMETER),
        _ => (&[1, 2, 3], &QUERY_PARAMETER),
    }
}

fn within(numbers: &[u32], inner: Vec<u8>) -> Vec<u8> {
    numbers.iter().rev().fold(inner, |inner, number| {
        let mut outer = Vec::with_capacity(inner.len() + 4);
        put_bytes(&mut outer, *number, &inner);
        outer
    })
}

fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 8);
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, value);
    out
}

/// An Any holds YAML; JSON is YAML.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 2, format!("{value}\n").as_bytes());
    out
}

fn text(value: &Value) -> &[u8] {
    value.as_str().unwrap_or_default().as_bytes()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Paths of members that have no place in the messages.
#[cfg(test)]
pub(super) fn left_out(document: &Value) -> Vec<String> {
    let mut out = Vec::new();
    left_out_of(document, &DOCUMENT, "", &mut out);
    out
}

#[cfg(test)]
fn left_out_of(value: &Value, shape: &Message, path: &str, out: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let here = format!("{path}/{name}");
        let form = shape.fields.iter().find(|(known, ..)| known == name).map(|(.., form)| *form);
        match form {
            None if name.starts_with("x-") => {}
            None => out.push(here),
            Some(Form::One(inner) | Form::Within(_, inner)) => {
                left_out_of(member, inner, &here, out);
            }
            Some(Form::SchemaOrBool) => left_out_of(member, &SCHEMA, &here, out),
            Some(Form::Named(_, _, inner)) => {
                for (name, value) in member.as_object().into_iter().flatten() {
                    left_out_of(value, inner, &format!("{here}/{name}"), out);
                }
            }
            Some(Form::Parameters) => {
                for item in items(member) {
                    left_out_of(item, parameter_form(item).1, &here, out);
                }
            }
            Some(_) => {}
        }
    }
}
