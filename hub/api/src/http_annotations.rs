//! Annotations of a pod that say how its containers serve HTTP.
//!
//! One is for all containers of the pod; with `.NAME` behind it, for the container of that name alone.
//!
//! Guarantees:
//! - what is no number, or beyond what a device takes, is found with its place and what was written
//!   (`what_is_no_number_is_found`).

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

/// Requests that one instance serves, 1–65535. Without it: as many as the module itself allows, else one.
pub const HTTP_REUSE: &str = "freewheel.dev/http-instance-reuse";

/// Instances at a time, each with one request, 1–1024. Without it: 64.
pub const HTTP_CONCURRENCY: &str = "freewheel.dev/http-concurrency";

/// Seconds that a request has until its answer begins, 1–86400. Without it: 60.
pub const HTTP_TIMEOUT: &str = "freewheel.dev/http-request-timeout-seconds";

/// With the most that each may say.
const ALL: [(&str, u32); 3] =
    [(HTTP_REUSE, 65_535), (HTTP_CONCURRENCY, 1024), (HTTP_TIMEOUT, 24 * 60 * 60)];

/// What the annotation says; `None` where it is none of these.
///
/// # Errors
/// In words, when it says no number that it may.
pub fn read(key: &str, raw: &str) -> Option<Result<u32, String>> {
    let is_it = |of: &str| {
        key.strip_prefix(of).is_some_and(|name| matches!(name.chars().next(), None | Some('.')))
    };
    let (_, most) = ALL.into_iter().find(|(of, _)| is_it(of))?;
    let value = raw.parse().ok().filter(|value| (1..=most).contains(value));
    Some(value.ok_or_else(|| format!("must be a number from 1 to {most}")))
}

/// What the annotations of this metadata say wrongly, but for what `old` said already: who changes something else of a
/// pod, or writes its status, is not to be held up by it.
pub(crate) fn check(metadata: &Value, old: &Value, path: &str) -> Vec<FieldError> {
    let wrong = |(key, raw): (&String, &Value)| {
        if old["annotations"].get(key) == Some(raw) {
            return None;
        }
        let why = read(key, raw.as_str()?)?.err()?;
        Some(FieldError::invalid(format!("{path}.annotations[{key}]"), &json!(raw), &why))
    };
    let all = metadata.get("annotations").and_then(Value::as_object);
    all.into_iter().flatten().filter_map(wrong).collect()
}

/// The same as warnings, for a template: its pods will be refused.
pub(crate) fn warnings(metadata: &Value, path: &str) -> Vec<String> {
    let errors = check(metadata, &Value::Null, path).into_iter();
    errors
        .map(|one| format!("{}: {}: pods that say so are refused", one.field, one.message))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_found() {
        for (key, raw) in [
            (HTTP_REUSE, "many"),
            (HTTP_REUSE, "0"),
            (HTTP_REUSE, "65536"),
            (HTTP_CONCURRENCY, "1025"),
            (HTTP_TIMEOUT, "-1"),
            (HTTP_TIMEOUT, "1.5"),
        ] {
            for key in [key.to_owned(), format!("{key}.web")] {
                let meta =
                    json!({"annotations": {&key: raw, "other": "many", format!("{key}"): raw}});
                let found = check(&meta, &Value::Null, "metadata");
                let [error] = &found[..] else { panic!("{found:?}") };
                assert_eq!(error.field, format!("metadata.annotations[{key}]"));
                let said = format!("Invalid value: {raw:?}: must be a number from 1 to ");
                assert!(error.message.starts_with(&said), "{}", error.message);
                assert_eq!(check(&meta, &meta, "metadata"), [], "it was there before");
            }
        }
        let fine = json!({"annotations": {HTTP_REUSE: "8", format!("{HTTP_REUSE}d"): "many"}});
        assert_eq!(check(&fine, &Value::Null, "metadata"), []);
        assert_eq!(warnings(&fine, "metadata"), Vec::<String>::new());
    }
}
