//! Whether a value is what its schema asks for: every mistake, with kube-apiserver's words and paths.
//!
//! ```text
//! type ─ logic ─ text ─ format ─ number ─ list ─ enum ─ object      one after the other, at each node
//! ```
//!
//! Guarantees:
//! - a mistake that was there before, in a value that is still the same, is nobody's
//!   (`what_was_wrong_before_and_stays_is_let_be`);
//! - no object makes more work than one may, whatever its schema says (`a_check_is_bounded`);
//! - mistakes have the words and paths of kube-apiserver (`mistakes_have_the_words_of_kube_apiserver`).

mod logic;
mod number;
mod object;
mod text;
mod words;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::Value;

use crate::before::Before;
use crate::schema::{Schema, Type};
use crate::work::Work;
use words::{Mistake, Outcome};

/// Where a walk begins: what is checked is named by its place under the value.
const HERE: Path<'static> = Path::root("");

/// Every mistake of a value that stands at `path`, which is empty for a whole object.
#[must_use]
pub fn check(schema: &Schema, value: &Value, path: &str) -> Vec<FieldError> {
    let work = Work::default();
    let errors = check_within(schema, value, path, &work);
    over(path, &work).into_iter().chain(errors).collect()
}

/// The same as a part of a check that makes no more work than this; that it is over, the whole says.
pub(crate) fn check_within(
    schema: &Schema,
    value: &Value,
    path: &str,
    work: &Work,
) -> Vec<FieldError> {
    let outcome = node(schema, value, &HERE, Before::nothing(), work);
    outcome.mistakes.into_iter().map(|mistake| mistake.into_error(path)).collect()
}

/// The same of a value that was another before.
#[must_use]
pub fn check_change(schema: &Schema, new: &Value, old: Before<'_>, path: &str) -> Vec<FieldError> {
    let work = Work::default();
    let outcome = compared(schema, new, &HERE, old, &work);
    let errors = outcome.mistakes.into_iter().map(|mistake| mistake.into_error(path));
    over(path, &work).into_iter().chain(errors).collect()
}

fn over(path: &str, work: &Work) -> Option<FieldError> {
    work.is_over().then(|| {
        let text = "it takes more work to check it against the schema of its kind than an object may make: make its lists shorter, or what the schema says of their elements";
        FieldError::invalid(if path.is_empty() { "<nil>" } else { path }, &Value::Null, text)
    })
}

/// A node; what is wrong with a value that is as it was is left out.
fn compared(
    schema: &Schema,
    value: &Value,
    path: &Path<'_>,
    before: Before<'_>,
    work: &Work,
) -> Outcome {
    let mut outcome = node(schema, value, path, before, work);
    if !outcome.mistakes.is_empty() && before.is(value) {
        outcome.mistakes.clear();
    }
    outcome
}

fn node(
    schema: &Schema,
    value: &Value,
    path: &Path<'_>,
    before: Before<'_>,
    work: &Work,
) -> Outcome {
    let mut all = Outcome::default();
    let size = value.as_str().map_or(0, str::len)
        + schema.rules.values.compared(value)
        + value.as_object().map_or(0, |_| schema.properties.len() + schema.rules.required.len());
    if !work.step(size) {
        return all;
    }
    if value.is_null() {
        all.join(is_null(schema, path));
        all.join(values(schema, value, path, work));
        return all;
    }
    let checks: [Option<Outcome>; 8] = [
        of_type(schema, value, path),
        Some(logic::check(schema, value, path, before, work)),
        value.as_str().map(|text| text::check(schema, text, path, work)),
        value.as_str().and_then(|text| text::format(schema, text, path)),
        value.is_number().then(|| number::check(schema, value, path)),
        value.as_array().map(|items| object::items(schema, items, path, before, work)),
        Some(values(schema, value, path, work)),
        value.as_object().map(|fields| object::check(schema, fields, path, before, work)),
    ];
    for outcome in checks.into_iter().flatten() {
        all.join(outcome);
        all.matched += 1;
    }
    all.matched += 1;
    all
}

/// The types that a schema names.
fn types(schema: &Schema) -> (Vec<Type>, String) {
    let types: Vec<Type> = if schema.int_or_string {
        vec![Type::Integer, Type::String]
    } else {
        schema.is.into_iter().collect()
    };
    let names: Vec<&str> = types.iter().map(|one| one.name()).collect();
    (types, names.join(","))
}

fn is_null(schema: &Schema, path: &Path<'_>) -> Outcome {
    let (types, names) = types(schema);
    if types.is_empty() || schema.nullable {
        return Outcome::matched(1);
    }
    Outcome::wrong(Mistake::of_type(path, &names, "null"))
}

