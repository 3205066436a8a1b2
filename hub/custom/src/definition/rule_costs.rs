//! What the rules of a definition cost at most, by the bounds that its schema sets (`maxItems`, `maxLength`, `maxProperties`): one that
//! may cost too much is refused before there is any object.
//!
//! Guarantees:
//! - what kube-apiserver refuses is refused with its words, and nothing else (`rules_that_may_cost_too_much_are_refused`).

use freewheel_hub_cel::cost::{Declared, Estimator};
use freewheel_hub_cel::typing::Parsed;
use freewheel_hub_cel::weight;
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::path::Path;
use serde_json::Value;

use super::accessors::{flag, list, text};
use super::mistakes::Mistakes;
use crate::cel::declared;
use crate::schema::Schema;

/// Units of work that it takes to read a rule, beside those of its text.
pub(super) const UNITS_PER_RULE: u64 = 200;

/// Units of one expression in one object, as at kube-apiserver.
const EXPRESSION_MAX: u64 = 10_000_000;
/// Units of all of a schema.
const SCHEMA_MAX: u64 = 100_000_000;
/// So many of those that cost most are told, of those that cost anything to speak of.
const TOLD_MAX: usize = 4;
const TOLD_UNITS_MIN: u64 = SCHEMA_MAX / 100;

/// What the expressions of one schema cost.
#[derive(Debug, Default)]
struct Costs {
    total: u64,
    /// The places of those that cost most, the first most of all.
    most: Vec<(u64, String)>,
}

/// Mistakes of a schema that has no others.
pub(super) fn check(schema: &Value, at: &Path<'_>, errors: &mut Mistakes<'_>) {
    let mut costs = Costs::default();
    walk(schema, at, WalkState { times: Some(1), whole: true }, &mut costs, errors);
    if SCHEMA_MAX < costs.total {
        for (_, place) in costs.most {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(place, why));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(at.text(), &exceeds(name, costs.total, SCHEMA_MAX)));
    }
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct WalkState {
    /// How often there are values of this at most in an object, where that is bounded.
    times: Option<u64>,
    /// It is an object of the API.
    whole: bool,
}

fn walk(
    schema: &Value,
    at: &Path<'_>,
    place: WalkState,
    costs: &mut Costs,
    errors: &mut Mistakes<'_>,
) {
    if !errors.goes_on() {
        return;
    }
    rules(schema, at, place, costs, errors);
    let inside = times_inside(schema);
    let times = place.times.zip(inside).map(|(times, inside)| times.saturating_mul(inside));
    let mut look = |inner: &Value, at: &Path<'_>| {
        let whole = flag(inner, "/x-kubernetes-embedded-resource");
        walk(inner, at, WalkState { times, whole }, costs, errors);
    };
    if let Some(each) = schema.get("additionalProperties") {
        look(each, &at.field("additionalProperties"));
    }
    for (key, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        look(field, &at.entry("properties", key));
    }
    if let Some(items) = schema.get("items") {
        look(items, &at.field("items"));
    }
}

/// How often what is inside of a value is there for each of these, where that is bounded.
fn times_inside(schema: &Value) -> Option<u64> {
    let most = |key: &str| {
        let bound = schema.get(key).and_then(Value::as_i64);
        bound.map(|most| u64::try_from(most).unwrap_or_default())
    };
    let is = text(schema, "/type");
    if is == "array" {
        most("maxItems")
    } else if is == "object" && schema.get("additionalProperties").is_some() {
        most("maxProperties")
    } else {
        // An object has each of its fields once, and nothing else has anything inside.
        Some(1)
    }
}

fn rules(
    schema: &Value,
    at: &Path<'_>,
    place: WalkState,
    costs: &mut Costs,
    errors: &mut Mistakes<'_>,
) {
    let all = list(schema, "/x-kubernetes-validations");
    // The tree is made anew for each place that has rules.
    if all.is_empty() || !errors.work().step(weight(schema) / 4) {
        return;
    }
    let Some(declared) = declared(&Schema::read(schema), place.whole) else { return };
    let estimator = Estimator::of(&declared);
    for (index, rule) in all.iter().enumerate() {
        let at = &at.item("x-kubernetes-validations", index);
        for key in ["rule", "messageExpression"] {
            let expression = rule.get(key).and_then(Value::as_str).unwrap_or_default();
            let bytes = u64::try_from(expression.len()).unwrap_or(u64::MAX);
            if expression.is_empty() {
                continue;
            }
            if !errors.work().units(UNITS_PER_RULE + 4 * bytes) {
                return;
            }
            let Ok(parsed) = Parsed::read(expression) else { continue };
            let mut cost = estimator.at_most(&parsed, flag(rule, "/optionalOldSelf"));
            if key == "rule" {
                cost = cost.saturating_mul(times(&declared, place));
            }
            let place = at.field(key).text();
            if EXPRESSION_MAX < cost {
                let why = exceeds(&format!("estimated {key} cost"), cost, EXPRESSION_MAX);
                errors.push(FieldError::forbidden(place.clone(), &why));
            }
            costs.add(place, cost);
        }
    }
}

/// How often a rule is asked at most in one object.
fn times(declared: &Declared, place: WalkState) -> u64 {
    place.times.unwrap_or_else(|| declared.in_a_request())
}

impl Costs {
    fn add(&mut self, place: String, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if TOLD_UNITS_MIN <= cost {
            self.most.push((cost, place));
            self.most.sort_by_key(|one| std::cmp::Reverse(one.0));
            self.most.truncate(TOLD_MAX);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a factor is told roughly")]
fn exceeds(name: &str, cost: u64, most: u64) -> String {
    let factor = cost as f64 / most as f64;
    let factor = if 100.0 < factor {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        // Else some would be told to be exceeded by a factor of 1.0.
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
