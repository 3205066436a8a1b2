//! Selectors and what they are made of: `LABEL-SELECTOR FIELD-SELECTOR OBJECT QUANTITY`, the object being a LabelSelector.

use std::collections::BTreeMap;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::quantity::{Quantity, canonical};
use freewheel_hub_schema::selector::{
    FieldSelector, LabelSelector, REQUIREMENTS_MAX, TEXT_BYTES_MAX,
};

use crate::{object, parts};

/// Each is refused, or means what its own text means.
pub(crate) fn run(bytes: &[u8]) {
    let [labels, fields, said, quantity] = parts::parts(bytes);
    label_selector(labels);
    field_selector(fields);
    if let Some(value) = parts::object(said)
        && let Ok(selector) = LabelSelector::from_json(Some(&value), "spec.selector")
    {
        means_its_text(&selector);
    }
    if let Ok(text) = std::str::from_utf8(quantity) {
        amount(text);
    }
}

fn label_selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match LabelSelector::parse(text) {
        Ok(selector) => {
            assert!(
                text.len() <= TEXT_BYTES_MAX && selector.requirements().len() <= REQUIREMENTS_MAX
            );
            means_its_text(&selector);
        }
        Err(error) => object::refused(&error, bytes),
    }
}

fn means_its_text(selector: &LabelSelector) {
    let text = selector.to_string();
    // What an object says is not bounded as a query is.
    let Ok(again) = LabelSelector::parse(&text) else {
        assert!(
            TEXT_BYTES_MAX < text.len() || REQUIREMENTS_MAX < selector.requirements().len(),
            "{text}"
        );
        return;
    };
    assert_eq!(again.to_string(), text);
    for labels in samples(selector) {
        assert_eq!(again.matches(&labels), selector.matches(&labels), "{text} of {labels:?}");
    }
}

/// Labels that have to do with it.
fn samples(selector: &LabelSelector) -> Vec<BTreeMap<String, String>> {
    let keys = || selector.requirements().iter().map(|one| one.key.clone());
    let all = |value: &str| keys().map(|key| (key, value.to_owned())).collect();
    let mut samples = vec![BTreeMap::new(), all(""), all("a"), all("1")];
    samples.extend(keys().take(8).map(|key| BTreeMap::from([(key, "a".to_owned())])));
    samples
}

fn field_selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for plural in ["pods", "events", "secrets"] {
        let Some(kind) = kinds::find("", "v1", plural) else { continue };
        match FieldSelector::parse(text, kind) {
            Ok(selector) => {
                assert!(
                    text.len() <= TEXT_BYTES_MAX && selector.terms().count() <= REQUIREMENTS_MAX
                );
                let fields: BTreeMap<String, String> = selector
                    .terms()
                    .filter(|(_, equal, _)| *equal)
                    .map(|(field, _, value)| (field.to_owned(), value.to_owned()))
                    .collect();
                let exact = |field: &str| selector.exact(field).unwrap_or_default().to_owned();
                let (name, namespace) = (exact("metadata.name"), exact("metadata.namespace"));
                let contradicts = selector.terms().any(|(field, equal, value)| {
                    let own = match field {
                        "metadata.name" => name.as_str(),
                        "metadata.namespace" => namespace.as_str(),
                        field => fields.get(field).map_or("", String::as_str),
                    };
                    (own == value) != equal
                });
                assert_eq!(selector.matches(&name, &namespace, &fields), !contradicts, "{text}");
            }
            Err(error) => object::refused(&error, bytes),
        }
    }
}

fn amount(text: &str) {
    // Around it there may be space.
    let text = text.trim();
    let (read, formed) = (text.parse::<Quantity>(), canonical(text));
    assert_eq!(read.is_ok(), formed.is_ok(), "{text:?}");
    let (Ok(read), Ok(formed)) = (read, formed) else { return };
    assert_eq!(canonical(&formed).ok().as_ref(), Some(&formed), "{text:?}");
    assert_eq!(formed.parse::<Quantity>().ok().as_ref(), Some(&read), "{text:?} is {formed:?}");
}
