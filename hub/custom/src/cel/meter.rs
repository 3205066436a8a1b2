//! How much work rules may make. A rule's loops count their turns here, and what makes text or lists longer counts their
//! length: a rule that has used up what it may make stops at its next turn, and fails.
//!
//! A unit is a turn of a loop over values of ordinary size, or 128 bytes of text.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::{Context, ExecutionError};

use super::allowance::{Allowance, units};
use super::expression::Expression;
use super::library;
use super::values::Scope;

/// Units of one evaluation, as kube-apiserver counts them.
const RULE_UNITS_MAX: u64 = 1_000_000;
/// Units of all evaluations for one object.
const OBJECT_UNITS_MAX: u64 = 10_000_000;
/// Why there is no value.
#[derive(Debug, PartialEq)]
pub(super) enum Failed {
    TooMuchWork,
    Because(String),
}

/// What the rules for one object may still use.
pub(super) struct Meter {
    left: u64,
    spent: bool,
}

impl Meter {
    pub(super) fn of_object() -> Self {
        Self { left: OBJECT_UNITS_MAX, spent: false }
    }

    /// Whether no rule is asked any more.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }

    /// The value of an expression.
    pub(super) fn run(
        &mut self,
        expression: &Expression,
        scope: &Scope,
        optional_old: bool,
    ) -> Result<cel::Value, Failed> {
        let allowed = RULE_UNITS_MAX.min(self.left);
        let turn = units(scope.longest);
        let allowance = Arc::new(Allowance::new(allowed, turn));
        let begins = allowance.take(1 + expression.parts() / 4 + turn);
        let outcome = if begins {
            evaluate(expression, scope, optional_old, &allowance)
        } else {
            Err(Failed::TooMuchWork)
        };
        self.left -= allowed - allowance.left();
        if allowance.is_spent() {
            self.spent = true;
            return Err(Failed::TooMuchWork);
        }
        outcome
    }
}

fn evaluate(
    expression: &Expression,
    scope: &Scope,
    optional_old: bool,
    allowance: &Arc<Allowance>,
) -> Result<cel::Value, Failed> {
    let run = || {
        let mut context = Context::with_env(library::env());
        library::add(&mut context, allowance);
        context.add_variable_from_value("self", scope.value.clone());
        if optional_old {
            context.add_variable_from_value("oldSelf", scope.optional_old());
        } else if let Some(old) = &scope.old {
            context.add_variable_from_value("oldSelf", old.clone());
        }
        cel::Value::resolve(expression.metered(), &context)
    };
    // The evaluator is a library: a mistake in it is none of the hub's.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failed::Because(told(&error))),
        Err(_) => Err(Failed::Because("internal error".to_owned())),
    }
}

fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload(_) => "no such overload".to_owned(),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}
