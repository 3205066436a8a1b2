//! YAML, as Kubernetes reads it.
//!
//! Guarantees:
//! - flags, numbers and texts are those of Kubernetes' own reader (`yaml_is_that_of_kubernetes_own_reader`);
//! - what is none is told by its line (`what_is_no_yaml_is_told_by_its_line`);
//! - what aliases (`*x`) stand for is bounded: a small text becomes no large tree
//!   (`aliases_make_nothing_large_of_a_small_text`).

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::types;
use serde_json::Value;
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

/// Values that all aliases of one text stand for together, the ends of lists and maps counted with them: of maps of one
/// member 1,024.
const REPLAYED_VALUES_MAX: usize = 4096;
/// Bytes of texts beyond twice the whole body, to which an escape that stands for a longer character comes at most.
const REPLAYED_BYTES_MAX: usize = 256 << 10;

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
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: REPLAYED_VALUES_MAX },
        budget: serde_saphyr::budget! {
            max_total_scalar_bytes: bytes.len().saturating_mul(2).saturating_add(REPLAYED_BYTES_MAX),
        },
    };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        types::read_any(reader)
    });
    read.map_err(|error| wrong(&why(&error)))
}

/// What the parser says of it are its own words; where it stands is what helps.
fn why(error: &Error) -> String {
    let line = error.location().map(|place| place.line()).filter(|line| *line != 0);
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let why = if are_aliases(error) {
        "its aliases (*x) stand for too much: write out what they stand for, or send JSON"
    } else if line.is_some() {
        "this is no YAML, or nested too deeply"
    } else {
        "this is no YAML, or too large"
    };
    format!("yaml: {place}{why}")
}

/// Whether what aliases stand for was too much.
fn are_aliases(mut error: &Error) -> bool {
    while let Error::AliasError { error: within, .. } | Error::WithSnippet { error: within, .. } =
        error
    {
        error = within;
    }
    let Error::Budget { breach, .. } = error else {
        return matches!(error, Error::AliasReplayLimitExceeded { .. });
    };
    matches!(breach, BudgetBreach::ScalarBytes { .. } | BudgetBreach::AliasAnchorRatio { .. })
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

    #[test]
    fn aliases_make_nothing_large_of_a_small_text() {
        let of = |maps: usize| {
            let maps = "{b: 1}, ".repeat(maps);
            format!("a: &x [{maps}]\nc: [{}]\n", "*x , ".repeat(90))
        };
        assert_eq!(read(of(9).as_bytes()).unwrap().0["c"].as_array().unwrap().len(), 90);
        let of_level = |name: &str| format!("[{}]", format!("*{name} , ").repeat(9));
        let [a, b, c] = ["a", "b", "c"].map(of_level);
        let levels = format!("a: &a [{{a: 1}}, {{a: 1}}]\nb: &b {a}\nc: &c {b}\nd: {c}\n");
        let text = format!("a: &x {}\nc: [{}]\n", "x".repeat(30_000), "*x , ".repeat(90));
        for large in [of(20), levels, text] {
            let refused = read(large.as_bytes()).unwrap_err();
            assert_eq!(refused.code, 400);
            assert!(refused.message.contains("its aliases (*x) stand for too much"), "{refused}");
        }
        // Texts alone are no fewer than before.
        let long = format!("a: {}\n", "x".repeat(3 << 20));
        assert_eq!(read(long.as_bytes()).unwrap().0["a"].as_str().unwrap().len(), 3 << 20);
    }
}
