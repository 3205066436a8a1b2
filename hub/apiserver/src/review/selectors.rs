//! Which part of a collection a question about a right is about: its `fieldSelector` and `labelSelector`, each as a query has
//! it (`rawSelector`) or as requirements.
//!
//! Guarantees:
//! - what cannot be meant is refused in kube-apiserver's words (`selectors_that_cannot_be_meant_are_refused`);
//! - what is not understood leaves more than is said, so that nobody has a right by it, and that is told
//!   (`a_part_of_a_collection_is_asked_about_by_its_selectors`).

use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::name;
use freewheel_hub_schema::selector::{FieldSelector, LabelSelector};
use serde_json::{Value, json};

use crate::decode;

const AT: &str = "spec.resourceAttributes";
const FIELDS: &str = "fieldSelector";
const LABELS: &str = "labelSelector";

/// What is asked about, as queries say it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selectors {
    pub(super) fields: String,
    pub(super) labels: String,
    /// What is not understood of them.
    pub(super) ignored: Vec<String>,
}

impl Selectors {
    /// Those of `resourceAttributes`.
    pub(super) fn read(attributes: &Value) -> Self {
        let mut read = Self::default();
        let is_fields = |text: &str| FieldSelector::read(text).is_ok();
        let is_labels = |text: &str| LabelSelector::parse(text).is_ok();
        read.fields = read.one((FIELDS, &attributes[FIELDS]), field_term, is_fields);
        read.labels = read.one((LABELS, &attributes[LABELS]), label_term, is_labels);
        read
    }

