//! One operation of a JSON patch as evanphx/json-patch applies it, which is more than RFC 6902 says: a negative
//! index counts from an array's end, and what is not there is null to a `test`.

use json_patch::jsonptr::{Pointer, PointerBuf, Token};
use json_patch::{AddOperation, PatchOperation, RemoveOperation};
use serde_json::Value;

use crate::depth::{DEPTH_MAX, is_within};

/// The operation does not apply to the document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DoesNotApply;

/// Applies one operation.
pub(super) fn apply(document: &mut Value, operation: PatchOperation) -> Result<(), DoesNotApply> {
    let run = |document: &mut Value, operation: PatchOperation| {
        json_patch::patch(document, &[operation]).map_err(|_| DoesNotApply)
    };
    if operation.path().is_root() {
        // The document itself is in nothing that could be changed.
        return Err(DoesNotApply);
    }
    match operation {
        PatchOperation::Test(mut test) => {
            test.path = from_the_end(document, &test.path, false);
            if test.value.is_null() && is_absent(document, &test.path) {
                return Ok(());
            }
            run(document, PatchOperation::Test(test))
        }
        PatchOperation::Add(mut add) => {
            add.path = from_the_end(document, &add.path, true);
            fits(&add.path, &add.value)?;
            run(document, PatchOperation::Add(add))
        }
        PatchOperation::Remove(mut remove) => {
            remove.path = from_the_end(document, &remove.path, false);
            run(document, PatchOperation::Remove(remove))
        }
        PatchOperation::Replace(mut replace) => {
            replace.path = from_the_end(document, &replace.path, false);
            fits(&replace.path, &replace.value)?;
            run(document, PatchOperation::Replace(replace))
        }
        PatchOperation::Copy(mut copy) => {
            copy.from = from_the_end(document, &copy.from, false);
            copy.path = from_the_end(document, &copy.path, true);
            fits(&copy.path, copy.from.resolve(document).map_err(|_| DoesNotApply)?)?;
            run(document, PatchOperation::Copy(copy))
        }
        PatchOperation::Move(moved) => {
            // Where it goes is looked up when it is no longer where it was.
            let path = from_the_end(document, &moved.from, false);
            let value = path.resolve(document).map_err(|_| DoesNotApply)?.clone();
            run(document, PatchOperation::Remove(RemoveOperation { path }))?;
            let path = from_the_end(document, &moved.path, true);
            fits(&path, &value)?;
            run(document, PatchOperation::Add(AddOperation { path, value }))
        }
    }
}

/// Whether the value is not too deep for that place. A copy into itself doubles the depth each time.
fn fits(path: &Pointer, value: &Value) -> Result<(), DoesNotApply> {
    let left = DEPTH_MAX.checked_sub(path.tokens().count()).ok_or(DoesNotApply)?;
    if is_within(value, left) { Ok(()) } else { Err(DoesNotApply) }
}

/// Whether there is no such field in a map that is there.
fn is_absent(document: &Value, path: &Pointer) -> bool {
    let Some((parent, last)) = path.split_back() else { return false };
    let map = parent.resolve(document).ok().and_then(Value::as_object);
    map.is_some_and(|map| !map.contains_key(&*last.decoded()))
}

/// The path with every negative index counted from the end of its array; `adds` may go one further.
fn from_the_end(document: &Value, path: &Pointer, adds: bool) -> PointerBuf {
    let mut out = PointerBuf::new();
    let mut at = Some(document);
    let count = path.tokens().count();
    for (i, token) in path.tokens().enumerate() {
        let decoded = token.decoded();
        let Some(items) = at.and_then(Value::as_array) else {
            at = at.and_then(|value| value.get(&*decoded));
            out.push_back(token);
            continue;
        };
        let size = items.len() + usize::from(adds && i + 1 == count);
        let back = decoded.parse::<i64>().ok().filter(|index| *index < 0);
        let back = back.and_then(|index| usize::try_from(index.unsigned_abs()).ok());
        if let Some(index) = back.and_then(|back| size.checked_sub(back)) {
            at = items.get(index);
            out.push_back(Token::new(index.to_string()));
        } else {
            at = decoded.parse::<usize>().ok().and_then(|index| items.get(index));
            out.push_back(token);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn gives(operation: Value, expected: Option<Value>) {
        let mut document = json!({"a": [1, 2, 3], "b": {"c": [[4], [5]]}});
        let shown = operation.to_string();
        let operation = serde_json::from_value(operation).unwrap();
        let applied = apply(&mut document, operation);
        assert_eq!(applied.is_ok(), expected.is_some(), "{shown}");
        if let Some(expected) = expected {
            assert_eq!(document, expected, "{shown}");
        }
    }

    #[test]
    fn indices_count_from_the_end() {
        let with = |a: Value| Some(json!({"a": a, "b": {"c": [[4], [5]]}}));
        gives(json!({"op": "remove", "path": "/a/-1"}), with(json!([1, 2])));
        gives(json!({"op": "remove", "path": "/a/-3"}), with(json!([2, 3])));
        gives(json!({"op": "remove", "path": "/a/-4"}), None);
        gives(json!({"op": "replace", "path": "/a/-2", "value": 9}), with(json!([1, 9, 3])));
        gives(json!({"op": "add", "path": "/a/-1", "value": 4}), with(json!([1, 2, 3, 4])));
        gives(json!({"op": "add", "path": "/a/-4", "value": 0}), with(json!([0, 1, 2, 3])));
        gives(json!({"op": "move", "from": "/a/-1", "path": "/a/0"}), with(json!([3, 1, 2])));
        gives(json!({"op": "copy", "from": "/a/-1", "path": "/a/-1"}), with(json!([1, 2, 3, 3])));
        gives(
            json!({"op": "add", "path": "/b/c/-1/-1", "value": 6}),
            Some(json!({"a": [1, 2, 3], "b": {"c": [[4], [5, 6]]}})),
        );
    }

    #[test]
    fn what_is_not_there_is_null_to_a_test() {
        let same = Some(json!({"a": [1, 2, 3], "b": {"c": [[4], [5]]}}));
        gives(json!({"op": "test", "path": "/z", "value": null}), same.clone());
        gives(json!({"op": "test", "path": "/b/z", "value": null}), same.clone());
        gives(json!({"op": "test", "path": "/a/-1", "value": 3}), same);
        gives(json!({"op": "test", "path": "/z", "value": 1}), None);
        gives(json!({"op": "test", "path": "/z/y", "value": null}), None);
        gives(json!({"op": "test", "path": "/a", "value": null}), None);
        gives(json!({"op": "test", "path": "/a/7", "value": null}), None);
        gives(json!({"op": "replace", "path": "", "value": {}}), None);
    }
}
