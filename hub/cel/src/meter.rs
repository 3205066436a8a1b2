//! How much work rules may make. A rule's loops count their turns here, and what makes text or lists longer counts their
//! length: a rule that has used up what it may make stops at its next turn, and fails.
//!
//! A unit is a turn of a loop over values of ordinary size, or 128 bytes of text.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::{Context, ExecutionError};

use crate::allowance::{Allowance, units};
use crate::expression::Expression;
use crate::library;

/// Units of one evaluation, as kube-apiserver counts them.
const RULE_UNITS_MAX: u64 = 1_000_000;
/// Units of all evaluations that belong together: those for one object, those of one policy.
pub const UNITS_MAX: u64 = 10 * RULE_UNITS_MAX;

/// Why there is no value.
#[derive(Debug, PartialEq)]
pub enum Failed {
    /// It used up what it may use.
    TooMuchWork,
    /// In the words of kube-apiserver.
    Because(String),
}

/// What several evaluations together may still use.
#[derive(Debug)]
pub struct Meter {
    left: u64,
    spent: bool,
}

impl Meter {
    /// So many units.
    #[must_use]
    pub const fn of(units: u64) -> Self {
        Self { left: units, spent: false }
    }

    /// Whether nothing is to be evaluated any more.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.spent
    }

    /// Units that are left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        if self.spent { 0 } else { self.left }
    }

    /// The value of an expression whose variables `bind` gives it, the longest of which has this length. To be called
    /// where there is room ([`crate::STACK_BYTES`]).
    ///
    /// # Errors
    /// When it has none.
    pub fn run<'v>(
        &mut self,
        expression: &Expression,
        longest: usize,
        bind: impl FnOnce(&mut Context<'_, 'v>),
    ) -> Result<cel::Value, Failed> {
        self.counted(expression, longest, |allowance| evaluate(expression, allowance, bind))
    }

    /// Runs one evaluation with what it may use.
    pub(crate) fn counted(
        &mut self,
        expression: &Expression,
        longest: usize,
        run: impl FnOnce(&Arc<Allowance>) -> Result<cel::Value, Failed>,
    ) -> Result<cel::Value, Failed> {
        let allowed = RULE_UNITS_MAX.min(self.left);
        let turn = units(longest);
        let allowance = Arc::new(Allowance::new(allowed, turn));
        let begins = allowance.take(1 + expression.parts() / 4 + turn);
        let outcome = if begins { run(&allowance) } else { Err(Failed::TooMuchWork) };
        self.left -= allowed - allowance.left();
        if allowance.is_spent() {
            self.spent = true;
            return Err(Failed::TooMuchWork);
        }
        outcome
    }
}

pub(crate) fn evaluate<'v>(
    expression: &Expression,
    allowance: &Arc<Allowance>,
    bind: impl FnOnce(&mut Context<'_, 'v>),
) -> Result<cel::Value, Failed> {
    let run = || {
        let mut context = Context::with_env(library::env());
        library::add(&mut context, allowance);
        bind(&mut context);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Known;

    #[test]
    fn what_never_ends_is_ended() {
        let ten = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]";
        let loops =
            ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| format!("{ten}.all({name}, "));
        let text = format!("{}true{}", loops.concat(), ")".repeat(loops.len()));
        let expression = Expression::read(&text, &Known::default()).unwrap();
        let mut meter = Meter::of(UNITS_MAX);
        assert_eq!(meter.run(&expression, 0, |_| {}), Err(Failed::TooMuchWork));
        assert!(meter.is_spent());
    }
}
