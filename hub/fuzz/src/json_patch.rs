//! A JSON patch (RFC 6902) of an object: `DOCUMENT PATCH`.

use freewheel_hub_schema::{depth, patch};
use serde_json::{Value, json};

use crate::{object, parts};

/// What copies may add to a document.
const COPIED_MAX: usize = 3 << 20;

/// It is refused, or makes something no larger and no deeper than it may.
pub(crate) fn run(bytes: &[u8]) {
    let [document, patch] = parts::parts(bytes);
    let Some(document) = parts::object(document) else { return };
    drop(patch::strict(patch, true));
    let patched = match patch::json(&document, patch) {
        Ok(patched) => patched,
        Err(error) => return object::refused(&error, bytes),
    };
    assert!(depth::check(&patched).is_ok(), "too deep");
    // An escape may take one byte in the patch, and six in what comes of it.
    let most = COPIED_MAX + 6 * bytes.len();
    assert!(parts::size(&patched) <= most, "{} bytes", parts::size(&patched));
    // What came of it is what its fields say, and what a patch that says them makes.
    let (Some(before), Some(after)) = (document.as_object(), patched.as_object()) else { return };
    if after.contains_key("") || before.contains_key("") {
        return;
    }
    let path = |field: &str| format!("/{}", field.replace('~', "~0").replace('/', "~1"));
    let each = |op: &str| -> Vec<Value> {
        let one = |(field, value): (&String, &Value)| json!({"op": op, "path": path(field), "value": value});
        after.iter().map(one).collect()
    };
    let gone = before.keys().filter(|field| !after.contains_key(*field));
    let removes = gone.map(|field| json!({"op": "remove", "path": path(field)}));
    let makes = removes.chain(each("add")).chain(each("test"));
    let makes = Value::from_iter(makes).to_string();
    assert_eq!(patch::json(&document, makes.as_bytes()).ok().as_ref(), Some(&patched));
}
