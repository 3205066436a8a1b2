//! The Host of a request over HTTP/1.1: there is one, or two who read the request read two different ones.
//!
//! Guarantees:
//! - a request without one, with several, or with what is none is refused before anybody acts on it, as Go's server
//!   does, at the API and at the registry (`a_request_names_its_host_once`).

use http::header::{CONNECTION, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response, Version};

use crate::body::Body;
use crate::respond;

/// The answer to a request whose Host is no good. HTTP/2 has its own place for it, and HTTP/1.0 needs none.
pub(crate) fn refusal(parts: &Parts) -> Option<Response<Body>> {
    if Version::HTTP_11 < parts.version {
        return None;
    }
    let needed = parts.version == Version::HTTP_11 && parts.method != Method::CONNECT;
    let why = mistake(&parts.headers, needed)?;
    // What Go's server says.
    let mut response = respond::text(400, format!("400 Bad Request: {why}"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Some(response)
}

fn mistake(headers: &HeaderMap, needed: bool) -> Option<&'static str> {
    let mut all = headers.get_all(HOST).iter();
    match (all.next(), all.next()) {
        (None, _) => needed.then_some("missing required Host header"),
        (Some(_), Some(_)) => Some("too many Host headers"),
        (Some(host), None) => {
            let is_host = host.as_bytes().iter().all(|byte| is_of_host(*byte));
            (!is_host).then_some("malformed Host header")
        }
    }
}

/// Whether a Host may have this byte, by Go's table of RFC 3986.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&()*+,-.:;=[']_~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_path_and_no_space() {
        for (host, is_one) in [
            ("hub.example.com:6443", true),
            ("[::1]:6443", true),
            ("", true),
            ("a/b", false),
            ("a b", false),
            ("a@b", false),
            ("a\\b", false),
            ("a?b", false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            assert_eq!(mistake(&headers, true).is_none(), is_one, "{host:?}");
        }
    }
}
