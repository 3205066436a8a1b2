//! A JSON body, of the kind that it says.

use freewheel_hub_schema::types::decode_json;

use crate::object;

/// It is refused, or an object.
pub(crate) fn run(bytes: &[u8]) {
    let kind = object::said_kind(bytes);
    match decode_json(bytes, &*kind) {
        Ok(decoded) => {
            let strict = decoded.strict.len();
            assert!(strict <= 1_000, "{strict} texts of warnings");
            object::check(&kind, &decoded.value);
        }
        Err(error) => object::refused(&error, bytes),
    }
}
