//! Annotations → `HttpV1`: how a pod's containers serve HTTP.
//!
//! An annotation is for all containers of the pod; with `.NAME` behind it, for the container of that name alone.

use freewheel_link::plan::HttpV1;
use k8s_openapi::api::core::v1::Container;

use super::Fault;

/// Requests that one instance serves, 1–65535. Without it: as many as the module itself allows, else one.
pub const HTTP_REUSE: &str = "freewheel.dev/http-instance-reuse";

/// Instances at a time, each with one request, 1–1024. Without it: 64.
pub const HTTP_CONCURRENCY: &str = "freewheel.dev/http-concurrency";

/// Seconds that a request has until its answer begins, 1–86400. Without it: 60.
pub const HTTP_TIMEOUT: &str = "freewheel.dev/http-request-timeout-seconds";

const MAX_CONCURRENCY: u32 = 1024;
const TIMEOUT_SECONDS_MAX: u32 = 24 * 60 * 60;

/// How this container serves HTTP.
pub(super) fn http(
    annotations: &[(String, String)],
    container: &Container,
) -> Result<HttpV1, Fault> {
    let number = |key: &str, most: u32| number(annotations, key, &container.name, most);
    let narrow = |value: Option<u32>| value.and_then(|value| u16::try_from(value).ok());
    let default = HttpV1::default();
    Ok(HttpV1 {
        reuse: narrow(number(HTTP_REUSE, u16::MAX.into())?),
        concurrency: narrow(number(HTTP_CONCURRENCY, MAX_CONCURRENCY)?)
            .unwrap_or(default.concurrency),
        timeout_seconds: number(HTTP_TIMEOUT, TIMEOUT_SECONDS_MAX)?
            .unwrap_or(default.timeout_seconds),
    })
}

/// A whole number from 1 to `most`, if there is one for this container or for all.
fn number(
    annotations: &[(String, String)],
    key: &str,
    container: &str,
    most: u32,
) -> Result<Option<u32>, Fault> {
    let own = format!("{key}.{container}");
    let find = |wanted: &str| annotations.iter().find(|(found, _)| found == wanted);
    let Some((found, raw)) = find(&own).or_else(|| find(key)) else { return Ok(None) };
    let value = raw.parse().ok().filter(|value| (1..=most).contains(value));
    let wrong = || format!("annotation {found}: {raw:?} is no number from 1 to {most}");
    value.map(Some).ok_or_else(|| Fault::invalid(wrong()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Result<HttpV1, String> {
        let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let container = Container { name: "web".to_owned(), ..Container::default() };
        http(&all.collect::<Vec<_>>(), &container).map_err(|fault| fault.message)
    }

    #[test]
    fn an_instance_serves_one_request_unless_somebody_says_more() {
        let http = read(&[]).unwrap();
        assert_eq!((http.reuse, http.concurrency, http.timeout_seconds), (None, 64, 60));
        assert_eq!(read(&[(HTTP_REUSE, "128")]).unwrap().reuse, Some(128));
    }

    #[test]
    fn a_container_may_have_its_own() {
        let own = format!("{HTTP_CONCURRENCY}.web");
        let other = format!("{HTTP_TIMEOUT}.db");
        let all = [(HTTP_CONCURRENCY, "8"), (&own, "2"), (&other, "5"), (HTTP_TIMEOUT, "7")];
        let http = read(&all).unwrap();
        assert_eq!((http.concurrency, http.timeout_seconds), (2, 7));
    }

    #[test]
    fn what_is_no_number_is_told() {
        for (key, raw) in [
            (HTTP_REUSE, "many"),
            (HTTP_REUSE, "0"),
            (HTTP_REUSE, "65536"),
            (HTTP_CONCURRENCY, "1025"),
            (HTTP_TIMEOUT, "-1"),
            (HTTP_TIMEOUT, "1.5"),
        ] {
            let text = read(&[(key, raw)]).unwrap_err();
            assert!(text.starts_with(&format!("annotation {key}: {raw:?}")), "{text}");
        }
    }
}
