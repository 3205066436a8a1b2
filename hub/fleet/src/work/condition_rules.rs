//! Conditions that a work has made of what was applied: by expressions in CEL, or by what is known of a kind.
//!
//! Guarantees:
//! - an expression that is none, or fails, is a False that says why (`rules_say_what_they_find_or_why_not`);
//! - what is known of a kind is said by expressions as well, and fails like them (`what_is_known_fails_like_expressions`);
//! - expressions of all objects of a work together make a bounded amount of work
//!   (`expressions_of_a_work_have_one_budget`).

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_cel::{
    Evaluation, Expression, Known, STACK_BYTES, Scope, UNITS_MAX, Value as CelValue, Variables,
    json as to_json, on_a_stack_of,
};
use serde_json::{Value, json};

use super::ConditionRule;

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOutcome {
    /// Type of the condition.
    pub kind: String,
    /// Whether it holds.
    pub holds: bool,
    /// `ConditionRuleEvaluated`, `ConditionRuleExpressionError`
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

const KNOWN: &str = "WellKnownConditions";
const EVALUATED: &str = "ConditionRuleEvaluated";
const EXPRESSION_ERROR: &str = "ConditionRuleExpressionError";

/// What is known of a condition of some kind.
#[derive(Clone, Copy)]
struct KnownRule {
    /// Whether it holds.
    expression: &'static str,
    /// What is said of it.
    message: &'static str,
}

/// An object, and the rules about it.
pub type Subject<'a> = (Arc<Value>, &'a [ConditionRule]);

/// What the rules of a work say of its objects, in their order. Rules of what is known say nothing of kinds of which
/// nothing is known. All expressions together have one budget: what is left when it is spent says so.
///
/// # Errors
/// There is no thread to evaluate them on.
pub fn evaluate<'a>(all: &[Subject<'a>]) -> Result<Vec<Vec<RuleOutcome>>, String> {
    let work = || {
        let mut bench = Bench { left: UNITS_MAX, read: HashMap::new() };
        let mut outcomes = Vec::with_capacity(all.len());
        for (object, rules) in all {
            let rules: &'a [ConditionRule] = rules;
            let of_it = rules.iter().filter_map(|rule| bench.of_rule(object, rule));
            outcomes.push(of_it.collect());
        }
        outcomes
    };
    let mut rules = all.iter().flat_map(|(object, rules)| rules.iter().map(move |it| (object, it)));
    if rules.any(|(object, rule)| rule.kind != KNOWN || known(object, &rule.condition).is_some()) {
        return on_a_stack_of(STACK_BYTES, work).map_err(|why| why.to_string());
    }
    Ok(work())
}

/// What all rules of a work share.
struct Bench<'a> {
    /// Units of work.
    left: u64,
    /// Expressions that were read, by their texts and whether they see a result.
    read: HashMap<(&'a str, bool), Result<Expression, String>>,
}

impl<'a> Bench<'a> {
    fn of_rule(&mut self, object: &Arc<Value>, rule: &'a ConditionRule) -> Option<RuleOutcome> {
        let rule_outcome = |holds, reason, message| RuleOutcome {
            kind: rule.condition.clone(),
            holds,
            reason,
            message,
        };
        // A rule of what is known may have a message of its own, but no expressions.
        let known = if rule.kind == KNOWN { Some(known(object, &rule.condition)?) } else { None };
        let outcome = match known {
            Some(known) => self.by_expressions(object, [known.expression]),
            None => self.by_expressions(object, rule.cel_expressions.iter().map(String::as_str)),
        };
        let holds = match outcome {
            Ok(holds) => holds,
            Err(why) => return Some(rule_outcome(false, EXPRESSION_ERROR, why)),
        };
        let message = match (&*rule.message_expression, known) {
            ("", known) => known.map(|known| known.message),
            (own, _) => Some(own),
        };
        let made = message.map(|message| self.message(object, message, holds));
        let default = || match (&*rule.message, holds) {
            ("", true) => format!("Manifest is {}", rule.condition),
            ("", false) => format!("Manifest is not {}", rule.condition),
            (own, _) => own.to_owned(),
        };
        let made = made.map(|made| made.unwrap_or_else(|why| why)).filter(|text| !text.is_empty());
        Some(rule_outcome(holds, EVALUATED, made.unwrap_or_else(default)))
    }

    fn by_expressions(
        &mut self,
        object: &Arc<Value>,
        expressions: impl IntoIterator<Item = &'a str>,
    ) -> Result<bool, String> {
        for text in expressions {
            match self.run(object, text, None)? {
                CelValue::Bool(true) => {}
                CelValue::Bool(false) => return Ok(false),
                other => {
                    return Err(format!(
                        "expected bool result, got {}",
                        freewheel_hub_cel::of_type(&other)
                    ));
                }
            }
        }
        Ok(true)
    }

    fn message(
        &mut self,
        object: &Arc<Value>,
        expression: &'a str,
        holds: bool,
    ) -> Result<String, String> {
        let made = self.run(object, expression, Some(holds))?;
        let Value::String(text) = to_json(&made, "messageExpression")? else {
            return Err("expected message expression to have a string result".to_owned());
        };
        Ok(text)
    }

