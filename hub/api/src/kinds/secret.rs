//! Secret: bytes by key that only those who were given it may see.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Concern, Kind, Strategy, Trait};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, map, map_len, name, set_default, text};
use super::config_map::{DATA_BYTES_MAX, check_key, decoded_len, immutable};

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "What its keys must be."),
    column("Data", "string", "How many keys it holds."),
    AGE,
];

/// Secret of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Secret"), "secrets", Rules)
        .concerns(Concern::ItsNamespace)
        .columns(COLUMNS)
        .fields(["type"])
        .with(&[Trait::CountsNoGeneration, Trait::IsSealed, Trait::CountedByPlural])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(map) = object.as_object_mut() else { return };
        set_default(map, "type", "Opaque");
        if map.get("type").and_then(Value::as_str) == Some("") {
            map.insert("type".to_owned(), "Opaque".into());
        }
        // stringData is for writing only: it wins over data and is never stored.
        let Some(Value::Object(texts)) = map.remove("stringData") else { return };
        if texts.is_empty() {
            return;
        }
        let Some(data) = child(object, "data") else { return };
        for (key, text) in texts {
            let encoded = STANDARD.encode(text.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut total = 0;
        for (key, value) in map(object, "/data") {
            errors.extend(check_key("data", key));
            total += decoded_len(value);
        }
        if total > DATA_BYTES_MAX {
            errors.push(FieldError::too_long("data", DATA_BYTES_MAX));
        }
        errors.extend(check_type(object));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if new.get("type") != old.get("type") {
            let kind = json!(text(new, "/type"));
            errors.push(FieldError::invalid("type", &kind, "field is immutable"));
        }
        errors.extend(immutable(new, old, &["data"]));
        errors
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        BTreeMap::from([("type".to_owned(), text(object, "/type").to_owned())])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let keys = map_len(object, "/data");
        vec![name(object), text(object, "/type").into(), keys.into(), age(object, now)]
    }
}

/// What the type asks of the keys.
fn check_type(object: &Value) -> Vec<FieldError> {
    let has = |key: &str| object.pointer("/data").is_some_and(|data| data.get(key).is_some());
    let needs = |key: &str| {
        if has(key) { None } else { Some(FieldError::required(format!("data[{key}]"), "")) }
    };
    match text(object, "/type") {
        "kubernetes.io/service-account-token" => {
            let account = "kubernetes.io/service-account.name";
            let annotations = object.pointer("/metadata/annotations");
            let named = annotations.and_then(|a| a.get(account)).and_then(Value::as_str);
            if named.is_none_or(str::is_empty) {
                let at = format!("metadata.annotations[{account}]");
                return vec![FieldError::required(at, "")];
            }
            Vec::new()
        }
        "kubernetes.io/dockercfg" => check_json(object, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => check_json(object, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => vec![
            FieldError::required("data[username]", ""),
            FieldError::required("data[password]", ""),
        ],
        "kubernetes.io/ssh-auth" => needs("ssh-privatekey").into_iter().collect(),
        "kubernetes.io/tls" => needs("tls.crt").into_iter().chain(needs("tls.key")).collect(),
        _ => Vec::new(),
    }
}

fn check_json(object: &Value, key: &str) -> Vec<FieldError> {
    let at = format!("data[{key}]");
    let Some(encoded) = object.pointer("/data").and_then(|d| d.get(key)).and_then(Value::as_str)
    else {
        return vec![FieldError::required(at, "")];
    };
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    match serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let shown = json!("<secret contents redacted>");
            vec![FieldError::invalid(at, &shown, &error.to_string())]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_wins_and_is_not_kept() {
        let mut object = json!({"data": {"a": "eA==", "b": "eA=="}, "stringData": {"a": "y"}});
        Rules.default(&mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "eQ==", "b": "eA=="}}));
    }

    #[test]
    fn a_type_asks_for_its_keys() {
        let object = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}});
        assert_eq!(Rules.validate(&object), [FieldError::required("data[tls.key]", "")]);
        let object = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}});
        assert_eq!(Rules.validate(&object)[0].reason, "FieldValueInvalid");
    }

    #[test]
    fn type_and_immutable_data_stay() {
        let old = json!({"type": "Opaque", "immutable": true, "data": {"a": "eA=="}});
        let new = json!({"type": "other", "data": {"a": "eQ=="}});
        let fields: Vec<_> =
            Rules.validate_update(None, &new, &old).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["type", "immutable", "data"]);
    }
}
