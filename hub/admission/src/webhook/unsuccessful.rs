//! What is told of a webhook's answer that is no success, as kube-apiserver's client tells it.
//!
//! Guarantees:
//! - each code has client-go's words, which repeat what a webhook says where these do (`answers_are_told_as_client_go_does`);
//! - what is repeated is bounded (`a_long_answer_is_told_in_part`).

use std::fmt;

use serde_json::Value;

/// Bytes of an answer that are repeated.
const TOLD_BYTES_MAX: usize = 2_048;
/// A longer answer is no Status: to read one takes many times its length.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// An answer whose code is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuccessful {
    text: String,
}

impl Unsuccessful {
    /// With this code, `Content-Type` (empty for none) and body.
    #[must_use]
    pub fn of(code: u16, content_type: &str, body: &[u8]) -> Self {
        let text = status(body).unwrap_or_else(|| {
            let is_text = content_type.is_empty()
                || content_type.trim_start().to_ascii_lowercase().starts_with("text/");
            generic(code, &if is_text { first_of(body) } else { "unknown".to_owned() })
        });
        Self { text }
    }
}

impl fmt::Display for Unsuccessful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The message of an answer that is a failed Status itself.
fn status(body: &[u8]) -> Option<String> {
    if STATUS_BYTES_MAX < body.len() {
        return None;
    }
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let is_status = text("kind") == "Status" && matches!(text("apiVersion"), "" | "v1");
    let failed = is_status && text("status") == "Failure";
    failed.then(|| first_of(text("message").as_bytes()))
}

fn first_of(body: &[u8]) -> String {
    let body = body.get(..TOLD_BYTES_MAX).unwrap_or(body);
    String::from_utf8_lossy(body).trim().to_owned()
}

fn generic(code: u16, body: &str) -> String {
    let message = match code {
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        404 => "the server could not find the requested resource",
        405 => "the server does not allow this method on the requested resource",
        406 if matches!(body, "" | "unknown") => {
            "the server was unable to respond with a content type that the client supports"
        }
        403 | 406 | 415 => body,
        409 => "the server reported a conflict",
        422 => "the server rejected our request due to an error in our request",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        500.. => {
            return format!(
                "an error on the server ({body:?}) has prevented the request from succeeding"
            );
        }
        ..500 => {
            return format!(
                "the server responded with the status code {code} but did not return more information"
            );
        }
    };
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, content_type: &str, body: &str) -> String {
        Unsuccessful::of(code, content_type, body.as_bytes()).to_string()
    }

    #[test]
    fn answers_are_told_as_client_go_does() {
        for (code, words) in [
            (
                302,
                "the server responded with the status code 302 but did not return more information",
            ),
            (400, "the server rejected our request for an unknown reason"),
            (401, "the server has asked for the client to provide credentials"),
            (403, "no way"),
            (404, "the server could not find the requested resource"),
            (405, "the server does not allow this method on the requested resource"),
            (406, "no way"),
            (409, "the server reported a conflict"),
            (415, "no way"),
            (
                418,
                "the server responded with the status code 418 but did not return more information",
            ),
            (422, "the server rejected our request due to an error in our request"),
            (429, "the server has received too many requests and has asked us to try again later"),
            (500, "an error on the server (\"no way\") has prevented the request from succeeding"),
            (502, "an error on the server (\"no way\") has prevented the request from succeeding"),
            (503, "the server is currently unable to handle the request"),
            (
                504,
                "the server was unable to return a response in the time allotted, but may still be processing the request",
            ),
        ] {
            assert_eq!(told(code, "text/plain; charset=utf-8", "no way\n"), words);
        }
        assert_eq!(told(403, "", "no way"), "no way");
        assert_eq!(told(403, "application/json", r#"{"why": "no way"}"#), "unknown");
        let words = "the server was unable to respond with a content type that the client supports";
        assert_eq!(told(406, "application/json", "{}"), words);
        let status =
            r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "gone"}"#;
        assert_eq!(told(500, "application/json", status), "gone");
        assert!(
            told(500, "text/plain", &status.replace("Failure", "Success"))
                .contains("on the server")
        );
    }

    #[test]
    fn a_long_answer_is_told_in_part() {
        assert_eq!(told(403, "text/plain", &"x".repeat(10_000)).len(), TOLD_BYTES_MAX);
        let status = format!(
            r#"{{"kind": "Status", "status": "Failure", "message": "{}"}}"#,
            "x".repeat(10_000)
        );
        assert_eq!(told(403, "application/json", &status).len(), TOLD_BYTES_MAX);
        let status =
            status.replace('}', &format!(r#", "more": "{}"}}"#, "x".repeat(STATUS_BYTES_MAX)));
        assert_eq!(told(403, "application/json", &status), "unknown");
    }
}
