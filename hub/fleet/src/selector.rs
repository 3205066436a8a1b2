//! What clusters have to match: labels, claims and expressions in CEL, all of them.
//!
//! Guarantees:
//! - an expression that fails, or says anything but yes, is a no (`an_expression_has_to_say_yes`);
//! - all expressions of a Placement together make a bounded amount of work, and who is not looked at any more does not
//!   match (`work_is_bounded_over_the_whole_fleet`).

use std::sync::Arc;

use freewheel_hub_cel::{
    Evaluation, Expression, Known, Scope, Scores, Value as CelValue, Variables, managed_cluster,
};
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

use crate::Cluster;
use crate::placement::RequiredSelector;

/// Units that the expressions of one Placement may use for one cluster.
pub const UNITS_PER_CLUSTER: u64 = 1_000_000;
/// Units that they may use for the whole fleet in one look.
pub const UNITS_PER_LOOK: u64 = 200_000_000;

/// What an expression may speak of.
const NAMES: &[&str] = &["managedCluster"];
/// What an expression has in it that asks for scores.
const SCORES: &str = "scores";

/// Whether one of these expressions may ask what add-ons say of a cluster.
#[must_use]
pub fn asks_for_scores(expressions: &[String]) -> bool {
    expressions.iter().any(|expression| expression.contains(SCORES))
}

/// What clusters have to match.
#[derive(Debug)]
pub struct ClusterSelector {
    labels: LabelSelector,
    claims: LabelSelector,
    expressions: Vec<Expression>,
    asks_for_scores: bool,
}

/// Work that expressions may still make.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: UNITS_PER_LOOK }
    }
}

impl Budget {
    /// Whether nothing is evaluated any more.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.left == 0
    }
}

impl ClusterSelector {
    /// From what a Placement says.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(asked: &RequiredSelector) -> Result<Self, String> {
        let empty = json!({});
        let labels = asked.label_selector.as_ref().unwrap_or(&empty);
        let claims =
            asked.claim_selector.as_ref().and_then(|claims| claims.get("matchExpressions"));
        let claims = json!({"matchExpressions": claims.unwrap_or(&Value::Null)});
        let read = |expression: &String| {
            let known = Known { names: NAMES, of_fleet: true, ..Known::default() };
            Expression::read(expression, &known).map_err(|why| format!("compilation failed: {why}"))
        };
        Ok(Self {
            labels: LabelSelector::from_json(Some(labels), "labelSelector")
                .map_err(|e| errors_text(&e))?,
            claims: LabelSelector::from_json(Some(&claims), "claimSelector")
                .map_err(|e| errors_text(&e))?,
            expressions: asked
                .cel_selector
                .cel_expressions
                .iter()
                .map(read)
                .collect::<Result<_, _>>()?,
            asks_for_scores: asks_for_scores(&asked.cel_selector.cel_expressions),
        })
    }

    /// Whether it looks at more than labels and claims.
    #[must_use]
    pub fn has_expressions(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// Whether the labels and the claims of a cluster match.
    #[must_use]
    pub fn matches_facts(&self, cluster: &Cluster) -> bool {
        self.labels.matches(&cluster.labels) && self.claims.matches(&cluster.claims)
    }

    /// Whether all expressions say yes of a ManagedCluster, of which somebody knows what add-ons say. To be called where
    /// there is room ([`freewheel_hub_cel::on_a_stack_of`]).
    pub fn matches_object(
        &self,
        object: &Arc<Value>,
        scores: &Arc<dyn Scores>,
        budget: &mut Budget,
    ) -> bool {
        if self.expressions.is_empty() {
            return true;
        }
        let mut scope = Scope::default();
        if self.asks_for_scores {
            scope.put_value("managedCluster", managed_cluster(object, scores.clone()));
        } else {
            scope.put("managedCluster", object.clone());
        }
        let units = UNITS_PER_CLUSTER.min(budget.left);
        let variables = Variables::default();
        let mut evaluation = Evaluation::new(&scope, &variables, units);
        let all = self.expressions.iter().all(|expression| match evaluation.run(expression) {
            Ok(CelValue::Bool(said)) => said,
            Ok(_) | Err(_) => false,
        });
        budget.left -= units - evaluation.left();
        all
    }
}

