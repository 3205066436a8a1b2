//! Conditions under which somebody is asked (`matchConditions`).
//!
//! Guarantees:
//! - they are compiled where they are asked, so that nobody waits for those of others
//!   (`conditions_are_compiled_when_they_are_asked`).

use std::sync::OnceLock;

use freewheel_hub_cel::{Evaluation, Expression, Failed, Known, Scope, Value, Variables, known};
use serde_json::Value as Json;

/// Nothing more is evaluated.
pub(crate) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Units of all conditions of one, as kube-apiserver counts them.
const UNITS_MAX: u64 = 2_500_000;

/// All of them have to be true.
#[derive(Debug)]
pub(crate) struct Conditions {
    said: Vec<String>,
    has_params: bool,
    compiled: OnceLock<Vec<Result<Expression, String>>>,
    /// What cannot be evaluated is an error, and not a no.
    fails: bool,
}

impl Conditions {
    pub(crate) fn read(holder: &Json, has_params: bool) -> Self {
        let list = holder["matchConditions"].as_array().into_iter().flatten();
        let text = |condition: &Json| condition["expression"].as_str().unwrap_or_default().into();
        Self {
            said: list.map(text).collect(),
            has_params,
            compiled: OnceLock::new(),
            fails: holder["failurePolicy"] != "Ignore",
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    fn all(&self) -> &[Result<Expression, String>] {
        let known = Known { names: known(self.has_params, true), ..Known::default() };
        let read = |text: &String| Expression::read(text, &known).map_err(|why| why.to_string());
        self.compiled.get_or_init(|| self.said.iter().map(read).collect())
    }

    /// Whether they hold, with what is left of all units of a request. To be asked where there is room for an evaluation.
    pub(crate) fn hold(&self, scope: &Scope, left: &mut u64) -> Result<bool, String> {
        let variables = Variables::default();
        let units = UNITS_MAX.min(*left);
        let mut evaluation = Evaluation::new(scope, &variables, units);
        let held = self.evaluate(&mut evaluation);
        *left -= units - evaluation.left();
        held
    }

    fn evaluate(&self, evaluation: &mut Evaluation<'_>) -> Result<bool, String> {
        let mut errors = Vec::new();
        for condition in self.all() {
            match condition {
                Err(why) => errors.push(compile_error(why)),
                Ok(expression) => match evaluation.run(expression) {
                    Ok(Value::Bool(false)) => return Ok(false),
                    Ok(_) => {}
                    Err(Failed::TooMuchWork) => {
                        errors = vec![OUT_OF_BUDGET.to_owned()];
                        break;
                    }
                    Err(why) => errors.push(failed(expression, &why.into_message(OUT_OF_BUDGET))),
                },
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            _ if !self.fails => Ok(false),
            [one] => Err(one.clone()),
            // As Go prints several errors together.
            [..] => Err(format!("[{}]", errors.join(", "))),
        }
    }
}

/// Why an expression has no value.
pub(crate) fn failed(expression: &Expression, why: &str) -> String {
    format!("expression '{}' resulted in error: {why}", expression.text())
}

/// Why an expression is none.
pub(crate) fn compile_error(why: &str) -> String {
    format!("compilation error: compilation failed: {why}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_cel::{STACK_BYTES, on_a_stack_of};
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_compiled_when_they_are_asked() {
        let said = json!({"matchConditions": [{"name": "a", "expression": "object.a == 1"}]});
        let conditions = Conditions::read(&said, false);
        assert!(conditions.compiled.get().is_none() && !conditions.is_empty());
        let mut scope = Scope::default();
        scope.put("object", Arc::new(json!({"a": 1})));
        let hold = || {
            let mut left = UNITS_MAX;
            conditions.hold(&scope, &mut left)
        };
        assert_eq!(on_a_stack_of(STACK_BYTES, hold).unwrap(), Ok(true));
        assert!(conditions.compiled.get().is_some());
    }
}