    fn one(
        &mut self,
        (key, selector): (&str, &Value),
        term: impl Fn(&Value) -> Option<String>,
        is_one: impl Fn(&str) -> bool,
    ) -> String {
        let requirements = list(selector, "requirements");
        let terms: Vec<String> = requirements.iter().filter_map(term).collect();
        let said = if requirements.is_empty() {
            text(selector, "rawSelector").to_owned()
        } else {
            terms.join(",")
        };
        let is_read = is_one(&said);
        if is_read && terms.len() == requirements.len() {
            return said;
        }
        let part = if is_read && !said.is_empty() { " partially" } else { "" };
        self.ignored.push(format!("{AT}.{key}{part} ignored due to parse error"));
        if is_read { said } else { String::new() }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A requirement of a field as a query says it, where one can.
fn field_term(requirement: &Value) -> Option<String> {
    let [value] = list(requirement, "values") else { return None };
    let (key, value) = (text(requirement, "key"), value.as_str()?);
    let is = match text(requirement, "operator") {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let escaped = value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
    let term = format!("{key}{}{escaped}", if is { "=" } else { "!=" });
    // What would say something else than it is meant to is left out.
    let read = FieldSelector::read(&term).ok()?;
    let all: Vec<_> = read.terms().collect();
    (all == [(key, is, value)]).then_some(term)
}

/// The same of a label.
fn label_term(requirement: &Value) -> Option<String> {
    let key = text(requirement, "key");
    let values = list(requirement, "values").iter().filter_map(Value::as_str);
    let values: Vec<&str> = values.collect();
    let are_values =
        !values.is_empty() && values.iter().all(|one| name::label_value(one).is_empty());
    let list = values.join(",");
    let term = match text(requirement, "operator") {
        "In" if are_values => format!("{key} in ({list})"),
        "NotIn" if are_values => format!("{key} notin ({list})"),
        "Exists" => key.to_owned(),
        "DoesNotExist" => format!("!{key}"),
        _ => return None,
    };
    let read = LabelSelector::parse(&term).ok()?;
    matches!(read.requirements(), [read] if read.key == key).then_some(term)
}

/// Refuses what has another shape.
pub(super) fn check_shape(review: &Value) -> Result<(), ApiError> {
    for key in [FIELDS, LABELS] {
        let at = format!("/spec/resourceAttributes/{key}");
        decode::check_shape(review, &[&format!("{at}/rawSelector")], &[])?;
        let Some(requirements) = review.pointer(&format!("{at}/requirements")) else { continue };
        if !requirements.is_array() && !requirements.is_null() {
            return Err(ApiError::bad_request(format!(
                "json: cannot unmarshal into field \"{AT}.{key}.requirements\": a list is wanted"
            )));
        }
        for one in requirements.as_array().into_iter().flatten() {
            decode::check_shape(one, &["/key", "/operator"], &["/values"])?;
        }
    }
    Ok(())
}

/// Every mistake of those of `resourceAttributes`.
pub(super) fn check(attributes: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in [FIELDS, LABELS] {
        let selector = &attributes[key];
        if selector.is_null() {
            continue;
        }
        let (at, raw) = (format!("{AT}.{key}"), text(selector, "rawSelector"));
        let requirements = list(selector, "requirements");
        if !raw.is_empty() && !requirements.is_empty() {
            let why = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(format!("{at}.rawSelector"), &json!(raw), why));
        }
        if raw.is_empty() && requirements.is_empty() {
            let why = format!("when {at} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(format!("{at}.requirements"), &why));
        }
        for (place, one) in requirements.iter().enumerate() {
            check_requirement(one, &format!("{at}.requirements[{place}]"), key, &mut errors);
        }
    }
    errors
}

fn check_requirement(requirement: &Value, at: &str, of: &str, errors: &mut Vec<FieldError>) {
    let (key, values) = (text(requirement, "key"), list(requirement, "values"));
    if of == FIELDS && key.is_empty() {
        errors.push(FieldError::required(format!("{at}.key"), "must be specified"));
    }
    match (text(requirement, "operator"), values) {
        ("In" | "NotIn", []) => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(format!("{at}.values"), why));
        }
        ("Exists" | "DoesNotExist", [_, ..]) => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(format!("{at}.values"), why));
        }
        // Whoever asks may know operators that are unknown here.
        (_, _) => {}
    }
    if of == LABELS {
        let wrong = name::qualified_name(key);
        errors.extend(
            wrong.iter().map(|why| FieldError::invalid(format!("{at}.key"), &json!(key), why)),
        );
        for (place, value) in values.iter().enumerate() {
            let wrong = name::label_value(value.as_str().unwrap_or_default());
            let at = format!("{at}.values[{place}]");
            errors.extend(wrong.iter().map(|why| FieldError::invalid(at.clone(), value, why)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"key": key, "operator": operator, "values": values})
    }

    fn told(attributes: &Value) -> (String, String, Vec<String>) {
        let Selectors { fields, labels, ignored } = Selectors::read(attributes);
        let begin = format!("{AT}.");
        let ignored = ignored.iter().map(|text| text.replace(&begin, "")).collect();
        (fields, labels, ignored)
    }

    #[test]
    fn a_part_of_a_collection_is_asked_about_by_its_selectors() {
        let labels = [
            one("a", "In", &["x", "y"]),
            one("b", "NotIn", &["z"]),
            one("c", "Exists", &[]),
            one("d", "DoesNotExist", &[]),
        ];
        let fields = [one("a.b", "In", &["x,=\\"]), one("c", "NotIn", &[""])];
        let all = json!({"fieldSelector": {"requirements": fields}, "labelSelector": {"requirements": labels}});
        let (as_fields, as_labels) = (r"a.b=x\,\=\\,c!=", "a in (x,y),b notin (z),c,!d");
        assert_eq!(told(&all), (as_fields.to_owned(), as_labels.to_owned(), Vec::new()));
        let raw =
            json!({"fieldSelector": {"rawSelector": "a=b"}, "labelSelector": {"rawSelector": "c"}});
        assert_eq!(told(&raw), ("a=b".to_owned(), "c".to_owned(), Vec::new()));
        assert_eq!(Selectors::read(&Value::Null), Selectors::default());
    }

    #[test]
    fn what_is_not_understood_of_a_selector_is_told() {
        let partly = |key: &str| format!("{key} partially ignored due to parse error");
        let wholly = |key: &str| format!("{key} ignored due to parse error");
        for (key, requirements, left) in [
            (FIELDS, vec![one("a", "In", &["x"]), one("b", "Near", &["x"])], "a=x"),
            (FIELDS, vec![one("a", "In", &["x", "y"])], ""),
            (FIELDS, vec![one("a", "Exists", &[])], ""),
            (FIELDS, vec![one("a=b", "In", &["x"]), one("c", "NotIn", &["y"])], "c!=y"),
            (FIELDS, vec![one("a", "In", &["x"]); 1_025], ""),
            (LABELS, vec![one("a", "Exists", &[]), one("g", "Near", &["x"])], "a"),
            (LABELS, vec![one("h", "NotIn", &["x,y"])], ""),
            (LABELS, vec![one("e,f", "Exists", &[])], ""),
        ] {
            let (fields, labels, ignored) = told(&json!({key: {"requirements": requirements}}));
            let why = if left.is_empty() { wholly(key) } else { partly(key) };
            assert_eq!((fields + &labels, ignored), (left.to_owned(), vec![why]));
        }
        for (key, raw) in [(FIELDS, "a"), (LABELS, "a b c")] {
            let read = told(&json!({key: {"rawSelector": raw}}));
            assert_eq!(read, (String::new(), String::new(), vec![wholly(key)]));
        }
    }

    #[test]
    fn selectors_that_cannot_be_meant_are_refused() {
        let both = json!({"rawSelector": "a=b", "requirements": [one("a", "In", &["b"])]});
        let none = "when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required";
        for (attributes, place, why) in [
            (
                json!({"fieldSelector": both}),
                "fieldSelector.rawSelector",
                "Invalid value: \"a=b\": may not specified at the same time as requirements",
            ),
            (
                json!({"labelSelector": {}}),
                "labelSelector.requirements",
                &*format!("Required value: {none}"),
            ),
            (
                json!({"fieldSelector": {"requirements": [one("", "In", &["x"])]}}),
                "fieldSelector.requirements[0].key",
                "Required value: must be specified",
            ),
            (
                json!({"fieldSelector": {"requirements": [one("a", "NotIn", &[])]}}),
                "fieldSelector.requirements[0].values",
                "Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ),
            (
                json!({"labelSelector": {"requirements": [one("a", "Near", &[]), one("a", "Exists", &["x"])]}}),
                "labelSelector.requirements[1].values",
                "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
        ] {
            let told = check(&attributes);
            let told: Vec<_> =
                told.iter().map(|one| (one.field.as_str(), one.message.as_str())).collect();
            assert_eq!(told, [(&*format!("{AT}.{place}"), why)], "{attributes}");
        }
        for (wrong, place) in [("a b", "key"), ("c", "values[0]")] {
            let attributes = json!({"labelSelector": {"requirements": [one(wrong, "In", &["x"])]}});
            let values = json!({"labelSelector": {"requirements": [one(wrong, "In", &["x y"])]}});
            let told = check(if place == "key" { &attributes } else { &values });
            assert_eq!(told[0].field, format!("{AT}.labelSelector.requirements[0].{place}"));
        }
        for odd in [
            json!({"fieldSelector": "a=b"}),
            json!({"fieldSelector": {"rawSelector": 1}}),
            json!({"labelSelector": {"requirements": {"0": {}}}}),
            json!({"labelSelector": {"requirements": [1]}}),
            json!({"labelSelector": {"requirements": [{"key": "a", "values": [1]}]}}),
        ] {
            let review = json!({"spec": {"resourceAttributes": odd}});
            assert_eq!(check_shape(&review).unwrap_err().code, 400, "{review}");
        }
    }
}
