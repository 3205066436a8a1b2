//! What holds for every object that was let in, whatever it was read from.
//!
//! ```text
//! canonical ─ again, from its own JSON, from its own protobuf ─▶ the same
//!     └─ defaults ─▶ canonical, and with defaults again the same ─▶ its kind's rules, its row
//! ```

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::types::{Decoded, apply_defaults, canonicalise, decode_json, parse_json};
use freewheel_hub_schema::{depth, protobuf};
use serde_json::Value;

use crate::parts;

/// What a refusal may have beside what it quotes.
pub(crate) const WORDS_BYTES_MAX: usize = 1 << 20;

/// The built-in kind that a body says it is of; of what says nothing, one that takes most.
pub(crate) fn said_kind(body: &[u8]) -> Arc<Kind> {
    let said = parse_json(body).ok().and_then(|(value, _)| of_value(&value));
    said.unwrap_or_else(|| named("v1", "Pod").unwrap_or_else(|| kinds::all()[0].clone()))
}

/// The built-in kind that a value says it is of.
pub(crate) fn of_value(value: &Value) -> Option<Arc<Kind>> {
    named(value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?)
}

fn named(api_version: &str, kind: &str) -> Option<Arc<Kind>> {
    let mut all = kinds::all().iter();
    all.find(|one| one.api_version() == api_version && one.kind() == kind).cloned()
}

/// A refusal is the client's mistake, and told in a text that has an end.
pub(crate) fn refused(error: &ApiError, body: &[u8]) {
    assert!((400..500).contains(&error.code), "{}: {}", error.code, error.message);
    let most = WORDS_BYTES_MAX + 8 * body.len();
    assert!(error.message.len() <= most, "{} bytes of a message", error.message.len());
}

/// All that holds.
pub(crate) fn check(kind: &Kind, value: &Value) {
    assert_eq!(
        formed(kind, value),
        *value,
        "what is canonical is not so when it is looked at again"
    );
    let Ok(text) = serde_json::to_vec(value) else { return };
    match decode_json(&text, kind) {
        Ok(Decoded { value: again, strict }) => {
            assert_eq!(again, *value, "its own JSON is another object");
            assert!(strict.is_empty(), "of its own JSON this is refused: {strict:?}");
        }
        Err(error) => assert!(depth::check(value).is_err(), "{}", error.message),
    }
    let Some(filled) = filled(kind, value) else { return };
    let again = self::filled(kind, &filled);
    assert_eq!(again.as_ref(), Some(&filled), "defaults of defaults");
    // What is refused may be anything: a port of 0 is one to Go, and left out here.
    if rules(kind, value, &filled) {
        assert_eq!(formed(kind, &filled), filled, "defaults are canonical");
        in_protobuf(kind, value);
    }
}

fn formed(kind: &Kind, value: &Value) -> Value {
    let mut again = value.clone();
    match canonicalise(&mut again, kind) {
        Ok(found) => assert!(found.unknown.is_empty(), "{:?}", found.unknown),
        Err(error) => panic!("{}", error.message),
    }
    again
}

fn in_protobuf(kind: &Kind, value: &Value) {
    if !protobuf::can_encode(kind.api_version(), kind.kind()) {
        return;
    }
    let mut value = value.clone();
    // The wish to have no owners is one of JSON alone.
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
        && meta.get("managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        meta.remove("managedFields");
    }
    let written = protobuf::encode(&value).map(|bytes| protobuf::decode(&bytes));
    match written {
        Ok(Ok(again)) => assert_eq!(again, value, "its own protobuf is another object"),
        Ok(Err(error)) | Err(error) => panic!("{}: {value}", error.message),
    }
}

fn filled(kind: &Kind, value: &Value) -> Option<Value> {
    let mut filled = value.clone();
    // Defaults of a schema that would make it too large.
    apply_defaults(&mut filled, kind).ok()?;
    kind.strategy.default(&mut filled);
    Some(filled)
}

/// The rules of a kind take any object, and have an end to what they say. Answers whether it may be made.
fn rules(kind: &Kind, value: &Value, filled: &Value) -> bool {
    let rules = &kind.strategy;
    let mut found = rules.validate(filled);
    found.extend(rules.validate_create(filled));
    let is_valid = found.is_empty();
    for subresource in [None, Some("status")] {
        let mut changed = filled.clone();
        rules.prepare_update(subresource, &mut changed, value);
        found.extend(rules.validate_update(subresource, &changed, value));
    }
    let told: usize = found.iter().map(|error| error.message.len()).sum();
    let most = WORDS_BYTES_MAX + 64 * (parts::size(filled) + found.len());
    assert!(told <= most, "{told} bytes of mistakes");
    drop((rules.warnings(filled), rules.selectable_fields(filled), rules.row_condition(filled)));
    assert_eq!(rules.row(filled, 0).len(), kind.columns.len(), "a cell for each column");
    rules.prepare_create(&mut filled.clone());
    is_valid
}
