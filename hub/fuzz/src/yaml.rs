//! A YAML body.
//!
//! What the hub itself writes in YAML, it reads as what it was.

use freewheel_hub_schema::types::{decode_value, parse_json};
use freewheel_hub_yaml as reader;

use crate::{object, parts};

/// A value may be larger than its text, where that names a part of itself more than once.
const GROWS_TO: usize = 64 << 20;

/// It is refused, or a value and perhaps an object.
pub(crate) fn run(bytes: &[u8]) {
    let (value, twice) = match reader::read(bytes) {
        Ok(read) => read,
        Err(error) => return object::refused(&error, bytes),
    };
    assert!(parts::size(&value) <= GROWS_TO, "{} bytes", parts::size(&value));
    let Ok(text) = serde_json::to_vec(&value) else { return };
    if let Ok((again, _)) = parse_json(&text) {
        assert_eq!(again, value, "in JSON it is another value");
        let written = reader::write(&value).unwrap_or_default();
        match reader::read(written.as_bytes()) {
            Ok((again, twice)) => {
                assert_eq!(again, value, "what is written is read as another value: {written}");
                assert!(twice.is_empty(), "{twice:?}");
            }
            Err(error) => panic!("{}: {written}", error.message),
        }
    }
    let kind = object::of_value(&value);
    let Some(kind) = kind else { return };
    match decode_value((value, twice), bytes, &*kind) {
        Ok(decoded) => object::check(&kind, &decoded.value),
        Err(error) => object::refused(&error, bytes),
    }
}
