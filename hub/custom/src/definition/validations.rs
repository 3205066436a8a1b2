//! What rules of a schema (`x-kubernetes-validations`) may say, beside what they cost.
//!
//! Guarantees:
//! - what kube-apiserver refuses is refused with its words (`rules_that_cannot_be_right_are_refused`), and what it takes is
//!   taken (`rules_that_may_be_right_are_taken`).

use freewheel_hub_cel::weight;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::{Value, json};

use super::accessors::list;
use super::field_path;
use super::mistakes::Mistakes;
use super::rule_costs::UNITS_PER_RULE;
use crate::cel::Typed;
use crate::schema::Schema;

/// What an object may be told to be refused for.
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Mistakes of the rules at one place: whether that is an object of the API, and from where on what was before cannot be
/// found again.
pub(super) fn check(
    schema: &Value,
    at: &Path<'_>,
    (whole, uncorrelatable): (bool, Option<Path<'_>>),
    errors: &mut Mistakes<'_>,
) {
    let all = list(schema, "/x-kubernetes-validations");
    // The tree is made anew for each place that has rules, and so is what it says of values.
    if all.is_empty() || !errors.work().step(weight(schema) / 2) {
        return;
    }
    let node = Schema::read(schema);
    let typed = Typed::of(&node, whole);
    for (index, rule) in all.iter().enumerate() {
        let before = errors.len();
        let at = &at.item("x-kubernetes-validations", index);
        form(rule, &node, at, errors);
        if errors.len() != before || !errors.goes_on() {
            continue;
        }
        let bytes = own(rule, "rule").len() + own(rule, "messageExpression").len();
        let units = UNITS_PER_RULE + 4 * u64::try_from(bytes).unwrap_or(u64::MAX);
        if !errors.work().units(units) {
            return;
        }
        let looked = typed.look(rule);
        for (key, why) in looked.wrong {
            let shown = if key == "optionalOldSelf" { &rule[key] } else { rule };
            errors.push(FieldError::invalid(at.field(key), shown, &why));
        }
        if let Some(place) = uncorrelatable.filter(|_| looked.uses_old) {
            let why = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
                place.text()
            );
            errors.push(FieldError::invalid(at.field("rule"), &json!(own(rule, "rule")), &why));
        }
    }
}

fn own<'a>(rule: &'a Value, key: &str) -> &'a str {
    rule.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What is wrong with a rule, whatever its expressions say.
fn form(rule: &Value, node: &Schema, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let own = |key: &str| own(rule, key);
    let (message, lines) = (own("message"), |text: &str| text.contains(['\n', '\r']));
    let is_blank = |key: &str| !own(key).is_empty() && own(key).trim().is_empty();
    let wrong = |key: &str, why: &str| FieldError::invalid(at.field(key), &json!(own(key)), why);
    let missing = |key: &str, why: &str| FieldError::required(at.field(key), why);
    if own("rule").trim().is_empty() {
        errors.push(missing("rule", "rule is not specified"));
    } else if is_blank("message") {
        errors.push(wrong("message", "must be non-empty if specified"));
    } else if lines(message.trim()) {
        errors.push(wrong("message", "must not contain line breaks"));
    } else if lines(own("rule").trim()) && message.trim().is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(missing("message", why));
    }
    if is_blank("messageExpression") {
        let why = "messageExpression must be non-empty if specified";
        errors.push(missing("messageExpression", why));
    }
    if rule.get("reason").is_some() && !REASONS.contains(&own("reason")) {
        let field = at.field("reason");
        errors.push(FieldError::not_supported(field, &json!(own("reason")), &REASONS));
    }
    if is_blank("fieldPath") {
        errors.push(wrong("fieldPath", "must be non-empty if specified"));
    }
    if lines(own("fieldPath")) {
        errors.push(wrong("fieldPath", "must not contain line breaks"));
    }
    if !field_path::is_valid(own("fieldPath"), node) {
        errors.push(wrong("fieldPath", "must be a valid path"));
    }
}
