//! Formats by name: `format.dns1123Label().validate(text)` is nothing for a text that is right, else what is wrong.

use std::sync::Arc;

use cel::Value;
use cel::objects::{Opaque, OptionalValue};
use freewheel_hub_schema::name;

use super::function::{Table, added, no_overload, one_text, text_value};
use crate::format;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Format(&'static str);

impl Opaque for Format {
    fn runtime_type_name(&self) -> &str {
        "kubernetes.NamedFormat"
    }
}

const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) const FUNCTIONS: Table = &[
    ("format.named", |values, _| {
        let text = one_text(values)?;
        let known = NAMES.into_iter().find(|name| *name == text);
        let found = known.map_or_else(OptionalValue::none, |name| OptionalValue::of(made(name)));
        Ok(Value::Opaque(Arc::new(found)))
    }),
    ("format.dns1123Label", |_, _| Ok(made("dns1123Label"))),
    ("format.dns1123Subdomain", |_, _| Ok(made("dns1123Subdomain"))),
    ("format.dns1035Label", |_, _| Ok(made("dns1035Label"))),
    ("format.dns1123LabelPrefix", |_, _| Ok(made("dns1123LabelPrefix"))),
    ("format.dns1123SubdomainPrefix", |_, _| Ok(made("dns1123SubdomainPrefix"))),
    ("format.dns1035LabelPrefix", |_, _| Ok(made("dns1035LabelPrefix"))),
    ("format.qualifiedName", |_, _| Ok(made("qualifiedName"))),
    ("format.labelValue", |_, _| Ok(made("labelValue"))),
    ("format.uri", |_, _| Ok(made("uri"))),
    ("format.uuid", |_, _| Ok(made("uuid"))),
    ("format.byte", |_, _| Ok(made("byte"))),
    ("format.date", |_, _| Ok(made("date"))),
    ("format.datetime", |_, _| Ok(made("datetime"))),
    ("validate", |values, _| {
        let [of, Value::String(text)] = values else { return no_overload() };
        let Format(name) = added::<Format>(of)?;
        let wrong = check(name, text);
        let found = if wrong.is_empty() {
            OptionalValue::none()
        } else {
            OptionalValue::of(Value::List(Arc::new(wrong.into_iter().map(text_value).collect())))
        };
        Ok(Value::Opaque(Arc::new(found)))
    }),
];

fn made(name: &'static str) -> Value {
    Value::Opaque(Arc::new(Format(name)))
}

fn check(name: &str, text: &str) -> Vec<String> {
    // What comes behind a prefix may end it.
    let whole = || format!("{}a", text.trim_end_matches('-'));
    match name {
        "dns1123Label" => name::dns_label(text),
        "dns1123Subdomain" => name::dns_subdomain(text),
        "dns1035Label" => name::dns1035_label(text),
        "dns1123LabelPrefix" => name::dns_label(&whole()),
        "dns1123SubdomainPrefix" => name::dns_subdomain(&whole()),
        "dns1035LabelPrefix" => name::dns1035_label(&whole()),
        "qualifiedName" => name::qualified_name(text),
        "labelValue" => name::label_value(text),
        format if format::has(format, text) => Vec::new(),
        "uri" => vec!["invalid URI".to_owned()],
        "uuid" => vec!["does not match the UUID format".to_owned()],
        "byte" => vec!["invalid base64".to_owned()],
        "date" => vec!["invalid date".to_owned()],
        _ => vec!["invalid datetime".to_owned()],
    }
}
