//! How much work rules may make, and how much memory their values may take. A rule's loops count their turns here, every
//! value that is made or copied counts its size, and every comparison what it looks at: a rule that has used up what it
//! may use stops there, and fails.
//!
//! A unit is a turn of a loop, or 128 bytes of values.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::{Context, ExecutionError};

use crate::allowance::{Allowance, units};
use crate::expression::Expression;
use crate::failed::Failed;
use crate::library;

/// Units of one evaluation, as kube-apiserver counts them.
const RULE_UNITS_MAX: u64 = 1_000_000;
/// Units that an evaluation takes to begin: what it may ask has to be laid out.
const BEGIN_UNITS: u64 = 20;
/// Units of all evaluations that belong together: those for one object, those of one policy.
pub const UNITS_MAX: u64 = 10 * RULE_UNITS_MAX;

/// What several evaluations together may still use.
#[derive(Debug)]
pub struct Meter {
    left: u64,
    spent: bool,
    /// Bytes of values that stay from one to the next.
    kept: u64,
}

impl Meter {
    /// So many units.
    #[must_use]
    pub const fn of(units: u64) -> Self {
        Self { left: units, spent: false, kept: 0 }
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

    /// Counts values of so many bytes that are made for expressions; whether there was that much left.
    pub fn give(&mut self, bytes: usize) -> bool {
        let left = self.left().checked_sub(units(bytes));
        self.spent |= left.is_none();
        self.left = left.unwrap_or_default();
        !self.spent
    }

    /// The value of an expression whose variables `bind` gives it. To be called where there is room
    /// ([`crate::STACK_BYTES`]).
    ///
    /// # Errors
    /// When it has none.
    pub fn run<'v>(
        &mut self,
        expression: &Expression,
        bind: impl FnOnce(&mut Context<'_, 'v>),
    ) -> Result<cel::Value, Failed> {
        self.counted(expression, |allowance| evaluate(expression, allowance, bind))
    }

    /// Runs one evaluation with what it may use.
    pub(crate) fn counted(
        &mut self,
        expression: &Expression,
        run: impl FnOnce(&Arc<Allowance>) -> Result<cel::Value, Failed>,
    ) -> Result<cel::Value, Failed> {
        let allowed = RULE_UNITS_MAX.min(self.left);
        let allowance = Arc::new(Allowance::new(allowed, self.kept));
        let begins = allowance.take(BEGIN_UNITS) && allowance.turn(expression.parts());
        let outcome = if begins { run(&allowance) } else { Err(Failed::TooMuchWork) };
        self.left -= allowed - allowance.left();
        self.kept = allowance.kept();
        let Some(ended) = allowance.ended() else { return outcome };
        self.spent |= *ended == Failed::TooMuchWork;
        Err(ended.clone())
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
        Ok(Err(error)) => Err(Failed::Because(error_text(&error))),
        Err(_) => Err(Failed::Because("internal error".to_owned())),
    }
}