    fn run(
        &mut self,
        object: &Arc<Value>,
        text: &'a str,
        result: Option<bool>,
    ) -> Result<CelValue, String> {
        let names: &[&str] = if result.is_some() { &["object", "result"] } else { &["object"] };
        let read = self.read.entry((text, result.is_some()));
        let known = Known { names, of_fleet: true, ..Known::default() };
        let expression = read
            .or_insert_with(|| Expression::read(text, &known).map_err(|why| why.to_string()))
            .as_ref()
            .map_err(Clone::clone)?;
        let mut scope = Scope::default();
        scope.put("object", object.clone());
        if let Some(result) = result {
            scope.put("result", Arc::new(json!(result)));
        }
        let variables = Variables::default();
        let mut evaluation = Evaluation::new(&scope, &variables, self.left);
        let value = evaluation.run(expression);
        self.left = evaluation.left();
        value.map_err(|failed| failed.into_message("CEL evaluation budget exceeded"))
    }
}

/// What is known of Jobs and Pods.
fn known(object: &Value, condition: &str) -> Option<KnownRule> {
    if condition != "Complete" {
        return None;
    }
    match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("batch/v1", "Job") => Some(KnownRule {
            expression: "hasConditions(object.status) && object.status.conditions.exists(c, \
                         c.type in ['Complete', 'Failed'] && c.status == 'True')",
            message: "'Job is ' + (result ? '' : 'not ') + 'finished'",
        }),
        ("v1", "Pod") => Some(KnownRule {
            expression: "object.status.phase in ['Succeeded', 'Failed']",
            message: "'Pod is in phase ' + object.status.phase",
        }),
        _ => None,
    }
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
            let said = evaluate(&[(job.clone(), &rules)]).unwrap().remove(0);
            said.into_iter().map(|it| (it.holds, it.reason, it.message)).collect()
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
        let ready = "hasConditions(object.status) && object.status.conditions.exists(c, c.type == 'Complete')";
        assert!(said(cel(ready))[0].0 && !said(cel("hasConditions(object.status.active)"))[0].0);
        assert_eq!(said(cel("hasConditions(object)"))[0].1, EVALUATED);
        let (holds, reason, why) = said(cel("object.status.nothing > 2")).remove(0);
        assert_eq!((holds, reason, &*why), (false, EXPRESSION_ERROR, "no such key: nothing"));
        assert_eq!(said(cel("object.status.active"))[0].1, EXPRESSION_ERROR);
        assert_eq!(said(cel("object.status["))[0].1, EXPRESSION_ERROR);
        let told = json!([{"type": "CEL", "condition": "Ok", "celExpressions": ["true"],
            "messageExpression": "result ? 'active: ' + string(object.status.active) : 'none'"}]);
        assert_eq!(said(told)[0].2, "active: 2");
    }

    #[test]
    fn what_is_known_fails_like_expressions() {
        let said = |object: Value, message: &str, expression: &str| {
            let rule = json!({"type": "WellKnownConditions", "condition": "Complete", "message": message,
                "messageExpression": expression});
            let rules: Vec<ConditionRule> = serde_json::from_value(json!([rule])).unwrap();
            let said = evaluate(&[(Arc::new(object), &rules)]).unwrap().remove(0).remove(0);
            (said.holds, said.reason, said.message)
        };
        let pod = |status: Value| json!({"apiVersion": "v1", "kind": "Pod", "status": status});
        let running = pod(json!({"phase": "Running"}));
        let told = (false, EVALUATED, "Pod is in phase Running".to_owned());
        assert_eq!(said(running.clone(), "", ""), told);
        assert_eq!(said(running.clone(), "as told", ""), told, "its expression comes first");
        assert_eq!(said(running.clone(), "as told", "''").2, "as told");
        assert_eq!(said(running, "", "string(result)").2, "false");
        assert!(said(pod(json!({"phase": "Failed"})), "", "").0);
        let (_, reason, why) = said(pod(json!({})), "", "");
        assert_eq!((reason, &*why), (EXPRESSION_ERROR, "no such key: phase"));
        let job = json!({"apiVersion": "batch/v1", "kind": "Job"});
        assert_eq!(said(job.clone(), "", "").1, EXPRESSION_ERROR);
        let mut job = job;
        job["status"] = json!({"active": 1});
        assert_eq!(said(job, "", ""), (false, EVALUATED, "Job is not finished".to_owned()));
    }

    #[test]
    fn expressions_of_a_work_have_one_budget() {
        let many: Vec<i32> = (0..1_000).collect();
        let object = Arc::new(json!({"all": many}));
        // A million rounds for each object.
        let text = "object.all.all(a, object.all.all(b, a >= 0 && b >= 0))".to_owned();
        let rule = ConditionRule {
            kind: "CEL".to_owned(),
            condition: "Ok".to_owned(),
            cel_expressions: vec![text],
            ..ConditionRule::default()
        };
        let rules = [rule];
        let all: Vec<Subject<'_>> = (0..200).map(|_| (object.clone(), &rules[..])).collect();
        let said = evaluate(&all).unwrap();
        assert_eq!(said.len(), 200, "each says something");
        let spent = |it: &RuleOutcome| it.message.contains("CEL evaluation budget exceeded");
        let over = said.iter().flatten().filter(|it| spent(it) && !it.holds).count();
        let held = said.iter().flatten().filter(|it| it.holds).count();
        assert!(held < 10 && over + held == 200, "{held} {over}");
    }
}
