//! Definitions that are kept, and those that are not.

use serde_json::{Value, json};

use freewheel_hub_cel::{STACK_BYTES, on_a_stack_of};

use super::{check, check_change, check_within};
use crate::work::Work;

fn definition() -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "conversion": {"strategy": "None"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties":
                    {"a": {"type": "string"}, "n": {"type": "integer"}}}}}}}],
        },
        "status": {"storedVersions": ["v1"]},
    })
}

#[track_caller]
fn wrong(change: impl FnOnce(&mut Value), mistakes: &[&str]) {
    let mut changed = definition();
    change(&mut changed);
    let all =
        check(&changed).into_iter().map(|error| format!("{}: {}", error.field, error.message));
    assert_eq!(all.collect::<Vec<_>>(), mistakes);
}

#[track_caller]
fn wrong_schema(schema: Value, mistakes: &[&str]) {
    wrong(|d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema, mistakes);
}

/// Texts of k8s.io/apiextensions-apiserver, pkg/apis/apiextensions/validation.
#[test]
fn definitions_are_refused_as_by_kube_apiserver() {
    wrong(|_| {}, &[]);
    wrong(
        |d| d["metadata"]["name"] = json!("widget.example.com"),
        &[
            r#"metadata.name: Invalid value: "widget.example.com": must be spec.names.plural+"."+spec.group"#,
        ],
    );
    wrong(
        |d| d["spec"]["scope"] = json!("Everywhere"),
        &[
            r#"spec.scope: Unsupported value: "Everywhere": supported values: "Cluster", "Namespaced""#,
        ],
    );
    wrong(
        |d| d["spec"]["names"]["listKind"] = json!("Widget"),
        &[r#"spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same"#],
    );
    wrong(
        |d| d["spec"]["conversion"]["strategy"] = json!(""),
        &["spec.conversion.strategy: Required value"],
    );
}

#[test]
fn versions_are_refused_as_by_kube_apiserver() {
    wrong(
        |d| d["spec"]["versions"][0]["subresources"] = json!({"scale": {"specReplicasPath": ".x"}}),
        &[
            r#"spec.subresources.scale.specReplicasPath: Invalid value: ".x": should be a json path under .spec"#,
            "spec.subresources.scale.statusReplicasPath: Required value",
        ],
    );
    wrong(
        |d| {
            d["spec"]["versions"][0]["additionalPrinterColumns"] =
                json!([{"name": "A", "type": "text", "jsonPath": "x"}]);
        },
        &[
            r#"spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string"#,
            r#"spec.additionalPrinterColumns[0].JSONPath: Invalid value: "x": must be a simple json path starting with ."#,
        ],
    );
    wrong(
        |d| {
            d["spec"]["versions"][0]["selectableFields"] =
                json!([{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.x"}]);
        },
        &[
            r#"spec.selectableFields[1].jsonPath: Invalid value: ".spec.x": is an invalid path: does not refer to a valid field"#,
        ],
    );
    wrong(
        |d| d["status"]["storedVersions"] = json!(["v1", "v0"]),
        &[
            r#"status.storedVersions[1]: Invalid value: "v0": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions"#,
        ],
    );
    let first = |d: &mut Value| d["spec"]["versions"][0]["storage"] = json!(false);
    let mut changed = definition();
    first(&mut changed);
    let all = check(&changed);
    assert!(all.iter().any(|error| {
        error.message.ends_with("must have exactly one version marked as storage version")
    }));
    let mut changed = definition();
    changed["spec"]["conversion"]["strategy"] = json!("Webhook");
    let before = check(&changed).len();
    changed["spec"]["versions"][0]["storage"] = json!(false);
    changed["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.a"}]);
    assert!(check(&changed).iter().any(|error| {
        error.message.starts_with("Forbidden: where a webhook converts, the storage version alone")
    }));
    assert!(before < check(&changed).len());
}

#[test]
fn mistakes_that_all_versions_make_stand_at_the_top() {
    let mut two = definition();
    let mut other = two["spec"]["versions"][0].clone();
    other["name"] = json!("v2");
    other["storage"] = json!(false);
    two["spec"]["versions"].as_array_mut().unwrap().push(other);
    for version in two["spec"]["versions"].as_array_mut().unwrap() {
        version["schema"]["openAPIV3Schema"]["type"] = json!("array");
    }
    assert!(check(&two)[0].field.starts_with("spec.validation.openAPIV3Schema"));
    two["spec"]["versions"][1]["schema"]["openAPIV3Schema"] = json!({"type": "object"});
    assert!(check(&two)[0].field.starts_with("spec.versions[0].schema.openAPIV3Schema"));
}

#[test]
fn schemas_are_structural() {
    let at = "spec.validation.openAPIV3Schema";
    wrong_schema(
        json!({"properties": {"spec": {"properties": {}}}}),
        &[
            &format!(
                "{at}.properties[spec].type: Required value: must not be empty for specified object fields"
            ),
            &format!("{at}.type: Required value: must not be empty at the root"),
        ],
    );
    wrong_schema(
        json!({"type": "object", "properties": {"a": {"type": "array"}}}),
        &[&format!("{at}.properties[a].items: Required value: must be specified")],
    );
    wrong_schema(
        json!({"type": "object", "properties": {"a": {"type": "string"}},
        "anyOf": [{"properties": {"b": {"type": "string"}}}]}),
        &[
            &format!("{at}.anyOf[0].properties[b].type: Forbidden: must be empty to be structural"),
            &format!(
                "{at}.properties[b]: Required value: because it is defined in {at}.anyOf[0].properties[b]"
            ),
        ],
    );
    wrong_schema(
        json!({"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
        &[],
    );
    wrong_schema(
        json!({"type": "object", "properties": {"metadata": {"type": "object",
        "properties": {"labels": {"type": "object"}}}}}),
        &[&format!(
            "{at}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
        )],
    );
    wrong_schema(
        json!({"type": "object", "properties": {"metadata": {"type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}}}}}),
        &[],
    );
    wrong_schema(
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
        &[&format!(
            r#"{at}.properties[a].pattern: Invalid value: "(": must be a valid regular expression, but isn't: unclosed group"#
        )],
    );
    wrong_schema(
        json!({"type": "object", "additionalProperties": true}),
        &[&format!("{at}.additionalProperties: Forbidden: must not be used at the root")],
    );
}

#[test]
fn schemas_say_what_can_be_kept() {
    let at = "spec.validation.openAPIV3Schema";
    let of = |field: Value| json!({"type": "object", "properties": {"a": field}});
    let a = format!("{at}.properties[a]");
    wrong_schema(
        of(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
        &[&format!(
            "{a}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )],
    );
    wrong_schema(
        of(
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
        ),
        &[&format!(
            "{a}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
        )],
    );
    wrong_schema(
        of(json!({"type": "string", "$ref": "#/x"})),
        &[&format!("{a}.$ref: Forbidden: $ref is not supported")],
    );
    wrong_schema(
        of(json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object",
        "properties": {"k": {"type": "string"}}}, "x-kubernetes-list-map-keys": ["k"]})),
        &[&format!(
            "{a}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
        )],
    );
    wrong_schema(
        of(json!({"type": "array", "x-kubernetes-list-type": "bag", "items": {"type": "string"}})),
        &[&format!(
            r#"{a}.x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map""#
        )],
    );
    wrong_schema(of(json!({"type": "integer", "default": "x"})), &[
        &format!(r#"{a}.default: Invalid value: "string": {a}.default in body must be of type integer: "string""#)
            .replace(&format!("{a}.default in body"), " in body"),
    ]);
    wrong_schema(
        of(json!({"type": "object", "default": {"x": 1}})),
        &[&format!(r#"{a}.default: Invalid value: {{"x":1}}: must not have unknown fields"#)],
    );
    let mut root = of(json!({"type": "string"}));
    root["oneOf"] = json!([{"required": ["a"]}]);
    let mut changed = definition();
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = root;
    assert_eq!(check(&changed), []);
    changed["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    assert!(check(&changed)[0].message.contains(
        "fields are allowed at the root of the schema if the status subresource is enabled"
    ));
}

#[test]
fn names_that_are_in_use_stay() {
    let mut old = definition();
    let mut new = definition();
    new["spec"]["names"]["kind"] = json!("Gadget");
    new["spec"]["scope"] = json!("Cluster");
    assert_eq!(check_change(&new, &old), []);
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let fields: Vec<String> =
        check_change(&new, &old).into_iter().map(|error| error.field).collect();
    assert_eq!(fields, ["spec.scope", "spec.names.kind"]);
    new["spec"]["group"] = json!("other.com");
    assert_eq!(check_change(&new, &old).len(), 3);
}

/// A definition whose one version has this schema.
#[expect(clippy::needless_pass_by_value, reason = "schemas are written where they are used")]
fn with_schema(schema: Value) -> Value {
    json!({"metadata": {"name": "widgets.example.com"}, "status": {"storedVersions": ["v1"]},
        "spec": {"group": "example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn fields(count: usize, field: impl Fn(usize) -> Value) -> Value {
    let fields = (0..count).map(|number| (format!("a{number}"), field(number)));
    Value::from_iter([("type", json!("object")), ("properties", fields.collect())])
}

#[test]
fn mistakes_in_long_names_are_told_in_short() {
    let inner = fields(5_000, |_| json!({}));
    let outer = Value::from_iter([("x".repeat(10_000), inner)]);
    let errors = check(&with_schema(json!({"type": "object", "properties": outer})));
    let bytes: usize = errors.iter().map(|error| error.message.len() + error.field.len()).sum();
    assert!((200..2_000).contains(&errors.len()) && bytes < 4 << 20, "{} {bytes}", errors.len());
}

/// Each of these took minutes.
#[test]
fn a_check_of_a_definition_is_bounded() {
    let list = |keys: Vec<&str>| {
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}})
    };
    let mut versions = with_schema(json!({"type": "object"}));
    let version = versions["spec"]["versions"][0].clone();
    versions["spec"]["versions"] = Value::from(vec![version; 20_000]);
    versions["status"]["storedVersions"] = (0..20_000).map(|n| json!(format!("v{n}"))).collect();
    let rule = |n: usize| json!({"type": "string", "x-kubernetes-validations": [{"rule": format!("self != '{n}'")}]});
    let deep = (0..50).fold(
        fields(5_000, |_| json!({"type": "string"})),
        |inner, _| json!({"type": "object", "default": {}, "properties": {"a": inner}}),
    );
    for (what, definition) in [
        (
            "keys",
            with_schema(json!({"type": "object", "properties": {"l": list(vec!["a"; 100_000])}})),
        ),
        ("versions", versions),
        (
            "patterns",
            with_schema(fields(
                20_000,
                |n| json!({"type": "string", "pattern": format!(r"\pL{{20}}{n}")}),
            )),
        ),
        ("rules", with_schema(fields(40_000, rule))),
        ("defaults", with_schema(deep)),
    ] {
        let begun = std::time::Instant::now();
        let check = || check_within(&definition, &Work::of(100_000));
        let errors = on_a_stack_of(STACK_BYTES, check).unwrap();
        assert!(begun.elapsed().as_secs() < 10, "{what}: {:?}", begun.elapsed());
        assert!(!errors.is_empty(), "{what}");
    }
    // Honest ones are far from that.
    let twice =
        check(&with_schema(json!({"type": "object", "properties": {"l": list(vec!["a", "a"])}})));
    let at = "spec.validation.openAPIV3Schema.properties[l].x-kubernetes-list-map-keys";
    assert_eq!((twice.len(), &*twice[0].field), (1, at));
    let many = check(&with_schema(fields(
        2_000,
        |_| json!({"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}),
    )));
    assert_eq!(many, []);
}

const TAGS: &str = "spec.validation.openAPIV3Schema.properties[tags]";
const ADVICE: &str = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";

fn with_tags(tags: Value) -> Value {
    let mut schema = json!({"type": "object"});
    schema["properties"]["tags"] = tags;
    schema
}

/// Tags with a rule, of which there are so many of so many letters at most.
fn tags(most: Option<u64>, letters: Option<u64>) -> Value {
    let rule = json!([{"rule": "self.all(x, x.contains('gpu'))"}]);
    let mut tags =
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": rule});
    most.into_iter().for_each(|most| tags["maxItems"] = json!(most));
    letters.into_iter().for_each(|most| tags["items"]["maxLength"] = json!(most));
    with_tags(tags)
}

/// What is said of the first rule of tags that costs more than anybody may have for all.
#[track_caller]
fn costs_far_too_much(schema: Value, key: &str) {
    let place = format!("{TAGS}.x-kubernetes-validations[0].{key}: Forbidden:");
    let factor = "exceeds budget by factor of more than 100x";
    let whole = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
    let mistakes = [
        format!("{place} estimated {key} cost {factor} {ADVICE}"),
        format!(
            "{place} contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        ),
        format!("spec.validation.openAPIV3Schema: Forbidden: {whole} {factor} {ADVICE}"),
    ];
    wrong_schema(schema, &mistakes.each_ref().map(String::as_str));
}

/// Figures of k8s.io/apiextensions-apiserver of Kubernetes 1.36.
#[test]
fn rules_that_may_cost_too_much_are_refused() {
    costs_far_too_much(tags(None, None), "rule");
    let why = format!(
        "{TAGS}.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of"
    );
    for (letters, most) in [(16, 909_090), (63, 333_333), (253, 94_339), (1_024, 24_154)] {
        wrong_schema(tags(Some(most), Some(letters)), &[]);
        let mut above = definition();
        above["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            tags(Some(most + 1), Some(letters));
        let told: Vec<String> = check(&above)
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect();
        let is_one = told.len() == 1 && told[0].starts_with(&format!("{why} 1.0000"));
        assert!(is_one, "{letters}: {told:?}");
    }
    wrong_schema(tags(Some(1_818_180), Some(16)), &[&format!("{why} 2.0x {ADVICE}")]);
    let told = |expression: &str| {
        let rule = json!([{"rule": "self < 5", "messageExpression": expression}]);
        with_tags(json!({"type": "integer", "x-kubernetes-validations": rule}))
    };
    costs_far_too_much(told("'it is ' + string(self)"), "messageExpression");
    wrong_schema(told("'it is %d'.format([self])"), &[]);
}

/// Where nobody says how often, it is as often as there is room for the least of them.
#[test]
fn rules_cost_as_much_as_there_may_be_values() {
    let inside = |most: Option<u64>| {
        let rule = json!([{"rule": "self.contains('x')"}]);
        let items = json!({"type": "string", "maxLength": 64, "x-kubernetes-validations": rule});
        let mut list = json!({"type": "array", "items": items});
        most.into_iter().for_each(|most| list["maxItems"] = json!(most));
        with_tags(list)
    };
    wrong_schema(inside(Some(100_000)), &[]);
    let factor = format!(
        "{TAGS}.items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of 2.8x {ADVICE}"
    );
    wrong_schema(inside(None), &[&factor]);
}

/// A schema whose `spec` has a rule, which may say something more.
fn with_rule(rule: &str, more: &Value) -> Value {
    let mut said = json!({"rule": rule});
    said.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    with_schema(json!({"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-validations": [said], "properties": {
            "n": {"type": "integer"}, "f": {"type": "number"}, "s": {"type": "string", "maxLength": 9},
            "on": {"type": "boolean"}, "maybe": {"type": "string", "nullable": true, "maxLength": 9},
            "a-b": {"type": "string", "maxLength": 9},
            "when": {"type": "string", "format": "date-time"}, "span": {"type": "string", "format": "duration"},
            "raw": {"type": "string", "format": "byte", "maxLength": 9}, "port": {"x-kubernetes-int-or-string": true},
            "list": {"type": "array", "maxItems": 9, "items": {"type": "string", "maxLength": 9}},
            "map": {"type": "object", "maxProperties": 9, "additionalProperties": {"type": "integer"}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true},
        }},
    }}))
}

/// Texts of upstream's compilation.go, validation.go, and of what checks types there.
#[test]
fn rules_that_cannot_be_right_are_refused() {
    let none = json!({});
    let message = |it: &str| json!({"messageExpression": it});
    let path = |it: &str| json!({"fieldPath": it});
    let rule_at = "rule: Invalid value: ";
    for (rule, more, field, why) in [
        ("1", &none, rule_at, "cel expression must evaluate to a bool"),
        ("self.s", &none, rule_at, "cel expression must evaluate to a bool"),
        ("self.n == 'x'", &none, rule_at, {
            "compilation failed: ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'\n | self.n == 'x'\n | .......^"
        }),
        ("self.f == 1", &none, rule_at, "applied to '(double, int)'"),
        ("self.maybe == null", &none, rule_at, "applied to '(string, null)'"),
        ("self.nothing == 1", &none, rule_at, "undefined field 'nothing'"),
        ("oldSelf.nothing == 1", &none, rule_at, "undefined field 'nothing'"),
        ("self.open.x == 1", &none, rule_at, "undefined field 'x'"),
        ("self.inner.spec == 1", &none, rule_at, "undefined field 'spec'"),
        ("self.list.all(x, x > 1)", &none, rule_at, "applied to '(string, int)'"),
        ("self.map.all(k, self.map[k] == 'x')", &none, rule_at, "applied to '(int, string)'"),
        ("self.when == 'x'", &none, rule_at, "applied to '(timestamp, string)'"),
        ("oldSelf.hasValue()", &none, rule_at, "found no matching overload for 'hasValue'"),
        ("true", &message("1"), "messageExpression: Invalid value: ", {
            "messageExpression must evaluate to a string"
        }),
        ("true", &message("self.s + 1"), "messageExpression: Invalid value: ", {
            "messageExpression compilation failed: ERROR: <input>:1:8: found no matching overload"
        }),
        ("true", &message("  "), "messageExpression: Required value", {
            "messageExpression must be non-empty if specified"
        }),
        ("true", &path(".nothing"), "fieldPath: Invalid value: ", "must be a valid path"),
        ("true", &path("n"), "fieldPath: Invalid value: ", "must be a valid path"),
    ] {
        let errors = check(&with_rule(rule, more));
        let [one] = &errors[..] else { panic!("{rule} {more}: {errors:?}") };
        let told = format!("{}: {}", one.field, one.message);
        let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
        assert!(told.starts_with(&format!("{at}.{field}")), "{rule}: {told}");
        assert!(told.contains(why), "{rule}: {told}");
    }
}

#[test]
fn rules_that_may_be_right_are_taken() {
    for rule in [
        "self.n > 1 && self.n > 1.5 && self.f == 1.0 && self.on && self.s != ''",
        "has(self.maybe) && self.maybe == '' && type(self.maybe) != null_type",
        "self.when > timestamp('2026-01-01T00:00:00Z') && self.span < duration('1h') && self.raw == b'x'",
        "type(self.port) == int ? self.port > 1 : self.port.startsWith('x')",
        "self.port == 1 || self.port == '1'",
        "self.list.exists(x, x in ['a', 'b']) && self.list[0].size() > 1 && self.list == ['a']",
        "self.map['x'] == 1 && self.map.x == 1 && 'x' in self.map && self.map.all(k, k != '')",
        "self.a__dash__b == 'x' && self == oldSelf && !has(self.open)",
        "self.inner.metadata.name == 'x' && self.inner.kind == 'y' && self.inner.apiVersion != ''",
        "self.?maybe.orValue('x') == 'x' && quantity('1').isLessThan(quantity('2'))",
        "dyn(self.n) == 'x'",
        "self.port",
    ] {
        let more = json!({"messageExpression": "self.s + 'x'", "fieldPath": ".map.x"});
        assert_eq!(check(&with_rule(rule, &more)), [], "{rule}");
    }
    let optional = json!({"optionalOldSelf": true});
    let errors = check(&with_rule("oldSelf.n == 1", &optional));
    assert!(
        errors[0].message.contains("'_==_' applied to '(optional_type(int), int)'"),
        "{errors:?}"
    );
    let rule = "!oldSelf.hasValue() || oldSelf.value().n <= self.n || oldSelf.orValue(self).n == 1";
    assert_eq!(check(&with_rule(rule, &optional)), []);
    let meta = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name != self.kind"}]});
    assert_eq!(check(&with_schema(meta)), []);
}

#[test]
fn what_was_before_is_spoken_of_where_it_is_found_again() {
    let rule = json!([{"rule": "self == oldSelf"}]);
    let text = json!({"type": "string", "maxLength": 9, "x-kubernetes-validations": rule});
    let within =
        |holder: Value| with_schema(json!({"type": "object", "properties": {"a": holder}}));
    let list = |kind: &str| json!({"type": "array", "maxItems": 9, "x-kubernetes-list-type": kind, "items": text});
    let keyed = json!({"type": "array", "maxItems": 9, "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"],
            "properties": {"k": {"type": "string", "maxLength": 9}, "v": text}}});
    let map = json!({"type": "object", "maxProperties": 9, "additionalProperties": text});
    let object = |kind: &str| json!({"type": "object", "x-kubernetes-map-type": kind, "properties": {"b": text}});
    for found in [text.clone(), keyed, map, object("granular")] {
        assert_eq!(check(&within(found.clone())), [], "{found}");
    }
    for lost in [list("atomic"), list("set"), object("atomic")] {
        let errors = check(&within(lost));
        let [one] = &errors[..] else { panic!("{errors:?}") };
        assert!(one.field.ends_with(".x-kubernetes-validations[0].rule"), "{one:?}");
        let why = "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[a]";
        assert_eq!(one.message, format!("Invalid value: \"self == oldSelf\": {why}"));
    }
}

/// A rule that looks for a long pattern in the name of its object costs as much as a name may have letters.
#[test]
fn names_are_as_long_as_a_schema_that_says_all_of_them_has_them() {
    let rule = json!([{"rule": format!("self.metadata.name.matches('{}')", "a".repeat(200))}]);
    let text = json!({"type": "string", "maxLength": 60});
    let names = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    let mut schema = json!({"type": "object", "x-kubernetes-validations": rule,
        "properties": {"kind": text, "apiVersion": text, "metadata": names}});
    assert_eq!(check(&with_schema(schema.clone())), []);
    let said = schema["properties"].as_object_mut().unwrap();
    said.remove("kind");
    let errors = check(&with_schema(schema));
    assert!(errors[0].message.contains("estimated rule cost exceeds budget"), "{errors:?}");
}
