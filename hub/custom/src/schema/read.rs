//! The tree from JSON.

use serde_json::{Map, Value};

use super::{Additional, Bounds, List, Logic, Pattern, Rules, Schema, SomeRules, Type, Values};
use crate::cel::Rule;
use crate::format;

impl Schema {
    /// From the JSON of a `JSONSchemaProps`.
    #[must_use]
    pub fn read(schema: &Value) -> Self {
        let Value::Object(map) = schema else { return Self::default() };
        let is = Type::read(text(map, "type"));
        let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
        let rules_said = map.get("x-kubernetes-validations").and_then(Value::as_array);
        let mut read = Self {
            is,
            nullable: flag(map, "nullable"),
            open: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(map, "x-kubernetes-embedded-resource"),
            int_or_string: flag(map, "x-kubernetes-int-or-string"),
            default: map.get("default").cloned(),
            properties: properties
                .map(|(name, of)| (name.as_str().into(), Self::read(of)))
                .collect(),
            additional: match map.get("additionalProperties") {
                Some(Value::Bool(true)) => Additional::Any,
                Some(Value::Bool(false)) => Additional::None,
                Some(each @ Value::Object(_)) => Additional::Of(Box::new(Self::read(each))),
                _ => Additional::Unsaid,
            },
            items: map.get("items").map(|items| Box::new(Self::read(items))),
            list: match text(map, "x-kubernetes-list-type") {
                "set" => List::Set,
                "map" => List::Map(texts(map, "x-kubernetes-list-map-keys")),
                _ => List::Atomic,
            },
            rules: rules(map, is),
            logic: logic(map),
            validations: rules_said.into_iter().flatten().map(Rule::read).collect(),
            has_rules: false,
        };
        read.has_rules = !read.validations.is_empty()
            || read.properties.values().chain(read.additional.each()).any(Self::has_rules)
            || read.items.as_deref().is_some_and(Self::has_rules)
            || read.logic.iter().flat_map(|logic| &logic.all).any(Self::has_rules);
        read
    }
}

/// Words that say which values are right.
const RULE_WORDS: [&str; 14] = [
    "enum",
    "required",
    "pattern",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

fn rules(map: &Map<String, Value>, is: Option<Type>) -> SomeRules {
    let bound = |key: &str, exclusive: &str| {
        map.get(key).and_then(Value::as_f64).map(|bound| (bound, flag(map, exclusive)))
    };
    let bounds = |least: &str, most: &str| Bounds {
        least: map.get(least).and_then(Value::as_i64),
        most: map.get(most).and_then(Value::as_i64),
    };
    let format = Some(text(map, "format")).filter(|format| format::is_checked(format, is));
    let says_something = format.is_some() || RULE_WORDS.iter().any(|word| map.contains_key(*word));
    let rules = Rules {
        format: format.map(Box::from),
        values: Values::new(map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default()),
        required: texts(map, "required"),
        pattern: Some(text(map, "pattern")).filter(|it| !it.is_empty()).map(Pattern::new),
        maximum: bound("maximum", "exclusiveMaximum"),
        minimum: bound("minimum", "exclusiveMinimum"),
        multiple_of: map.get("multipleOf").and_then(Value::as_f64),
        length: bounds("minLength", "maxLength"),
        items: bounds("minItems", "maxItems"),
        properties: bounds("minProperties", "maxProperties"),
    };
    SomeRules::new(rules, says_something)
}

fn logic(map: &Map<String, Value>) -> Option<Box<Logic>> {
    let all = |key: &str| {
        let list = map.get(key).and_then(Value::as_array).into_iter().flatten();
        list.map(Schema::read).collect::<Vec<_>>()
    };
    let logic = Logic {
        all: all("allOf"),
        any: all("anyOf"),
        one: all("oneOf"),
        not: map.get("not").map(Schema::read),
    };
    let says_nothing =
        logic.all.is_empty() && logic.any.is_empty() && logic.one.is_empty() && logic.not.is_none();
    (!says_nothing).then(|| Box::new(logic))
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts(map: &Map<String, Value>, key: &str) -> Box<[Box<str>]> {
    let list = map.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(Box::from).collect()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or_default()
}
