//! Canonical form, errors and strict decoding, checked against Go and a real kube-apiserver.

use serde_json::{Value, json};

use super::table::{ListType, find, table};
use super::{apply_defaults, canonical_quantity, canonicalise, decode_json, strict_error};

#[test]
fn the_table_knows_the_kinds_and_their_keys() {
    assert!(300 < table().types().len());
    let ports = find("", "v1", "Service").unwrap().field("spec").unwrap();
    let super::table::Shape::Object(spec) = &ports.shape else { panic!("spec is a struct") };
    let ports = table().at(*spec).field("ports").unwrap();
    assert_eq!(ports.merge.key.as_deref(), Some("port"));
    assert_eq!(ports.list, ListType::Map(vec!["port".into(), "protocol".into()]));
    assert!(find("cluster.open-cluster-management.io", "v1", "ManagedCluster").unwrap().crd);
    assert!(find("", "v1", "Status").unwrap().is_meta());
    assert!(find("apps", "v1", "Nothing").is_none());
}

#[test]
fn no_line_of_the_table_is_lost() {
    let text = include_str!("table.txt");
    assert!(text.starts_with("freewheel-schema 1\n"));
    let lines = |mark: &str| text.lines().filter(|line| line.starts_with(mark)).count();
    let types = table().types();
    assert_eq!(types.len(), lines("T "));
    assert_eq!(types.iter().map(|one| one.layout.len()).sum::<usize>(), lines("F "));
    assert_eq!(types.iter().map(|one| one.kinds.len()).sum::<usize>(), lines("G "));
    let defaults = types.iter().flat_map(|one| &one.layout).filter(|field| field.default.is_some());
    assert_eq!(defaults.count(), text.lines().filter(|line| line.contains(" d=")).count());
    for one in types {
        for pair in one.fields.windows(2) {
            assert!(pair[0].name < pair[1].name, "{}: {}", one.name, pair[0].name);
        }
    }
}

#[test]
fn quantities_are_written_as_go_writes_them() {
    for line in include_str!("fixtures/quantities.txt").lines() {
        let (text, go) = line.split_once('=').unwrap();
        match go {
            "!" => assert!(canonical_quantity(text).is_err(), "{text:?}"),
            _ => assert_eq!(canonical_quantity(text).as_deref(), Ok(go), "{text:?}"),
        }
    }
}

fn refused(kind: &str, body: &str) -> String {
    decode_json(body.as_bytes(), ("", "v1", kind)).unwrap_err().message
}

/// The texts are those of kube-apiserver 1.36.
#[test]
fn wrong_bodies_are_refused_in_the_words_of_kube_apiserver() {
    assert_eq!(
        refused("Pod", r#"{"spec":{"containers":"no"}}"#),
        r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"#
    );
    assert_eq!(
        refused(
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"memory":"lots"}}}]}}"#
        ),
        r#"Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
    );
    assert_eq!(
        refused("Secret", r#"{"data":{"a":"not base64"}}"#),
        r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 3"#
    );
    assert_eq!(
        refused("Pod", r#"{"apiVersion":"v1","kind":"#),
        r#"the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input ({"apiVersion":"v1","kind":)"#
    );
    assert!(refused("Pod", "[]").contains("cannot unmarshal array into Go value"));
    assert!(refused("Pod", r#"{"apiVersion":"v1","kind":"Service"}"#).starts_with(
        r#"Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to"#
    ));
    assert!(refused("Pod", r#"{"apiVersion":"v2","kind":"Pod"}"#).starts_with(
        r#"Pod in version "v2" cannot be handled as a Pod: no kind "Pod" is registered for version "v2""#
    ));
    assert_eq!(
        canonicalise(&mut json!({"data": {"a": 1}}), ("", "v1", "ConfigMap")).unwrap_err().message,
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    );
}

#[test]
fn strict_decoding_names_unknown_and_duplicate_fields() {
    let body = br#"{"metadata":{"name":"x"},"spec":{"contaniers":[],"containers":[{"name":"a","name":"c","image":"i","x":1}]}}"#;
    let decoded = decode_json(body, ("", "v1", "Pod")).unwrap();
    assert_eq!(
        decoded.strict,
        [
            r#"unknown field "spec.containers[0].x""#,
            r#"unknown field "spec.contaniers""#,
            r#"duplicate field "spec.containers[0].name""#
        ]
    );
    assert_eq!(decoded.value["spec"]["containers"][0]["name"], "c");
    assert_eq!(decoded.value["apiVersion"], "v1");
    assert_eq!(decoded.value["kind"], "Pod");
    assert!(decoded.value["spec"].get("contaniers").is_none());
    assert_eq!(
        strict_error("v1", "Pod", &decoded.strict[1..2]).message,
        r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.contaniers""#
    );
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode_json(deep.as_bytes(), ("", "v1", "Pod")).unwrap_err().code, 400);
}

#[test]
fn a_body_of_empty_objects_does_not_eat_the_memory() {
    let body = format!("{{\"spec\":{{\"containers\":[{}{{}}]}}}}", "{},".repeat(300_000));
    let error = decode_json(body.as_bytes(), ("", "v1", "Pod")).unwrap_err();
    assert!(error.message.contains("more than 200000 objects"), "{error}");
}

