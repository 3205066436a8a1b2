//! What stands in an expression in place of what was written, to count it: functions with names that nobody can write.
//!
//! ```text
//! @turn(n)        a turn of a loop with n parts
//! @copied(x)      x, of which a copy is taken unless nobody else has it
//! @list(n, x)     x, a list or map in which n bytes are beside what was counted
//! @added(x)       x, which is copied to something longer
//! @walked(x)      x, a text that is looked at
//! @ranged(x)      x, each of whose elements is copied in turn
//! @made(x)        x, which is new
//! @mark()         what was made until now; of what was made since,
//! @kept(m, x)     only x stays
//! @equal @within  comparisons
//! ```

use std::sync::Arc;

use cel::common::types::{CelBool, CelInt, CelList};
use cel::common::value::CowVal;
use cel::{Context, ExecutionError, FunctionContext};

use crate::allowance::Allowance;
use crate::weight::{EACH, largest, shallow};

type Outcome<'c, 'v> = Result<CowVal<'c, 'v>, ExecutionError>;
/// As the evaluator calls functions.
type Native =
    Box<dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> + Send + Sync>;
/// The same with what it may use.
type WithAllowance = for<'c, 'v> fn(&mut FunctionContext<'c, 'v>, &Allowance) -> Outcome<'c, 'v>;
/// Counts a value that goes on as it is; whether it may.
type Count = fn(&CowVal<'_, '_>, &Allowance) -> bool;

const COUNTS: [(&str, Count); 5] = [
    ("@copied", |value, allowance| {
        let fresh = value.is_owned();
        let bytes = if fresh { Some(0) } else { allowance.weigh(value.as_ref()) };
        bytes.is_some_and(|bytes| allowance.make(EACH + bytes))
    }),
    ("@added", |value, allowance| {
        allowance.weigh(value.as_ref()).is_some_and(|bytes| bytes <= EACH || allowance.make(bytes))
    }),
    ("@walked", |value, allowance| allowance.walk(shallow(value.as_ref()))),
    ("@ranged", |value, allowance| {
        let bytes = allowance.weigh(value.as_ref());
        let largest = bytes.and_then(|bytes| largest(value.as_ref(), bytes).ok());
        largest.is_some_and(|largest| allowance.make(largest))
    }),
    ("@made", |value, allowance| {
        value.is_borrowed()
            || allowance.weigh(value.as_ref()).is_some_and(|bytes| allowance.make(bytes))
    }),
];

/// Adds them; all of them use this allowance.
pub(super) fn add(context: &mut Context<'_, '_>, allowance: &Arc<Allowance>) {
    let mut put = |name: &str, native: Native| {
        // The evaluator has none of these names.
        let _ = context.add_function::<Native, _>(name, native);
    };
    for (name, count) in COUNTS {
        let own = allowance.clone();
        put(
            name,
            Box::new(move |call| {
                let value = last(call)?;
                if count(&value, &own) { Ok(value) } else { Err(ended(call)) }
            }),
        );
    }
    let with_allowance: [(&str, WithAllowance); 6] = [
        ("@turn", turn),
        ("@list", list),
        ("@mark", mark),
        ("@kept", kept),
        ("@equal", equal),
        ("@within", within),
    ];
    for (name, run) in with_allowance {
        let own = allowance.clone();
        put(name, Box::new(move |call| run(call, &own)));
    }
}

fn last<'c, 'v>(call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    call.args.pop().ok_or_else(|| call.error("no such overload"))
}

fn whole(value: &CowVal<'_, '_>) -> u64 {
    let number = value.downcast_ref::<CelInt>().map(|number| *number.inner());
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(u64::MAX)
}

fn ended(call: &FunctionContext<'_, '_>) -> ExecutionError {
    call.error("too much work")
}

fn truth<'c, 'v>(flag: bool) -> CowVal<'c, 'v> {
    CowVal::owned(CelBool::from(flag))
}

fn turn<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let parts = whole(&last(call)?);
    Ok(truth(allowance.turn(parts)))
}

fn list<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let value = last(call)?;
    let bytes = usize::try_from(whole(&last(call)?)).unwrap_or(usize::MAX);
    let fits = allowance.walk(bytes) && allowance.make(bytes);
    if fits { Ok(value) } else { Err(ended(call)) }
}

fn mark<'c, 'v>(_: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    Ok(CowVal::owned(CelInt::from(i64::try_from(allowance.mark()).unwrap_or(i64::MAX))))
}

fn kept<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let value = last(call)?;
    let mark = whole(&last(call)?);
    let bytes = allowance.weigh(value.as_ref());
    let stays = bytes.is_some_and(|bytes| allowance.back_to(mark, bytes));
    if stays { Ok(value) } else { Err(ended(call)) }
}

fn equal<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let (other, one) = (last(call)?, last(call)?);
    if allowance.compares(one.as_ref(), other.as_ref()) {
        return Ok(truth(one.as_ref().equals(other.as_ref())));
    }
    Err(ended(call))
}

fn within<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let (other, one) = (last(call)?, last(call)?);
    let items = other.downcast_ref::<CelList<'_>>().map(CelList::inner).unwrap_or_default();
    let counted = allowance.walk(shallow(one.as_ref()))
        && items.iter().all(|item| allowance.compares(one.as_ref(), &**item));
    if !counted || !allowance.walk(items.len().saturating_mul(EACH)) {
        return Err(ended(call));
    }
    let holder = other.as_container().ok_or_else(|| call.error("no such overload"))?;
    holder.contains(one.as_ref()).map(truth)
}
