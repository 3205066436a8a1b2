//! LimitRange: what pods, containers and claims of a namespace may ask for, and what they get unasked.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use freewheel_hub_schema::quantity::Quantity;
use serde_json::{Map, Value};

use super::accessors::{CREATED_AT, NAME, child, created_at, items, name};
use super::field_value::FieldValue;
use super::resource_name;

const COLUMNS: &[Column] = &[NAME, CREATED_AT];

/// LimitRange of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "LimitRange"), "limitranges", Rules)
        .short(["limits"])
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::CreatesOnUpdate])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        items(spec, "limits")
            .filter(|limit| limit.get("type") == Some(&"Container".into()))
            .for_each(default);
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut types = BTreeSet::new();
        let limits = FieldValue::of(object, "spec").child("limits");
        let mut errors = Vec::new();
        for limit in limits.items() {
            let kind = limit.child("type");
            errors.extend(check_type(&kind));
            if !types.insert(kind.text()) {
                errors.push(kind.duplicate());
            }
            errors.extend(check_limit(&limit, kind.text()));
        }
        errors
    }

    fn row(&self, object: &Value, _: i64) -> Vec<Value> {
        vec![name(object), created_at(object)]
    }
}

/// What is not said follows from what is: the limit from the most, the request from the limit, else from the least.
fn default(limit: &mut Map<String, Value>) {
    let amounts = |limit: &Map<String, Value>, key: &str| {
        limit.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let mut limits = amounts(limit, "default");
    for (resource, amount) in amounts(limit, "max") {
        limits.entry(resource).or_insert(amount);
    }
    let mut requests = amounts(limit, "defaultRequest");
    for (resource, amount) in
        limits.iter().map(|(r, a)| (r.clone(), a.clone())).chain(amounts(limit, "min"))
    {
        requests.entry(resource).or_insert(amount);
    }
    for (key, amounts) in [("default", limits), ("defaultRequest", requests)] {
        if !amounts.is_empty() {
            limit.insert(key.to_owned(), amounts.into());
        }
    }
}

fn check_type(kind: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = kind.follows(names::qualified_name);
    let standard = matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim");
    if errors.is_empty() && !standard && !kind.text().contains('/') {
        errors.push(kind.invalid("must be a standard limit type or fully qualified"));
    }
    errors
}

fn check_limit(limit: &FieldValue<'_>, kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    let mut lists = vec!["max", "min", "maxLimitRequestRatio"];
    if kind == "Pod" {
        let given = ["default", "defaultRequest"].map(|list| limit.child(list));
        let text = "may not be specified when `type` is 'Pod'";
        errors
            .extend(given.iter().filter(|list| !list.is_empty()).map(|list| list.forbidden(text)));
    } else {
        lists.extend(["default", "defaultRequest"]);
    }
    for list in &lists {
        for (name, amount) in limit.child(list).entries() {
            errors.extend(match kind {
                "Pod" | "Container" => resource_name::check_of_container(name, &amount),
                _ => resource_name::check(name, &amount),
            });
            names.insert(name);
        }
    }
    let storage = |list: &str| limit.child(list).value.get("storage").is_some();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let text = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(limit.child("limits").required(text));
    }
    for name in names {
        errors.extend(check_order(limit, name, &lists));
    }
    errors
}

/// min ≤ default request ≤ default limit ≤ max.
fn check_order(limit: &FieldValue<'_>, name: &str, lists: &[&str]) -> Vec<FieldError> {
    let at = |list: &str| FieldValue {
        path: format!("{}[{name}]", limit.child(list).path),
        ..limit.child(list).child(name)
    };
    let amount = |list: &str| at(list).amount().filter(|_| lists.contains(&list));
    let (min, max) = (amount("min"), amount("max"));
    let (default, request) = (amount("default"), amount("defaultRequest"));
    let ratio = amount("maxLimitRequestRatio");
    let mut errors = Vec::new();
    let mut in_order =
        |low: (Option<Quantity>, &str), high: (Option<Quantity>, &str), told: &str, shown: &str| {
            if let (Some(less), Some(more)) = (low.0, high.0)
                && more < less
            {
                let text = format!("{} {less} is greater than {} {more}", low.1, high.1);
                errors.push(FieldError::invalid(at(told).path, at(shown).value, &text));
            }
        };
    in_order((min, "min value"), (max, "max value"), "min", "min");
    let (asked, asked_list) = ("default request value", "defaultRequest");
    in_order((min, "min value"), (request, asked), asked_list, asked_list);
    in_order((request, asked), (max, "max value"), asked_list, asked_list);
    in_order((request, asked), (default, "default limit value"), asked_list, asked_list);
    in_order((min, "min value"), (default, "default value"), "default", "min");
    in_order((default, "default value"), (max, "max value"), "default", "max");
    if let Some(ratio) = ratio {
        let place = at("maxLimitRequestRatio");
        if ratio.milli_value() < 1000 {
            errors.push(place.invalid(&format!("ratio {ratio} is less than 1")));
        }
        errors.extend(check_ratio(&place, ratio, min, max));
    }
    if let (Some(default), Some(request)) = (default, request)
        && default != request
        && !resource_name::may_be_overcommitted(name)
    {
        let text = format!(
            "default value {default} must equal to defaultRequest value {request} in {name}"
        );
        errors.push(at("defaultRequest").invalid(&text));
    }
    errors
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is told with six decimals")]
fn check_ratio(
    place: &FieldValue<'_>,
    ratio: Quantity,
    min: Option<Quantity>,
    max: Option<Quantity>,
) -> Option<FieldError> {
    let (least, most) = (min?.milli_value() as f64, max?.milli_value() as f64);
    let text = format!("ratio {ratio} is greater than max/min = {:.6}", most / least);
    (most / least < ratio.milli_value() as f64 / 1000.0).then(|| place.invalid(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_said_follows_from_what_is() {
        let mut range = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m", "memory": "1Mi"}},
            {"type": "Pod", "max": {"cpu": "2"}},
        ]}});
        Rules.default(&mut range);
        let container = json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m", "memory": "1Mi"},
            "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1", "memory": "1Mi"}});
        assert_eq!(range["spec"]["limits"][0], container);
        assert_eq!(range["spec"]["limits"][1], json!({"type": "Pod", "max": {"cpu": "2"}}));
        assert_eq!(Rules.validate(&range), []);
    }
}
