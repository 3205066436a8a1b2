//! Conditions under which somebody is asked (`matchConditions`).

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
    all: Vec<Result<Expression, String>>,
    /// What cannot be evaluated is an error, and not a no.
    fails: bool,
}

impl Conditions {
    pub(crate) fn read(holder: &Json, has_params: bool) -> Self {
        let known = Known { names: known(has_params, true), ..Known::default() };
        let list = holder["matchConditions"].as_array().into_iter().flatten();
        let read = |condition: &Json| {
            Expression::read(condition["expression"].as_str().unwrap_or_default(), &known)
        };
        Self { all: list.map(read).collect(), fails: holder["failurePolicy"] != "Ignore" }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
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
        for condition in &self.all {
            match condition {
                Err(why) => errors.push(compile_error(why)),
                Ok(expression) => match evaluation.run(expression) {
                    Ok(Value::Bool(false)) => return Ok(false),
                    Ok(_) => {}
                    Err(Failed::TooMuchWork) => {
                        errors = vec![OUT_OF_BUDGET.to_owned()];
                        break;
                    }
                    Err(why) => errors.push(failed(expression, &why.told(OUT_OF_BUDGET))),
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