fn error_text(error: &ExecutionError) -> String {
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Known, STACK_BYTES, on_a_stack_of};

    fn run(text: &str) -> Result<cel::Value, Failed> {
        let expression = Expression::read(text, &Known::default()).unwrap();
        let run = || Meter::of(UNITS_MAX).run(&expression, |_| {});
        on_a_stack_of(STACK_BYTES, run).unwrap()
    }

    #[test]
    fn what_never_ends_is_ended() {
        let ten = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]";
        let loops =
            ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| format!("{ten}.all({name}, "));
        let text = format!("{}true{}", loops.concat(), ")".repeat(loops.len()));
        let expression = Expression::read(&text, &Known::default()).unwrap();
        let mut meter = Meter::of(UNITS_MAX);
        assert_eq!(meter.run(&expression, |_| {}), Err(Failed::TooMuchWork));
        assert!(meter.is_spent());
        let of_two = text.replace(".all(", ".all(i, ");
        assert_eq!(run(&of_two), Err(Failed::TooMuchWork));
    }

    /// Each of these would take seconds and gigabytes, or for ever.
    #[test]
    fn what_grows_without_end_is_ended() {
        let twice = |n: usize| format!("[1]{}", ".map(x, [x, x])".repeat(n));
        let ten = ".map(x, [x, x, x, x, x, x, x, x, x, x])";
        let flat = ".flatten()".repeat(8);
        let deep =
            format!("[1]{}", ".map(x, [[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]])".repeat(30));
        for text in [
            format!("size([1]{}) == 1", ten.repeat(12)),
            format!("size({}) == 1", twice(40)),
            format!("size([1]{}) == 1 || true", ".map(x, {'a': x, 'b': x})".repeat(30)),
            format!("size({})", ["optional.of([1, 2, 3]"; 1].concat() + ")" + ".orValue([])")
                + &format!(" + size({})", twice(30)),
            format!("[{}].all(y, y == y)", ["[1]", &ten.repeat(7)].concat()),
            format!("size([1]{}) == 1", ".transformList(i, x, [x, x])".repeat(40)),
            format!("size([1]{}) == 1", ".transformMap(i, x, [x, x])".repeat(40)),
            format!("size([1]{}) == 1", ".transformMapEntry(i, x, {i: [x, x]})".repeat(40)),
            format!("size({}.sortBy(y, y)) == 1", ["[1]", &ten.repeat(6), &flat].concat()),
            format!("size({}.transformMap(i, y, i)) == 1", ["[1]", &ten.repeat(8), &flat].concat()),
            format!("dyn({}) == 1", twice(30)),
            format!("{} in [[1]]", twice(30)),
            deep,
        ] {
            let begun = Instant::now();
            let outcome = run(&text);
            let ended = matches!(outcome, Err(Failed::TooMuchMade | Failed::TooMuchWork));
            assert!(ended, "{text}: {:?}", outcome.map(|_| "a value"));
            assert!(begun.elapsed() < Duration::from_secs(5), "{text}: {:?}", begun.elapsed());
        }
    }

    #[test]
    fn comparisons_count_what_they_look_at() {
        // Two values of 4,096 elements, which are compared 1,000 times.
        let long = format!("[1]{}", ".map(x, [x, x])".repeat(12));
        let thousand =
            "[1,2,3,4,5,6,7,8,9,0].map(a, [1,2,3,4,5,6,7,8,9,0].map(b, [1,2,3,4,5,6,7,8,9,0]))";
        let over =
            |what: &str| format!("[{long}].all(l, {thousand}.all(a, a.all(b, b.all(c, {what}))))");
        assert_eq!(run(&over("l == l")), Err(Failed::TooMuchWork));
        assert_eq!(run(&over("!(l != l)")), Err(Failed::TooMuchWork));
        assert_eq!(run(&over("l in [l]")), Err(Failed::TooMuchWork));
        assert_eq!(run(&over("l != [1] && l != null")), Ok(true.into()));
    }

    #[test]
    fn to_begin_is_counted_as_well() {
        let expression = Expression::read("true", &Known::default()).unwrap();
        let mut meter = Meter::of(10_000);
        let mut times = 0;
        while meter.run(&expression, |_| {}).is_ok() {
            times += 1;
        }
        assert!((100..600).contains(&times) && meter.is_spent(), "{times}");
    }

    #[test]
    fn what_a_turn_made_and_is_gone_is_not_there() {
        // A hundred times a list that takes a hundred kilobytes, and twice that until it is there.
        let ten = "[1,2,3,4,5,6,7,8,9,0]";
        let some = format!("[1]{}", ".map(x, [x, x])".repeat(10));
        let text = format!("{ten}.all(a, {ten}.all(b, size({some}) == 1))");
        assert_eq!(run(&text), Ok(true.into()));
    }
}
