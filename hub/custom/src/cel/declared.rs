//! What a schema declares of a value, and how much of it there may be by its bounds (`maxItems`, `maxLength`, `maxProperties`).

use std::collections::BTreeMap;

use freewheel_hub_cel::cost::{Declared, REQUEST_BYTES_MAX};

use super::values;
use crate::schema::{Additional, Schema, Type};

/// Text that is not bounded, without its quotes.
const TEXT_MAX: u64 = REQUEST_BYTES_MAX - 2;

/// What a schema declares of a value; nothing, where expressions do not see it. `whole`: it is an object of the API.
#[must_use]
pub fn declared(schema: &Schema, whole: bool) -> Option<Declared> {
    let of = |inner: &Schema| declared(inner, inner.embedded).map(Box::new);
    let letters = most(schema.rules.length.most).map(|most| most.saturating_mul(4));
    if schema.int_or_string {
        return Some(Declared::Dyn { most: letters.unwrap_or(TEXT_MAX) });
    }
    Some(match schema.is? {
        Type::Boolean => Declared::Bool,
        Type::Integer => Declared::Int,
        Type::Number => Declared::Double,
        Type::String => text(schema, letters),
        Type::Array => {
            let of = of(schema.items.as_deref()?)?;
            Declared::List { of, most: most(schema.rules.items.most) }
        }
        Type::Object => match &schema.additional {
            Additional::Of(each) => {
                Declared::Map { of: of(each)?, most: most(schema.rules.properties.most) }
            }
            Additional::Unsaid | Additional::None | Additional::Any => object(schema, whole),
        },
    })
}

/// A bound; one below nothing is nothing.
fn most(bound: Option<i64>) -> Option<u64> {
    bound.map(|most| u64::try_from(most).unwrap_or_default())
}

fn text(schema: &Schema, letters: Option<u64>) -> Declared {
    match schema.rules.format.as_deref() {
        Some("byte") => {
            Declared::Bytes { most: most(schema.rules.length.most).unwrap_or(TEXT_MAX) }
        }
        Some("duration") => Declared::Duration,
        Some("date") => Declared::Date,
        Some("date-time") => Declared::DateTime,
        Some(_) | None => {
            let values = schema.rules.values.all().iter();
            let longest = values.filter_map(|value| value.as_str().map(str::len)).max();
            let longest = longest.and_then(|bytes| u64::try_from(bytes).ok());
            let is_closed = !schema.rules.values.all().is_empty();
            let closed = is_closed.then(|| longest.unwrap_or_default());
            Declared::String { most: letters.or(closed).unwrap_or(TEXT_MAX) }
        }
    }
}

fn object(schema: &Schema, whole: bool) -> Declared {
    let mut least_bytes = 2;
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, of: Declared, has_default: bool| {
        if !has_default && schema.rules.required.iter().any(|required| **required == *name) {
            // With a colon, a comma and quotes.
            let name = u64::try_from(name.len()).unwrap_or(u64::MAX);
            least_bytes += name.saturating_add(of.least_bytes() + 4);
        }
        fields.insert(values::name(name), of);
    };
    let is_implied = whole && !says_what_it_is(schema);
    for (name, of) in &schema.properties {
        if is_implied && matches!(&**name, "kind" | "apiVersion" | "metadata") {
            continue;
        }
        if let Some(declared) = declared(of, of.embedded) {
            put(name, declared, of.default.is_some());
        }
    }
    if is_implied {
        let text = || Declared::String { most: TEXT_MAX };
        let meta = ["name", "generateName"].map(|name| (name.to_owned(), text()));
        let meta = Declared::Object { fields: meta.into_iter().collect(), least_bytes: 2 };
        for (name, of) in [("kind", text()), ("apiVersion", text()), ("metadata", meta)] {
            put(name, of, false);
        }
    }
    Declared::Object { fields, least_bytes }
}

/// Whether the schema of an object of the API says all that is known of each of them: what it says of that counts then, and
/// nothing of it counts where it leaves something out.
fn says_what_it_is(schema: &Schema) -> bool {
    let is = |of: &Schema, name: &str, wanted: Type| {
        of.properties.get(name).is_some_and(|field| field.is == Some(wanted))
    };
    let has_names =
        |meta: &Schema| is(meta, "name", Type::String) && is(meta, "generateName", Type::String);
    is(schema, "kind", Type::String)
        && is(schema, "apiVersion", Type::String)
        && is(schema, "metadata", Type::Object)
        && schema.properties.get("metadata").is_some_and(has_names)
}
