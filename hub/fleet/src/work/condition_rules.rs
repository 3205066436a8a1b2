//! Conditions that a work has made of what was applied: by expressions in CEL, or by what is known of a kind.
//!
//! Guarantees:
//! - an expression that is none, or fails, is a False that says why (`rules_say_what_they_find_or_why_not`);
//! - expressions of one object make a bounded amount of work (`rules_say_what_they_find_or_why_not`).

use std::sync::Arc;

use freewheel_hub_cel::{
    Evaluation, Expression, Known, STACK_BYTES, Scope, UNITS_MAX, Value as CelValue, Variables,
    json as to_json, on_a_stack_of,
};
use serde_json::{Value, json};

use super::ConditionRule;

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Type of the condition.
    pub kind: String,
    /// Whether it holds.
    pub holds: bool,
    /// `ConditionRuleEvaluated`, `ConditionRuleExpressionError`
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

const EVALUATED: &str = "ConditionRuleEvaluated";
const EXPRESSION_ERROR: &str = "ConditionRuleExpressionError";

/// What these rules say of an object. Rules of what is known say nothing of kinds of which nothing is known.
#[must_use]
pub fn evaluate(object: &Arc<Value>, rules: &[ConditionRule]) -> Vec<Said> {
    let all = || {
        let mut left = UNITS_MAX;
        rules.iter().filter_map(|rule| of_rule(object, rule, &mut left)).collect()
    };
    if rules.is_empty() {
        return Vec::new();
    }
    on_a_stack_of(STACK_BYTES, all).unwrap_or_default()
}

fn of_rule(object: &Arc<Value>, rule: &ConditionRule, left: &mut u64) -> Option<Said> {
    let said =
        |holds, reason, message| Said { kind: rule.condition.clone(), holds, reason, message };
    let outcome = if rule.kind == "WellKnownConditions" {
        Ok(known(object, &rule.condition)?)
    } else {
        by_expressions(object, &rule.cel_expressions, left)
    };
    let (holds, own) = match outcome {
        Ok((holds, text)) => (holds, text),
        Err(why) => return Some(said(false, EXPRESSION_ERROR, why)),
    };
    let made = message(object, rule, holds, left);
    let default = || {
        let kind = &rule.condition;
        if holds { format!("Manifest is {kind}") } else { format!("Manifest is not {kind}") }
    };
    let own = if rule.message.is_empty() { own } else { Some(rule.message.clone()) };
    let made = made.map(|made| made.unwrap_or_else(|why| why)).filter(|text| !text.is_empty());
    let text = made.or(own).unwrap_or_else(default);
    Some(said(holds, EVALUATED, text))
}

/// What is known of Jobs and Pods.
fn known(object: &Value, condition: &str) -> Option<(bool, Option<String>)> {
    if condition != "Complete" {
        return None;
    }
    match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("batch/v1", "Job") => {
            let all = object["status"]["conditions"].as_array().into_iter().flatten();
            let mut ends = all.filter(|it| it["type"] == "Complete" || it["type"] == "Failed");
            let over = ends.any(|it| it["status"] == "True");
            Some((over, Some(format!("Job is {}finished", if over { "" } else { "not " }))))
        }
        ("v1", "Pod") => {
            let phase = object["status"]["phase"].as_str().unwrap_or_default();
            let over = ["Succeeded", "Failed"].contains(&phase);
            Some((over, Some(format!("Pod is in phase {phase}"))))
        }
        _ => None,
    }
}

fn by_expressions(
    object: &Arc<Value>,
    expressions: &[String],
    left: &mut u64,
) -> Result<(bool, Option<String>), String> {
    for text in expressions {
        match run(object, text, None, left)? {
            CelValue::Bool(true) => {}
            CelValue::Bool(false) => return Ok((false, None)),
            other => {
                return Err(format!(
                    "expected bool result, got {}",
                    freewheel_hub_cel::of_type(&other)
                ));
            }
        }
    }
    Ok((true, None))
}

fn message(
    object: &Arc<Value>,
    rule: &ConditionRule,
    holds: bool,
    left: &mut u64,
) -> Option<Result<String, String>> {
    if rule.message_expression.is_empty() {
        return None;
    }
    let made = run(object, &rule.message_expression, Some(holds), left);
    Some(made.and_then(|value| {
        let Value::String(text) = to_json(&value, "messageExpression")? else {
            return Err("expected message expression to have a string result".to_owned());
        };
        Ok(text)
    }))
}

fn run(
    object: &Arc<Value>,
    text: &str,
    result: Option<bool>,
    left: &mut u64,
) -> Result<CelValue, String> {
    let names: &[&str] = if result.is_some() { &["object", "result"] } else { &["object"] };
    let expression = Expression::read(text, &Known { names, ..Known::default() })?;
    let mut scope = Scope::default();
    scope.put("object", object.clone());
    if let Some(result) = result {
        scope.put("result", Arc::new(json!(result)));
    }
    let variables = Variables::default();
    let mut evaluation = Evaluation::new(&scope, &variables, *left);
    let value = evaluation.run(&expression);
    *left = evaluation.left();
    value.map_err(|failed| failed.told("CEL evaluation budget exceeded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_what_they_find_or_why_not() {
        let job = Arc::new(json!({"apiVersion": "batch/v1", "kind": "Job", "status": {
            "active": 2, "conditions": [{"type": "Complete", "status": "True"}]}}));
        let said = |rules: Value| -> Vec<(bool, &'static str, String)> {
            let rules: Vec<ConditionRule> = serde_json::from_value(rules).unwrap();
            evaluate(&job, &rules).into_iter().map(|it| (it.holds, it.reason, it.message)).collect()
        };
        let cel =
            |text: &str| json!([{"type": "CEL", "condition": "Ok", "celExpressions": [text]}]);
        let known = json!([{"type": "WellKnownConditions", "condition": "Complete"}, {"type": "WellKnownConditions", "condition": "Odd"}]);
        assert_eq!(said(known), [(true, EVALUATED, "Job is finished".to_owned())]);
        assert_eq!(
            said(cel("object.status.active == 2")),
            [(true, EVALUATED, "Manifest is Ok".to_owned())]
        );
        assert_eq!(
            said(cel("object.status.active > 2")),
            [(false, EVALUATED, "Manifest is not Ok".to_owned())]
        );
        let (holds, reason, why) = said(cel("object.status.nothing > 2")).remove(0);
        assert_eq!((holds, reason, &*why), (false, EXPRESSION_ERROR, "no such key: nothing"));
        assert_eq!(said(cel("object.status.active"))[0].1, EXPRESSION_ERROR);
        assert_eq!(said(cel("object.status["))[0].1, EXPRESSION_ERROR);
        let told = json!([{"type": "CEL", "condition": "Ok", "celExpressions": ["true"],
            "messageExpression": "result ? 'active: ' + string(object.status.active) : 'none'"}]);
        assert_eq!(said(told)[0].2, "active: 2");
    }
}
