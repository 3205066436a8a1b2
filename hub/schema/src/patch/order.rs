//! The order of a merged list: elements that the patch names follow its order, the others keep the
//! place that they had among them.

use std::collections::HashMap;

use serde_json::Value;

/// What tells elements apart: the value of the merge key, or the element itself.
pub(super) fn identity(item: &Value, key: Option<&str>) -> Result<String, String> {
    let Some(key) = key else { return Ok(item.to_string()) };
    let map = item.as_object().ok_or("list element types are not identical")?;
    match map.get(key) {
        Some(value) => Ok(value.to_string()),
        None => Err(format!("map: {item} does not contain declared merge key: {key}")),
    }
}

/// First place of each element.
pub(super) fn places(items: &[Value], key: Option<&str>) -> Result<HashMap<String, usize>, String> {
    let mut out = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        out.entry(identity(item, key)?).or_insert(place);
    }
    Ok(out)
}

/// Puts `merged` in order: `wanted` is the order of the elements that the patch names, `was` that of
/// the list before.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    was: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, String> {
    let (wanted, was) = (places(wanted, key)?, places(was, key)?);
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in merged {
        let identity = identity(&item, key)?;
        let before = was.get(&identity).copied();
        match wanted.get(&identity) {
            Some(place) => named.push((*place, before, item)),
            None => others.push((before, item)),
        }
    }
    named.sort_by_key(|(place, _, _)| *place);
    others.sort_by_key(|(before, _)| before.unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((other, _)), Some((_, named, _))) => {
                matches!((other, named), (Some(other), Some(named)) if other < named)
            }
        };
        if other_first {
            out.extend(others.next().map(|(_, item)| item));
        } else {
            out.extend(named.next().map(|(_, _, item)| item));
        }
    }
}
