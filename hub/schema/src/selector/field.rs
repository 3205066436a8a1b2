//! Field selectors: `metadata.name=x,status.phase!=Running`.

use std::collections::BTreeMap;

use super::{REQUIREMENTS_MAX, TEXT_BYTES_MAX};
use crate::error::ApiError;
use crate::kind::Kind;

/// All of its terms must hold; without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Matches whatever is asked.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Whether it matches whatever is asked.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The `fieldSelector` of a query over objects of this kind.
    ///
    /// # Errors
    /// 400 when the text is no selector, or names a field that the kind does not offer.
    pub fn parse(text: &str, kind: &Kind) -> Result<Self, ApiError> {
        let mut read = Self::read(text)?;
        for term in &mut read.terms {
            term.field = offered(&term.field, kind)?.to_owned();
        }
        Ok(read)
    }

    /// The same of no kind in particular: any field may be named.
    ///
    /// # Errors
    /// 400 when the text is no selector.
    pub fn read(text: &str) -> Result<Self, ApiError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ApiError::bad_request("fieldSelector is too long"));
        }
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            if terms.len() == REQUIREMENTS_MAX {
                return Err(ApiError::bad_request("fieldSelector has too many terms"));
            }
            let (field, equal, value) = split_term(part).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                ))
            })?;
            terms.push(Term { field: field.to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// Its terms: a field, whether it has this value or any other, and the value.
    pub fn terms(&self) -> impl Iterator<Item = (&str, bool, &str)> {
        self.terms.iter().map(|term| (&*term.field, term.equal, &*term.value))
    }

    /// Whether an object with this name, namespace and header fields satisfies it.
    #[must_use]
    pub fn matches(&self, name: &str, namespace: &str, fields: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| {
            let value = match term.field.as_str() {
                "metadata.name" => name,
                "metadata.namespace" => namespace,
                field => fields.get(field).map_or("", String::as_str),
            };
            (value == term.value) == term.equal
        })
    }

    /// The one value that this field must have, when the selector says so: a list of one name is a
    /// get.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }
}

fn offered<'a>(field: &'a str, kind: &'a Kind) -> Result<&'a str, ApiError> {
    let names = &kind.fields;
    let field = kind.field_meant(field);
    let own = field == "metadata.name" || (field == "metadata.namespace" && kind.namespaced);
    if own || names.iter().any(|name| name == field) {
        return Ok(field);
    }
    Err(ApiError::bad_request(if names.is_empty() {
        format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    } else {
        format!("field label not supported: {field}")
    }))
}

/// Splits at commas that no backslash protects.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(part: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in part.char_indices() {
        let rest = &part[at..];
        for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(sign) {
                return Some((&part[..at], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, ApiError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                other => {
                    let found = other.map(String::from).unwrap_or_default();
                    return Err(ApiError::bad_request(format!(
                        "invalid field selector: invalid escape sequence: \\{found}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(ApiError::bad_request(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvk::Gvk;
    use crate::kind::Strategy;

    struct Plain;

    impl Strategy for Plain {}

    fn kind(name: &'static str, plural: &'static str) -> Kind {
        Kind::new(Gvk::new("", "v1", name), plural, Plain)
    }

    fn pods(text: &str) -> Result<FieldSelector, ApiError> {
        let pods = kind("Pod", "pods").fields(["spec.nodeName", "status.phase"]);
        FieldSelector::parse(text, &pods)
    }

    #[test]
    fn fields_are_compared() {
        let fields = BTreeMap::from([("status.phase".to_owned(), "Running".to_owned())]);
        for (text, expected) in [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name==web,status.phase=Running", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("metadata.namespace!=default", false),
        ] {
            let selector = pods(text).unwrap();
            assert_eq!(selector.matches("web", "default", &fields), expected, "{text}");
        }
        assert_eq!(pods("metadata.name=web").unwrap().exact("metadata.name"), Some("web"));
        assert_eq!(pods("metadata.name!=web").unwrap().exact("metadata.name"), None);
    }

    #[test]
    fn escapes_are_undone() {
        let selector = pods(r"metadata.name=a\,b\=c\\").unwrap();
        assert!(selector.matches(r"a,b=c\", "", &BTreeMap::new()));
        assert!(pods(r"metadata.name=a\b").is_err());
        assert!(pods("metadata.name=a=b").is_err());
    }

    #[test]
    fn fields_that_a_kind_does_not_offer_are_refused() {
        assert_eq!(pods("data.x=1").unwrap_err().message, "field label not supported: data.x");
        let maps = kind("ConfigMap", "configmaps");
        assert_eq!(
            FieldSelector::parse("data.x=1", &maps).unwrap_err().message,
            "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert_eq!(
            pods("metadata.name").unwrap_err().message,
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
    }
}
