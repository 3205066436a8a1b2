//! A strategic merge patch of an object of a built-in kind: `DOCUMENT PATCH`.

use freewheel_hub_schema::types::canonicalise;
use freewheel_hub_schema::{depth, patch};

use crate::{object, parts};

/// It is refused, or makes something no larger and no deeper than it may.
pub(crate) fn run(bytes: &[u8]) {
    let [body, patch] = parts::parts(bytes);
    let Some(mut document) = parts::object(body) else { return };
    let Some(kind) = object::of_value(&document) else { return };
    // What is patched was stored.
    if canonicalise(&mut document, &*kind).is_err() {
        return;
    }
    let unchanged = patch::strategic(&document, b"{}", &*kind);
    if unchanged.as_ref().is_err_and(|error| error.code == 415) {
        return;
    }
    assert!(unchanged.is_ok_and(|same| same == document), "nothing is no change");
    let patched = match patch::strategic(&document, patch, &*kind) {
        Ok(patched) => patched,
        Err(error) => return object::refused(&error, bytes),
    };
    assert!(depth::check(&patched).is_ok(), "too deep");
    let most = parts::size(&document) + 6 * patch.len();
    assert!(parts::size(&patched) <= most, "{} bytes of {most}", parts::size(&patched));
    let mut formed = patched;
    if canonicalise(&mut formed, &*kind).is_ok() {
        object::check(&kind, &formed);
    }
}
