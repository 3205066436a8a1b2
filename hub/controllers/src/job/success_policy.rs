//! Whether a Job's successPolicy is satisfied.

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::intervals::Intervals;

/// The first rule that these indexes satisfy, as the condition tells it.
#[must_use]
pub fn met(
    policy: Option<&SuccessPolicy>,
    completions: u32,
    succeeded: &Intervals,
) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let rules = policy?.rules.iter();
    let satisfied = rules.map(|rule| {
        let count = rule.succeeded_count.map(|count| u32::try_from(count).unwrap_or_default());
        let enough = |found: u32| count.is_some_and(|count| count <= found);
        let Some(text) = &rule.succeeded_indexes else { return enough(succeeded.total()) };
        let wanted = Intervals::read(text, completions);
        let found = wanted.shared(succeeded);
        !wanted.is_empty() && (found == wanted.total() || enough(found))
    });
    let at = satisfied.enumerate().find(|(_, satisfied)| *satisfied)?.0;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(rules: &Value, succeeded: &str, expected: Option<usize>) {
        let policy = serde_json::from_value(json!({"rules": rules})).unwrap();
        let found = met(Some(&policy), 10, &Intervals::read(succeeded, 10));
        assert_eq!(found, expected.map(|at| format!("Matched rules at index {at}")), "{rules}");
    }

    #[test]
    fn the_first_rule_that_is_satisfied_counts() {
        let leaders = json!([{"succeededIndexes": "0,2-3"}, {"succeededIndexes": "5-9", "succeededCount": 2},
            {"succeededCount": 5}]);
        check(&leaders, "", None);
        check(&leaders, "0,2", None);
        check(&leaders, "0,2-4", Some(0));
        check(&leaders, "5,9", Some(1));
        check(&leaders, "0,1,4,5,6", Some(1));
        check(&leaders, "0-2,4,5", Some(2));
        check(&json!([{"succeededIndexes": "20"}]), "0-9", None);
        assert_eq!(met(None, 10, &Intervals::read("0-9", 10)), None);
    }
}
