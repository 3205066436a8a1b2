//! What all manifests together say of their work.

use serde_json::Value;

/// A condition of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Its type.
    pub kind: String,
    /// `True`, `False`, `Unknown`
    pub status: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

const MADE_BY_RULES: &str = "ConditionRule";

/// Whether a rule has made a condition.
#[must_use]
pub fn is_made_by_rule(condition: &Value) -> bool {
    condition["reason"].as_str().is_some_and(|reason| reason.starts_with(MADE_BY_RULES))
}

/// Whether all manifests were applied; `None`: nobody has tried.
#[must_use]
pub fn applied(manifests: &[Value]) -> Option<Aggregate> {
    let (yes, no, unknown) = count(manifests, "Applied");
    if yes + no + unknown == 0 {
        return None;
    }
    let kind = "Applied".to_owned();
    Some(if no == 0 {
        let (reason, text) = ("AppliedManifestWorkComplete", "Apply manifest work complete");
        Aggregate { kind, status: "True", reason, message: text.to_owned() }
    } else {
        let (reason, text) = ("AppliedManifestWorkFailed", "Failed to apply manifest work");
        Aggregate { kind, status: "False", reason, message: text.to_owned() }
    })
}

/// Whether all manifests are there.
#[must_use]
pub fn available(manifests: &[Value]) -> Aggregate {
    let (yes, no, unknown) = count(manifests, "Available");
    let total = manifests.len();
    let (status, reason, message) = if 0 < no {
        ("False", "ResourcesNotAvailable", format!("{no} of {total} resources are not available"))
    } else if 0 < unknown {
        let text = format!("{unknown} of {total} resources have unknown status");
        ("Unknown", "ResourcesStatusUnknown", text)
    } else if yes == 0 {
        ("Unknown", "ResourcesStatusUnknown", "cannot get any available resource".to_owned())
    } else {
        ("True", "ResourcesAvailable", "All resources are available".to_owned())
    };
    Aggregate { kind: "Available".to_owned(), status, reason, message }
}

/// What rules have made of manifests, by type. `Progressing` is so when one of them is; all others when all are.
#[must_use]
pub fn by_rules(manifests: &[Value]) -> Vec<Aggregate> {
    // Whoever made it: whether all are there is said of all together.
    let made = manifests.iter().flat_map(conditions);
    let made = made.filter(|it| is_made_by_rule(it) && it["type"] != "Available");
    let mut kinds: Vec<String> =
        made.filter_map(|it| it["type"].as_str().map(str::to_owned)).collect();
    kinds.sort();
    kinds.dedup();
    let one = |kind: String| {
        let own: Vec<&Value> = manifests
            .iter()
            .flat_map(conditions)
            .filter(|it| it["type"] == *kind && is_made_by_rule(it))
            .collect();
        let some = |status: &str| own.iter().any(|it| it["status"] == status);
        let status = match &*kind {
            "Progressing" if some("True") => "True",
            "Progressing" if some("Unknown") => "Unknown",
            "Progressing" => "False",
            _ if some("False") => "False",
            _ if some("Unknown") || !some("True") => "Unknown",
            _ => "True",
        };
        let message = match own.as_slice() {
            [one] if one["message"].as_str().is_some_and(|text| !text.is_empty()) => {
                one["message"].as_str().unwrap_or_default().to_owned()
            }
            all => format!("Aggregated from {} manifest conditions", all.len()),
        };
        Aggregate { kind, status, reason: "ConditionRulesAggregated", message }
    };
    kinds.into_iter().map(one).collect()
}

fn conditions(manifest: &Value) -> impl Iterator<Item = &Value> {
    manifest["conditions"].as_array().into_iter().flatten()
}

/// How many manifests say yes, no, and that they do not know.
fn count(manifests: &[Value], kind: &str) -> (usize, usize, usize) {
    let of = |status: &str| {
        let says = |it: &&Value| it["type"] == kind && it["status"] == status;
        manifests.iter().flat_map(conditions).filter(says).count()
    };
    (of("True"), of("False"), of("Unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(conditions: &[(&str, &str, &str)]) -> Value {
        let one = |(kind, status, reason): &(&str, &str, &str)| json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} is {status}")});
        json!({"conditions": conditions.iter().map(one).collect::<Vec<_>>()})
    }

    #[test]
    fn one_that_is_not_makes_all_not() {
        let good = manifest(&[("Applied", "True", "x"), ("Available", "True", "x")]);
        let bad = manifest(&[("Applied", "False", "x"), ("Available", "False", "x")]);
        let both = [good.clone(), bad];
        assert_eq!(applied(&[]), None);
        assert_eq!(applied(&both).unwrap().reason, "AppliedManifestWorkFailed");
        assert_eq!(available(&both).message, "1 of 2 resources are not available");
        let all = [good.clone(), good];
        assert_eq!(applied(&all).unwrap().status, "True");
        assert_eq!(available(&all).reason, "ResourcesAvailable");
        assert_eq!(available(&[]).status, "Unknown");
    }

    #[test]
    fn what_rules_made_is_put_together_by_type() {
        let rule = "ConditionRuleEvaluated";
        let one = manifest(&[
            ("Complete", "True", rule),
            ("Progressing", "True", rule),
            ("Available", "True", rule),
            ("Own", "True", "x"),
        ]);
        let other = manifest(&[("Complete", "False", rule), ("Progressing", "False", rule)]);
        let told = |manifests: &[Value]| -> Vec<(String, &str, String)> {
            by_rules(manifests).into_iter().map(|it| (it.kind, it.status, it.message)).collect()
        };
        assert_eq!(
            told(&[one.clone(), other]),
            [
                (
                    "Complete".to_owned(),
                    "False",
                    "Aggregated from 2 manifest conditions".to_owned()
                ),
                (
                    "Progressing".to_owned(),
                    "True",
                    "Aggregated from 2 manifest conditions".to_owned()
                ),
            ]
        );
        assert_eq!(told(&[one])[0], ("Complete".to_owned(), "True", "Complete is True".to_owned()));
    }
}
