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
//! @places(x)      the places of a list, or what has keys
//! @mapped(x)      a map of a list of keys and their values
//! @merged(x)      one map of a list of maps
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::{Context, ExecutionError, FunctionContext};

use crate::allowance::Allowance;
use crate::weight::{VALUE_BYTES, largest, shallow};

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
        bytes.is_some_and(|bytes| allowance.make(VALUE_BYTES + bytes))
    }),
    ("@added", |value, allowance| {
        allowance
            .weigh(value.as_ref())
            .is_some_and(|bytes| bytes <= VALUE_BYTES || allowance.make(bytes))
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
    let with_allowance: [(&str, WithAllowance); 9] = [
        ("@turn", turn),
        ("@list", list),
        ("@mark", mark),
        ("@kept", kept),
        ("@equal", equal),
        ("@within", within),
        ("@places", places),
        ("@mapped", mapped),
        ("@merged", merged),
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
    if !counted || !allowance.walk(items.len().saturating_mul(VALUE_BYTES)) {
        return Err(ended(call));
    }
    let holder = other.as_container().ok_or_else(|| call.error("no such overload"))?;
    holder.contains(one.as_ref()).map(truth)
}

/// Maps are gone through by their keys.
fn places<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let value = last(call)?;
    let count = value.downcast_ref::<CelList<'_>>().map(|list| list.inner().len());
    let Some(count) = count else { return Ok(value) };
    let bytes = count.saturating_mul(VALUE_BYTES);
    if !allowance.walk(bytes) || !allowance.make(bytes) {
        return Err(ended(call));
    }
    let place = |place| Box::new(CelInt::from(place)) as Box<dyn Val + 'v>;
    let places = (0..i64::try_from(count).unwrap_or(i64::MAX)).map(place);
    Ok(CowVal::owned(CelList::from(places.collect::<Vec<_>>())))
}

type Entries<'v> = HashMap<CelMapKey<'v>, Box<dyn Val + 'v>>;

fn mapped<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let (mut map, list) = (Entries::new(), last(call)?.into_owned());
    let pairs = items(call, list)?;
    // They are moved: what is new are their places.
    let bytes = pairs.len().saturating_mul(2 * VALUE_BYTES);
    if !allowance.walk(bytes) || !allowance.make(bytes) {
        return Err(ended(call));
    }
    for pair in pairs {
        let mut pair = items(call, pair)?.into_iter();
        let (Some(key), Some(value)) = (pair.next(), pair.next()) else {
            return Err(call.error("no such overload"));
        };
        insert(call, &mut map, key.try_into()?, value)?;
    }
    Ok(CowVal::owned(CelMap::from(map)))
}

fn merged<'c, 'v>(call: &mut FunctionContext<'c, 'v>, allowance: &Allowance) -> Outcome<'c, 'v> {
    let (mut map, list) = (Entries::new(), last(call)?.into_owned());
    for one in items(call, list)? {
        let bytes = allowance.weigh(&*one);
        if !bytes.is_some_and(|bytes| allowance.make(bytes)) {
            return Err(ended(call));
        }
        let Some(one) = one.downcast_ref::<CelMap<'_>>() else {
            return Err(call.error("no such overload"));
        };
        for (key, value) in one.inner() {
            insert(call, &mut map, key.clone(), value.clone())?;
        }
    }
    Ok(CowVal::owned(CelMap::from(map)))
}

/// What is in a list.
fn items<'v>(
    call: &FunctionContext<'_, 'v>,
    list: Box<dyn Val + 'v>,
) -> Result<Vec<Box<dyn Val + 'v>>, ExecutionError> {
    Vec::try_from(list).map_err(|_| call.error("no such overload"))
}

/// A key is there once, also as a number of the other type.
fn insert<'v>(
    call: &FunctionContext<'_, 'v>,
    map: &mut Entries<'v>,
    key: CelMapKey<'v>,
    value: Box<dyn Val + 'v>,
) -> Result<(), ExecutionError> {
    let (told, other) = match &key {
        CelMapKey::Bool(flag) => (flag.inner().to_string(), None),
        CelMapKey::String(text) => (text.inner().to_owned(), None),
        CelMapKey::Int(number) => {
            let other = u64::try_from(*number.inner()).ok();
            (number.inner().to_string(), other.map(|other| CelMapKey::UInt(CelUInt::from(other))))
        }
        CelMapKey::UInt(number) => {
            let other = i64::try_from(*number.inner()).ok();
            (number.inner().to_string(), other.map(|other| CelMapKey::Int(CelInt::from(other))))
        }
    };
    if map.contains_key(&key) || other.is_some_and(|other| map.contains_key(&other)) {
        return Err(call.error(format!("insert failed: key {told} already exists")));
    }
    map.insert(key, value);
    Ok(())
}
