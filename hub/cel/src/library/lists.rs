//! Functions for lists, and places in text.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::Value;
use cel::objects::OptionalValue;

use super::function::{Table, no_overload};
use crate::allowance::Allowance;
use crate::macros::SORT_BY_KEYS;
use crate::weight::{VALUE_BYTES, of_value};

pub(super) const FUNCTIONS: Table = &[
    ("isSorted", is_sorted),
    ("sum", sum),
    ("min", |values, _| most(values, Ordering::Less, "min")),
    ("max", |values, _| most(values, Ordering::Greater, "max")),
    ("indexOf", index_of),
    ("lastIndexOf", last_index_of),
    ("sets.contains", |values, allowance| sets(values, allowance, holds)),
    ("sets.equivalent", |values, allowance| {
        sets(values, allowance, |one, other| holds(one, other) && holds(other, one))
    }),
    ("sets.intersects", |values, allowance| {
        sets(values, allowance, |one, other| other.iter().any(|item| one.contains(item)))
    }),
    ("distinct", distinct),
    ("flatten", flatten),
    ("slice", slice),
    ("sort", sort),
    (SORT_BY_KEYS, sort_by_keys),
    ("reverse", |values, _| of_list(values, |list| list.iter().rev().cloned().collect())),
    ("first", |values, _| end_of(values, |list| list.first())),
    ("last", |values, _| end_of(values, |list| list.last())),
    ("lists.range", range),
];

fn list_of(list: Vec<Value>) -> Value {
    Value::List(Arc::new(list))
}

fn of_list(values: &[Value], make: impl Fn(&[Value]) -> Vec<Value>) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    Ok(list_of(make(list)))
}

fn end_of(values: &[Value], end: impl Fn(&[Value]) -> Option<&Value>) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    let end = end(list).cloned().map_or_else(OptionalValue::none, OptionalValue::of);
    Ok(Value::Opaque(Arc::new(end)))
}

/// Whether there is work left to compare each element of a list with each.
fn compares_all(list: &[Value], allowance: &Allowance) -> Result<(), String> {
    let bytes: usize = list.iter().map(of_value).sum();
    let looks_at = bytes.saturating_mul(list.len());
    if allowance.walk(looks_at) { Ok(()) } else { Err("too much work".to_owned()) }
}

fn distinct(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    compares_all(list, allowance)?;
    let mut found: Vec<Value> = Vec::new();
    for item in list.iter() {
        if !found.contains(item) {
            found.push(item.clone());
        }
    }
    Ok(list_of(found))
}

fn flatten(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let (list, levels) = match values {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(levels)] => (list, *levels),
        [..] => return no_overload(),
    };
    let levels = u64::try_from(levels).map_err(|_| "level must be non-negative".to_owned())?;
    let mut flat = Vec::new();
    flatten_into(list, levels, &mut flat);
    Ok(list_of(flat))
}

/// A value is no deeper than it may be.
fn flatten_into(list: &[Value], levels: u64, flat: &mut Vec<Value>) {
    for item in list {
        match item {
            Value::List(inner) if 0 < levels => flatten_into(inner, levels - 1, flat),
            item => flat.push(item.clone()),
        }
    }
}

fn slice(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let [Value::List(list), Value::Int(from), Value::Int(to)] = values else {
        return no_overload();
    };
    let wrong = |why: &str| format!("cannot slice({from}, {to}), {why}");
    let (Ok(start), Ok(end)) = (usize::try_from(*from), usize::try_from(*to)) else {
        return Err(wrong("negative indexes not supported"));
    };
    if end < start {
        return Err(wrong("start index must be less than or equal to end index"));
    }
    let part = list.get(start..end);
    let part = part.ok_or_else(|| wrong(&format!("list is length {}", list.len())))?;
    Ok(list_of(part.to_vec()))
}

fn sort(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    sorted(list, list, allowance)
}

/// A list in the order that keys have, one for each of its elements (`sortBy`).
fn sort_by_keys(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::List(list), Value::List(keys)] = values else { return no_overload() };
    sorted(list, keys, allowance)
}

