//! What values weigh: the bytes that a copy takes, and those that a comparison looks at.
//!
//! Guarantees:
//! - no value is so deep that copying, comparing or dropping it overflows a stack (`a_value_is_no_deeper_than_it_may_be`).

use cel::Value;
use cel::common::types::{CelBytes, CelList, CelMap, CelMapKey, CelOptional, CelString};
use cel::common::value::Val;
use serde_json::Value as Json;

/// Bytes of a value beside what is in it: its place, and what the allocator keeps.
pub(crate) const VALUE_BYTES: usize = 48;
/// Levels of lists, maps and optional values in values. JSON that is let in has fewer, and what is made is looked at again
/// before it is 200 levels deeper.
const LEVELS_MAX: usize = 400;

/// Why a value has no weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// It is more than there may be.
    TooLong,
    /// It has more levels than there may be.
    TooDeep,
}

/// Bytes of a value, which may have so many.
pub(crate) fn weight(value: &(dyn Val + '_), most: usize) -> Result<usize, Misfit> {
    let mut left = most;
    weigh(value, 0, &mut left)?;
    Ok(most - left)
}

fn take(left: &mut usize, bytes: usize) -> Result<(), Misfit> {
    *left = left.checked_sub(bytes).ok_or(Misfit::TooLong)?;
    Ok(())
}

fn weigh(value: &(dyn Val + '_), level: usize, left: &mut usize) -> Result<(), Misfit> {
    if LEVELS_MAX < level {
        return Err(Misfit::TooDeep);
    }
    take(left, VALUE_BYTES + shallow(value))?;
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().try_for_each(|item| weigh(&**item, level + 1, left))?;
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        for (key, value) in map.inner() {
            take(left, VALUE_BYTES + of_key(key))?;
            weigh(&**value, level + 1, left)?;
        }
    } else if let Some(optional) = value.downcast_ref::<CelOptional<'_>>()
        && let Some(value) = optional.option()
    {
        weigh(value, level + 1, left)?;
    }
    Ok(())
}

/// Bytes of a text itself.
pub(crate) fn shallow(value: &(dyn Val + '_)) -> usize {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        bytes.inner().len()
    } else {
        0
    }
}

fn of_key(key: &CelMapKey<'_>) -> usize {
    if let CelMapKey::String(text) = key { text.inner().len() } else { 0 }
}

/// Bytes of the largest of a list's elements, or a map's keys.
pub(crate) fn largest(value: &(dyn Val + '_), most: usize) -> Result<usize, Misfit> {
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        let mut largest = 0;
        for item in list.inner() {
            largest = largest.max(weight(&**item, most)?);
        }
        return Ok(largest);
    }
    let keys = value.downcast_ref::<CelMap<'_>>().into_iter().flat_map(|map| map.inner().keys());
    Ok(keys.map(|key| VALUE_BYTES + of_key(key)).max().unwrap_or_default())
}

/// Bytes that a comparison of two looks at, at most; none when they are more than there may be.
pub(crate) fn compared(one: &(dyn Val + '_), other: &(dyn Val + '_), most: usize) -> Option<usize> {
    let mut left = most;
    compare(one, other, &mut left).ok()?;
    Some(most - left)
}

fn compare(one: &(dyn Val + '_), other: &(dyn Val + '_), left: &mut usize) -> Result<(), Misfit> {
    take(left, VALUE_BYTES + shallow(one).min(shallow(other)))?;
    if let (Some(one), Some(other)) =
        (one.downcast_ref::<CelList<'_>>(), other.downcast_ref::<CelList<'_>>())
    {
        if one.inner().len() == other.inner().len() {
            for (one, other) in one.inner().iter().zip(other.inner()) {
                compare(&**one, &**other, left)?;
            }
        }
    } else if let (Some(one), Some(other)) =
        (one.downcast_ref::<CelMap<'_>>(), other.downcast_ref::<CelMap<'_>>())
    {
        if one.inner().len() == other.inner().len() {
            for (key, one) in one.inner() {
                take(left, VALUE_BYTES + of_key(key))?;
                if let Some(other) = other.inner().get(key) {
                    compare(&**one, &**other, left)?;
                }
            }
        }
    } else if let (Some(one), Some(other)) =
        (one.downcast_ref::<CelOptional<'_>>(), other.downcast_ref::<CelOptional<'_>>())
        && let (Some(one), Some(other)) = (one.option(), other.option())
    {
        compare(one, other, left)?;
    }
    Ok(())
}

/// Bytes of a value that a function has made.
pub(crate) fn of_value(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.iter().map(of_value).sum(),
            Value::Map(map) => map.map.values().map(|value| VALUE_BYTES + of_value(value)).sum(),
            _ => 0,
        }
}

/// Bytes of the value that JSON becomes.
#[must_use]
pub fn of_json(value: &Json) -> usize {
    VALUE_BYTES
        + match value {
            Json::String(text) => text.len(),
            Json::Array(items) => items.iter().map(of_json).sum(),
            Json::Object(map) => {
                map.iter().map(|(key, value)| VALUE_BYTES + key.len() + of_json(value)).sum()
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use cel::common::types::{CelInt, CelList};

    use super::*;

    #[test]
    fn a_value_is_no_deeper_than_it_may_be() {
        let mut value: Box<dyn Val> = Box::new(CelInt::from(1));
        for _ in 0..LEVELS_MAX {
            value = Box::new(CelList::from(vec![value]));
        }
        assert_eq!(weight(&*value, 1 << 20), Ok((LEVELS_MAX + 1) * VALUE_BYTES));
        assert_eq!(weight(&*value, LEVELS_MAX * VALUE_BYTES), Err(Misfit::TooLong));
        let deeper = CelList::from(vec![value]);
        assert_eq!(weight(&deeper, 1 << 20), Err(Misfit::TooDeep));
    }
}
