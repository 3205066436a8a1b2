//! `[SCHEME:]NAME[:PORT]`: what is named where a proxy leads.

use freewheel_hub_schema::error::ApiError;

/// An object, and the port of it that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addressed<'a> {
    /// Empty, `http` or `https`.
    pub(crate) scheme: &'a str,
    pub(crate) name: &'a str,
    /// Empty for the usual one.
    pub(crate) port: &'a str,
}

impl<'a> Addressed<'a> {
    /// Reads it; `what` is a pod, a service or a node.
    ///
    /// # Errors
    /// When it is not of that form.
    pub(crate) fn read(text: &'a str, what: &str) -> Result<Self, ApiError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("", "", ""),
        };
        if name.is_empty() || !["", "http", "https"].contains(&scheme) {
            return Err(ApiError::bad_request(format!("invalid {what} request {text:?}")));
        }
        Ok(Self { scheme, name, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_upstream_reads_them() {
        for (text, scheme, name, port) in [
            ("pi-7", "", "pi-7", ""),
            ("pi-7:", "", "pi-7", ""),
            ("pi-7:10250", "", "pi-7", "10250"),
            ("https:pi-7:", "https", "pi-7", ""),
            ("http:pi-7:metrics", "http", "pi-7", "metrics"),
            (":pi-7:1", "", "pi-7", "1"),
        ] {
            assert_eq!(Addressed::read(text, "node").unwrap(), Addressed { scheme, name, port });
        }
        for text in ["", ":1", "https::1", "ftp:pi-7:1", "a:b:c:d"] {
            let error = Addressed::read(text, "node").unwrap_err();
            assert_eq!((error.code, error.reason), (400, "BadRequest"), "{text}");
        }
    }
}
