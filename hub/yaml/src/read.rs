//! YAML, as Kubernetes reads it.
//!
//! Guarantees:
//! - flags, numbers and texts are those of Kubernetes' own reader (`yaml_is_that_of_kubernetes_own_reader`);
//! - what is none is told by its line (`what_is_no_yaml_is_told_by_its_line`).

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::types;
use serde_json::Value;

/// YAML 1.1, as sigs.k8s.io/yaml reads it: `no` and `on` are flags, `0400` is 256, and of a key that is
/// there twice the last counts. Answers the paths of those keys, too. Nesting and size limits are the
/// parser's defaults (64 levels, 250,000 values): anchors cannot blow up, and what is deeper would take more of a stack than
/// a thread has.
///
/// # Errors
/// 400 for what is none.
pub fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let wrong = |why: &str| ApiError::bad_request(format!("error converting YAML to JSON: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("yaml: the body is not UTF-8"))?;
    let options = serde_saphyr::options! {
        strict_booleans: false,
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        types::read_any(reader)
    });
    // What the parser says of it are its own words; where it stands is what helps.
    read.map_err(|error| match error.location().map(|place| place.line()) {
        None | Some(0) => wrong("yaml: this is no YAML, or too large"),
        Some(line) => wrong(&format!("yaml: line {line}: this is no YAML, or nested too deeply")),
    })
}

/// YAML, and JSON with it, as its writer said it, and the paths of what it says twice.
///
/// # Errors
/// 400 for what is none.
pub fn or_json(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    // What machines send is JSON, which is read many times faster.
    match types::parse_json(bytes) {
        Ok(read) => Ok(read),
        Err(_) => read(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn reads(yaml: &str, expected: &Value) {
        assert_eq!(read(yaml.as_bytes()).unwrap().0, *expected, "{yaml}");
    }

    /// What sigs.k8s.io/yaml 1.6 makes of them.
    #[test]
    fn yaml_is_that_of_kubernetes_own_reader() {
        reads("mode: 0400", &json!({"mode": 256}));
        reads("a: [no, off, n, False]", &json!({"a": [false, false, false, false]}));
        reads("a: [yes, on, y, TRUE]", &json!({"a": [true, true, true, true]}));
        reads("a: ['no', \"on\", norway, !!str no]", &json!({"a": ["no", "on", "norway", "no"]}));
        reads("on: 1\n80: 2\n", &json!({"true": 1, "80": 2}));
        reads("a: [~, null, '']", &json!({"a": [null, null, ""]}));
        reads(
            "a: [0x1F, 0o17, 0b11, 1_000, 1e3, .5]",
            &json!({"a": [31, 15, 3, 1000, 1000.0, 0.5]}),
        );
        reads("a: 2026-01-01", &json!({"a": "2026-01-01"}));
        reads("a: &x {b: 1}\nc: *x\n", &json!({"a": {"b": 1}, "c": {"b": 1}}));
    }

    #[test]
    fn what_is_no_yaml_is_told_by_its_line() {
        let error = read(b"a: 1\nb: [1\nc: }\n").unwrap_err();
        assert_eq!(error.code, 400);
        let why = error.message.strip_prefix("error converting YAML to JSON: yaml: line ").unwrap();
        assert!(why.ends_with(": this is no YAML, or nested too deeply"), "{why}");
    }
}
