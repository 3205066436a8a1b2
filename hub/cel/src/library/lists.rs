//! Functions for lists, and places in text.

use std::cmp::Ordering;

use cel::Value;

use super::function::{Table, no_overload};
use crate::allowance::Allowance;
use crate::weight::of_value;

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
];

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
