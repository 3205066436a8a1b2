//! Inputs of several texts, with a sign between them that no text has.

use freewheel_hub_schema::types::parse_json;
use serde_json::Value;

/// ASCII's record separator: JSON has none outside of an escape, and what is text to people has none at all.
const SEPARATOR: u8 = 0x1e;

/// So many parts; what is not there is empty, and the last one has all that is left.
pub(crate) fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut all = bytes.splitn(N, |byte| *byte == SEPARATOR);
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// All parts.
pub(crate) fn all(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == SEPARATOR)
}

/// The JSON object that a part is, no deeper than one that is stored.
pub(crate) fn object(part: &[u8]) -> Option<Value> {
    let (value, _) = parse_json(part).ok()?;
    (value.is_object() && freewheel_hub_schema::depth::check(&value).is_ok()).then_some(value)
}

/// About how many bytes a value takes as JSON.
pub(crate) fn size(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_taken_apart_at_its_separators() {
        assert_eq!(parts::<3>(b"a\x1eb\x1ec\x1ed"), [&b"a"[..], b"b", b"c\x1ed"]);
        assert_eq!(parts::<2>(b"a"), [&b"a"[..], b""]);
        assert_eq!(all(b"a\x1e\x1eb").count(), 3);
        assert!(object(b"{}").is_some() && object(b"[]").is_none());
    }
}