fn errors_text(errors: &[FieldError]) -> String {
    let all: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_cel::{STACK_BYTES, on_a_stack_of};

    fn selector(asked: Value) -> Result<ClusterSelector, String> {
        ClusterSelector::read(&serde_json::from_value(asked).unwrap())
    }

    fn cluster() -> Cluster {
        Cluster {
            name: "pi-7".to_owned(),
            labels: [("site".to_owned(), "attic".to_owned())].into(),
            claims: [("region".to_owned(), "north".to_owned())].into(),
            ..Cluster::default()
        }
    }

    #[test]
    fn labels_and_claims_have_to_match_together() {
        let cluster = cluster();
        for (asked, expected) in [
            (json!({}), true),
            (json!({"labelSelector": {"matchLabels": {"site": "attic"}}}), true),
            (json!({"labelSelector": {"matchLabels": {"site": "cellar"}}}), false),
            (
                json!({"claimSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["north"]}]}}),
                true,
            ),
            (
                json!({"labelSelector": {"matchLabels": {"site": "attic"}},
                "claimSelector": {"matchExpressions": [{"key": "region", "operator": "DoesNotExist"}]}}),
                false,
            ),
        ] {
            assert_eq!(
                selector(asked.clone()).unwrap().matches_facts(&cluster),
                expected,
                "{asked}"
            );
        }
        let wrong =
            json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}});
        assert!(selector(wrong).unwrap_err().starts_with("labelSelector.matchExpressions[0]"));
    }

    fn says(text: &str, budget: &mut Budget) -> bool {
        let selector = selector(json!({"celSelector": {"celExpressions": [text]}})).unwrap();
        let object = Arc::new(
            json!({"metadata": {"labels": {"v": "1.31"}}, "status": {"version": {"kubernetes": "v1.36.2"}}}),
        );
        let scores: Arc<dyn Scores> = Arc::new(Usage);
        on_a_stack_of(STACK_BYTES, || selector.matches_object(&object, &scores, budget)).unwrap()
    }

    /// Knows of the usage of a cluster.
    struct Usage;

    impl Scores for Usage {
        fn of(&self, resource: &str) -> Result<Vec<(String, i64)>, String> {
            let usage = || vec![("cpu".to_owned(), 40)];
            (resource == "usage").then(usage).ok_or_else(|| "not found".to_owned())
        }
    }

    #[test]
    fn an_expression_has_to_say_yes() {
        let mut budget = Budget::default();
        assert!(says("managedCluster.status.version.kubernetes == 'v1.36.2'", &mut budget));
        assert!(says("managedCluster.metadata.labels['v'].startsWith('1.')", &mut budget));
        assert!(!says("managedCluster.metadata.labels['v'] == '2'", &mut budget));
        assert!(!says("managedCluster.metadata.labels['nothing'] == '2'", &mut budget));
        assert!(!says("managedCluster.metadata.labels['v']", &mut budget));
        let version = "semver(managedCluster.metadata.labels['v'], true)";
        assert!(says(&format!("{version}.isLessThan(semver('1.32.0'))"), &mut budget));
        assert!(!says(&format!("{version}.isGreaterThan(semver('1.31.0'))"), &mut budget));
        assert!(!says("semver(managedCluster.metadata.labels['v']).major() == 1", &mut budget));
        let json = "'{\"cpu\": 3, \"zones\": [\"a\"]}'.parseJSON()";
        assert!(says(&format!("{json}.cpu > 2.5 && 'a' in {json}.zones"), &mut budget));
        assert!(!says("'{'.parseJSON().cpu == 1", &mut budget));
        assert!(says(r#"'"\\ud83d"'.parseJSON() == '\ufffd'"#, &mut budget));
        assert!(says(
            "isSemver('1.0.0-1.x') && !isSemver('1.0.0-99999999999999999999')",
            &mut budget
        ));
        // Each is said in its own form.
        for unknown in ["cluster.x == 1", "parseJSON('{}') == {}", "managedCluster.hasConditions()"]
        {
            let unknown = selector(json!({"celSelector": {"celExpressions": [unknown]}}));
            assert!(unknown.unwrap_err().starts_with("compilation failed: undeclared reference"));
        }
        let scores = "managedCluster.scores('usage').exists(s, s.name == 'cpu' && s.value < 50)";
        assert!(says(scores, &mut budget));
        assert!(!says(&scores.replace("50", "30"), &mut budget));
        assert!(!says("managedCluster.scores('other').size() == 0", &mut budget));
    }

    #[test]
    fn work_is_bounded_over_the_whole_fleet() {
        let mut budget = Budget { left: 20_000 };
        let list = "[1,2,3,4,5,6,7,8,9,10]";
        let endless = format!(
            "{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, {list}.all(e, {list}.all(f, {list}.all(g, a > 0)))))))"
        );
        assert!(says("true", &mut budget) && !budget.is_spent());
        assert!(!says(&endless, &mut budget) && budget.is_spent());
        assert!(!says("[1].all(a, a > 0)", &mut budget), "nothing is looked at any more");
    }
}