#[test]
fn the_canonical_form_of_a_custom_kind_keeps_what_was_given() {
    let mut value = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": "pi", "labels": {}, "creationTimestamp": null},
        "spec": {"hubAcceptsClient": false, "nope": 1}
    });
    let group = "cluster.open-cluster-management.io";
    let unknown = canonicalise(&mut value, (group, "v1", "ManagedCluster")).unwrap();
    assert_eq!(unknown.unknown, ["spec.nope"]);
    apply_defaults(&mut value, (group, "v1", "ManagedCluster")).unwrap();
    assert_eq!(
        value,
        json!({
            "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
            "metadata": {"name": "pi"},
            "spec": {"hubAcceptsClient": false, "leaseDurationSeconds": 60}
        })
    );
}

#[test]
fn options_of_any_group_are_meta_options() {
    let body = br#"{"kind":"DeleteOptions","apiVersion":"policy/v1","gracePeriodSeconds":0}"#;
    let decoded = decode_json(body, ("meta.k8s.io", "v1", "DeleteOptions")).unwrap();
    assert_eq!(decoded.value["gracePeriodSeconds"], 0);
    assert_eq!(decoded.strict, Vec::<String>::new());
}

#[test]
fn defaults_of_the_table_fill_what_is_absent() {
    let mut service = json!({"spec": {"ports": [{"port": 80}]}});
    apply_defaults(&mut service, ("", "v1", "Service")).unwrap();
    assert_eq!(service, json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}));
}

/// `items` may be a list in Go, `additionalProperties` a flag, `dependencies` lists of names.
#[test]
fn what_may_stand_for_a_schema_is_what_go_makes_of_it() {
    let gvk = ("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let pointer = "/spec/versions/0/schema/openAPIV3Schema";
    let put = |schema: Value| {
        let versions = json!([{"name": "v1", "schema": {"openAPIV3Schema": schema}}]);
        let mut object = json!({"spec": {"versions": versions}});
        canonicalise(&mut object, gvk).map(|told| (told, object.pointer(pointer).unwrap().clone()))
    };
    let (told, schema) = put(json!({
        "items": [], "additionalItems": true, "dependencies": {"a": [], "b": ["c"], "d": 1},
        "additionalProperties": {"type": "string", "pattern": "", "maximum": 2.0, "unheard": 1},
        "not": {"items": [{"unheard": 1, "type": "string"}, null]},
    }))
    .unwrap();
    assert_eq!(
        schema,
        json!({
            "additionalItems": true, "dependencies": {"a": null, "b": ["c"], "d": null},
            "additionalProperties": {"type": "string", "maximum": 2},
            "not": {"items": [{"type": "string"}, {}]},
        })
    );
    // Go tells nothing of what is unknown in there.
    assert_eq!(told.unknown, Vec::<String>::new());
    let refused = |schema: Value| put(schema).unwrap_err().message;
    assert_eq!(refused(json!({"additionalProperties": 1})), "boolean or JSON schema expected");
    let number = refused(json!({"items": {"properties": {"a": {"type": 1}}}}));
    assert_eq!(
        number,
        "json: cannot unmarshal number into Go struct field JSONSchemaProps.properties.type of type string"
    );
}

#[test]
fn integers_that_do_not_fit_are_named() {
    let value = |n: Value| {
        canonicalise(&mut json!({"spec": {"replicas": n}}), ("apps", "v1", "Deployment"))
    };
    assert!(value(json!(3)).is_ok());
    assert_eq!(
        value(json!(3_000_000_000_u64)).unwrap_err().message,
        "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert!(value(json!(1.5)).is_err());
}

/// Every place of a filled pod gets two values of other types: each is refused, or canonical.
#[test]
fn no_value_in_any_place_breaks_the_walk() {
    let pod: Value =
        serde_json::from_str(include_str!("../protobuf/fixtures/filled.core.v1.Pod.json")).unwrap();
    let others = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1.5),
        json!(""),
        json!("\u{0}"),
        json!([]),
        json!([null]),
        json!({}),
        json!({"": null}),
    ];
    let mut paths = Vec::new();
    places(&pod, String::new(), &mut paths);
    assert!(500 < paths.len());
    for (turn, path) in paths.into_iter().enumerate() {
        for other in others.iter().cycle().skip(turn % others.len()).take(2) {
            let mut value = pod.clone();
            *value.pointer_mut(&path).unwrap() = other.clone();
            if canonicalise(&mut value, ("", "v1", "Pod")).is_ok() {
                let mut again = value.clone();
                canonicalise(&mut again, ("", "v1", "Pod")).unwrap();
                assert_eq!(again, value, "{path} = {other}");
                let mut nulls = Vec::new();
                nulls_of(&value, String::new(), &mut nulls);
                nulls.retain(|place| !place.contains("/fieldsV1"));
                assert_eq!(nulls, Vec::<String>::new(), "{path} = {other}");
                // What is canonical can be written.
                let mut whole = value;
                whole["apiVersion"] = "v1".into();
                whole["kind"] = "Pod".into();
                crate::protobuf::encode(&whole).unwrap();
            }
        }
    }
}

/// Where a value is null.
fn nulls_of(value: &Value, path: String, out: &mut Vec<String>) {
    match value {
        Value::Null => out.push(path),
        Value::Array(items) => {
            for item in items {
                nulls_of(item, format!("{path}/-"), out);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                nulls_of(value, format!("{path}/{key}"), out);
            }
        }
        _ => {}
    }
}

/// First elements only: the others have the same type.
fn places(value: &Value, path: String, out: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(value, format!("{path}/{key}"), out);
        }
    }
    if let Some(first) = value.as_array().and_then(|items| items.first()) {
        places(first, format!("{path}/0"), out);
    }
    if !path.is_empty() {
        out.push(path);
    }
}
