//! A schema that comes with a kind, through every walk.

use serde_json::json;

use super::*;
use crate::kind::{Kind, Strategy};
use crate::patch::{self, strategic};
use crate::types::{apply_defaults, canonicalise, decode_json};

struct Plain;

impl Strategy for Plain {}

fn gvk() -> Gvk {
    Gvk::new("example.com".to_owned(), "v1", "Widget")
}

fn schema() -> Schema {
    let part = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"},
        "note": {"type": "string"},
        "on": {"type": "boolean", "default": false},
    }});
    let schema = json!({"type": "object", "properties": {
        "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "format": "int32", "default": 7},
            "color": {"type": "string", "enum": ["red", "blue"]},
            "port": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "rooms": {"type": "object", "additionalProperties": part},
            "stand": {"type": "object", "default": {"high": {}}, "properties": {
                "high": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                    "by": {"type": "string", "default": "far"},
                }},
            }},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "parts": {
                "type": "array", "items": part,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
            },
        }},
    }});
    Schema::structural(&gvk(), &schema).unwrap()
}

fn widgets() -> Kind {
    Kind::new(gvk(), "widgets", Plain).with_schema(schema())
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let widgets = widgets();
    let body = json!({
        "metadata": {"name": "w", "labels": null, "stray": 1, "creationTimestamp": null},
        "spec": {
            "stray": 1, "color": "", "port": "http", "any": [null, {"x": null}],
            "free": {"any": {"x": null}}, "parts": [{"name": "a", "stray": {}}],
            "rooms": {"hall": {"name": "h", "note": null}},
        },
    });
    let decoded = decode_json(body.to_string().as_bytes(), &widgets).unwrap();
    let strict = ["metadata.stray", "spec.parts[0].stray", "spec.stray"];
    assert_eq!(decoded.strict, strict.map(|path| format!("unknown field {path:?}")));
    let mut value = decoded.value;
    apply_defaults(&mut value, &widgets).unwrap();
    let whole = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {
            "size": 7, "color": "", "port": "http", "any": [null, {"x": null}],
            "free": {"any": {"x": null}}, "stand": {"high": {"by": "far"}},
            "parts": [{"name": "a", "on": false}], "rooms": {"hall": {"name": "h", "on": false}},
        },
    });
    assert_eq!(value, whole);
    assert_eq!(canonicalise(&mut value, &widgets).unwrap().unknown, Vec::<String>::new());
    apply_defaults(&mut value, &widgets).unwrap();
    assert_eq!(value, whole, "and nothing the second time");

    let wrong = canonicalise(&mut json!({"spec": {"parts": [{"name": 1}]}}), &widgets);
    let text =
        "json: cannot unmarshal number into Go struct field parts.spec.parts.name of type string";
    assert_eq!(wrong.unwrap_err().message, text);
    assert!(canonicalise(&mut json!({"spec": {"size": 3_000_000_000_u64}}), &widgets).is_err());
}

#[test]
fn elements_merge_by_their_key() {
    let widgets = widgets();
    let spec = |parts: Value| json!({"spec": {"parts": parts}});
    let was = spec(json!([{"name": "a", "note": "x"}, {"name": "b"}, {"name": "c"}]));
    let wanted = spec(json!([{"name": "a", "on": true}, {"$patch": "delete", "name": "b"}]));
    let (Value::Object(document), Value::Object(change)) = (&was, &wanted) else { unreachable!() };
    let facts = widgets.facts().unwrap();
    let merged = strategic::merge(document.clone(), change.clone(), facts).unwrap();
    let parts = json!([{"name": "a", "note": "x", "on": true}, {"name": "c"}]);
    assert_eq!(Value::Object(merged), spec(parts));
    // Over the API, a custom resource has the other two patches only.
    let refused = patch::strategic(&was, wanted.to_string().as_bytes(), &widgets);
    assert_eq!(refused.unwrap_err().code, 415);
    let mut merged = patch::merge(&was, br#"{"spec": {"parts": null, "stray": 1}}"#).unwrap();
    assert_eq!(canonicalise(&mut merged, &widgets).unwrap().unknown, ["spec.stray"]);
    assert_eq!(merged, json!({"spec": {}}));
}

#[test]
fn what_a_structured_merge_asks_is_there() {
    let schema = schema();
    let spec = schema.facts().inside(&schema.facts().field("spec").unwrap().shape).unwrap();
    assert_eq!(spec.field("tags").unwrap().list, ListType::Set);
    assert_eq!(spec.field("parts").unwrap().list, ListType::Map(vec!["name".into()]));
    let stand = spec.inside(&spec.field("stand").unwrap().shape).unwrap();
    assert!(stand.field("high").unwrap().atomic);
    assert!(!stand.atomic && stand.inside(&stand.field("high").unwrap().shape).unwrap().atomic);
    let meta = schema.facts().inside(&schema.facts().field("metadata").unwrap().shape).unwrap();
    assert_eq!(meta.field("finalizers").unwrap().list, ListType::Set, "from the committed table");
    let part = spec.inside(&spec.field("parts").unwrap().shape).unwrap();
    assert!(part.field("name").unwrap().required && !part.field("note").unwrap().required);
}

#[test]
fn what_is_not_structural_is_named() {
    let of = |spec: Value| {
        let schema = json!({"type": "object", "properties": {"spec": spec}});
        Schema::structural(&gvk(), &schema).unwrap_err().to_string()
    };
    let at = "openAPIV3Schema.properties[spec]";
    assert_eq!(of(json!({})), format!("{at}: unsupported type \"\""));
    assert_eq!(of(json!([])), format!("{at}: must be an object"));
    assert_eq!(of(json!({"$ref": "#/x"})), format!("{at}: $ref is not supported"));
    assert_eq!(of(json!({"type": "array"})), format!("{at}: needs items"));
    let items = json!({"type": "array", "items": {"type": "texts"}});
    assert_eq!(of(items), format!("{at}.items: unsupported type \"texts\""));
    let fields = json!({"type": "object", "properties": []});
    assert_eq!(of(fields), format!("{at}.properties: must be an object"));
    let list =
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"});
    assert_eq!(of(list), format!("{at}: a list of type map needs x-kubernetes-list-map-keys"));
    let root = Schema::structural(&gvk(), &json!({"type": "array"})).unwrap_err();
    assert_eq!(root.to_string(), "openAPIV3Schema: must be of type object");
}
