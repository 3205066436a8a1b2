//! Annotations → `HttpV1`: how a pod's containers serve HTTP.
//!
//! Guarantees:
//! - what says no number counts as not there, and is told: no word on a pod ends what runs
//!   (`what_says_no_number_counts_as_not_there`).

use freewheel_hub_api::http_annotations::{HTTP_CONCURRENCY, HTTP_REUSE, HTTP_TIMEOUT, read};
use freewheel_link::plan::HttpV1;
use k8s_openapi::api::core::v1::Container;

/// How this container serves HTTP.
pub(super) fn http(annotations: &[(String, String)], container: &Container) -> HttpV1 {
    let number = |key: &str| number(annotations, key, &container.name);
    let narrow = |value: Option<u32>| value.and_then(|value| u16::try_from(value).ok());
    let default = HttpV1::default();
    HttpV1 {
        reuse: narrow(number(HTTP_REUSE)),
        concurrency: narrow(number(HTTP_CONCURRENCY)).unwrap_or(default.concurrency),
        timeout_seconds: number(HTTP_TIMEOUT).unwrap_or(default.timeout_seconds),
    }
}

/// The number for this container, or for all.
fn number(annotations: &[(String, String)], key: &str, container: &str) -> Option<u32> {
    let said = |wanted: &str| {
        let (found, raw) = annotations.iter().find(|(found, _)| found == wanted)?;
        read(found, raw)?.ok()
    };
    said(&format!("{key}.{container}")).or_else(|| said(key))
}

/// What is left out of them, in words.
pub(super) fn left_out<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Vec<String> {
    let wrong = |(key, raw): (&String, &String)| {
        let why = read(key, raw)?.err()?;
        Some(format!("annotation {key}: {raw:?} {why}, and counts as not there"))
    };
    annotations.filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(annotations: &[(&str, &str)]) -> HttpV1 {
        let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let container = Container { name: "web".to_owned(), ..Container::default() };
        http(&all.collect::<Vec<_>>(), &container)
    }

    #[test]
    fn an_instance_serves_one_request_unless_somebody_says_more() {
        let http = said(&[]);
        assert_eq!((http.reuse, http.concurrency, http.timeout_seconds), (None, 64, 60));
        assert_eq!(said(&[(HTTP_REUSE, "128")]).reuse, Some(128));
    }

    #[test]
    fn a_container_may_have_its_own() {
        let own = format!("{HTTP_CONCURRENCY}.web");
        let other = format!("{HTTP_TIMEOUT}.db");
        let all = [(HTTP_CONCURRENCY, "8"), (&own, "2"), (&other, "5"), (HTTP_TIMEOUT, "7")];
        let http = said(&all);
        assert_eq!((http.concurrency, http.timeout_seconds), (2, 7));
    }

    #[test]
    fn what_says_no_number_counts_as_not_there() {
        let own = format!("{HTTP_REUSE}.web");
        assert_eq!(said(&[(HTTP_REUSE, "many")]), HttpV1::default());
        assert_eq!(said(&[(HTTP_REUSE, "8"), (&own, "0")]).reuse, Some(8));
        let all = [(HTTP_REUSE.to_owned(), "many".to_owned()), (own, "7".to_owned())];
        let told = left_out(all.iter().map(|(key, raw)| (key, raw)));
        let text = "annotation freewheel.dev/http-instance-reuse: \"many\" must be a number from 1 to 65535, and counts as \
                    not there";
        assert_eq!(told, [text]);
    }
}