fn sorted(list: &[Value], keys: &[Value], allowance: &Allowance) -> Result<Value, String> {
    // As often as they are compared at most.
    compares_all(keys, allowance)?;
    let Some(first) = keys.first() else { return Ok(list_of(Vec::new())) };
    if first.partial_cmp(first).is_none() {
        return Err("list elements must be comparable".to_owned());
    }
    let same = |item: &Value| std::mem::discriminant(item) == std::mem::discriminant(first);
    if !keys.iter().all(same) {
        return Err("list elements must have the same type".to_owned());
    }
    let mut pairs: Vec<(&Value, &Value)> = keys.iter().zip(list).collect();
    pairs.sort_by(|(one, _), (other, _)| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    Ok(list_of(pairs.into_iter().map(|(_, item)| item.clone()).collect()))
}

fn range(values: &[Value], allowance: &Allowance) -> Result<Value, String> {
    let [Value::Int(end)] = values else { return no_overload() };
    let count = usize::try_from(*end).unwrap_or_default();
    if !allowance.room(count.saturating_mul(VALUE_BYTES)) {
        return Err("too much work".to_owned());
    }
    Ok(list_of((0..*end).map(Value::Int).collect()))
}

fn is_sorted(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    Ok(Value::Bool(list.is_sorted_by(|a, b| a.partial_cmp(b).is_some_and(Ordering::is_le))))
}

fn sum(values: &[Value], _: &Allowance) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    let overflow = || "integer overflow".to_owned();
    let mut total = Value::Int(0);
    for (index, item) in list.iter().enumerate() {
        total = match (&total, item) {
            (_, item) if index == 0 => item.clone(),
            (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
            (Value::UInt(a), Value::UInt(b)) => {
                Value::UInt(a.checked_add(*b).ok_or_else(overflow)?)
            }
            (Value::Float(a), Value::Float(b)) => Value::Float(a + b),
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or_else(overflow)?)
            }
            _ => return no_overload(),
        };
    }
    Ok(total)
}

fn most(values: &[Value], wanted: Ordering, name: &str) -> Result<Value, String> {
    let [Value::List(list)] = values else { return no_overload() };
    let mut items = list.iter();
    let first = items.next().ok_or_else(|| format!("{name} called on empty list"))?;
    let mut found = first;
    for item in items {
        match item.partial_cmp(found) {
            Some(order) if order == wanted => found = item,
            Some(_) => {}
            None => return no_overload(),
        }
    }
    Ok(found.clone())
}

fn place(found: Option<usize>) -> Result<Value, String> {
    Ok(Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)))
}

/// The place of a byte, in code points.
fn letters(text: &str, at: Option<usize>) -> Option<usize> {
    Some(text.get(..at?)?.chars().count())
}

fn index_of(values: &[Value], _: &Allowance) -> Result<Value, String> {
    match values {
        [Value::List(list), item] => place(list.iter().position(|one| one == item)),
        [Value::String(text), Value::String(part)] => {
            place(letters(text, text.find(part.as_str())))
        }
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            let from = usize::try_from(*from).map_err(|_| format!("index out of range: {from}"))?;
            let start = text.char_indices().map(|(at, _)| at).nth(from).unwrap_or(text.len());
            let found = text.get(start..).and_then(|rest| rest.find(part.as_str()));
            place(letters(text, found.map(|at| at + start)))
        }
        [..] => no_overload(),
    }
}

fn last_index_of(values: &[Value], _: &Allowance) -> Result<Value, String> {
    match values {
        [Value::List(list), item] => place(list.iter().rposition(|one| one == item)),
        [Value::String(text), Value::String(part)] => {
            place(letters(text, text.rfind(part.as_str())))
        }
        [..] => no_overload(),
    }
}

fn holds(one: &[Value], other: &[Value]) -> bool {
    other.iter().all(|item| one.contains(item))
}

fn sets(
    values: &[Value],
    allowance: &Allowance,
    compare: impl Fn(&[Value], &[Value]) -> bool,
) -> Result<Value, String> {
    let [Value::List(one), Value::List(other)] = values else { return no_overload() };
    // Each element of one is compared with each of the other.
    let pairs = |list: &[Value], times: usize| {
        list.iter().map(of_value).sum::<usize>().saturating_mul(times.saturating_mul(2))
    };
    let looks_at = pairs(one, other.len()).min(pairs(other, one.len()));
    if !allowance.walk(looks_at.max(one.len().saturating_mul(other.len()))) {
        return Err("too much work".to_owned());
    }
    Ok(Value::Bool(compare(one, other)))
}