/// JSON's word for a value, and the format that Go sees in it.
fn seen(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// Whether a value has a type that its schema names. Nothing to say where that names none.
fn of_type(schema: &Schema, value: &Value, path: &Path<'_>) -> Option<Outcome> {
    let (types, names) = types(schema);
    if types.is_empty() {
        return None;
    }
    let (word, format) = seen(value);
    let named = |is: Type| types.contains(&is);
    let whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let right = types.iter().any(|is| is.name() == word)
        || (word == "number" && whole && named(Type::Integer))
        || (word == "integer" && named(Type::Number));
    if right {
        return Some(Outcome::matched(1));
    }
    let asked = schema.rules.format.as_deref().filter(|_| !matches!(word, "string" | "array"));
    Some(match asked {
        Some(asked) if asked != format => Outcome::wrong(Mistake::of_type(path, asked, format)),
        _ => Outcome::wrong(Mistake::of_type(path, &names, word)),
    })
}

/// Whether a value is one of those that there may be.
fn values(schema: &Schema, value: &Value, path: &Path<'_>, work: &Work) -> Outcome {
    let known = &schema.rules.values;
    if known.all().is_empty() || known.has(value) {
        return Outcome::default();
    }
    // It is told which there are.
    work.step(4 << 10);
    Outcome::wrong(Mistake::not_of(path, value, known.all()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::read(&json!({"type": "object", "required": ["spec"], "properties": {
            "spec": {"type": "object", "required": ["a", "b"], "minProperties": 1, "properties": {
                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9},
                "share": {"type": "number", "exclusiveMaximum": true, "maximum": 1.5},
                "step": {"type": "integer", "multipleOf": 4},
                "color": {"type": "string", "enum": ["red", "blue"]},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3, "minLength": 1},
                "when": {"type": "string", "format": "date-time"},
                "any": {"x-kubernetes-int-or-string": true},
                "maybe": {"type": "string", "nullable": true},
                "list": {"type": "array", "maxItems": 2, "minItems": 1, "items": {"type": "string"}},
                "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "boolean"}},
                "closed": {"type": "object", "additionalProperties": false},
                "a": {"type": "string"}, "b": {"type": "string"},
                "logic": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                    "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
                "some": {"type": "string", "anyOf": [{"pattern": "a"}, {"pattern": "b"}]},
                "both": {"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}]},
                "other": {"type": "string", "not": {"pattern": "a"}},
            }},
        }}))
    }

    fn said(spec: Value) -> Vec<String> {
        let mut object = json!({"spec": {"a": "", "b": ""}});
        let Value::Object(spec) = spec else { return Vec::new() };
        for (key, value) in spec {
            object["spec"][key] = value;
        }
        let all = check(&schema(), &object, "");
        all.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    #[track_caller]
    fn wrong(spec: Value, mistakes: &[&str]) {
        assert_eq!(said(spec), mistakes);
    }

    /// Texts of k8s.io/kube-openapi's validator, as k8s.io/apiextensions-apiserver tells them.
    #[test]
    fn mistakes_have_the_words_of_kube_apiserver() {
        wrong(json!({"size": 3, "share": 0.5, "step": 8, "color": "red", "name": "abc"}), &[]);
        wrong(json!({"when": "2026-01-01T00:00:00Z", "any": 1, "maybe": null, "list": ["x"]}), &[]);
        wrong(
            json!({"size": "x"}),
            &[
                r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
            ],
        );
        wrong(
            json!({"size": true}),
            &[r#"spec.size: Invalid value: "": spec.size in body must be of type int32: """#],
        );
        wrong(
            json!({"size": 0}),
            &[
                "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
            ],
        );
        wrong(
            json!({"size": 10}),
            &["spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"],
        );
        wrong(
            json!({"share": 1.5}),
            &["spec.share: Invalid value: 1.5: spec.share in body should be less than 1.5"],
        );
        wrong(
            json!({"step": 6}),
            &["spec.step: Invalid value: 6: spec.step in body should be a multiple of 4"],
        );
        wrong(
            json!({"color": "pink"}),
            &[r#"spec.color: Unsupported value: "pink": supported values: "red", "blue""#],
        );
        wrong(
            json!({"name": "A"}),
            &[r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#],
        );
        wrong(json!({"name": "abcd"}), &["spec.name: Too long: may not be more than 3 bytes"]);
        wrong(
            json!({"name": ""}),
            &[r#"spec.name: Invalid value: "": spec.name in body should be at least 1 chars long"#],
        );
        wrong(
            json!({"when": "now"}),
            &[
                r#"spec.when: Invalid value: "now": spec.when in body must be of type date-time: "now""#,
            ],
        );
    }

    #[test]
    fn mistakes_in_what_is_more_than_text_have_them_too() {
        wrong(
            json!({"any": 1.5}),
            &[
                r#"spec.any: Invalid value: "number": spec.any in body must be of type integer,string: "number""#,
            ],
        );
        wrong(
            json!({"name": null}),
            &[
                r#"spec.name: Invalid value: "null": spec.name in body must be of type string: "null""#,
            ],
        );
        wrong(
            json!({"list": ["a", 1, "c"]}),
            &[
                r#"spec.list[1]: Invalid value: "integer": spec.list[1] in body must be of type string: "integer""#,
                "spec.list: Too many: 3: must have at most 2 items",
            ],
        );
        wrong(
            json!({"list": []}),
            &["spec.list: Invalid value: 0: spec.list in body should have at least 1 items"],
        );
        wrong(
            json!({"map": {"x": 1, "y": true}}),
            &[
                "spec.map: Too many: 2: must have at most 1 items",
                r#"spec.map.x: Invalid value: "integer": spec.map.x in body must be of type boolean: "integer""#,
            ],
        );
        wrong(
            json!({"closed": {"x": 1}}),
            &[r#"spec.closed: Invalid value: "x": spec.closed.x in body is a forbidden property"#],
        );
    }

    #[test]
    fn a_check_is_bounded() {
        let of = |items: Value| Schema::read(&json!({"type": "array", "items": items}));
        let names = |n: usize| (0..n).map(|n| format!("v{n}")).collect::<Vec<String>>();
        let begun = std::time::Instant::now();
        // Each value among thousands, found and missed.
        let one_of = of(json!({"type": "string", "enum": names(20_000)}));
        assert_eq!(check(&one_of, &json!(vec!["v19999"; 20_000]), ""), []);
        let missed = check(&one_of, &json!(vec!["x"; 2_000]), "");
        assert!((200..1_500).contains(&missed.len()), "{}", missed.len());
        // Each element against thousands of alternatives, and of names that must be there.
        let never: Vec<Value> =
            names(5_000).iter().map(|name| json!({"required": [name]})).collect();
        let any_of = of(json!({"type": "object", "anyOf": never}));
        let required = of(json!({"type": "object", "required": names(20_000)}));
        for schema in [any_of, required] {
            let work = Work::of(20_000);
            check_within(&schema, &json!(vec![json!({}); 20_000]), "", &work);
            assert!(over("", &work).unwrap().message.contains("takes more work to check it"));
        }
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_must_be_there_is_missed_by_its_place() {
        let all = check(&schema(), &json!({}), "");
        assert_eq!((&*all[0].field, &*all[0].message), ("spec", "Required value"));
        let all = check(&schema(), &json!({"spec": {}}), "");
        let fields: Vec<&str> = all.iter().map(|error| &*error.field).collect();
        assert_eq!(fields, ["spec", "spec.a", "spec.b"]);
        let all = check(&schema(), &json!({"spec": 1}), "status");
        assert_eq!(all[0].field, "status.spec");
    }

    #[test]
    fn schemas_hold_together() {
        let one = r#"<nil>: Invalid value: "": "spec.logic" must validate one and only one schema (oneOf). "#;
        wrong(json!({"logic": {"x": 1}}), &[]);
        wrong(
            json!({"logic": {}}),
            &[&format!("{one}Found none valid"), "spec.logic.x: Required value"],
        );
        wrong(json!({"logic": {"x": 1, "y": 1}}), &[&format!("{one}Found 2 valid alternatives")]);
        wrong(json!({"some": "b"}), &[]);
        wrong(
            json!({"some": "c"}),
            &[
                r#"<nil>: Invalid value: "": "spec.some" must validate at least one schema (anyOf)"#,
                r#"spec.some: Invalid value: "c": spec.some in body should match 'a'"#,
            ],
        );
        wrong(
            json!({"both": "a"}),
            &[
                r#"spec.both: Invalid value: "a": spec.both in body should match 'b'"#,
                r#"<nil>: Invalid value: "": "spec.both" must validate all the schemas (allOf)"#,
            ],
        );
        wrong(
            json!({"other": "a"}),
            &[r#"<nil>: Invalid value: "": "spec.other" must not validate the schema (not)"#],
        );
    }

    #[test]
    fn what_was_wrong_before_and_stays_is_let_be() {
        let schema = schema();
        let old = json!({"spec": {"a": "", "b": "", "name": "ABCDE", "list": [1], "size": 0}});
        let changed = |new: &Value| check_change(&schema, new, Before::of(&old), "").len();
        let mut new = old.clone();
        new["spec"]["maybe"] = json!("x");
        assert_eq!(changed(&new), 0);
        new["spec"]["name"] = json!("ABCD");
        assert_eq!(changed(&new), 1);
        new["spec"]["size"] = json!(-1);
        assert_eq!(changed(&new), 2);
        new["spec"]["list"] = json!([1, "x"]);
        assert_eq!(changed(&new), 3, "elements of such a list are not told apart");
    }
}
