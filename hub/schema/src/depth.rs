//! How deep an object may be. Whatever walks, clones or drops a value does so level by level on the stack of the thread,
//! and what is stored must be read again, by a reader with a bound of its own (128).
//!
//! Guarantees:
//! - no patch makes a value that is deeper, not even on its way (`a_json_patch_is_bounded_in_depth`,
//!   `what_patches_make_is_no_deeper_than_what_is_sent`).

use serde_json::Value;

use crate::error::ApiError;

/// Levels of an object: far more than any schema has, and with what a reply or a list puts around it still less than
/// readers take.
pub const DEPTH_MAX: usize = 100;

/// Whether a value has at most this many levels; a text or a number has none. Takes no stack, and no longer than the value
/// is large.
#[must_use]
pub fn is_within(value: &Value, most: usize) -> bool {
    let mut left = vec![(value, most)];
    while let Some((value, most)) = left.pop() {
        let inside: &mut dyn Iterator<Item = &Value> = match value {
            Value::Array(items) => &mut items.iter(),
            Value::Object(map) => &mut map.values(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        };
        let Some(most) = most.checked_sub(1) else { return false };
        left.extend(inside.filter(|it| it.is_array() || it.is_object()).map(|it| (it, most)));
    }
    true
}

/// Refuses what is too deep.
///
/// # Errors
/// 400 for more than [`DEPTH_MAX`] levels.
pub fn check(value: &Value) -> Result<(), ApiError> {
    if is_within(value, DEPTH_MAX) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("the object is nested more than {DEPTH_MAX} levels deep")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn levels_are_counted_as_they_are_written() {
        assert!(is_within(&json!("a"), 0));
        assert!(!is_within(&json!({}), 0));
        assert!(is_within(&json!([[], {"a": 1}]), 2));
        assert!(!is_within(&json!([1, {"a": [2]}]), 2));
        let deep = |levels: usize| (0..levels).fold(json!(1), |inside, _| json!([inside]));
        assert!(check(&deep(DEPTH_MAX)).is_ok());
        assert_eq!(check(&deep(DEPTH_MAX + 1)).unwrap_err().code, 400);
    }
}
